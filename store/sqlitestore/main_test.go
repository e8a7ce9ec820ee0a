package sqlitestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

var background = context.Background()

// TestMain runs the tests, or, in a process that a test has started, one of
// the children below. It fails if a goroutine is left.
func TestMain(m *testing.M) {
	if child := children[os.Getenv("SQLITESTORE_CHILD")]; child != nil {
		if err := child(os.Getenv("SQLITESTORE_PATH")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	for try := 0; code == 0 && runtime.NumGoroutine() > before; try++ {
		if try == 200 {
			buf := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", buf[:runtime.Stack(buf, true)])
			code = 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(code)
}

// children are programs that tests run as processes of their own.
var children = map[string]func(path string) error{
	// insert opens the file, maybe as the first, and adds the record whose
	// number is on standard input.
	"insert": func(path string) error {
		var n uint32
		if _, err := fmt.Scan(&n); err != nil {
			return err
		}
		s, err := Open(path, nil)
		if err != nil {
			return err
		}
		_, err = s.Insert(background, record(n, "ada"))
		return errors.Join(err, s.Close())
	},

	// write inserts and updates until it is killed, and tells each write
	// that was acknowledged: the record's number and version. The numbers
	// begin with that on standard input.
	"write": func(path string) error {
		var first uint32
		if _, err := fmt.Scan(&first); err != nil {
			return err
		}
		s, err := Open(path, nil)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		for g := range uint32(8) {
			wg.Go(func() {
				for n := first + g; ; n += 8 {
					rec, err := s.Insert(background, record(n, "ada"))
					for range 3 {
						if err != nil {
							fmt.Fprintln(os.Stderr, err)
							return
						}
						fmt.Printf("%d %d\n", n, rec.Version) // one write(2), so lines stay whole
						rec, err = s.Update(background, rec)
					}
				}
			})
		}
		wg.Wait()
		return nil
	},
}

// start runs a child with n on its standard input.
func start(t *testing.T, child, path string, n uint32) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SQLITESTORE_CHILD="+child, "SQLITESTORE_PATH="+path)
	cmd.Stdin = strings.NewReader(fmt.Sprintln(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); io.Copy(io.Discard, out); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// open returns a store on a new file.
func open(t testing.TB, opts *Options) *Store {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "sessions.db"), opts)
}

func reopen(t testing.TB, path string, opts *Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// raw returns a connection beside the store's.
func raw(t testing.TB, path string) *conn {
	t.Helper()
	c, err := connect(path, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

// lock keeps all writers out until unlock is called.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	c := raw(t, path)
	must(t, c.exec("BEGIN IMMEDIATE"))
	return func() { t.Helper(); must(t, c.exec("ROLLBACK")) }
}

// queued waits until n writes wait for their turn, the leader among them.
func queued(t testing.TB, s *Store, n int) {
	t.Helper()
	for range 5000 {
		s.queue.mu.Lock()
		k := len(s.queue.waiting)
		s.queue.mu.Unlock()
		if k == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("there never were %d writes in the queue", n)
}

// record returns a guest's or a user's record, not yet inserted.
func record(n uint32, user string) roam.Record {
	r := roam.Record{User: user, Data: []byte(`{"n":1}`), Idle: time.Hour, Lifetime: 24 * time.Hour}
	r.ID = roam.ID{6: 0x40, 8: 0x80, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	r.Proof[0] = 1
	r.Writes = r.Writes.Push(uint64(n) + 1)
	return r
}

func insert(t testing.TB, s *Store, rec roam.Record) roam.Record {
	t.Helper()
	rec, err := s.Insert(background, rec)
	must(t, err)
	return rec
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that an error vouches that nothing was written and says all
// of these things.
func refused(t testing.TB, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got error %v, want one that is ErrUnavailable", err)
	}
	tells(t, err, says...)
}

func tells(t testing.TB, err error, says ...string) {
	t.Helper()
	for _, want := range says {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one that says %q", err, want)
		}
	}
}
