package postgresstore

import (
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// asked is how many records a server has looked up by now.
func asked(tb testing.TB, n *servers.Node, s *Store) string {
	tb.Helper()
	got, err := n.Query(background, s.names.in("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelid = (SELECT conindid FROM pg_constraint WHERE conrelid = {session_literal}::regclass AND contype = 'p')"))
	must(tb, err)
	return got
}

func TestReplicaAnswersIfItKnowsEnough(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Standby: true, Settings: map[string]string{"hot_standby_feedback": "on"}})
	opts := fresh(t)
	must(t, Init(background, pg.Primary.URL(), opts))
	must(t, pg.CatchUp(background))
	opts.Replicas = pg.DSN(pg.Standby.Addr())
	s := reopen(t, pg.Primary.URL(), opts)
	until(t, "the replica is in use", func() bool {
		h, _ := s.replica(s.primary.Load())
		return h != nil
	})
	rec := insert(t, s, record(1, "ada"))
	must(t, pg.CatchUp(background))
	// whence tells who answered, by stopping the other.
	copied := func(rec roam.Record, want roam.Want) bool {
		t.Helper()
		_, ok := s.loadCopy(background, rec.ID, want)
		got, err := s.Load(background, rec.ID, want)
		must(t, err)
		if got.Version < want.Version || got.Epoch != rec.Epoch {
			t.Errorf("got version %d of epoch %d, want %d of %d", got.Version, got.Epoch, want.Version, rec.Epoch)
		}
		if got.Now.Before(rec.Seen) {
			t.Errorf("Now is %v, before Seen, %v", got.Now, rec.Seen)
		}
		return ok
	}
	// On a busy machine the probers may pause for so long that nobody trusts
	// what they told; then the primary answers, for a while.
	until(t, "a replica that has the version is asked", func() bool { return copied(rec, roam.Want{Version: 1}) })
	until(t, "a replica that has the version and the epoch is asked", func() bool {
		return copied(rec, roam.Want{Version: 1, Epoch: rec.Epoch})
	})
	// The replica falls behind.
	must(t, pg.Lag(background, true))
	rec = must2(s.Update(background, rec))
	if copied(rec, roam.Want{Version: 2}) {
		t.Error("a replica that lags vouched for a version it does not have")
	}
	until(t, "a replica that lags is asked for a version it has", func() bool { return copied(rec, roam.Want{Version: 1}) })
	fresh := insert(t, s, record(2, "bob"))
	if copied(fresh, roam.Want{Version: 1}) {
		t.Error("a replica that lags vouched for a record it does not have")
	}
	// What looks idle there may have been touched.
	short := record(3, "ada")
	short.Idle = 200 * time.Millisecond
	must(t, pg.Lag(background, false))
	short = insert(t, s, short)
	must(t, pg.CatchUp(background))
	if got, ok := s.loadCopy(background, short.ID, roam.Want{Version: 1}); ok {
		if _, _, over := got.Over(got.Now); over {
			t.Errorf("a replica's record that is over was given out: %+v", got)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if got, ok := s.loadCopy(background, short.ID, roam.Want{Version: 1}); ok {
		t.Errorf("a replica decided that a session is over: %+v", got)
	}
	// A tombstone is final, wherever it is read.
	must(t, s.End(background, rec.ID, roam.Revoked))
	must(t, pg.CatchUp(background))
	until(t, "a replica's tombstone is believed", func() bool {
		got, ok := s.loadCopy(background, rec.ID, roam.Want{Version: 1})
		return ok && got.Why == roam.Revoked
	})
	// The newest record comes from the primary.
	before := asked(t, pg.Standby, s)
	for range 10 {
		must2(s.Load(background, fresh.ID, roam.Want{}))
		must2(s.Load(background, fresh.ID, roam.Want{Version: 1, Durable: true}))
	}
	if got := asked(t, pg.Standby, s); got != before {
		t.Errorf("the replica was asked for the newest record: %s look-ups, were %s", got, before)
	}
	// A replica that dies is no outage.
	must(t, pg.Standby.Kill())
	for range 20 {
		must2(s.Load(background, fresh.ID, roam.Want{Version: 1}))
	}
	tells(t, s.Check(background), "read replica")
	// And another history is none of ours.
	must(t, pg.Standby.Start(background))
	must(t, pg.Standby.Promote(background))
	must2(s.Restored(background))
	until(t, "the replica answers again", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.replicas[0].up
	})
	if h, _ := s.replica(s.primary.Load()); h != nil {
		t.Error("a replica of an earlier epoch is asked")
	}
}

// The clock in a replica's answer is the primary's, whatever the replica's says.
func TestClockIsThePrimarys(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	until(t, "a probe", func() bool { c := s.clock.Load(); return c != nil && c.store.After(rec.Now) })
	for range 20 {
		before := s.clock.Load().now()
		now := must2(s.Load(background, rec.ID, roam.Want{})).Now
		if before.After(now) {
			t.Errorf("the estimate %v is ahead of the store's clock, %v", before, now)
		}
		if d := now.Sub(before); d > 5*time.Second {
			t.Errorf("the estimate is %v behind", d)
		}
	}
}
