package postgresstore

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// All that happens to a living session is HOT: no index is written, and no page
// is added for long.
func TestTouchesAndUpdatesAreHOT(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	const n = 2000
	recs := make([]roam.Record, n)
	for i := range recs {
		rec := record(uint32(i), "ada")
		rec.Data = []byte(strings.Repeat("a", 200))
		recs[i] = insert(t, s, rec)
	}
	var lanes sync.WaitGroup
	for lane := range 4 {
		lanes.Go(func() {
			r := rand.New(rand.NewPCG(uint64(lane), 1))
			for range 100 {
				var touches []roam.Touch
				for range 20 {
					k := lane*n/4 + r.IntN(n/4)
					touches = append(touches, roam.Touch{ID: recs[k].ID, At: time.Now()})
				}
				if err := s.Touch(background, touches); err != nil {
					t.Error(err)
				}
				k := lane*n/4 + r.IntN(n/4)
				rec, err := s.Update(background, recs[k])
				if err != nil {
					t.Error(err)
				}
				recs[k] = rec
			}
		})
	}
	lanes.Wait()
	must(t, s.End(background, recs[0].ID, roam.Revoked))
	var got string
	until(t, "the server has counted", func() bool {
		got = sql(t, s, "SELECT n_tup_upd > 2000, n_tup_upd = n_tup_hot_upd, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = '{session}'::regclass")
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
	s := open(t, nil)
	a, b := insert(t, s, record(1, "ada")), insert(t, s, record(2, "ada"))
	other := superuser(t)
	for round := range 3 {
		exec(t, s, other, "BEGIN")
		exec(t, s, other, "UPDATE {session} SET agent = 'x' WHERE id = $1", b.ID)
		done := make(chan error)
		go func() {
			at := time.Now().Add(time.Hour)
			done <- s.Touch(background, []roam.Touch{{ID: b.ID, At: at}, {ID: a.ID, At: at}})
		}()
		until(t, "the touch waits", func() bool {
			return sql(t, s, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{session}%'") == "1"
		})
		// In the other order. The server ends one of the two; let it be ours.
		exec(t, s, other, "SET deadlock_timeout = '1h'")
		exec(t, s, other, "UPDATE {session} SET agent = 'y' WHERE id = $1", a.ID)
		exec(t, s, other, "COMMIT")
		if err := <-done; err != nil {
			t.Errorf("round %d: a touch that was in a deadlock: %v", round, err)
		}
	}
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
