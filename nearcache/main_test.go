package nearcache_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// TestMain fails the run if a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	if code == 0 && !fuzzing {
		for deadline := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > 1; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", buf[:runtime.Stack(buf, true)])
				code = 1
				break
			}
		}
	}
	os.Exit(code)
}

func TestImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for path := range strings.Lines(string(out)) {
		if path = strings.TrimSpace(path); path != "github.com/roam-web/roam" && path != "github.com/roam-web/roam/nearcache" {
			t.Errorf("the near cache depends on %s", path)
		}
	}
}

// A backend is the store behind the near caches of a test. It counts what it
// is asked, can hold an answer back on its way, and can be changed by other
// servers: by its embedded MemStore.
type backend struct {
	*roam.MemStore

	mu    sync.Mutex
	calls map[string]int
	held  map[string][]chan struct{}

	// load, ends and write, if not nil, change answers.
	load  func(roam.Record, error) (roam.Record, error)
	ends  func(roam.Log, error) (roam.Log, error)
	write func(roam.Record, error) (roam.Record, error)
}

func newBackend() *backend {
	return &backend{MemStore: roam.NewMemStore(), calls: make(map[string]int), held: make(map[string][]chan struct{})}
}

// hold makes the answer to the next call of a method wait, which is decided by
// then, until release is called.
func (b *backend) hold(method string) (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{})
	b.held[method] = append(b.held[method], c)
	return func() { close(c) }
}

func (b *backend) called(ctx context.Context, method string, do func()) {
	b.mu.Lock()
	b.calls[method]++
	var wait chan struct{}
	if w := b.held[method]; len(w) > 0 {
		wait, b.held[method] = w[0], w[1:]
	}
	b.mu.Unlock()
	do()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

func (b *backend) count(method string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[method]
}

func (b *backend) Load(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	b.called(ctx, "Load", func() {
		if rec, err = b.MemStore.Load(ctx, id, want); b.load != nil {
			rec, err = b.load(rec, err)
		}
	})
	if _, yes := ctx.(*panicking); yes {
		panic("a bug in the store")
	}
	if ctx.Err() != nil {
		return roam.Record{}, fmt.Errorf("%w: %w", roam.ErrUnavailable, ctx.Err())
	}
	return rec, err
}

func (b *backend) Update(ctx context.Context, rec roam.Record) (got roam.Record, err error) {
	b.called(ctx, "Update", func() {
		if got, err = b.MemStore.Update(ctx, rec); b.write != nil {
			got, err = b.write(got, err)
		}
	})
	return got, err
}

func (b *backend) End(ctx context.Context, id roam.ID, why roam.Reason) (err error) {
	b.called(ctx, "End", func() {
		if err = b.MemStore.End(ctx, id, why); b.write != nil {
			_, err = b.write(roam.Record{}, err)
		}
	})
	return err
}

func (b *backend) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	b.called(ctx, "Ends", func() {
		if log, err = b.MemStore.Ends(ctx, after); b.ends != nil {
			log, err = b.ends(log, err)
		}
	})
	return log, err
}

// A server is a near cache with what a Manager would do with it.
type server struct {
	*nearcache.Store
	t    *testing.T
	next roam.Cursor
}

// serve returns a server that has read the log.
func serve(t *testing.T, b roam.Store, opts *nearcache.Options) *server {
	t.Helper()
	s := &server{Store: idle(t, b, opts), t: t}
	s.follow()
	return s
}

// idle returns a near cache that nobody drives.
func idle(t testing.TB, b roam.Store, opts *nearcache.Options) *nearcache.Store {
	t.Helper()
	s, err := nearcache.New(b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) follow() {
	s.t.Helper()
	log, err := s.Ends(s.t.Context(), s.next)
	if err != nil {
		s.t.Fatalf("Ends: %v", err)
	}
	s.next = log.Next
}

// get reads what a visitor reads who knows of version 1.
func (s *server) get(id roam.ID) roam.Record {
	s.t.Helper()
	return s.want(id, roam.Want{Version: 1})
}

func (s *server) want(id roam.ID, want roam.Want) roam.Record {
	s.t.Helper()
	rec, err := s.Load(s.t.Context(), id, want)
	if err != nil && !errors.Is(err, roam.ErrNotFound) {
		s.t.Fatalf("Load with %+v: %v", want, err)
	}
	return rec
}

// start does something beside the test, which waits for it by calling done.
func start(do func()) (done func()) {
	c := make(chan struct{})
	go func() {
		defer close(c)
		do()
	}()
	return func() { <-c }
}

func session(user string) roam.Record {
	rec := roam.Record{User: user, Level: 2, Data: []byte(`{"n":1}`), Idle: time.Hour, Lifetime: 24 * time.Hour,
		From: roam.Client{Addr: netip.MustParseAddr("2001:db8::17"), Agent: "Agent/1.0"}}
	rand.Read(rec.ID[:])
	rand.Read(rec.Proof[:])
	return rec
}

func insert(t testing.TB, s roam.Store, rec roam.Record) roam.Record {
	t.Helper()
	rec, err := s.Insert(t.Context(), rec)
	if err != nil {
		t.Fatalf("Insert: %v", err)
	}
	return rec
}

func update(t testing.TB, s roam.Store, rec roam.Record, data string) roam.Record {
	t.Helper()
	rec.Data = []byte(data)
	rec, err := s.Update(t.Context(), rec)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return rec
}

// rotate is a login as far as a store sees it.
func rotate(t testing.TB, s roam.Store, rec roam.Record) roam.Record {
	t.Helper()
	rec.Previous = rec.Proof
	rand.Read(rec.Proof[:])
	return update(t, s, rec, string(rec.Data))
}

func end(t testing.TB, s roam.Store, id roam.ID) {
	t.Helper()
	if err := s.End(t.Context(), id, roam.LoggedOut); err != nil {
		t.Fatalf("End: %v", err)
	}
}

// trips fails unless what do does costs so many loads from the store.
func trips(t testing.TB, b *backend, want int, what string, do func()) {
	t.Helper()
	before := b.count("Load")
	do()
	if got := b.count("Load") - before; got != want {
		t.Errorf("%s: %d loads from the store, want %d", what, got, want)
	}
}

func dead(t testing.TB, what string, rec roam.Record) {
	t.Helper()
	if rec.Ended.IsZero() {
		t.Errorf("%s: the session lives, at version %d; it has ended", what, rec.Version)
	}
}

func version(t testing.TB, what string, rec roam.Record, want uint64) {
	t.Helper()
	if rec.Version != want {
		t.Errorf("%s: version %d, want %d", what, rec.Version, want)
	}
}
