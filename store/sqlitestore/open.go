package sqlitestore

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// applicationID marks a file as one of ours: "roam".
	applicationID = 0x726f616d

	// schemaVersion is the version of schema.sql.
	schemaVersion = 1
)

//go:embed schema.sql
var schema string

// oldest is the first SQLite, as in 3.51.3, without a bug that damages files
// when two connections write and checkpoint at once (sqlite.org/wal.html, "The
// WAL-reset bug").
var oldest = "3.51.3"

// Open opens the file, and creates it, readable by this user alone, if it is
// missing. Its folder must exist, on a disk of this host. Open starts no
// goroutine.
func Open(path string, opts *Options) (*Store, error) {
	s := &Store{path: path}
	var err error
	if s.opts, err = opts.resolved(); err != nil {
		return nil, err
	}
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.HasPrefix(path, "file:") {
		return nil, fmt.Errorf("sqlitestore: open %q: want the path of a file; for a store in memory use roam.NewMemStore", path)
	}
	if s.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("sqlitestore: open %q: %w", path, err)
	}
	if !supported {
		return nil, errors.New("sqlitestore: this platform has no file locks or shared memory, without which processes cannot share a file")
	}
	s.pool = newPool(s.opts.Readers, s.openReader)
	s.side.open, s.side.maxWAL = s.openWriter, int(s.opts.MaxWAL)
	s.queue.open, s.queue.busy, s.queue.after = s.openWriter, s.opts.BusyWait, s.side.after
	s.pruning.after = -1 << 63
	if err := s.prepare(); err != nil {
		return nil, s.explain("open", err)
	}
	return s, nil
}

// prepare makes the file ready, whatever other processes do with it at the
// same time.
func (s *Store) prepare() error {
	if err := preflight(s.path); err != nil {
		return err
	}
	until := time.Now().Add(s.opts.BusyWait)
	for {
		err := s.tryPrepare()
		// Changing a file to WAL mode does not wait its turn by itself.
		if failureOf(err) != busy || time.Now().After(until) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// preflight refuses, without touching them, files that are not ours, and
// creates a missing one.
func preflight(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the folder must exist", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this user must be able to write the file and its folder", err)
	case err != nil:
		return err
	}
	defer f.Close()
	var head [100]byte
	n, err := io.ReadFull(f, head[:])
	switch {
	case err == io.EOF:
		return nil // new
	case err != nil && err != io.ErrUnexpectedEOF:
		return err
	case n < len(head) || string(head[:16]) != "SQLite format 3\x00":
		return errors.New("the file is not an SQLite database: give another path; it was left as it is")
	}
	if id := binary.BigEndian.Uint32(head[68:]); id != applicationID {
		return fmt.Errorf("the database is another application's: its application_id is %#x, not %#x; give another path; it was left as it is", id, applicationID)
	}
	return nil
}

func (s *Store) tryPrepare() (err error) {
	c, err := connect(s.path, s.opts.BusyWait)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	return guard(func() error {
		if v, err := c.text("SELECT sqlite_version()"); err != nil {
			return err
		} else if older(v, oldest) {
			return fmt.Errorf("SQLite %s has the WAL-reset bug, which damages files: build with %s or newer", v, oldest)
		}
		if err := migrate(c); err != nil {
			return err
		}
		if mode, err := c.text("PRAGMA journal_mode = WAL"); err != nil {
			return err
		} else if mode != "wal" {
			return fmt.Errorf("SQLite cannot use WAL mode on this file system, only %q: put the file on a disk of this host", mode)
		}
		if err := s.setUp(c, false); err != nil {
			return err
		}
		s.queue.conn = c
		return nil
	})
}

