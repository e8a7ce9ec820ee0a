package postgresstore

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// All that happens to a living session is HOT: no index is written, and no page
// is added for long.
func TestTouchesAndUpdatesAreHOT(t *testing.T) {
	t.Parallel()
	// A server of its own: an open transaction, of another test, keeps what is
	// dead from being cleared away.
	pg := private(t, &servers.PostgresOptions{})
	s := openAt(t, pg.DSN(), nil)
	const n = 20_000
	fill(t, pg, s, n)
	recs := make([]roam.Record, 0, n)
	for rec, err := range s.All(background) {
		must(t, err)
		recs = append(recs, rec)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var touches []roam.Touch
		for range 10 {
			touches = append(touches, roam.Touch{ID: recs[r.IntN(n)].ID, At: time.Now()})
		}
		must(t, s.Touch(background, touches))
		rec := &recs[r.IntN(n)]
		*rec = must2(s.Update(background, *rec))
	}
	groups, _ := counted(&s.changes)
	release := gather(t, &s.changes)
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			if _, err := s.Update(background, recs[i*100]); err != nil && err != roam.ErrConflict {
				t.Error(err)
			}
		})
	}
	release(64)
	group.Wait()
	if groups.Load() != 1 {
		t.Errorf("%d groups, want 1", groups.Load())
	}
	must(t, s.End(background, recs[0].ID, roam.Revoked))
	must(t, s.Close()) // so that the server counts
	var got string
	until(t, "the server has counted", func() bool {
		var err error
		got, err = pg.Primary.Query(background, s.names.in("SELECT n_tup_upd > 2000, n_tup_upd = n_tup_hot_upd, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = {session_literal}::regclass"))
		must(t, err)
		return strings.HasPrefix(got, "t|")
	})
	if !strings.HasPrefix(got, "t|t|") {
		t.Errorf("updates and those that were HOT: %s, want all", got)
	}
	t.Log(got)
}

// Somebody else's deadlock is not the caller's.
func TestDeadlocksAreRetried(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Settings: map[string]string{"deadlock_timeout": "2s"}})
	s := openAt(t, pg.DSN(), nil)
	a, b := insert(t, s, record(1, "ada")), insert(t, s, record(2, "ada"))
	other, err := pgx.Connect(background, pg.Primary.AdminURL())
	must(t, err)
	defer other.Close(background)
	exec(t, s, other, "BEGIN")
	exec(t, s, other, "UPDATE {session} SET agent = 'x' WHERE id = $1", b.ID)
	done := make(chan error, 1)
	go func() {
		at := time.Now().Add(time.Hour)
		done <- s.Touch(background, []roam.Touch{{ID: b.ID, At: at}, {ID: a.ID, At: at}})
	}()
	until(t, "the touch waits", func() bool { return lockWaits(t, pg, s) == "1" })
	// In the other order. The server ends the one that finds the deadlock,
	// which is ours.
	exec(t, s, other, "SET deadlock_timeout = '1min'")
	exec(t, s, other, "UPDATE {session} SET agent = 'y' WHERE id = $1", a.ID)
	exec(t, s, other, "COMMIT")
	if err := <-done; err != nil {
		t.Errorf("a touch that was in a deadlock: %v", err)
	}
}

// lockWaits is how many statements on the store's tables wait for a row.
func lockWaits(tb testing.TB, pg *servers.Postgres, s *Store) string {
	tb.Helper()
	n, err := pg.Primary.Query(background, s.names.in("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || {session_literal} || '%'"))
	must(tb, err)
	return n
}

// A write that waits for another judges by the clock when it goes on.
func TestWhatExpiresWhileAWriteWaitsIsDead(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	lock := hand(t, s)
	for what, write := range map[string]func(roam.Record) error{
		"Touch": func(rec roam.Record) error {
			return s.Touch(background, []roam.Touch{{ID: rec.ID, At: time.Now().Add(time.Hour)}})
		},
		"Update": func(rec roam.Record) error { _, err := s.Update(background, rec); return err },
	} {
		rec := record(1, "")
		rec.ID[0] = what[0]
		rec.Idle = 300 * time.Millisecond
		rec = insert(t, s, rec)
		exec(t, s, lock, "BEGIN")
		exec(t, s, lock, "UPDATE {session} SET agent = 'x' WHERE id = $1", rec.ID)
		done := make(chan error)
		go func() { done <- write(rec) }()
		until(t, "it waits, and the session is over", func() bool {
			now := must2(s.Load(background, rec.ID, roam.Want{}))
			_, _, over := now.Over(now.Now)
			return over
		})
		exec(t, s, lock, "COMMIT")
		err := <-done
		got := must2(s.Load(background, rec.ID, roam.Want{}))
		if _, _, over := got.Over(got.Now); !over || !got.Seen.Equal(rec.Seen) {
			t.Errorf("%s, error %v: Seen was %v and is %v, over %v: want it dead", what, err, rec.Seen, got.Seen, over)
		}
	}
}
