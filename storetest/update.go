package storetest

import (
	"errors"
	"net/netip"
	"time"

	"github.com/roam-web/roam"
)

var updateLaws = []law{
	{"Update/StoresWhatItIsGiven", func(t *tester) {
		was := t.insert(full(""))
		given := full("ann") // every field is another than before
		given.ID, given.Version = was.ID, was.Version
		given.From.Addr, given.From.Agent, given.Level = netip.MustParseAddr("192.0.2.7"), "another", 9
		given.Idle, given.Lifetime = time.Minute, time.Hour
		given.Data = []byte("another")
		given.LoggedIn = was.Now
		got := t.update(given)
		want := given
		want.Version, want.Created, want.Seen = 2, was.Created, got.Seen
		t.same("answer", got, want)
		t.stored(got)
	}},

	{"Update/CanTakeEverythingAway", func(t *tester) {
		was := t.insert(full("ann"))
		got := t.update(roam.Record{ID: was.ID, Version: was.Version, Idle: time.Hour, Lifetime: time.Hour})
		want := roam.Record{ID: was.ID, Version: 2, Idle: time.Hour, Lifetime: time.Hour, Created: was.Created, Seen: got.Seen}
		t.same("answer", got, want)
		t.stored(got)
	}},

	{"Update/CountsVersionsByOne", func(t *tester) {
		rec := t.insert(record(""))
		for want := uint64(2); want < 20; want++ {
			rec = t.update(edit(rec, "x"))
			if rec.Version != want {
				t.Fatalf("version is %d after update %d, want %d", rec.Version, want-1, want)
			}
		}
		t.stored(rec)
	}},

	{"Update/NeedsTheStoredVersion", func(t *tester) {
		first := t.insert(full("ann"))
		second := t.update(edit(first, "second"))
		for _, version := range []uint64{0, 1, 3, 4, 1 << 40} {
			rec := full("bob")
			rec.ID, rec.Version = first.ID, version
			t.conflicts("with a version that is not the stored 2", rec)
			t.stored(second)
		}
		t.update(edit(second, "third"))
	}},

	// A request that the network delivers twice is done once.
	{"Update/TheSameTwiceConflicts", func(t *tester) {
		next := edit(t.insert(record("")), "x")
		done := t.update(next)
		t.conflicts("for the second time", next)
		t.stored(done)
	}},

	{"Update/KeepsCreated", func(t *tester) {
		was := t.insert(record("ann"))
		next := edit(was, "x")
		next.Created = was.Created.Add(-time.Hour)
		if got := t.update(next); !got.Created.Equal(was.Created) {
			t.Errorf("Created moved from %v to %v", was.Created, got.Created)
		}
		if got := t.load(was.ID); !got.Created.Equal(was.Created) {
			t.Errorf("stored Created moved from %v to %v", was.Created, got.Created)
		}
	}},

	{"Update/StampsSeen", func(t *tester) {
		was := t.insert(record("ann"))
		before := t.untilAfter(was.Seen, was.ID).Now
		for _, lie := range []time.Time{{}, was.Seen, was.Seen.Add(-time.Hour), was.Seen.Add(time.Hour)} {
			next := edit(was, "x")
			next.Seen = lie
			got := t.update(next)
			t.stamped("Seen", got.Seen, before, got.Now)
			t.stored(got)
			was, before = got, got.Now
		}
	}},

	// A manager says when a login was, because only logins move LoggedIn.
	{"Update/TakesLoggedInAsGiven", func(t *tester) {
		rec := t.insert(record("ann"))
		for _, d := range []time.Duration{0, time.Microsecond, -time.Hour, 999999 * time.Microsecond, time.Hour} {
			want := rec.Now.Add(d)
			rec.LoggedIn = want.In(time.FixedZone("elsewhere", 5*3600+1800))
			if rec = t.update(rec); !rec.LoggedIn.Equal(want) {
				t.Errorf("LoggedIn given %v: got %v", want, rec.LoggedIn)
			}
			t.stored(rec)
		}
		rec.LoggedIn = time.Time{}
		if rec = t.update(rec); !rec.LoggedIn.IsZero() {
			t.Errorf("LoggedIn given as zero: got %v", rec.LoggedIn)
		}
		t.stored(rec)
	}},

	{"Update/NeverInserts", func(t *tester) {
		for _, version := range []uint64{0, 1, 2} {
			rec := record("ann")
			rec.Version = version
			t.conflicts("of what is not there", rec)
			t.gone(rec.ID)
		}
		t.living()
	}},

	{"Update/NeverRevivesATombstone", func(t *tester) {
		was := t.insert(full("ann"))
		t.end(was.ID, roam.LoggedOut)
		dead := t.load(was.ID)
		for _, version := range []uint64{was.Version, dead.Version, dead.Version + 1, 0} {
			next := edit(was, "back")
			next.Version = version
			t.conflicts("of a tombstone", next)
		}
		t.stored(dead)
		if n := len(t.list("ann")); n != 0 {
			t.Errorf("the user has %d sessions after the only one ended", n)
		}
	}},

	{"Update/NeverMakesATombstone", func(t *tester) {
		next := edit(t.insert(record("ann")), "x")
		next.Ended, next.Why = next.Now, roam.Revoked
		if got := t.update(next); !got.Ended.IsZero() || got.Why != "" {
			t.Errorf("answer is a tombstone: Ended %v, Why %q", got.Ended, got.Why)
		}
		if got := t.load(next.ID); !got.Ended.IsZero() || got.Why != "" {
			t.Errorf("record is a tombstone: Ended %v, Why %q", got.Ended, got.Why)
		}
	}},

	// The limits that count are the stored ones. If those of the update did,
	// whoever is late could help himself.
	{"Update/RefusesTheExpired", func(t *tester) {
		idle, life, none, noLife := record("ann"), record("ann"), record("ann"), record("ann")
		idle.Idle = time.Microsecond
		life.Lifetime = time.Microsecond
		none.Idle = 0
		noLife.Lifetime = 0
		for what, rec := range map[string]roam.Record{
			"idle too long": idle, "past its lifetime": life, "without an idle timeout": none, "without a lifetime": noLife,
		} {
			over := t.insertOver(rec)
			next := edit(over, "back")
			next.Idle, next.Lifetime = time.Hour, time.Hour
			next.LoggedIn = over.Now
			t.conflicts("of a record that is "+what, next)
			t.stored(over)
		}
	}},

	{"Update/SetsNewLimits", func(t *tester) {
		rec := t.insert(record("ann"))
		rec.Idle = time.Microsecond
		rec = t.update(rec)
		t.conflicts("of a record whose new idle timeout is over", t.untilOver(rec.ID))

		rec = t.insert(record("ann"))
		rec.Lifetime, rec.LoggedIn = time.Hour, rec.Now.Add(-2*time.Hour)
		rec = t.update(rec)
		t.conflicts("of a record that logged in longer ago than its lifetime", rec)
		t.stored(rec)
	}},

	// A guest's lifetime runs from its start, a user's from the login.
	{"Update/LifetimeRunsFromTheLogin", func(t *tester) {
		rec := t.insert(record("ann"))
		rec.Lifetime, rec.LoggedIn = time.Microsecond, rec.Now.Add(time.Hour)
		rec = t.update(rec)
		t.untilAfter(rec.Created.Add(rec.Lifetime), rec.ID)
		next := edit(rec, "x")
		if _, err := t.store.Update(t.Context(), next); err != nil {
			t.Errorf("Update of a record that is past Created+Lifetime but not past LoggedIn+Lifetime: %v", err)
		}
	}},

	{"Update/OfOneLeavesTheOthers", func(t *tester) {
		a, b, c := t.insert(full("ann")), t.insert(full("ann")), t.insert(full(""))
		b = t.update(edit(b, "x"))
		for _, rec := range []roam.Record{a, b, c} {
			t.stored(rec)
		}
	}},

	// So a manager whose record in hand is old finds out at once.
	{"Update/AConflictIsNotUnavailable", func(t *tester) {
		rec := t.insert(record("ann"))
		t.update(rec)
		if _, err := t.store.Update(t.Context(), rec); !errors.Is(err, roam.ErrConflict) || errors.Is(err, roam.ErrUnavailable) {
			t.Errorf("error %v, want ErrConflict and nothing else", err)
		}
	}},
}