// migrate creates the schema or brings it up to this version. It first looks
// without a lock, so that an up-to-date file opens while others write.
func migrate(c *conn) error {
	v, err := version(c)
	if err != nil || v == schemaVersion {
		return err
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = func() error {
		v, err := version(c)
		switch {
		case err != nil || v == schemaVersion:
			return err
		case v != 0:
			return fmt.Errorf("the file has schema version %d: there never was one", v)
		}
		if n, err := c.text("SELECT count(*) FROM sqlite_schema"); err != nil || n != "0" {
			return errors.Join(err, fmt.Errorf("the file has %s tables but no schema version", n))
		}
		if err := c.exec(schema); err != nil {
			return err
		}
		if _, err := setEpoch(c); err != nil {
			return err
		}
		return c.exec(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion))
	}()
	if err != nil {
		c.exec("ROLLBACK")
		return err
	}
	return c.exec("COMMIT")
}

func version(c *conn) (int, error) {
	text, err := c.text("PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(text)
	if err == nil && v > schemaVersion {
		err = fmt.Errorf("the file has schema version %d, of a newer program, and this one knows %d: use the newer program; the file was left as it is", v, schemaVersion)
	}
	return v, err
}

func older(v, than string) bool {
	a, b := strings.Split(v, "."), strings.Split(than, ".")
	for i := range min(len(a), len(b)) {
		x, _ := strconv.Atoi(a[i])
		y, _ := strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return len(a) < len(b)
}

func (s *Store) openWriter() (*conn, error) { return s.openConn(false) }
func (s *Store) openReader() (*conn, error) { return s.openConn(true) }

func (s *Store) openConn(reader bool) (*conn, error) {
	c, err := connect(s.path, s.opts.BusyWait)
	if err != nil {
		return nil, err
	}
	if err := guard(func() error { return s.setUp(c, reader) }); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// setUp gives a connection its settings. FULL means that a commit is on the
// disk when it returns, not only safe from this process's end. fullfsync has
// an effect on macOS alone, where an fsync by itself stops at the drive's
// cache.
func (s *Store) setUp(c *conn, reader bool) error {
	sql := `PRAGMA synchronous = FULL; PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1;
		PRAGMA journal_size_limit = 16777216; PRAGMA trusted_schema = 0; PRAGMA cache_size = -4000`
	if reader {
		sql += `; PRAGMA query_only = 1`
	} else {
		c.countFrames()
	}
	if err := c.exec(sql); err != nil {
		return err
	}
	// The first read makes the companion files, if they are missing.
	if _, err := version(c); err != nil {
		return err
	}
	takeAfter(s.path+"-shm", s.path)
	if !reader {
		syncFolder(s.path)
	}
	return nil
}

// syncFolder makes sure that after a power cut the folder still has the entry
// of the write-ahead log. Where folders cannot be synced, that is not needed.
func syncFolder(path string) {
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		d.Sync()
		d.Close()
	}
}

// setEpoch begins another epoch: one higher than the last and than any that this
// host gave out before, in whichever copy of the file. It is milliseconds, and
// random bits so that two stores made at once have different histories.
//
// It is stored as a view, a constant in the schema. Every answer tells the
// epoch; so it costs them nothing to look up, and changes for all connections
// of all processes with the transaction that changes it.
func setEpoch(c *conn) (uint64, error) {
	var last uint64
	if text, err := c.text("SELECT count(*) FROM sqlite_schema WHERE name = 'epoch'"); err != nil {
		return 0, err
	} else if text != "0" {
		if text, err = c.text("SELECT epoch FROM epoch"); err != nil {
			return 0, err
		}
		if last, err = strconv.ParseUint(text, 10, 63); err != nil {
			return 0, fmt.Errorf("the view epoch: %w", err)
		}
	}
	var b [4]byte
	rand.Read(b[:])
	next := uint64(time.Now().UnixMilli())<<20 | uint64(binary.BigEndian.Uint32(b[:])>>12)
	next = max(next, last+1)
	return next, c.exec(fmt.Sprintf("DROP VIEW IF EXISTS epoch; CREATE VIEW epoch AS SELECT %d AS epoch", next))
}
