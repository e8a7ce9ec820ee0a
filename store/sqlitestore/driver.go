package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// This file is all of the package that knows which SQLite it runs on. Another
// one needs the same few functions, one goroutine at a time per connection.

// supported says whether the driver can lock files and share memory between
// processes on this platform. WAL mode needs both.
const supported = vfs.SupportsFileLocking && vfs.SupportsSharedMemory

// sqliteVersion asks the library, without a file.
var sqliteVersion = sync.OnceValues(func() (v string, err error) {
	err = guard(func() error {
		db, err := sqlite3.Open(":memory:")
		if err != nil {
			return err
		}
		defer db.Close()
		v, err = (&conn{db: db}).text("SELECT sqlite_version()")
		return err
	})
	return v, err
})

// A conn is one connection, with the statements that were prepared on it.
type conn struct {
	db    *sqlite3.Conn
	stmts [numQueries]stmt
	scanner
	patience time.Duration // see wait
	waiting  time.Time     // since when, for again
	frames   int           // in the write-ahead log after this connection's last commit
}

// connect opens a file that exists. Its companions get its mode and owner, so
// that nobody else can read them, and everyone whose file it is can, even if
// root comes first.
func connect(path string, busy time.Duration) (c *conn, err error) {
	name := filepath.ToSlash(path)
	if !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	uri := url.URL{Scheme: "file", Path: name,
		RawQuery: "modeof=" + strings.ReplaceAll(url.PathEscape(path), "&", "%26")}
	c = &conn{}
	err = guard(func() error {
		if c.db, err = sqlite3.OpenFlags(uri.String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI); err != nil {
			return err
		}
		c.wait(busy)
		if err = c.db.BusyHandler(c.again); err != nil {
			c.db.Close()
		}
		return err
	})
	return c, err
}

// guard turns a driver's panic, which is how it says that memory ran out, into
// an error.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return do()
}

var errPanic = errors.New("sqlite: panic")

func (c *conn) close() error {
	return guard(func() error {
		for i := range c.stmts {
			if c.stmts[i].s != nil {
				c.stmts[i].s.Close()
			}
		}
		return c.db.Close()
	})
}

// text returns the first column of the first row that sql yields.
func (c *conn) text(sql string) (string, error) {
	s, _, err := c.db.Prepare(sql)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if !s.Step() {
		return "", errors.Join(s.Err(), fmt.Errorf("no answer to %q", sql))
	}
	return s.ColumnText(0), nil
}

func (c *conn) exec(sql string) error { return c.db.Exec(sql) }

// interrupt makes calls fail while ctx is done.
func (c *conn) interrupt(ctx context.Context) { c.db.SetInterrupt(ctx) }

// wait sets how long a call waits for a lock that another connection has.
func (c *conn) wait(d time.Duration) { c.patience = d }

// again decides whether to try a lock once more. SQLite has no queue for it: who
// tries often gets it. The pauses are short enough to hit the moment between two
// commits of a process that writes all the time, and random so that several who
// wait share these moments evenly.
func (c *conn) again(ctx context.Context, count int) bool {
	if count == 0 {
		c.waiting = time.Now()
	}
	if ctx.Err() != nil || time.Since(c.waiting) >= c.patience {
		return false
	}
	time.Sleep(100*time.Microsecond + rand.N(200*time.Microsecond))
	return true
}

// inTransaction tells, after an error, whether the transaction survived it.
func (c *conn) inTransaction() bool { return !c.db.GetAutocommit() }

func (c *conn) changes() int64 { return c.db.Changes() }

// countFrames keeps c.frames. It takes the place of automatic checkpoints.
func (c *conn) countFrames() {
	c.db.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error { c.frames = pages; return nil })
}

// A mode of checkpoint.
type mode = sqlite3.CheckpointMode

