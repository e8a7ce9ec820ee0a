package storetest

import (
	"bytes"
	"slices"
	"time"

	"github.com/roam-web/roam"
)

// ids returns the records' IDs in their order.
func ids(recs []roam.Record) (ids []roam.ID) {
	for _, rec := range recs {
		ids = append(ids, rec.ID)
	}
	return ids
}

var listLaws = []law{
	{"List/YieldsWholeRecords", func(t *tester) {
		rec := t.insert(full("ann"))
		t.insert(full("bob"))
		got := t.list("ann")
		if len(got) != 1 {
			t.Fatalf("%d records, want 1", len(got))
		}
		t.same("listed record", got[0], rec)
	}},

	{"List/NewestLoginFirst", func(t *tester) {
		var recs []roam.Record
		for i := range 12 {
			rec := t.insert(record("ann"))
			rec.LoggedIn = rec.Created.Add(time.Duration(i*5%12) * time.Minute)
			recs = append(recs, t.update(rec))
		}
		slices.SortFunc(recs, func(a, b roam.Record) int { return b.LoggedIn.Compare(a.LoggedIn) })
		if got, want := ids(t.list("ann")), ids(recs); !slices.Equal(got, want) {
			t.Errorf("order is %v, want %v", got, want)
		}
	}},

	{"List/ThenByID", func(t *tester) {
		var want []roam.ID
		at := t.insert(record("")).Now
		for range 12 {
			rec := t.insert(record("ann"))
			rec.LoggedIn = at
			want = append(want, t.update(rec).ID)
		}
		slices.SortFunc(want, func(a, b roam.ID) int { return bytes.Compare(a[:], b[:]) })
		if got := ids(t.list("ann")); !slices.Equal(got, want) {
			t.Errorf("order is %v, want %v", got, want)
		}
	}},

	{"List/LeavesOutTombstones", func(t *tester) {
		a, b := t.insert(record("ann")), t.insert(record("ann"))
		t.end(a.ID, roam.LoggedOut)
		if got := ids(t.list("ann")); !slices.Equal(got, []roam.ID{b.ID}) {
			t.Errorf("got %v, want only the living %v", got, b.ID)
		}
		t.endUser("ann", roam.Revoked)
		if got := t.list("ann"); len(got) != 0 {
			t.Errorf("got %v, want none", ids(got))
		}
	}},

	// The manager judges expiry, here as in Load.
	{"List/JudgesNoExpiry", func(t *tester) {
		over := t.insertOver(brief("ann"))
		if got := ids(t.list("ann")); !slices.Equal(got, []roam.ID{over.ID}) {
			t.Errorf("got %v, want the record that is over but has no tombstone", got)
		}
	}},

	{"List/TheEmptyUserHasNone", func(t *tester) {
		t.insert(record(""))
		t.insert(record("ann"))
		if got := t.list(""); len(got) != 0 {
			t.Errorf("the empty user has %d sessions: these are guests", len(got))
		}
		if got := t.list("nobody"); len(got) != 0 {
			t.Errorf("a user without sessions has %d", len(got))
		}
	}},

	{"List/UsersAreExact", func(t *tester) {
		want := make(map[string]roam.ID)
		for _, user := range oddUsers {
			want[user] = t.insert(record(user)).ID
		}
		for _, user := range oddUsers {
			if got := ids(t.list(user)); !slices.Equal(got, []roam.ID{want[user]}) {
				t.Errorf("user %s has %d sessions, want the one that was inserted", abridge([]byte(user)), len(got))
			}
		}
	}},

	{"List/FollowsLogins", func(t *tester) {
		guest, other, gone := t.insert(full("")), t.insert(full("bob")), t.insert(full("bob"))
		guest.User, other.User, gone.User = "ann", "ann", ""
		guest.LoggedIn = guest.Now
		t.update(edit(t.update(guest), "and another change, which leaves the user"))
		t.update(other)
		t.update(gone)
		if got := t.list("ann"); len(got) != 2 {
			t.Errorf("ann has %d sessions, want the 2 that became hers", len(got))
		}
		if got := t.list("bob"); len(got) != 0 {
			t.Errorf("bob has %d sessions, want none: they are others' now", len(got))
		}
	}},

	{"List/MayStopEarly", func(t *tester) {
		for range 5 {
			t.insert(record("ann"))
		}
		for range 20 { // a store that leaks a cursor or a lock each time runs out of them
			n := 0
			for _, err := range t.store.List(t.Context(), "ann") {
				if err != nil {
					t.Fatalf("List: %v", err)
				}
				if n++; n == 2 {
					break
				}
			}
		}
		t.insert(record("ann"))
		if got := t.list("ann"); len(got) != 6 {
			t.Errorf("%d sessions, want 6", len(got))
		}
	}},

	// The limit of sessions per user ends sessions while it lists them.
	{"List/MayWriteMeanwhile", func(t *tester) {
		for range 8 {
			t.insert(record("ann"))
		}
		n := 0
		for rec, err := range t.store.List(t.Context(), "ann") {
			if err != nil {
				t.Fatalf("List: %v", err)
			}
			if n++; n > 5 {
				t.end(rec.ID, roam.OverLimit)
			} else {
				t.update(edit(rec, "meanwhile"))
			}
		}
		if n != 8 {
			t.Errorf("%d sessions listed while they changed, want 8", n)
		}
		if got := t.list("ann"); len(got) != 5 {
			t.Errorf("%d sessions left, want 5", len(got))
		}
	}},

	{"List/YieldsMany", func(t *tester) {
		want := make(map[roam.ID]bool)
		for range 300 {
			want[t.insert(record("ann")).ID] = true
		}
		for _, rec := range t.list("ann") {
			if !want[rec.ID] {
				t.Errorf("session %v is not there, or twice", rec.ID)
			}
			delete(want, rec.ID)
		}
		if len(want) != 0 {
			t.Errorf("%d of 300 sessions missing", len(want))
		}
	}},
}

