package sqlitestore

import (
	"errors"
	"fmt"

	"github.com/roam-web/roam"
)

// unwritten marks an error of which it is known that nothing was written.
func unwritten(err error) error {
	if errors.Is(err, roam.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", roam.ErrUnavailable, err)
}

// explain says in an error which file it is about, what was tried and what to
// do. Results that are no failures it leaves alone.
func (s *Store) explain(what string, err error) error {
	if err == nil || err == roam.ErrConflict || err == roam.ErrNotFound {
		return err
	}
	return fmt.Errorf("sqlitestore: %s %s: %w%s", what, s.path, err, s.hint(err))
}

func (s *Store) hint(err error) string {
	switch failureOf(err) {
	case busy:
		return fmt.Sprintf(": another process has held the file's lock for all of Options.BusyWait, %v: look for an open transaction, for instance in a database shell", s.opts.BusyWait)
	case full:
		return ": the disk is full: make room; what was acknowledged is safe, and reading goes on"
	case noWrite, noGrowth:
		return ": the disk is full or broken: make room; what was acknowledged is safe, and reading goes on"
	case readOnly:
		return ": the file, its folder or its file system cannot be written by this user"
	case cantOpen:
		return ": the file and its companions -wal and -shm must be accessible and their folder writable"
	case notDatabase:
		return ": the file is not an SQLite database"
	case corrupt:
		return ": the file is damaged: put the last backup back, then raise the epoch by Restored"
	}
	return ""
}
