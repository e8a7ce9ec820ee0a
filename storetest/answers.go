package storetest

import (
	"bytes"
	"time"

	"github.com/roam-web/roam"
)

// answers returns one answer of every method that gives records out.
func (t *tester) answers() map[string]roam.Record {
	t.Helper()
	rec := t.insert(full("ann"))
	got := map[string]roam.Record{"Insert": rec, "Update": t.update(rec), "Load": t.load(rec.ID), "All": t.all()[rec.ID]}
	for _, listed := range t.list("ann") {
		if listed.ID == rec.ID {
			got["List"] = listed
		}
	}
	t.end(rec.ID, roam.LoggedOut)
	got["Load of a tombstone"] = t.load(rec.ID)
	return got
}

var answerLaws = []law{
	{"Answers/CarryTheClock", func(t *tester) {
		for method, rec := range t.answers() {
			switch {
			case rec.Now.IsZero():
				t.Errorf("%s: Now is zero", method)
			case rec.Now.Before(rec.Seen), rec.Now.Before(rec.Created), rec.Now.Before(rec.Ended):
				t.Errorf("%s: Now is %v, before a stamp of the same clock: %v", method, rec.Now, rec)
			}
		}
	}},

	{"Answers/TheClockMoves", func(t *tester) {
		rec := t.insert(record(""))
		last := rec.Now
		for range 100 {
			now := t.load(rec.ID).Now
			if now.Before(last) {
				t.Errorf("the store's clock went from %v back to %v", last, now)
			}
			last = now
		}
		t.untilAfter(last, rec.ID)
	}},

	// What comes in with a record is not what goes out.
	{"Answers/TheClockIsTheStores", func(t *tester) {
		was := t.insert(record(""))
		rec := record("")
		rec.Now, rec.Epoch = was.Now.Add(1000*time.Hour), was.Epoch+7
		for range 2 {
			rec = t.insert(rec)
			if rec.Epoch != was.Epoch || rec.Now.After(was.Now.Add(time.Hour)) {
				t.Errorf("Now %v, Epoch %d: want the store's, about %v and %d", rec.Now, rec.Epoch, was.Now, was.Epoch)
			}
			rec.Now, rec.Epoch = was.Now.Add(1000*time.Hour), was.Epoch+7
			up := t.update(rec)
			if up.Epoch != was.Epoch || up.Now.After(was.Now.Add(time.Hour)) {
				t.Errorf("Now %v, Epoch %d: want the store's, about %v and %d", up.Now, up.Epoch, was.Now, was.Epoch)
			}
			rec = record("")
		}
	}},

	{"Answers/CarryOneEpoch", func(t *tester) {
		want := t.insert(record("")).Epoch
		if want == 0 {
			t.Errorf("the epoch is 0, which says that there is none")
		}
		for range 3 {
			for method, rec := range t.answers() {
				if rec.Epoch != want {
					t.Errorf("%s: epoch %d, want %d as before", method, rec.Epoch, want)
				}
			}
		}
	}},

	{"Answers/StampsAreWholeMicroseconds", func(t *tester) {
		for method, rec := range t.answers() {
			for _, at := range []time.Time{rec.Created, rec.LoggedIn, rec.Seen, rec.Ended, rec.Now} {
				if at.Nanosecond()%1000 != 0 {
					t.Errorf("%s: stamp %v has nanoseconds", method, at)
				}
			}
		}
		rec := t.insert(record("ann"))
		given := rec.Now.Add(789 * time.Nanosecond)
		rec.LoggedIn = given
		rec = t.update(rec)
		if d := rec.LoggedIn.Sub(given); rec.LoggedIn.Nanosecond()%1000 != 0 || d.Abs() >= time.Microsecond {
			t.Errorf("LoggedIn given %v: got %v, want it in microseconds", given, rec.LoggedIn)
		}
		t.stored(rec)
		t.untilAfter(rec.Seen.Add(10*time.Microsecond), rec.ID)
		given = rec.Seen.Add(1789 * time.Nanosecond)
		t.touch(roam.Touch{ID: rec.ID, At: given})
		got := t.load(rec.ID)
		if d := got.Seen.Sub(given); got.Seen.Nanosecond()%1000 != 0 || d.Abs() >= time.Microsecond {
			t.Errorf("touched at %v: Seen is %v, want it in microseconds", given, got.Seen)
		}
	}},

	// A clock of milliseconds would do for people, not for the order of logins.
	{"Answers/StampsAreNotCoarser", func(t *tester) {
		rec := t.insert(record(""))
		for range 100 {
			if t.load(rec.ID).Now.Nanosecond()%1e6 != 0 {
				return
			}
		}
		t.Errorf("a hundred times in a row Now had no microseconds, last %v", t.load(rec.ID).Now)
	}},

	{"Answers/AreWhatIsStored", func(t *tester) {
		rec := t.insert(full("ann"))
		t.stored(rec)
		rec.LoggedIn = rec.Now
		rec = t.update(edit(rec, "x"))
		t.stored(rec)
		t.same("listed record", t.list("ann")[0], rec)
		t.same("record among all", t.all()[rec.ID], rec)
	}},

	{"Answers/KeepNoSliceOfTheCallers", func(t *tester) {
		spoil := func(b []byte) { copy(b, "spoiled by its owner") }
		data := []byte("the data as it was given")
		want := bytes.Clone(data)
		rec := record("ann")
		rec.Data = data
		rec = t.insert(rec)
		check := func(after string) {
			if got := t.load(rec.ID).Data; !bytes.Equal(got, want) {
				t.Errorf("the store's data changed with the slice of %s: %q", after, got)
			}
			if !bytes.Equal(rec.Data, want) {
				t.Errorf("an answer changed with the slice of %s: %q", after, rec.Data)
			}
		}
		spoil(data)
		check("the record given to Insert")
		data = bytes.Clone(want)
		rec.Data = data
		rec = t.update(rec)
		spoil(data)
		check("the record given to Update")
		for from, answer := range map[string]func() roam.Record{
			"Load's answer":   func() roam.Record { return t.load(rec.ID) },
			"Update's answer": func() roam.Record { rec = t.update(rec); return rec },
			"List's answer":   func() roam.Record { return t.list("ann")[0] },
			"All's answer":    func() roam.Record { return t.all()[rec.ID] },
		} {
			got := answer()
			kept := got.Data
			if !bytes.Equal(kept, want) {
				t.Fatalf("%s has data %q, want %q", from, kept, want)
			}
			rec.Data = bytes.Clone(want)
			spoil(kept)
			check(from)
		}
		fresh := t.insert(func() roam.Record { r := record("ann"); r.Data = bytes.Clone(want); return r }())
		spoil(fresh.Data)
		rec = t.load(fresh.ID)
		check("Insert's answer")
	}},
}
