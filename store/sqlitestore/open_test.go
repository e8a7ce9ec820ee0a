package sqlitestore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func TestNewFileIsForItsUserAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	s := open(t, nil)
	insert(t, s, record(1, "ada"))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		fi, err := os.Stat(s.path + suffix)
		must(t, err)
		if got := fi.Mode().Perm(); got != 0o600 {
			t.Errorf("mode of the file %q: got %o, want 600", suffix, got)
		}
	}
}

func TestCompanionsTakeAfterTheFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "a strange?name#of%20&a=file.db")
	s, err := Open(path, nil)
	must(t, err)
	must(t, s.Close())
	must(t, os.Chmod(path, 0o660))
	s = reopen(t, path, nil)
	insert(t, s, record(1, "ada"))
	for _, suffix := range []string{"-wal", "-shm"} {
		fi, err := os.Stat(path + suffix)
		must(t, err)
		if got := fi.Mode().Perm(); got != 0o660 {
			t.Errorf("mode of the file %q: got %o, want 660", suffix, got)
		}
	}
}

func TestFilesNotOursAreLeftAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	must(t, os.WriteFile(foreign, nil, 0o600))
	c := raw(t, foreign)
	must(t, c.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (x); PRAGMA application_id = 7"))
	must(t, c.close())
	plain := filepath.Join(dir, "plain.db")
	must(t, os.WriteFile(plain, nil, 0o600))
	c = raw(t, plain)
	must(t, c.exec("CREATE TABLE t (x)"))
	must(t, c.close())
	newer := filepath.Join(dir, "newer.db")
	s, err := Open(newer, nil)
	must(t, err)
	must(t, s.Close())
	c = raw(t, newer)
	must(t, c.exec("PRAGMA user_version = 200"))
	must(t, c.close())
	text := filepath.Join(dir, "text.txt")
	must(t, os.WriteFile(text, []byte("my diary"), 0o600))
	long := filepath.Join(dir, "long.txt")
	must(t, os.WriteFile(long, bytes.Repeat([]byte("my diary "), 1000), 0o600))

	for _, test := range []struct{ path, says string }{
		{foreign, "application_id is 0x7"},
		{plain, "application_id is 0x0"},
		{newer, "schema version 200 of a newer roam"},
		{text, "not an SQLite database"},
		{long, "not an SQLite database"},
	} {
		before, err := os.ReadFile(test.path)
		must(t, err)
		_, err = Open(test.path, nil)
		tells(t, err, test.path, test.says)
		after, err := os.ReadFile(test.path)
		must(t, err)
		if !bytes.Equal(before, after) {
			t.Errorf("%s: refused with %v, and changed all the same", test.path, err)
		}
		if left, _ := filepath.Glob(test.path + "-*"); len(left) > 0 {
			t.Errorf("%s: left behind %v", test.path, left)
		}
	}
}

func TestPathsThatCannotBeAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ path, says string }{
		{"", "want the path of a file"},
		{":memory:", "roam.NewMemStore"},
		{"file:x.db", "want the path of a file"},
		{filepath.Join(dir, "no", "such", "folder.db"), "create the folder first"},
		{dir, "is a directory"},
	} {
		_, err := Open(test.path, nil)
		tells(t, err, test.path, test.says)
	}
}

func TestOptionsBelowZeroAreRefused(t *testing.T) {
	for _, opts := range []Options{{BusyWait: -1}, {Readers: -1}, {MaxWAL: -1}} {
		_, err := Open(filepath.Join(t.TempDir(), "sessions.db"), &opts)
		tells(t, err, "negative")
	}
}

func TestOldSQLiteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions.db")
	defer func(was string) { oldest = was }(oldest)
	oldest = "99.0.0"
	_, err := Open(path, nil)
	tells(t, err, path, "WAL-reset", "99.0.0 or newer")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was created all the same: %v", err)
	}
	for _, test := range []struct {
		v, than string
		want    bool
	}{
		{"3.51.2", "3.51.3", true}, {"3.51.3", "3.51.3", false}, {"3.51.10", "3.51.3", false},
		{"3.9.0", "3.51.3", true}, {"3.52", "3.51.3", false}, {"3.51", "3.51.3", true}, {"4.0.0", "3.51.3", false},
	} {
		if got := older(test.v, test.than); got != test.want {
			t.Errorf("older(%q, %q): got %v, want %v", test.v, test.than, got, test.want)
		}
	}
}

func TestManyProcessesCreateOneFile(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), "sessions.db")
		const n = 6
		var wait []func() error
		for i := range uint32(n) {
			cmd, _ := start(t, "insert", path, i)
			wait = append(wait, cmd.Wait)
		}
		for i, w := range wait {
			if err := w(); err != nil {
				t.Errorf("round %d: process %d: %v", round, i, err)
			}
		}
		s := reopen(t, path, nil)
		got := 0
		for _, err := range s.List(background, "ada") {
			must(t, err)
			got++
		}
		if got != n {
			t.Errorf("round %d: got %d records, want %d", round, got, n)
		}
		must(t, s.Check(background))
	}
}

// Locks of the classic POSIX kind belong to the process: closing one Store
// would take away those of another.
func TestTwoStoresOfOneProcessKeepTheirLocks(t *testing.T) {
	s := open(t, &Options{BusyWait: 10 * time.Millisecond})
	unlock := lock(t, s.path)
	other, err := Open(s.path, nil)
	must(t, err)
	must(t, other.Close())
	_, err = s.Insert(background, record(1, "ada"))
	refused(t, err, "locked")
	unlock()
	insert(t, s, record(1, "ada"))
}

func TestUpToDateFileOpensWhileOthersWrite(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	defer lock(t, s.path)()
	other := reopen(t, s.path, &Options{BusyWait: time.Millisecond})
	_, err := other.Load(background, rec.ID, roam.Want{})
	must(t, err)
}

func TestColumnsOfANewerProgramSurvive(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	c := raw(t, s.path)
	must(t, c.exec("ALTER TABLE session ADD COLUMN colour TEXT NOT NULL DEFAULT 'none'; UPDATE session SET colour = 'red'; PRAGMA user_version = 199"))
	must(t, c.close())

	other := reopen(t, s.path, nil) // an older program starts anew
	for _, s := range []*Store{s, other} {
		var err error
		rec.Data = append(rec.Data, ' ')
		rec, err = s.Update(background, rec)
		must(t, err)
		rec.LoggedIn = rec.Now
		rec, err = s.Update(background, rec)
		must(t, err)
		must(t, s.Touch(background, []roam.Touch{{ID: rec.ID, At: time.Now()}}))
		insert(t, s, record(uint32(rec.Version)+100, "bob"))
	}
	got, err := raw(t, s.path).text("SELECT group_concat(colour) FROM (SELECT colour FROM session ORDER BY n)")
	must(t, err)
	if want := "red,none,none"; got != want {
		t.Errorf("got colours %q, want %q", got, want)
	}
}
