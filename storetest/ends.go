package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/roam-web/roam"
)

// A change is an entry of the log but for its time: that the session has this
// version, and since then another secret or level, or with a reason has ended.
type change struct {
	id      roam.ID
	version uint64
	why     roam.Reason
}

func (c change) String() string { return fmt.Sprintf("%v version %d %q", c.id, c.version, c.why) }

// A follower reads the log with a cursor of its own. Entries may come twice, so
// it remembers what it knows.
type follower struct {
	*tester
	name  string // of the store, if there are several
	next  roam.Cursor
	now   time.Time                 // the store's, when it was read last
	known map[change]map[int64]bool // by when it happened: an ID may be used again
}

// follower returns one that knows nothing yet.
func (t *tester) follower() *follower {
	return &follower{tester: t, known: make(map[change]map[int64]bool)}
}

// follow returns a follower that knows what was in the log before.
func (t *tester) follow() *follower {
	t.Helper()
	f := t.follower()
	f.news()
	return f
}

func (t *tester) ends(after roam.Cursor) roam.Log {
	t.Helper()
	log, err := t.store.Ends(t.Context(), after)
	if err != nil {
		t.Fatalf("Ends after %q: %v", after, err)
	}
	return log
}

// changes returns what is in a log.
func changes(log roam.Log) (cs []change) {
	for _, e := range log.Ends {
		cs = append(cs, change{e.ID, e.Version, e.Why})
	}
	return cs
}

// read takes what a log has into account, and returns what is new in it.
func (f *follower) read(log roam.Log) (fresh []roam.End) {
	f.next = log.Next
	for i, c := range changes(log) {
		e := log.Ends[i]
		if f.known[c] == nil {
			f.known[c] = make(map[int64]bool)
		}
		if at := e.At.UnixMicro(); !f.known[c][at] {
			f.known[c][at] = true
			fresh = append(fresh, e)
		}
	}
	return fresh
}

// news reads on and returns what is new, which must have happened since the
// last time. So it serves laws that take one step at a time.
func (f *follower) news() []change {
	f.Helper()
	log := f.ends(f.next)
	fresh := f.read(log)
	for _, e := range fresh {
		if !f.now.IsZero() {
			f.stamped(fmt.Sprintf("%sAt of session %v in the log", f.name, e.ID), e.At, f.now, log.Now)
		}
	}
	f.now = log.Now
	return changes(roam.Log{Ends: fresh})
}

// tells fails unless just these changes are new in the log.
func (f *follower) tells(what string, want ...change) {
	f.Helper()
	f.sameChanges(what, f.news(), want)
}

func (t *tester) sameChanges(what string, got, want []change) {
	t.Helper()
	for _, c := range got {
		if !slices.Contains(want, c) {
			t.Errorf("%s: the log has %v, which did not happen", what, c)
		}
	}
	for _, c := range want {
		if !slices.Contains(got, c) {
			t.Errorf("%s: the log does not have %v", what, c)
		}
	}
	if len(got) > len(want) {
		t.Errorf("%s: the log has %d entries, want %d", what, len(got), len(want))
	}
}

// rotated returns rec as a login would have it.
func rotated(rec roam.Record) roam.Record {
	rec.Previous = rec.Proof
	rec.Proof = record("").Proof
	return edit(rec, "rotated")
}

