package storetest

import (
	"strings"

	"github.com/roam-web/roam"
)

var endLaws = []law{
	// Proof and Previous stay, so that the visitor can be told from a forger
	// when told why; Writes stay, so that a write can still be settled.
	{"End/LeavesATombstone", func(t *tester) {
		rec := t.insert(full("ann"))
		rec = t.update(edit(rec, "x"))
		before := t.untilAfter(rec.Now, rec.ID).Now
		t.end(rec.ID, roam.LoggedOut)
		got := t.load(rec.ID)
		t.stamped("Ended", got.Ended, before, got.Now)
		if got.Data != nil {
			t.Errorf("tombstone has data %q, want nil", got.Data)
		}
		want := rec
		want.Version, want.Ended, want.Why = 3, got.Ended, roam.LoggedOut
		want.Data, want.Level, want.From = nil, 0, roam.Client{}
		t.same("tombstone", got, want)
	}},

	{"End/KeepsTheFirstReason", func(t *tester) {
		rec := t.insert(full("ann"))
		t.end(rec.ID, roam.PasswordChanged)
		dead := t.load(rec.ID)
		t.untilAfter(dead.Ended, rec.ID)
		t.end(rec.ID, roam.LoggedOut)
		t.stored(dead)
		if n := t.endUser("ann", roam.Revoked); n != 0 {
			t.Errorf("EndUser ended %d records, want 0: the only one had ended", n)
		}
		t.stored(dead)
	}},

	{"End/OfNothingLeavesNothing", func(t *tester) {
		id := newID()
		t.end(id, roam.LoggedOut)
		t.end(roam.ID{}, roam.LoggedOut)
		t.gone(id)
		if n := len(t.all()); n != 0 {
			t.Errorf("%d records, want none", n)
		}
	}},

	// Nobody is harmed by ending what is over, and an operator who revokes a
	// session wants to read it afterwards.
	{"End/ReachesTheExpired", func(t *tester) {
		over := t.insertOver(brief("ann"))
		t.end(over.ID, roam.Revoked)
		if got := t.load(over.ID); got.Why != roam.Revoked || got.Ended.IsZero() {
			t.Errorf("Why %q, Ended %v, want a tombstone with reason %q", got.Why, got.Ended, roam.Revoked)
		}
	}},

	{"End/TakesAnyReason", func(t *tester) {
		for _, why := range []roam.Reason{roam.LoggedOut, roam.Replaced, roam.OverLimit, "x", "fraud: \"7\" 'ü' 安", roam.Reason(strings.Repeat("r", 64))} {
			rec := t.insert(record("ann"))
			t.end(rec.ID, why)
			if got := t.load(rec.ID); got.Why != why {
				t.Errorf("Why is %q, want %q", got.Why, why)
			}
		}
	}},

	{"End/OfOneLeavesTheOthers", func(t *tester) {
		a, b, c := t.insert(full("ann")), t.insert(full("ann")), t.insert(full(""))
		t.end(b.ID, roam.Revoked)
		t.stored(a)
		t.stored(c)
		t.living(a.ID, c.ID)
	}},
}

