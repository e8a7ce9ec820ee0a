package storetest

import (
	"time"

	"github.com/roam-web/roam"
)

var touchLaws = []law{
	{"Touch/MovesSeenToItsTime", func(t *tester) {
		rec := t.insert(full("ann"))
		want := rec.Seen.Add(3 * time.Microsecond)
		t.untilAfter(want, rec.ID)
		t.touch(roam.Touch{ID: rec.ID, At: want.In(time.FixedZone("elsewhere", -7*3600))})
		rec.Seen = want
		t.stored(rec)
	}},

	{"Touch/LeavesDataAndVersion", func(t *tester) {
		rec := t.insert(full("ann"))
		now := t.untilAfter(rec.Seen, rec.ID).Now
		t.touch(roam.Touch{ID: rec.ID, At: now})
		got := t.load(rec.ID)
		rec.Seen = got.Seen
		t.same("touched record", got, rec)
	}},

	{"Touch/NeverBackwards", func(t *tester) {
		rec := t.insert(record("ann"))
		t.untilAfter(rec.Seen, rec.ID)
		for _, at := range []time.Time{rec.Seen.Add(-time.Microsecond), rec.Seen.Add(-time.Hour), rec.Seen, {}} {
			t.touch(roam.Touch{ID: rec.ID, At: at})
			t.stored(rec)
		}
	}},

	// A web server whose clock is fast must not lend a session time.
	{"Touch/NeverBeyondTheClock", func(t *tester) {
		rec := t.insert(record("ann"))
		before := t.untilAfter(rec.Seen, rec.ID).Now
		t.touch(roam.Touch{ID: rec.ID, At: before.Add(time.Hour)})
		got := t.load(rec.ID)
		t.stamped("Seen after a touch an hour ahead", got.Seen, before, got.Now)
	}},

	{"Touch/NeverRevivesTheExpired", func(t *tester) {
		idle, life, none := record("ann"), record("ann"), record("ann")
		idle.Idle = time.Microsecond
		life.Lifetime = time.Microsecond
		none.Idle, none.Lifetime = 0, 0
		for what, rec := range map[string]roam.Record{"idle too long": idle, "past its lifetime": life, "without limits": none} {
			over := t.insertOver(rec)
			for _, at := range []time.Time{over.Now, over.Now.Add(time.Hour), over.Seen} {
				t.touch(roam.Touch{ID: rec.ID, At: at})
				t.same("record that is "+what, t.load(rec.ID), over)
			}
		}
	}},

	{"Touch/LeavesATombstoneAlone", func(t *tester) {
		rec := t.insert(full("ann"))
		t.end(rec.ID, roam.LoggedOut)
		dead := t.untilAfter(rec.Seen, rec.ID)
		t.touch(roam.Touch{ID: rec.ID, At: dead.Now})
		t.stored(dead)
	}},

	{"Touch/SkipsWhatItDoesNotFind", func(t *tester) {
		a, b := t.insert(record("ann")), t.insert(record(""))
		at := t.untilAfter(b.Seen, b.ID).Now
		dead := t.insert(record("ann"))
		t.end(dead.ID, roam.Revoked)
		t.touch(roam.Touch{ID: newID(), At: at}, roam.Touch{ID: a.ID, At: at}, roam.Touch{ID: dead.ID, At: at},
			roam.Touch{}, roam.Touch{ID: b.ID, At: at}, roam.Touch{ID: newID(), At: at})
		a.Seen, b.Seen = at, at
		t.stored(a)
		t.stored(b)
		t.living(a.ID, b.ID)
		t.gone(roam.ID{})
	}},

	{"Touch/OfNothingIsNothing", func(t *tester) {
		rec := t.insert(record("ann"))
		t.touch()
		t.touch([]roam.Touch{}...)
		t.stored(rec)
	}},

	{"Touch/TheLatestOfABatchCounts", func(t *tester) {
		rec := t.insert(record("ann"))
		want := t.untilAfter(rec.Seen.Add(3*time.Microsecond), rec.ID).Now
		t.touch(roam.Touch{ID: rec.ID, At: rec.Seen.Add(time.Microsecond)}, roam.Touch{ID: rec.ID, At: want},
			roam.Touch{ID: rec.ID, At: rec.Seen.Add(2 * time.Microsecond)})
		rec.Seen = want
		t.stored(rec)
	}},

	// Run writes what a busy server has noticed in a second as one batch.
	{"Touch/TakesALargeBatch", func(t *tester) {
		const n = 1500
		var recs []roam.Record
		var touches []roam.Touch
		for range 20 {
			recs = append(recs, t.insert(record("ann")))
		}
		at := t.untilAfter(recs[19].Seen, recs[19].ID).Now
		for i := range n {
			id := newID()
			if i%(n/len(recs)) == 0 {
				id = recs[i/(n/len(recs))].ID
			}
			touches = append(touches, roam.Touch{ID: id, At: at})
		}
		t.touch(touches...)
		for _, rec := range recs {
			rec.Seen = at
			t.stored(rec)
		}
		if n := len(t.all()); n != len(recs) {
			t.Errorf("%d records after touches of %d, want no new ones", n, len(recs))
		}
	}},

	{"Touch/ConflictsWithNoUpdate", func(t *tester) {
		rec := t.insert(record("ann"))
		for range 10 {
			now := t.untilAfter(rec.Seen, rec.ID).Now
			t.touch(roam.Touch{ID: rec.ID, At: now})
			rec = t.update(edit(rec, "x")) // with the version from before the touch
			if rec.Seen.Before(now) {
				t.Errorf("an update took Seen back from %v to %v", now, rec.Seen)
			}
		}
		t.stored(rec)
	}},

	// What was in use stays: the next deadline counts from the touch.
	{"Touch/KeepsASessionAlive", func(t *tester) {
		rec := t.insert(record("ann"))
		now := t.untilAfter(rec.Seen, rec.ID).Now
		t.touch(roam.Touch{ID: rec.ID, At: now})
		rec = t.load(rec.ID)
		if got, _ := rec.Deadline(); !got.Equal(now.Add(rec.Idle)) {
			t.Errorf("deadline is %v, want an idle timeout after %v", got, now)
		}
	}},
}
