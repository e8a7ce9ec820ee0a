package storetest

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/roam-web/roam"
)

var loadLaws = []law{
	{"Load/OfNothingIsErrNotFound", func(t *tester) {
		t.gone(newID())
		t.insert(record("ann"))
		t.gone(newID())
		t.gone(roam.ID{})
	}},

	// The manager judges expiry, and needs the record to say since when and
	// to whom a session belonged.
	{"Load/JudgesNoExpiry", func(t *tester) {
		rec := full("ann")
		rec.Idle = time.Microsecond
		given := t.insert(rec)
		t.same("record that is over", t.untilOver(rec.ID), given)
	}},

	{"Load/OfNothingHasTheClockAndTheEpoch", func(t *tester) {
		was := t.insert(record("ann"))
		gone := t.insert(record("ann"))
		t.end(gone.ID, roam.LoggedOut)
		t.untilAfter(t.load(gone.ID).Ended, gone.ID)
		t.prune(0, many)
		for _, want := range wants(was) {
			for _, id := range []roam.ID{newID(), gone.ID} {
				before := t.load(was.ID).Now
				got, err := t.store.Load(t.Context(), id, want)
				if !errors.Is(err, roam.ErrNotFound) {
					t.Errorf("Load with %+v: error %v, want ErrNotFound", want, err)
				}
				t.stamped("Now", got.Now, before, t.load(was.ID).Now)
				if got.Epoch != was.Epoch {
					t.Errorf("epoch is %d, want %d", got.Epoch, was.Epoch)
				}
				t.same("what is not there", got, roam.Record{})
			}
		}
	}},

	{"Load/HasTheNewest", func(t *tester) {
		newest := func(rec roam.Record) {
			t.Helper()
			for _, want := range []roam.Want{{}, {Durable: true}} {
				got, err := t.store.Load(t.Context(), rec.ID, want)
				if err != nil {
					t.Fatalf("Load with %+v: %v", want, err)
				}
				t.same(fmt.Sprintf("Load with %+v", want), got, rec)
			}
		}
		for range 10 {
			rec := t.insert(record("ann"))
			newest(rec)
			for range 5 {
				rec = t.update(edit(rec, "x"))
				newest(rec)
			}
			t.end(rec.ID, roam.LoggedOut)
			for range 2 {
				if dead := t.load(rec.ID); dead.Ended.IsZero() {
					t.Errorf("Load of what has ended: version %d without a tombstone", dead.Version)
				}
				newest(t.load(rec.ID))
			}
		}
	}},

	{"Load/HasTheVersionWanted", func(t *tester) {
		has := func(rec roam.Record) {
			t.Helper()
			for _, durable := range []bool{false, true} {
				for version := uint64(1); version <= rec.Version; version++ {
					want := roam.Want{Version: version, Epoch: rec.Epoch, Durable: durable}
					got, err := t.store.Load(t.Context(), rec.ID, want)
					if err != nil || got.ID != rec.ID || got.Version < version || got.Version > rec.Version {
						t.Fatalf("Load with %+v of version %d: version %d, error %v", want, rec.Version, got.Version, err)
					}
					if got.Version == rec.Version {
						t.same("the version wanted", got, rec)
					}
				}
			}
		}
		for range 10 {
			rec := t.insert(record("ann"))
			has(rec)
			for range 5 {
				rec = t.update(edit(rec, "x"))
				has(rec)
			}
			t.end(rec.ID, roam.LoggedOut)
			has(t.load(rec.ID))
		}
	}},

	// A visitor may know of a version that the store has lost.
	{"Load/OfAVersionThatIsNotThereHasTheNewest", func(t *tester) {
		rec := t.insert(full("ann"))
		rec = t.update(edit(rec, "x"))
		for _, want := range wants(rec) {
			got, err := t.store.Load(t.Context(), rec.ID, want)
			if err != nil {
				t.Errorf("Load with %+v of version %d: %v", want, rec.Version, err)
				continue
			}
			if want.Version > rec.Version || want.Epoch > rec.Epoch {
				t.same(fmt.Sprintf("Load with %+v", want), got, rec)
			}
		}
	}},

	{"Load/ChangesNothing", func(t *tester) {
		rec := t.insert(full("ann"))
		t.untilAfter(rec.Seen, rec.ID)
		t.stored(rec)
	}},
}

// wants returns what can be wanted of a record: what it has, and more.
func wants(rec roam.Record) (ws []roam.Want) {
	for _, version := range []uint64{0, 1, rec.Version, rec.Version + 1, math.MaxUint64} {
		for _, epoch := range []uint64{0, 1, rec.Epoch - 1, rec.Epoch, rec.Epoch + 1, math.MaxUint64} {
			ws = append(ws, roam.Want{Version: version, Epoch: epoch}, roam.Want{Version: version, Epoch: epoch, Durable: true})
		}
	}
	return ws
}
