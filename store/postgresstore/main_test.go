package postgresstore

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

var background = context.Background()

// TestMain stops the servers, and fails if a goroutine is left.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for _, one := range []*once{&shared, &synced} {
		if one.pg != nil {
			one.pg.Stop()
		}
	}
	for try := 0; code == 0 && runtime.NumGoroutine() > before; try++ {
		if try == 500 {
			buf := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", buf[:runtime.Stack(buf, true)])
			code = 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(code)
}

// A once is a PostgreSQL that is started when it is needed.
type once struct {
	once sync.Once
	pg   *servers.Postgres
	err  error
}

// shared is for the tests that break nothing, synced for benchmarks.
var shared, synced once

func postgres(tb testing.TB) *servers.Postgres {
	tb.Helper()
	shared.once.Do(func() {
		shared.pg, shared.err = servers.StartPostgres(background, &servers.PostgresOptions{
			NoFsync:  true,
			Settings: map[string]string{"deadlock_timeout": "50ms", "autovacuum_naptime": "1d"},
		})
	})
	return need(tb, shared.pg, shared.err)
}

// need skips a test for which a program is missing.
func need[T any](tb testing.TB, server T, err error) T {
	tb.Helper()
	if errors.Is(err, servers.ErrMissing) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return server
}

// private starts a PostgreSQL that the test may break.
func private(tb testing.TB, o *servers.PostgresOptions) *servers.Postgres {
	tb.Helper()
	o.NoFsync = true
	pg, err := servers.StartPostgres(background, o)
	pg = need(tb, pg, err)
	tb.Cleanup(pg.Stop)
	return pg
}

var tables atomic.Int32

// fresh returns options for tables of the test's own.
func fresh(tb testing.TB) *Options {
	return &Options{
		Table: fmt.Sprintf("t%d_session", tables.Add(1)), Logger: logger(tb),
		Timeout: 10 * time.Second, // nothing here is to fail because the machine is busy
	}
}

// logger shows what the store logs in the test's output.
func logger(tb testing.TB) *slog.Logger {
	l := &lines{tb: tb}
	tb.Cleanup(l.end)
	return slog.New(slog.NewTextHandler(l, nil))
}

type lines struct {
	mu    sync.Mutex
	tb    testing.TB
	ended bool
}

func (l *lines) end() { l.mu.Lock(); l.ended = true; l.mu.Unlock() }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.tb.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// open returns a store on new tables in the shared server.
func open(tb testing.TB, opts *Options) *Store {
	tb.Helper()
	return openAt(tb, postgres(tb).Primary.URL(), opts)
}

// openAt makes the tables and opens a store on them.
func openAt(tb testing.TB, dsn string, opts *Options) *Store {
	tb.Helper()
	if opts == nil {
		opts = fresh(tb)
	}
	must(tb, Init(background, dsn, opts))
	return reopen(tb, dsn, opts)
}

func reopen(tb testing.TB, dsn string, opts *Options) *Store {
	tb.Helper()
	s, err := Open(background, dsn, opts)
	must(tb, err)
	tb.Cleanup(func() { must(tb, s.Close()) })
	return s
}

// sql runs a statement by hand, with the store's names for those in braces.
func sql(tb testing.TB, s *Store, query string) string {
	tb.Helper()
	out, err := postgres(tb).Primary.Query(background, s.names.in(query))
	must(tb, err)
	return out
}

// record returns a guest's or a user's record, not yet inserted.
func record(n uint32, user string) roam.Record {
	r := roam.Record{User: user, Data: []byte(`{"n":1}`), Idle: time.Hour, Lifetime: 24 * time.Hour}
	r.ID = roam.ID{6: 0x40, 8: 0x80, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	r.Proof[0] = 1
	r.Writes = r.Writes.Push(uint64(n) + 1)
	return r
}

func insert(tb testing.TB, s *Store, rec roam.Record) roam.Record {
	tb.Helper()
	rec, err := s.Insert(background, rec)
	must(tb, err)
	return rec
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// refused checks that an error vouches that nothing was written and says all
// of these things.
func refusedBy(tb testing.TB, err error, says ...string) {
	tb.Helper()
	if !errors.Is(err, roam.ErrUnavailable) {
		tb.Errorf("got error %v, want one that is ErrUnavailable", err)
	}
	tells(tb, err, says...)
}

func tells(tb testing.TB, err error, says ...string) {
	tb.Helper()
	for _, want := range says {
		if err == nil || !strings.Contains(err.Error(), want) {
			tb.Errorf("got error %v, want one that says %q", err, want)
		}
	}
}

func md5ID(s string) roam.ID { return roam.ID(md5.Sum([]byte(s))) }

// A switchboard is an address behind which servers change.
type switchboard struct {
	target atomic.Pointer[string]
	mu     sync.Mutex
	links  []net.Conn
}

func (b *switchboard) listen(tb testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	var wg sync.WaitGroup
	tb.Cleanup(func() { ln.Close(); b.hangUp(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", *b.target.Load())
			if err != nil {
				in.Close()
				continue
			}
			b.mu.Lock()
			b.links = append(b.links, in, out)
			b.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() { io.Copy(way[0], way[1]); way[0].Close() })
			}
		}
	})
	return ln.Addr().String()
}

// hangUp ends all connections.
func (b *switchboard) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.links {
		c.Close()
	}
	b.links = nil
}

// trips counts what is sent.
type trips struct {
	net.Conn
	writes atomic.Int64
}

func (t *trips) Write(b []byte) (int, error) {
	t.writes.Add(1)
	return t.Conn.Write(b)
}