const (
	look    mode = sqlite3.CHECKPOINT_NOOP    // only count
	passive mode = sqlite3.CHECKPOINT_PASSIVE // copy as far as nobody is in the way
	restart mode = sqlite3.CHECKPOINT_RESTART // wait until the log can be used from its start again
)

// checkpoint copies the write-ahead log into the database. It returns how many
// frames the log has and how many of them are copied.
func (c *conn) checkpoint(m mode) (frames, copied int, err error) {
	return c.db.WALCheckpoint("main", m)
}

// stmt returns the statement of a query, prepared once.
func (c *conn) stmt(q query) (*stmt, error) {
	s := &c.stmts[q]
	if s.s == nil {
		var err error
		if s.s, _, err = c.db.PrepareFlags(queries[q], sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, fmt.Errorf("%w in %.60q", err, queries[q])
		}
	}
	return s, nil
}

// A stmt is a prepared statement. Parameters are numbered from 1, columns from
// 0. Binding keeps its first error for the next step.
type stmt struct {
	s   *sqlite3.Stmt
	err error
}

func (s *stmt) keep(err error) {
	if err != nil && s.err == nil {
		s.err = err
	}
}

func (s *stmt) bindNull(i int)           { s.keep(s.s.BindNull(i)) }
func (s *stmt) bindInt(i int, v int64)   { s.keep(s.s.BindInt64(i, v)) }
func (s *stmt) bindText(i int, v string) { s.keep(s.s.BindText(i, v)) }
func (s *stmt) bindBlob(i int, v []byte) { s.keep(s.s.BindBlob(i, v)) }

// bindRawText binds bytes as text.
func (s *stmt) bindRawText(i int, v []byte) { s.keep(s.s.BindRawText(i, v)) }

// step reports whether there is a row.
func (s *stmt) step() (bool, error) {
	if s.err != nil {
		return false, s.err
	}
	row := s.s.Step()
	return row, s.s.Err()
}

// reset makes the statement ready for the next use and ends its transaction if
// it has its own. The error of the last step was reported by step.
func (s *stmt) reset() {
	s.s.Reset()
	s.err = nil
}

// run steps a statement that returns no rows, and resets it.
func (s *stmt) run() error {
	defer s.reset()
	_, err := s.step()
	return err
}

func (s *stmt) null(i int) bool { return s.s.ColumnType(i) == sqlite3.NULL }
func (s *stmt) int(i int) int64 { return s.s.ColumnInt64(i) }

// bytes returns text or a blob as it is stored, valid until the next step.
func (s *stmt) bytes(i int) []byte { return s.s.ColumnRawBlob(i) }

// A failure is what an error of the driver means to this package.
type failure int

const (
	other       failure = iota
	busy                // another connection has the lock
	interrupted         // by the context
	full                // no space on the disk
	noWrite             // a write to the file failed, for want of space or otherwise
	noGrowth            // so did an enlargement of one of the files
	readOnly
	cantOpen
	notDatabase
	corrupt
)

func failureOf(err error) failure {
	var x sqlite3.ExtendedErrorCode
	if !errors.As(err, &x) {
		var e sqlite3.ErrorCode
		if !errors.As(err, &e) {
			return other
		}
		x = e.ExtendedCode()
	}
	switch x {
	case sqlite3.IOERR_WRITE:
		// This driver (v0.35.6) hides in it that there is no space.
		return noWrite
	case sqlite3.IOERR_SHMSIZE, sqlite3.IOERR_TRUNCATE:
		return noGrowth
	}
	switch x.Code() {
	case sqlite3.BUSY, sqlite3.LOCKED:
		return busy
	case sqlite3.INTERRUPT:
		return interrupted
	case sqlite3.FULL:
		return full
	case sqlite3.READONLY:
		return readOnly
	case sqlite3.CANTOPEN:
		return cantOpen
	case sqlite3.NOTADB:
		return notDatabase
	case sqlite3.CORRUPT:
		return corrupt
	}
	return other
}