var allLaws = []law{
	{"All/YieldsEveryRecord", func(t *tester) {
		living, guest, over, ended := t.insert(full("ann")), t.insert(full("")), t.insertOver(brief("bob")), t.insert(full("bob"))
		t.end(ended.ID, roam.LoggedOut)
		ended = t.load(ended.ID)
		got := t.all()
		for what, want := range map[string]roam.Record{"living": living, "guest's": guest, "expired": over, "ended": ended} {
			rec, ok := got[want.ID]
			if !ok {
				t.Errorf("the %s record is missing", what)
				continue
			}
			t.same("the "+what+" record", rec, want)
		}
		if len(got) != 4 {
			t.Errorf("%d records, want 4", len(got))
		}
	}},

	{"All/OfNothingIsNothing", func(t *tester) {
		if n := len(t.all()); n != 0 {
			t.Errorf("a new store has %d records; every law needs an empty one of its own", n)
		}
	}},

	{"All/MayStopEarly", func(t *tester) {
		for range 5 {
			t.insert(record(""))
		}
		for range 20 {
			for _, err := range t.store.All(t.Context()) {
				if err != nil {
					t.Fatalf("All: %v", err)
				}
				break
			}
		}
		t.insert(record(""))
		if n := len(t.all()); n != 6 {
			t.Errorf("%d records, want 6", n)
		}
	}},

	// An operator's command looks at all sessions and ends some.
	{"All/MayWriteMeanwhile", func(t *tester) {
		for range 8 {
			t.insert(record("ann"))
		}
		for rec, err := range t.store.All(t.Context()) {
			if err != nil {
				t.Fatalf("All: %v", err)
			}
			t.end(rec.ID, roam.Revoked)
			t.load(rec.ID)
		}
		t.living()
	}},
}
