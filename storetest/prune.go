package storetest

import (
	"time"

	"github.com/roam-web/roam"
)

// longOver returns a record that has been past its lifetime for an hour.
func (t *tester) longOver(user string) roam.Record {
	t.Helper()
	rec := t.insert(record(user))
	rec.Lifetime, rec.LoggedIn = time.Hour, rec.Now.Add(-2*time.Hour)
	return t.update(rec)
}

const many = 1000

var pruneLaws = []law{
	{"Prune/RemovesWhatIsOver", func(t *tester) {
		living, guest := t.insert(full("ann")), t.insert(full(""))
		idle, life, ended := brief("ann"), record("ann"), record("ann")
		life.Lifetime = time.Microsecond
		t.insert(ended)
		t.end(ended.ID, roam.LoggedOut)
		t.insertOver(idle)
		t.insertOver(life)
		t.untilAfter(t.load(ended.ID).Ended, ended.ID)
		if n := t.prune(0, many); n != 3 {
			t.Errorf("Prune removed %d records, want 3", n)
		}
		for _, rec := range []roam.Record{idle, life, ended} {
			t.gone(rec.ID)
		}
		t.stored(living)
		t.stored(guest)
		if n := t.prune(0, many); n != 0 {
			t.Errorf("Prune removed %d records the second time, want 0", n)
		}
	}},

	{"Prune/NeverRemovesTheLiving", func(t *tester) {
		a, b := t.insert(full("ann")), t.insert(record(""))
		young := t.insert(record("ann")) // its lifetime runs from the login, not from Created
		young.Lifetime, young.LoggedIn = time.Microsecond, young.Now.Add(time.Hour)
		young = t.update(young)
		t.untilAfter(young.Created.Add(time.Microsecond), young.ID)
		for _, keep := range []time.Duration{0, time.Microsecond, time.Hour} {
			if n := t.prune(keep, many); n != 0 {
				t.Errorf("Prune(%v) removed %d records that live", keep, n)
			}
		}
		for _, rec := range []roam.Record{a, b, young} {
			t.stored(rec)
		}
	}},

	{"Prune/KeepsTheRecentlyOver", func(t *tester) {
		over := t.insertOver(brief("ann"))
		ended := t.insert(record("ann"))
		t.end(ended.ID, roam.LoggedOut)
		ended = t.load(ended.ID)
		long := t.longOver("ann")
		if n := t.prune(2*time.Hour, many); n != 0 {
			t.Errorf("Prune(2h) removed %d records, want 0", n)
		}
		if n := t.prune(30*time.Minute, many); n != 1 {
			t.Errorf("Prune(30m) removed %d records, want the one that has been over for an hour", n)
		}
		t.gone(long.ID)
		t.stored(over)
		t.stored(ended)
	}},

	// A tombstone counts from its end, however long the deadlines had passed.
	{"Prune/ATombstoneCountsFromItsEnd", func(t *tester) {
		long := t.longOver("ann")
		t.end(long.ID, roam.Revoked)
		long = t.load(long.ID)
		if n := t.prune(30*time.Minute, many); n != 0 {
			t.Errorf("Prune(30m) removed a record that ended just now")
		}
		t.stored(long)
	}},

	{"Prune/AtMostMax", func(t *tester) {
		for range 10 {
			t.insertOver(brief("ann"))
		}
		keep := t.insert(record("ann"))
		if n := t.prune(0, 0); n != 0 {
			t.Errorf("Prune(max 0) removed %d records", n)
		}
		for left := 10; left > 0; {
			want := min(4, left)
			n := t.prune(0, 4)
			if n != want {
				t.Fatalf("Prune(max 4) removed %d records of %d, want %d", n, left, want)
			}
			left -= n
			if got := len(t.all()); got != left+1 {
				t.Fatalf("%d records left, want %d", got, left+1)
			}
		}
		t.stored(keep)
	}},

	{"Prune/WhatIsPrunedIsNoMore", func(t *tester) {
		rec := t.insert(record("ann"))
		t.end(rec.ID, roam.LoggedOut)
		t.untilAfter(t.load(rec.ID).Ended, rec.ID)
		t.prune(0, many)
		t.gone(rec.ID)
		rec.Version = 2
		t.conflicts("of a pruned record", rec)
		t.touch(roam.Touch{ID: rec.ID, At: rec.Now})
		t.end(rec.ID, roam.Revoked)
		if n := t.endUser("ann", roam.Revoked); n != 0 {
			t.Errorf("EndUser ended %d pruned records", n)
		}
		t.gone(rec.ID)
		if n := len(t.all()); n != 0 {
			t.Errorf("%d records, want none", n)
		}
	}},
}
