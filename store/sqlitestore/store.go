package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A Store keeps sessions in one SQLite file. It is safe for concurrent use,
// and any number of Stores, in this process and in others on the same host,
// may have the file open.
type Store struct {
	path string
	opts Options

	queue queue // of writes; its leader has the writing connection
	pool  *pool // of reading connections
	side  side  // the checkpoints beside the writes

	pruning pruning

	closing sync.Once
	closed  error // of Close
}

var _ roam.Store = (*Store)(nil)

// Options are optional: a nil *Options is ready to use, and so is each field's
// zero value.
type Options struct {
	// BusyWait is how long a write waits for its turn while other processes
	// write. 0 means 5 seconds.
	BusyWait time.Duration

	// Readers is how many connections read at once at most; they are opened
	// when needed. 0 means twice GOMAXPROCS.
	Readers int

	// MaxWAL is the size in bytes from which on a write makes room in the
	// write-ahead log itself, while others wait, if the checkpoints beside
	// the writes could not keep up. 0 means 64 MB.
	MaxWAL int64
}

func (o *Options) resolved() (r Options, err error) {
	if o != nil {
		r = *o
	}
	if r.BusyWait < 0 || r.Readers < 0 || r.MaxWAL < 0 {
		return r, fmt.Errorf("sqlitestore: Options %+v: a value is negative; 0 means the default", r)
	}
	if r.BusyWait == 0 {
		r.BusyWait = 5 * time.Second
	}
	if r.Readers == 0 {
		r.Readers = 2 * runtime.GOMAXPROCS(0)
	}
	if r.MaxWAL == 0 {
		r.MaxWAL = 64 << 20
	}
	return r, nil
}

var errClosed = errors.New("the store is closed")

// Close ends the use of the file. It waits for reads and writes that run, and
// for writes that wait for their turn. Afterwards every method fails with an
// error that wraps [roam.ErrUnavailable]. To close again does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.queue.close()
		s.side.close()
		s.pool.close()
		if c := s.queue.conn; c != nil {
			s.queue.conn = nil
			s.closed = s.explain("close", c.close())
		}
	})
	return s.closed
}

// Restored raises the store's epoch, so that everyone who remembers a later
// state than the backup that was put back knows that it is gone, and returns
// the new epoch. Call it once after each time that a backup was put back.
func (s *Store) Restored(ctx context.Context) (epoch uint64, err error) {
	err = s.write(ctx, "restored", func(c *conn, _ int64) error {
		return c.all(func() (err error) {
			epoch, err = setEpoch(c)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// Check reads the whole file and reports the first damage found, if any, by
// SQLite's integrity_check. While it reads, the write-ahead log can grow past
// Options.MaxWAL.
func (s *Store) Check(ctx context.Context) error {
	return s.read(ctx, "check", func(c *conn) error {
		q, err := c.stmt(integrity)
		if err != nil {
			return err
		}
		defer q.reset()
		if _, err := q.step(); err != nil {
			return err
		}
		if found := string(q.bytes(0)); found != "ok" {
			return fmt.Errorf("integrity_check found: %s: put the last backup back, then raise the epoch by Restored", found)
		}
		return nil
	})
}
