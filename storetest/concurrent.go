package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roam-web/roam"
)

var concurrentLaws = []law{
	{"Concurrent/OneInsertWins", func(t *tester) {
		for range t.rounds(10) {
			recs := make([]roam.Record, 8)
			id := newID()
			for i := range recs {
				recs[i] = record("ann")
				recs[i].ID = id
				recs[i].Data = fmt.Appendf(nil, "%d", i)
			}
			t.oneWins(recs, func(rec roam.Record) (roam.Record, error) { return t.store.Insert(t.Context(), rec) })
		}
	}},

	{"Concurrent/OneUpdateWins", func(t *tester) {
		rec := t.insert(record("ann"))
		for range t.rounds(25) {
			recs := make([]roam.Record, 8)
			for i := range recs {
				recs[i] = edit(rec, fmt.Sprint(i))
			}
			t.oneWins(recs, func(rec roam.Record) (roam.Record, error) { return t.store.Update(t.Context(), rec) })
			rec = t.load(rec.ID)
		}
		if want := uint64(t.rounds(25) + 1); rec.Version != want {
			t.Errorf("version is %d, want %d: one more for each update that won", rec.Version, want)
		}
	}},

	{"Concurrent/ATouchDisturbsNoUpdate", func(t *tester) {
		rec := t.insert(record("ann"))
		n := int64(t.rounds(150))
		var touched atomic.Int64
		var done atomic.Bool
		each(3, func(i int) {
			if i > 0 {
				for !done.Load() {
					if err := t.store.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Now.Add(time.Hour)}}); err != nil {
						t.Errorf("Touch: %v", err)
						return
					}
					touched.Add(1)
				}
				return
			}
			defer done.Store(true)
			have := rec
			for k := int64(0); k < n || touched.Load() < n && !t.Failed(); k++ {
				data := fmt.Sprint(k)
				next, err := t.store.Update(t.Context(), edit(have, data))
				if err != nil {
					t.Errorf("Update %d, while only touches ran beside it: %v", k, err)
					return
				}
				got, err := t.store.Load(t.Context(), rec.ID, roam.Want{})
				if err != nil || string(got.Data) != data || got.Version != next.Version || got.Writes != next.Writes {
					t.Errorf("a touch took back update %d: version %d with data %s, error %v", k, got.Version, abridge(got.Data), err)
					return
				}
				have = next
			}
		})
	}},

	// Whoever is told that the session has ended can rely on it, whatever
	// was under way.
	{"Concurrent/AnEndIsFinal", func(t *tester) {
		for round := range t.rounds(40) {
			rec := t.insert(record("ann"))
			var landed atomic.Int64
			var dead atomic.Bool // End has returned
			each(4, func(i int) {
				switch i {
				case 0, 1: // compare and swap until it ends
					for have := rec; have.Ended.IsZero() && !t.Failed(); landed.Add(1) {
						late := dead.Load()
						next, err := t.store.Update(t.Context(), edit(have, "x"))
						if late && err == nil {
							t.Errorf("an update landed that began after End had returned")
						}
						if errors.Is(err, roam.ErrConflict) {
							next, err = t.store.Load(t.Context(), rec.ID, roam.Want{})
						}
						if err != nil {
							t.Errorf("Update or Load: %v", err)
							return
						}
						have = next
					}
				case 2:
					for range 3 {
						if err := t.store.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Now.Add(time.Hour)}}); err != nil {
							t.Errorf("Touch: %v", err)
						}
					}
				case 3:
					for landed.Load() < int64(round%5) && !t.Failed() {
						runtime.Gosched()
					}
					var err error
					if round%2 == 0 {
						err = t.store.End(t.Context(), rec.ID, roam.LoggedOut)
					} else {
						_, err = t.store.EndUser(t.Context(), "ann", roam.LoggedOut)
					}
					dead.Store(true)
					tomb, loadErr := t.store.Load(t.Context(), rec.ID, roam.Want{})
					if err != nil || loadErr != nil || tomb.Ended.IsZero() {
						t.Errorf("after End returned %v: Ended is %v, error %v", err, tomb.Ended, loadErr)
					}
					for range 3 {
						if again, err := t.store.Load(t.Context(), rec.ID, roam.Want{}); err != nil || differ(again, tomb) != "" {
							t.Errorf("a tombstone changed: %s, error %v", differ(again, tomb), err)
						}
					}
				}
			})
			if tomb := t.load(rec.ID); tomb.Ended.IsZero() || tomb.Data != nil {
				t.Fatalf("round %d: the session is back: version %d, data %s", round, tomb.Version, abridge(tomb.Data))
			}
		}
	}},

	// A server that reads the log relies on nothing that is older than its
	// last look. But transactions become visible in another order than they
	// begin in, or take their numbers.
	{"Concurrent/NoEndIsMissed", func(t *tester) {
		const writers, readers = 4, 3
		var mu sync.Mutex
		var made []roam.ID
		var done []change // whose calls have returned
		var left atomic.Int64
		left.Store(writers)

		// Every session has the same life.
		life := map[uint64]roam.Reason{2: "", 4: "", 6: roam.LoggedOut}
		live := func(i int) error {
			rec, err := t.store.Insert(t.Context(), record(newID().String()))
			if err != nil {
				return err
			}
			mu.Lock()
			made = append(made, rec.ID)
			mu.Unlock()
			for version := uint64(2); version <= 6; version++ {
				why, logged := life[version]
				switch {
				case why != "" && i%2 == 0:
					err = t.store.End(t.Context(), rec.ID, why)
				case why != "":
					_, err = t.store.EndUser(t.Context(), rec.User, why)
				case logged:
					rec, err = t.store.Update(t.Context(), rotated(rec))
				default:
					rec, err = t.store.Update(t.Context(), edit(rec, "x"))
				}
				if err != nil {
					return err
				}
				if logged {
					mu.Lock()
					done = append(done, change{rec.ID, version, why})
					mu.Unlock()
				}
			}
			return nil
		}
		read := func(r *rand.Rand) error {
			f := t.follower()
			checked := 0
			for more := true; more && !t.Failed(); {
				more = left.Load() > 0 // else this is the last time
				mu.Lock()
				before := done
				id := newID()
				if len(made) > 0 {
					id = made[len(made)-1-r.IntN(min(len(made), writers))]
				}
				mu.Unlock()
				rec, err := t.store.Load(t.Context(), id, roam.Want{})
				if err != nil && !errors.Is(err, roam.ErrNotFound) {
					return err
				}
				log, err := t.store.Ends(t.Context(), f.next)
				if err != nil {
					return err
				}
				f.read(log)
				for ; checked < len(before); checked++ {
					if f.known[before[checked]] == nil {
						t.Errorf("a reader of the log missed %v, which had happened before it asked", before[checked])
					}
				}
				for version := uint64(2); version <= rec.Version; version++ {
					if why, logged := life[version]; logged && f.known[change{id, version, why}] == nil {
						t.Errorf("session %v was seen with version %d, and after that the log has no version %d", id, rec.Version, version)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			t.sameChanges("a reader that followed the log", slices.Collect(maps.Keys(f.known)), done)
			return nil
		}
		each(writers+readers, func(i int) {
			var err error
			if i < readers {
				err = read(rand.New(rand.NewPCG(uint64(i), 3)))
			} else {
				for k := 0; k < t.rounds(20) && err == nil; k++ {
					err = live(k)
				}
				left.Add(-1)
			}
			if err != nil {
				t.Errorf("%v", err)
			}
		})
	}},

	{"Concurrent/AllMethodsAtOnce", func(t *tester) {
		users := []string{"", "ann", "bob"}
		var mu sync.Mutex
		var made []roam.ID
		pick := func(r *rand.Rand) roam.ID {
			mu.Lock()
			defer mu.Unlock()
			if len(made) == 0 {
				return newID()
			}
			return made[r.IntN(len(made))]
		}
		each(6, func(i int) {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for range t.rounds(40) {
				ctx, user := t.Context(), users[r.IntN(len(users))]
				var err error
				switch r.IntN(10) {
				case 0, 1, 2:
					rec := record(user)
					if _, err = t.store.Insert(ctx, rec); err == nil {
						mu.Lock()
						made = append(made, rec.ID)
						mu.Unlock()
					}
				case 3, 4:
					var rec roam.Record
					if rec, err = t.store.Load(ctx, pick(r), roam.Want{}); err == nil {
						_, err = t.store.Update(ctx, edit(rec, "x"))
					}
				case 5:
					err = t.store.Touch(ctx, []roam.Touch{{ID: pick(r), At: time.Now()}, {ID: pick(r), At: time.Now()}})
				case 6:
					err = t.store.End(ctx, pick(r), roam.LoggedOut)
				case 7:
					_, err = t.store.EndUser(ctx, user, roam.Revoked, pick(r))
				case 8:
					for rec, e := range t.store.List(ctx, user) {
						if e == nil && rec.User != user {
							e = fmt.Errorf("List(%q) yields a record of %q", user, rec.User)
						}
						err = errors.Join(err, e)
					}
				case 9:
					if _, err = t.store.Prune(ctx, time.Hour, 5); err == nil {
						for _, e := range t.store.All(ctx) {
							err = errors.Join(err, e)
						}
					}
				}
				if err != nil && !errors.Is(err, roam.ErrConflict) && !errors.Is(err, roam.ErrNotFound) {
					t.Errorf("%v", err)
				}
			}
		})
		all := t.all()
		for _, id := range made {
			if _, ok := all[id]; !ok {
				t.Errorf("session %v, which was inserted and never pruned, is gone", id)
			}
		}
	}},
}

// oneWins sends writes for one version of one record all at once: one of them
// lands, is stored, and the others conflict.
func (t *tester) oneWins(recs []roam.Record, write func(roam.Record) (roam.Record, error)) {
	t.Helper()
	var mu sync.Mutex
	var won []roam.Record
	each(len(recs), func(i int) {
		got, err := write(recs[i])
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			won = append(won, got)
		} else if !errors.Is(err, roam.ErrConflict) {
			t.Errorf("the loser of a race got %v, want ErrConflict", err)
		}
	})
	if len(won) != 1 {
		t.Fatalf("%d of %d writes for one version returned nil, want 1", len(won), len(recs))
	}
	t.stored(won[0])
}
