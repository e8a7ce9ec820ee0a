package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
	"github.com/roam-web/roam/nearcache"
	"github.com/roam-web/roam/store/postgresstore"
	"github.com/roam-web/roam/storetest"
)

// plain is the PostgreSQL that nobody breaks. It is started when it is first
// needed, and every test has tables of its own in it.
var plain struct {
	once  sync.Once
	pg    *servers.Postgres
	err   error
	count atomic.Int32 // of tables
}

func plainPostgres(tb testing.TB) *servers.Postgres {
	tb.Helper()
	plain.once.Do(func() {
		// Nobody cuts its power, and how often it syncs is not what is tested.
		plain.pg, plain.err = servers.StartPostgres(context.Background(), &servers.PostgresOptions{
			NoFsync: true, Settings: map[string]string{"deadlock_timeout": "50ms"},
		})
	})
	return need(tb, plain.pg, plain.err)
}

// stopServers stops what the tests share.
func stopServers() {
	if plain.pg != nil {
		plain.pg.Stop()
	}
}

// need skips a test for which something is not installed.
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

// tables makes new ones in the database of the URL.
func tables(tb testing.TB, url string) (_, table string) {
	tb.Helper()
	table = fmt.Sprintf("t%d_session", plain.count.Add(1))
	if err := postgresstore.Init(tb.Context(), url, &postgresstore.Options{Table: table}); err != nil {
		tb.Fatal(err)
	}
	return url, table
}

// patient are options for tests in which nothing is to fail because the machine
// is busy.
func patient(table string) *postgresstore.Options {
	return &postgresstore.Options{Table: table, Timeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)}
}

func openTables(tb testing.TB, url string) roam.Store {
	tb.Helper()
	url, table := tables(tb, url)
	s, err := postgresstore.Open(tb.Context(), url, patient(table))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

// pooled returns the URL of the same through a pooler that gives each
// transaction another connection. (The laws through it are a test of the
// store's own.)
func pooled(t *testing.T) string {
	t.Helper()
	pooler, err := servers.StartPgBouncer(t.Context(), plainPostgres(t).Primary, &servers.PgBouncerOptions{Settings: map[string]string{"default_pool_size": "5"}})
	pooler = need(t, pooler, err)
	t.Cleanup(pooler.Stop)
	return pooler.URL()
}

func openPostgres(tb testing.TB) roam.Store {
	tb.Helper()
	return openTables(tb, plainPostgres(tb).Primary.URL())
}

func TestPostgres(t *testing.T)      { t.Parallel(); storetest.Run(t, openPostgres) }
func FuzzPostgres(f *testing.F)      { storetest.Fuzz(f, openPostgres) }
func BenchmarkPostgres(b *testing.B) { storetest.Bench(b, openPostgres) }

// A following store is a near cache that reads on in the log before it answers,
// and is asked for any version: so it answers from memory what it can. While
// all writes go through it, nobody may notice. (One before memory reads the
// whole log each time, which is too much to ask of a database.)
type following struct {
	*nearcache.Store
	tb   testing.TB
	mu   sync.Mutex
	next roam.Cursor
}

func (s *following) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	s.mu.Lock()
	log, err := s.Store.Ends(context.WithoutCancel(ctx), s.next)
	if err != nil {
		s.tb.Errorf("Ends: %v", err)
	}
	s.next = log.Next
	s.mu.Unlock()
	want.Version = max(want.Version, 1)
	rec, err := s.Store.Load(ctx, id, want)
	if err == nil && !rec.Ended.IsZero() { // which may have been pruned
		return s.Store.Load(ctx, id, roam.Want{})
	}
	return rec, err
}

func TestNearCacheBeforePostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) roam.Store {
		s := &following{Store: nearly(tb, openPostgres(tb)), tb: tb}
		tb.Cleanup(func() { tb.Logf("%+v", s.Stats()) })
		return s
	})
}
