package sqlitestore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/roam-web/roam"
)

func TestKilledWriterLosesNoAcknowledgedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions.db")
	acked := make(map[uint32]uint64)
	for round := range uint32(5) {
		cmd, out := start(t, "write", path, round<<24)
		for lines := 0; out.Scan(); lines++ {
			var n uint32
			var version uint64
			if _, err := fmt.Sscan(out.Text(), &n, &version); err != nil {
				t.Fatalf("%q: %v", out.Text(), err)
			}
			acked[n] = max(acked[n], version)
			if lines == 300 {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Wait()
		s, err := Open(path, nil)
		must(t, err)
		must(t, s.Check(background))
		for n, version := range acked {
			rec, err := s.Load(background, record(n, "").ID, roam.Want{})
			if err != nil || rec.Version < version {
				t.Errorf("round %d: record %d: got version %d and error %v, and version %d was acknowledged", round, n, rec.Version, err, version)
			}
		}
		must(t, s.Close())
	}
	if len(acked) < 5*300/4 {
		t.Errorf("got %d records, want more for the test to mean something", len(acked))
	}
}

// disk returns a folder on a small disk of its own.
func disk(t *testing.T) (dir string) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root on Linux can make a small disk")
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("making a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("removing the small disk: %v: %s", err, out)
		}
	})
	return dir
}

func TestFullDiskIsToldAndNothingLost(t *testing.T) {
	dir := disk(t)
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 512<<10), 0o600))
	s := reopen(t, filepath.Join(dir, "sessions.db"), nil)
	var acked []roam.Record
	for {
		rec := record(uint32(len(acked)), "ada")
		rec.Data = []byte(`"` + strings.Repeat("x", 8000) + `"`)
		rec, err := s.Insert(background, rec)
		if err != nil {
			refused(t, err, s.path, "insert", "disk is full", "what was acknowledged is safe")
			break
		}
		acked = append(acked, rec)
		if len(acked) > 1000 {
			t.Fatal("the disk never was full")
		}
	}
	intact := func(s *Store) {
		t.Helper()
		for _, rec := range acked {
			got, err := s.Load(background, rec.ID, roam.Want{})
			if err != nil || string(got.Data) != string(rec.Data) || got.Version != rec.Version || !got.Ended.IsZero() {
				t.Errorf("record %v: got version %d, %d bytes, ended %v, error %v", rec.ID, got.Version, len(got.Data), got.Ended, err)
			}
		}
	}
	// To log out takes space too.
	refused(t, s.End(background, acked[0].ID, roam.LoggedOut), "end", "disk is full")
	_, err := s.Update(background, acked[0])
	refused(t, err, "update", "disk is full")
	intact(s)

	other, err := Open(s.path, nil) // another process starts meanwhile
	if err != nil {
		tells(t, err, s.path)
	} else {
		intact(other)
		must(t, other.Close())
	}

	must(t, os.Remove(ballast))
	must(t, s.End(background, acked[0].ID, roam.LoggedOut))
	acked = acked[1:]
	rec, err := s.Update(background, acked[0])
	must(t, err)
	acked[0] = rec
	intact(s)
	must(t, s.Check(background))
}

func TestDiskTooFullToBeginIsTold(t *testing.T) {
	dir := disk(t)
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	must(t, f.Close())
	path := filepath.Join(dir, "sessions.db")
	_, err = Open(path, nil)
	tells(t, err, path, "disk is full")
	must(t, os.Remove(ballast))
	insert(t, reopen(t, path, nil), record(1, "ada"))
}

func TestReadOnlyFileSystemIsTold(t *testing.T) {
	dir := disk(t)
	path := filepath.Join(dir, "sessions.db")
	s, err := Open(path, nil)
	must(t, err)
	must(t, s.Close())
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{path, filepath.Join(dir, "new.db")} {
		_, err = Open(path, nil)
		tells(t, err, path, "read-only file system", "must be able to write the file and its folder")
	}
}

func TestReadOnlyFileIsTold(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() == 0 { // who may write every file
		must(t, os.Chown(filepath.Dir(dir), nobody, nobody))
		must(t, os.Chown(dir, nobody, nobody))
		defer asNobody(t)()
	}
	path := filepath.Join(dir, "sessions.db")
	s, err := Open(path, nil)
	must(t, err)
	must(t, s.Close())
	must(t, os.Chmod(path, 0o400))
	_, err = Open(path, nil)
	tells(t, err, path, "must be able to write the file and its folder")
	must(t, os.Chmod(path, 0o600))
	must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	_, err = Open(path, nil)
	tells(t, err, path, "cannot be written by this user")
}

func TestDamageIsFound(t *testing.T) {
	s := open(t, nil)
	fill(t, s, 2000)
	must(t, s.Close())
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	must(t, err)
	for page := range int64(5) {
		_, err = f.WriteAt(make([]byte, 4096), (20+7*page)*4096)
		must(t, err)
	}
	must(t, f.Close())
	damaged := reopen(t, s.path, nil)
	refused(t, damaged.Check(background), s.path, "put the last backup back")
}