var endsLaws = []law{
	{"Ends/TellWhatEnded", func(t *tester) {
		a, b, c := t.insert(full("ann")), t.insert(full("ann")), t.insert(full("ann"))
		b = t.update(edit(b, "x"))
		guest, over := t.insert(full("")), t.insertOver(brief("bob"))
		f := t.follow()
		for _, rec := range []roam.Record{guest, over} {
			why := roam.Reason("fraud: \"7\" 'ü' 安" + strings.Repeat("!", 40))
			t.end(rec.ID, why)
			f.tells("End", change{rec.ID, 2, why})
		}
		t.endUser("ann", roam.PasswordChanged, a.ID)
		f.tells("EndUser", change{b.ID, 3, roam.PasswordChanged}, change{c.ID, 2, roam.PasswordChanged})
		t.end(a.ID, roam.LoggedOut)
		f.tells("End", change{a.ID, 2, roam.LoggedOut})
	}},

	{"Ends/TellOfAnotherSecret", func(t *tester) {
		rec := t.insert(full(""))
		f := t.follow()
		rec.User, rec.LoggedIn = "ann", rec.Now
		rec = t.update(rotated(rec))
		f.tells("a login", change{rec.ID, 2, ""})
		rec = t.update(rotated(t.update(edit(rec, "x"))))
		f.tells("the next one", change{rec.ID, 4, ""})
	}},

	{"Ends/TellOfAnotherLevel", func(t *tester) {
		rec := t.insert(full("ann"))
		f := t.follow()
		for _, level := range []roam.Level{9, 2, 0, 255} {
			rec.Level = level
			rec = t.update(rec)
			f.tells(fmt.Sprint("level ", level), change{rec.ID, rec.Version, ""})
		}
		rec.Level = 1
		rec = t.update(rotated(rec))
		f.tells("another secret and level at once", change{rec.ID, rec.Version, ""})
	}},

	// Whoever reads the log asks the store again for each entry.
	{"Ends/TellOfNothingElse", func(t *tester) {
		f := t.follow()
		rec := t.insert(full("ann"))
		guest := t.insert(record(""))
		f.tells("Insert")
		stale := rotated(rec)
		rec.User, rec.LoggedIn, rec.Idle, rec.Lifetime = "bob", rec.Now.Add(-time.Second), time.Minute, time.Hour
		rec.Previous, rec.From, rec.Data = roam.Proof{}, roam.Client{}, nil
		rec = t.update(rec)
		rec = t.update(edit(rec, "x"))
		f.tells("Update with the same secret and level")
		t.conflicts("of an old version", stale)
		stale.ID = newID()
		t.conflicts("of nothing", stale)
		over := rotated(t.insertOver(brief("bob")))
		t.conflicts("of what is over", over)
		f.tells("Update that conflicts")
		taken := full("ann")
		taken.ID = rec.ID
		if _, err := t.store.Insert(t.Context(), taken); !errors.Is(err, roam.ErrConflict) {
			t.Errorf("Insert of a taken ID: %v", err)
		}
		f.tells("Insert that conflicts")
		t.touch(roam.Touch{ID: rec.ID, At: t.untilAfter(rec.Seen, rec.ID).Now}, roam.Touch{ID: newID(), At: rec.Now})
		f.tells("Touch")
		t.end(newID(), roam.LoggedOut)
		t.endUser("", roam.Revoked)
		t.endUser("nobody", roam.Revoked)
		t.endUser("bob", roam.Revoked, rec.ID, over.ID)
		f.tells("End of nothing")
		t.end(rec.ID, roam.LoggedOut)
		f.tells("End", change{rec.ID, rec.Version + 1, roam.LoggedOut})
		t.end(rec.ID, roam.Revoked)
		t.endUser("bob", roam.Revoked, over.ID)
		t.conflicts("of a tombstone", rotated(t.load(rec.ID)))
		f.tells("End of what had ended")
		t.untilAfter(t.load(rec.ID).Ended, rec.ID)
		if n := t.prune(0, many); n != 2 {
			t.Errorf("Prune removed %d records, want 2", n)
		}
		f.tells("Prune")
		t.stored(guest)
	}},

	// What a cursor has behind it stays behind it, at the latest when nobody
	// writes any more.
	{"Ends/ComeToRest", func(t *tester) {
		f := t.follow()
		for range 3 {
			t.end(t.insert(record("ann")).ID, roam.LoggedOut)
			for start := time.Now(); ; time.Sleep(time.Millisecond) {
				log := f.ends(f.next)
				f.read(log)
				if len(log.Ends) == 0 {
					break
				}
				if time.Since(start) > t.patience {
					t.Fatalf("waited %v for a cursor that has everything behind it", t.patience)
				}
			}
		}
	}},

	// Reading takes nothing out of the log: each server reads all of it.
	{"Ends/EveryCursorHasAllThatCameAfterIt", func(t *tester) {
		var ends []change
		f := t.follow()
		cursors := []roam.Cursor{""}
		for range 6 {
			rec := t.insert(record("ann"))
			t.end(rec.ID, roam.LoggedOut)
			ends = append(ends, change{rec.ID, 2, roam.LoggedOut})
			f.news()
			cursors = append(cursors, f.next)
		}
		for range 2 {
			for i, cursor := range cursors {
				log := t.ends(cursor)
				got := changes(log)
				if fresh := f.read(log); len(fresh) > 0 {
					t.Errorf("the cursor after entry %d has at another time what had been read: %v", i, fresh)
				}
				for _, c := range ends[i:] {
					if !slices.Contains(got, c) {
						t.Errorf("the cursor after entry %d does not have %v", i, c)
					}
				}
				for _, c := range got {
					if !slices.Contains(ends, c) {
						t.Errorf("the cursor after entry %d has %v, which did not happen", i, c)
					}
				}
			}
		}
	}},

	// A server that comes with the cursor of a store that was replaced misses
	// nothing.
	{"Ends/AnyOtherCursorIsTheBeginning", func(t *tester) {
		var want []change
		for range 3 {
			rec := t.update(rotated(t.insert(record("ann"))))
			t.end(rec.ID, roam.Revoked)
			want = append(want, change{rec.ID, 2, ""}, change{rec.ID, 3, roam.Revoked})
		}
		foreign := newTester(t.trial, roam.NewMemStore())
		foreign.end(foreign.insert(record("ann")).ID, roam.LoggedOut)
		for _, cursor := range []roam.Cursor{"", foreign.ends("").Next, roam.Cursor(fmt.Sprintf("%d/9223372036854775807", foreign.ends("").Epoch)),
			"0", "1", "-1", "/", "x", "\x00", "\xff", "null", "'; --", "%d/%d", roam.Cursor(strings.Repeat("9", 1000))} {
			t.sameChanges(fmt.Sprintf("Ends after %.20q", cursor), changes(t.ends(cursor)), want)
		}
	}},

	{"Ends/AreTheCallersToKeep", func(t *tester) {
		rec := t.insert(record("ann"))
		t.end(rec.ID, roam.LoggedOut)
		want := []change{{rec.ID, 2, roam.LoggedOut}}
		log := t.ends("")
		t.sameChanges("the log", changes(log), want)
		clear(log.Ends)
		t.sameChanges("the log after the caller has changed an answer", changes(t.ends("")), want)
	}},

	{"Ends/CarryTheClockAndTheEpoch", func(t *tester) {
		var after roam.Cursor
		for range 3 {
			rec := t.insert(record("ann"))
			log := t.ends(after)
			if log.Epoch != rec.Epoch || log.Epoch == 0 {
				t.Errorf("the log's epoch is %d, its records' %d", log.Epoch, rec.Epoch)
			}
			t.stamped("the log's Now", log.Now, rec.Now, t.load(rec.ID).Now)
			t.end(rec.ID, roam.LoggedOut)
			after = log.Next
		}
	}},

	// Records go sooner than the log may.
	{"Ends/OutliveTheRecords", func(t *tester) {
		rec := t.update(rotated(t.insert(record("ann"))))
		t.end(rec.ID, roam.LoggedOut)
		last := t.insert(record("ann"))
		t.end(last.ID, roam.LoggedOut)
		t.untilAfter(t.load(last.ID).Ended, last.ID)
		t.prune(0, many)
		t.gone(rec.ID)
		t.sameChanges("the log after Prune", changes(t.ends("")), []change{{rec.ID, 2, ""}, {rec.ID, 3, roam.LoggedOut}, {last.ID, 2, roam.LoggedOut}})
	}},

	// A write and its entry are one: cancelled at any moment, both are there
	// or neither.
	{"Ends/AreOneWithTheChange", func(t *tester) {
		r := rand.New(rand.NewPCG(3, 1))
		f := t.follow()
		open := make(map[roam.ID]bool)
		count := [2]int{}
		for i := range t.rounds(200) {
			rec := t.insert(record("ann"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(2*time.Millisecond)/(1+int64(i%20)))))
			if i%8 == 0 {
				cancel()
			}
			var err error
			want := change{rec.ID, 2, ""}
			switch i % 3 {
			case 0:
				_, err = t.store.Update(ctx, rotated(rec))
			case 1:
				want.why = roam.LoggedOut
				err = t.store.End(ctx, rec.ID, want.why)
			case 2:
				rec.User = rec.ID.String()
				rec = t.update(rec)
				want.version, want.why = 3, roam.Revoked
				_, err = t.store.EndUser(ctx, rec.User, want.why)
			}
			cancel()
			if open[rec.ID] = err != nil && !errors.Is(err, roam.ErrUnavailable); open[rec.ID] {
				continue // it may land at any time
			}
			changed := t.load(rec.ID).Version == want.version
			logged := slices.Contains(f.news(), want)
			if changed != logged {
				t.Errorf("%v cancelled midway: the record has changed: %v, and the log has it: %v", want, changed, logged)
			}
			if changed {
				count[1]++
			} else {
				count[0]++
			}
		}
		for c := range f.known {
			if rec := t.load(c.id); !open[c.id] && rec.Version < c.version {
				t.Errorf("the log has %v, and the record has version %d", c, rec.Version)
			}
		}
		t.Logf("of the cancelled writes %d landed, %d did not", count[1], count[0])
	}},
}

func compareChanges(a, b change) int {
	return cmp.Or(slices.Compare(a.id[:], b.id[:]), cmp.Compare(a.version, b.version), cmp.Compare(a.why, b.why))
}
