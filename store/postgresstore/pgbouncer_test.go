package postgresstore

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

func pgbouncer(t *testing.T) *servers.PgBouncer {
	t.Helper()
	b, err := servers.StartPgBouncer(background, postgres(t).Primary, &servers.PgBouncerOptions{Settings: map[string]string{"default_pool_size": "5"}})
	b = need(t, b, err)
	t.Cleanup(b.Stop)
	return b
}

// The store finds out by itself that connections are shared.
func TestPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	b := pgbouncer(t)
	s := openAt(t, b.URL(), nil)
	rec := insert(t, s, record(1, "ada"))
	var callers sync.WaitGroup
	for lane := range uint32(16) {
		callers.Go(func() {
			mine, err := s.Insert(background, record(100+lane, ""))
			for range 50 {
				if err == nil {
					mine, err = s.Update(background, mine)
				}
				if err == nil {
					_, err = s.Load(background, rec.ID, roam.Want{})
				}
			}
			if err != nil {
				t.Errorf("through a pooler: %v", err)
			}
		})
	}
	callers.Wait()
	if !s.unnamed.Load() {
		t.Error("statements are still prepared")
	}
	// Or it is told.
	told := openAt(t, b.URL()+"&default_query_exec_mode=exec&pool_max_conns=3", fresh(t))
	if !told.unnamed.Load() || told.opts.MaxConns != 3 {
		t.Errorf("unnamed %v, MaxConns %d: want what the URL says", told.unnamed.Load(), told.opts.MaxConns)
	}
	insert(t, told, record(2, ""))
	_, err := Open(background, b.URL()+"&default_query_exec_mode=simple_protocol", nil)
	tells(t, err, "default_query_exec_mode=simple_protocol", "exec")
}

// A statement that was prepared on one of the server's connections meets
// another one.
func TestPoolerIsNoticedInTheMiddle(t *testing.T) {
	t.Parallel()
	b := pgbouncer(t)
	opts := fresh(t)
	opts.MaxConns = 1
	s := openAt(t, b.URL(), opts)
	rec := insert(t, s, record(1, "ada"))
	if s.unnamed.Load() {
		t.Fatal("one client alone should not have noticed")
	}
	// Whoever comes next gets the connection that was used last.
	var others []*pgx.Conn
	for range 3 {
		cfg, err := pgx.ParseConfig(b.URL() + "&default_query_exec_mode=exec")
		must(t, err)
		c, err := pgx.ConnectConfig(background, cfg)
		must(t, err)
		defer c.Close(background)
		exec(t, s, c, "BEGIN")
		others = append(others, c)
		if rec, err = s.Update(background, rec); err != nil {
			t.Fatalf("while others hold %d connections: %v", len(others), err)
		}
	}
	if !s.unnamed.Load() {
		t.Error("statements are still prepared")
	}
}

// Behind a pooler another server can answer on a connection that stays open.
func TestTakeoverBehindAPoolerIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Standby: true})
	to := &switchboard{}
	to.target.Store(ptr(pg.Primary.Addr()))
	b, err := servers.StartPgBouncer(background, pg.Primary, &servers.PgBouncerOptions{Target: to.listen(t)})
	b = need(t, b, err)
	t.Cleanup(b.Stop)
	s := openAt(t, b.URL(), quick(t))
	rec := insert(t, s, record(1, "ada"))
	must(t, pg.CatchUp(background))
	must(t, pg.Standby.Promote(background))
	must(t, pg.Standby.Exec(background, s.names.in("UPDATE {session} SET agent = 'new'")))
	to.target.Store(ptr(pg.Standby.Addr()))
	to.hangUp()
	until(t, "the new server answers", func() bool {
		got, err := s.Load(background, rec.ID, roam.Want{})
		if err != nil {
			return false
		}
		if is := got.Epoch > rec.Epoch; is != (got.From.Agent == "new") {
			t.Fatalf("got agent %q with epoch %d: the new server's answers are of another epoch than %d", got.From.Agent, got.Epoch, rec.Epoch)
		}
		return got.Epoch > rec.Epoch
	})
}

func TestPreparedStatementsAreCalledByWhatTheyDo(t *testing.T) {
	t.Parallel()
	a, b := (names{"public", "a"}).statements(), (names{"public", "b"}).statements()
	for q := range numPrepared {
		if a[q].name == b[q].name {
			t.Errorf("%s is also the name of another statement", a[q].name)
		}
		if strings.ContainsAny(a[q].sql, "{}") {
			t.Errorf("not all names are filled in: %s", a[q].sql)
		}
	}
}
