package sqlitestore

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// applicationID marks a file as one of ours. It spells "roam".
	applicationID = 0x726f616d

	// schemaVersion is that of schema.sql. The hundreds count the changes
	// that older programs cannot live with. The rest counts additions, such
	// as a column with a default, which older programs leave as they are: so
	// two versions of a program can share a file while one replaces the
	// other.
	schemaVersion = 101
)

// What makes version 100 of a file, and what makes version 101 of that.
var (
	//go:embed schema.sql
	schema string
	//go:embed log.sql
	logSchema string
)

// oldest is the first SQLite without the WAL-reset bug, which can damage a file
// when two connections write and checkpoint at once (sqlite.org/wal.html).
var oldest = "3.51.3"

// Open opens the file at path. A missing file is created for this user alone;
// its folder must exist, on a disk of this host. Any number of processes may
// open a file at the same time, also a new one. Open starts no goroutine.
func Open(path string, opts *Options) (*Store, error) {
	resolved, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") {
		return nil, fmt.Errorf("sqlitestore: open %q: want the path of a file; for sessions in memory there is roam.NewMemStore", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: open %q: %w", path, err)
	}
	if !supported {
		return nil, fmt.Errorf("sqlitestore: open %s: on this platform the driver has no file locks or shared memory, without which processes cannot share a file", abs)
	}
	if v, err := sqliteVersion(); err != nil {
		return nil, fmt.Errorf("sqlitestore: open %s: %w", abs, err)
	} else if older(v, oldest) {
		return nil, fmt.Errorf("sqlitestore: open %s: this program contains SQLite %s, which has the WAL-reset bug and can damage files: build it with %s or newer", abs, v, oldest)
	}
	s := &Store{path: abs, opts: resolved}
	s.pool = newPool(resolved.Readers, func() (*conn, error) { return s.connect(true) })
	writer := func() (*conn, error) { return s.connect(false) }
	s.side.open, s.side.limit = writer, int(resolved.MaxWAL/frameSize)
	s.side.every = max(1, min(checkpointEvery, s.side.limit/2))
	s.queue.open, s.queue.busy, s.queue.after = writer, resolved.BusyWait, s.side.after
	s.pruning.horizon = math.MinInt64

	if err := preflight(abs); err != nil {
		return nil, s.explain("open", err)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		s.queue.conn, err = s.first()
		// Turning a file to WAL mode does not wait for others by itself.
		if failureOf(err) != busy || time.Since(began) > resolved.BusyWait {
			break
		}
	}
	if err != nil {
		return nil, s.explain("open", err)
	}
	return s, nil
}

// preflight creates a missing file, and refuses files that are not ours by
// their first bytes: SQLite would already write next to them. That it opens
// and closes the file by itself would take away the locks that other Stores of
// this process have on it, if they were the classic POSIX ones; the driver uses
// locks that belong to an open file.
func preflight(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err // the path is told anyway
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: create the folder first", err)
		}
		return fmt.Errorf("%w: this user must be able to write the file and its folder", err)
	}
	defer f.Close()
	var head [100]byte
	n, err := io.ReadFull(f, head[:])
	switch {
	case err == io.EOF:
		return nil // new, or being created by another process
	case err != nil && err != io.ErrUnexpectedEOF:
		return err
	case n < len(head) || string(head[:16]) != "SQLite format 3\x00":
		return errors.New("the file is not an SQLite database: give another path; the file was left as it is")
	}
	if id := binary.BigEndian.Uint32(head[68:]); id != applicationID {
		return fmt.Errorf("the database belongs to another application: its application_id is %#x, and roam's is %#x; give another path; the file was left as it is", id, applicationID)
	}
	return nil
}

// first opens the first connection and makes the file ready.
func (s *Store) first() (c *conn, err error) {
	c, err = connect(s.path, s.opts.BusyWait)
	if err != nil {
		return nil, err
	}
	err = guard(func() error {
		if err := migrate(c); err != nil {
			return err
		}
		if mode, err := c.text("PRAGMA journal_mode = WAL"); err != nil {
			return err
		} else if mode != "wal" {
			return fmt.Errorf("SQLite has no WAL mode for this file, only %q: put it on a disk of this host", mode)
		}
		return s.setUp(c, false)
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// migrate creates the schema or brings it up to date. First it looks without a
// lock, so that a file opens while others write to it.
func migrate(c *conn) error {
	if v, err := version(c); err != nil || v >= schemaVersion {
		return err
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := func() error {
		v, err := version(c)
		if err != nil || v >= schemaVersion { // another process was faster
			return err
		}
		tables, err := c.text("SELECT count(*) FROM sqlite_schema")
		if err != nil {
			return err
		}
		switch {
		case v == 0 && tables == "0":
			if err := c.exec(schema); err != nil {
				return err
			}
			if _, err := setEpoch(c); err != nil {
				return err
			}
		case v < 100:
			return fmt.Errorf("the file has %s tables at schema version %d, which roam never made; the file was left as it is", tables, v)
		}
		if err := c.exec(logSchema); err != nil {
			return err
		}
		return c.exec(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion))
	}()
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil && c.inTransaction() {
		c.exec("ROLLBACK")
	}
	return err
}

// version returns the file's schema version, and an error if that is of a newer
// program with which this one must not share a file.
func version(c *conn) (int, error) {
	text, err := c.text("PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(text)
	if err == nil && v/100 > schemaVersion/100 {
		err = fmt.Errorf("the file has schema version %d of a newer roam, and this program knows versions up to %d99: use the newer program; the file was left as it is", v, schemaVersion/100)
	}
	return v, err
}

// older compares versions such as 3.51.3.
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

// connect opens one more connection.
func (s *Store) connect(reader bool) (*conn, error) {
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
// disk when it returns. fullfsync has an effect on macOS alone, where an fsync
// by itself stops at the drive's cache.
func (s *Store) setUp(c *conn, reader bool) error {
	settings := `PRAGMA synchronous = FULL; PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1;
		PRAGMA journal_size_limit = 16777216; PRAGMA trusted_schema = 0; PRAGMA cache_size = -4000`
	if reader {
		settings += `; PRAGMA query_only = 1`
	} else {
		c.countFrames()
	}
	if err := c.exec(settings); err != nil {
		return err
	}
	if _, err := version(c); err != nil { // this first read makes the companion files, if they are missing
		return err
	}
	takeAfter(s.path+"-shm", s.path) // the driver does it for -wal
	if !reader {
		syncFolder(s.path)
	}
	return nil
}

// syncFolder makes sure that the folder still has the entry of the write-ahead
// log after a power cut. Where folders cannot be synced it is not needed.
func syncFolder(path string) {
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		d.Sync()
		d.Close()
	}
}

// setEpoch begins another epoch, and returns it: higher than the last one, and
// than any that this host gave out, in whichever copy of the file. It consists
// of milliseconds and of random bits, so that two files made at once differ.
//
// It is stored as a view, that is as a constant in the schema. Every answer
// tells the epoch; this way it need not be looked up, and yet changes for all
// connections of all processes with the transaction that changes it.
func setEpoch(c *conn) (uint64, error) {
	var last uint64
	there, err := c.text("SELECT count(*) FROM sqlite_schema WHERE name = 'epoch'")
	if err != nil {
		return 0, err
	}
	if there != "0" {
		text, err := c.text("SELECT epoch FROM epoch")
		if err != nil {
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