var endUserLaws = []law{
	{"EndUser/EndsAllOfOneUser", func(t *tester) {
		a, b := t.insert(full("ann")), t.insert(full("ann"))
		bob, guest := t.insert(full("bob")), t.insert(full(""))
		if n := t.endUser("ann", roam.PasswordChanged); n != 2 {
			t.Errorf("EndUser ended %d records, want 2", n)
		}
		for _, rec := range []roam.Record{a, b} {
			got := t.load(rec.ID)
			want := rec
			want.Version, want.Ended, want.Why = 2, got.Ended, roam.PasswordChanged
			want.Data, want.Level, want.From = nil, 0, roam.Client{}
			t.stamped("Ended", got.Ended, bob.Now, got.Now)
			t.same("tombstone", got, want)
		}
		t.stored(bob)
		t.stored(guest)
	}},

	{"EndUser/KeepsTheExcepted", func(t *tester) {
		a, b, c, d := t.insert(full("ann")), t.insert(full("ann")), t.insert(full("ann")), t.insert(full("ann"))
		bob := t.insert(full("bob"))
		if n := t.endUser("ann", roam.Revoked, b.ID, newID(), bob.ID, d.ID, b.ID); n != 2 {
			t.Errorf("EndUser ended %d records, want 2 of 4", n)
		}
		t.stored(b)
		t.stored(d)
		t.stored(bob)
		t.living(b.ID, d.ID, bob.ID)
		if n := t.endUser("ann", roam.Revoked, a.ID, c.ID); n != 2 {
			t.Errorf("EndUser ended %d records, want the other 2", n)
		}
		t.living(bob.ID)
	}},

	{"EndUser/CountsOnlyWhatItEnds", func(t *tester) {
		a := t.insert(full("ann"))
		t.insert(full("ann"))
		t.end(a.ID, roam.LoggedOut)
		dead := t.load(a.ID)
		if n := t.endUser("ann", roam.Revoked); n != 1 {
			t.Errorf("EndUser ended %d records, want 1: the other had ended", n)
		}
		t.stored(dead)
		if n := t.endUser("ann", roam.Revoked); n != 0 {
			t.Errorf("EndUser ended %d records, want 0 the second time", n)
		}
		if n := t.endUser("nobody", roam.Revoked); n != 0 {
			t.Errorf("EndUser ended %d records of a user without any", n)
		}
	}},

	// The empty user is every guest. To end them all is nobody's wish.
	{"EndUser/TheEmptyUserHasNone", func(t *tester) {
		a, b := t.insert(full("")), t.insert(full("ann"))
		if n := t.endUser("", roam.Revoked); n != 0 {
			t.Errorf("EndUser of the empty user ended %d records", n)
		}
		t.stored(a)
		t.stored(b)
	}},

	{"EndUser/UsersAreExact", func(t *tester) {
		ids := make(map[string]roam.ID)
		for _, user := range oddUsers {
			ids[user] = t.insert(record(user)).ID
		}
		for _, user := range oddUsers {
			if n := t.endUser(user, roam.Reason("ended")); n != 1 {
				t.Errorf("EndUser(%s) ended %d records, want 1", abridge([]byte(user)), n)
			}
			if rec := t.load(ids[user]); rec.Ended.IsZero() {
				t.Errorf("EndUser(%s) ended somebody else's record", abridge([]byte(user)))
			}
		}
	}},

	{"EndUser/FollowsLogins", func(t *tester) {
		guest, other, gone := t.insert(full("")), t.insert(full("bob")), t.insert(full("bob"))
		guest.User, other.User, gone.User = "ann", "ann", ""
		t.update(edit(t.update(guest), "and another change, which leaves the user"))
		t.update(other)
		t.update(gone)
		if n := t.endUser("bob", roam.Revoked); n != 0 {
			t.Errorf("EndUser ended %d records of bob, who has none any more", n)
		}
		if n := t.endUser("ann", roam.Revoked); n != 2 {
			t.Errorf("EndUser ended %d records of ann, want the 2 that became hers", n)
		}
	}},

	{"EndUser/ReachesTheExpired", func(t *tester) {
		over := t.insertOver(brief("ann"))
		if n := t.endUser("ann", roam.PasswordChanged); n != 1 {
			t.Errorf("EndUser ended %d records, want 1", n)
		}
		if got := t.load(over.ID); got.Why != roam.PasswordChanged {
			t.Errorf("Why is %q, want %q", got.Why, roam.PasswordChanged)
		}
	}},

	// At once: what has been written when EndUser is called, it ends.
	{"EndUser/SeesTheLastWrite", func(t *tester) {
		for range 50 {
			rec := t.insert(record("ann"))
			if n := t.endUser("ann", roam.Revoked); n != 1 {
				t.Fatalf("EndUser ended %d records, want the one just inserted", n)
			}
			if got := t.load(rec.ID); got.Ended.IsZero() {
				t.Fatalf("the record just inserted lives")
			}
		}
	}},

	{"EndUser/EndsMany", func(t *tester) {
		const n = 120
		for range n {
			t.insert(record("ann"))
		}
		keep := t.insert(record("ann"))
		if got := t.endUser("ann", roam.Revoked, keep.ID); got != n {
			t.Errorf("EndUser ended %d records, want %d", got, n)
		}
		t.living(keep.ID)
	}},
}
