package nearcache_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// The races here are forced: the answer that is to come late is held where it
// has left the store, until what must not be overtaken has happened.

// late is an answer of version 1 that has left the store and not arrived.
func late(t *testing.T, b *backend, s *server, id roam.ID, want roam.Want) (arrive func() roam.Record) {
	t.Helper()
	var rec roam.Record
	release := b.hold("Load")
	done := start(func() { rec = s.want(id, want) })
	synctest.Wait()
	return func() roam.Record {
		release()
		done()
		return rec
	}
}

// a late fill never replaces what is newer, nor an end.
func TestR122AFillNeverOvertakesWhatIsNewer(t *testing.T) {
	for name, newer := range map[string]func(t *testing.T, s, other *server, rec roam.Record){
		"an end in the log": func(t *testing.T, s, other *server, rec roam.Record) {
			end(t, other, rec.ID)
			s.follow()
		},
		"a login in the log": func(t *testing.T, s, other *server, rec roam.Record) {
			rotate(t, other, rec)
			s.follow()
		},
		"an end of a user in the log": func(t *testing.T, s, other *server, rec roam.Record) {
			other.EndUser(t.Context(), rec.User, roam.Revoked)
			s.follow()
		},
		"an end by this server": func(t *testing.T, s, other *server, rec roam.Record) {
			end(t, s, rec.ID)
		},
		"an end of a user by this server": func(t *testing.T, s, other *server, rec roam.Record) {
			s.EndUser(t.Context(), rec.User, roam.Revoked)
			s.follow()
		},
		"an update by this server": func(t *testing.T, s, other *server, rec roam.Record) {
			update(t, s, rec, "newer")
		},
		"a login by this server": func(t *testing.T, s, other *server, rec roam.Record) {
			rotate(t, s, rec)
		},
		"a newer answer": func(t *testing.T, s, other *server, rec roam.Record) {
			update(t, other, rec, "newer")
			s.want(rec.ID, roam.Want{})
		},
		"a tombstone": func(t *testing.T, s, other *server, rec roam.Record) {
			end(t, other, rec.ID)
			s.want(rec.ID, roam.Want{})
		},
		"a conflict": func(t *testing.T, s, other *server, rec roam.Record) {
			update(t, other, rec, "newer")
			if _, err := s.Update(t.Context(), rec); !errors.Is(err, roam.ErrConflict) {
				t.Errorf("Update: %v, want ErrConflict", err)
			}
		},
		"that it was pruned": func(t *testing.T, s, other *server, rec roam.Record) {
			end(t, other, rec.ID)
			time.Sleep(time.Second)
			other.Prune(t.Context(), 0, 10)
			s.want(rec.ID, roam.Want{})
		},
	} {
		for _, evict := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBackend()
					s, other := serve(t, b, &nearcache.Options{Bytes: 1 << 20}), serve(t, b, nil)
					rec := insert(t, b.MemStore, session("ann"))
					arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
					newer(t, s, other, rec)
					if evict { // what was newer is not there any more to be compared with
						for range 4000 {
							insert(t, s, session("bob"))
						}
					}
					arrive()
					got := s.get(rec.ID)
					if got.Version == 1 {
						t.Errorf("evicted %v: an old answer was remembered and served", evict)
					}
					if st := s.Stats(); st.Refused != 1 || s.Readings() != 0 {
						t.Errorf("evicted %v: %+v and %d questions kept: want one answer refused", evict, st, s.Readings())
					}
				})
			})
		}
	}
}

// The same when two writes of this server's are answered in the wrong order.
func TestR122ALateAnswerToAWriteIsAFillToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		release := b.hold("Update")
		done := start(func() { update(t, s, rec, "first") })
		synctest.Wait()
		rec.Version = 2
		update(t, s, rec, "second")
		release()
		done()
		version(t, "after both", s.get(rec.ID), 3)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		release := b.hold("Update")
		done := start(func() { update(t, s, rec, "first") })
		synctest.Wait()
		end(t, s, rec.ID)
		release()
		done()
		dead(t, "an update, and then its end", s.get(rec.ID))
	})
}

// Not even if it is the store that goes back, as one does that lets a replica
// answer for the newest.
func TestR122AStoreThatGoesBackIsNotFollowed(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	old := insert(t, s, session("ann"))
	rec := update(t, s, old, "newer")
	b.load = func(roam.Record, error) (roam.Record, error) { return old, nil }
	version(t, "from a replica", s.want(rec.ID, roam.Want{}), 1)
	version(t, "from memory", s.get(rec.ID), 2)
}

// An answer that may not be remembered still tells that what is there is old.
func TestAnAnswerThatIsRefusedLeavesNothingOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		release := b.hold("Update")
		done := start(func() { rotate(t, s, rec) })
		synctest.Wait()
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Now}})
		release()
		done()
		version(t, "after the login", s.get(rec.ID), 2)
	})
}

// An answer that was on its way when the log was lost track of may be from
// before an end that will never be read.
func TestR124AFillFromBeforeAGapIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, &nearcache.Options{MaxAge: time.Hour})
		rec := insert(t, b.MemStore, session("ann"))
		arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
		end(t, b.MemStore, rec.ID)
		time.Sleep(roam.LogKept + time.Second)
		b.Prune(t.Context(), time.Hour, 10) // the log goes back no further now
		s.follow()
		arrive()
		dead(t, "after the gap", s.get(rec.ID))
	})
}

// a gap is found out by its length, on whichever clock.
func TestR124AGapDropsEverything(t *testing.T) {
	for _, c := range []struct {
		name   string
		gap    time.Duration
		memory bool
	}{
		{"short", roam.LogKept - time.Second, true},
		{"long", roam.LogKept, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			s := serve(t, b, &nearcache.Options{MaxAge: time.Hour})
			rec := insert(t, s, session("ann"))
			ended := insert(t, s, session("bob"))
			end(t, b.MemStore, ended.ID)
			time.Sleep(c.gap)
			s.follow()
			want := 1
			if c.memory {
				want = 0
			}
			trips(t, b, want, c.name, func() { s.get(rec.ID) })
			dead(t, c.name, s.get(ended.ID))
		})
	}
}

// The store's own clock says that the log may have been cut meanwhile, or that
// what it says of the age of anything here is wrong.
func TestR124AStoreWhoseClockWasSetIsAskedAnew(t *testing.T) {
	for _, by := range []time.Duration{roam.LogKept, -time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			s := serve(t, b, &nearcache.Options{MaxAge: time.Hour})
			rec := insert(t, s, session("ann"))
			b.ends = func(log roam.Log, err error) (roam.Log, error) {
				log.Now = log.Now.Add(by)
				return log, err
			}
			s.follow()
			trips(t, b, 1, by.String(), func() { s.get(rec.ID) })
		})
	}
}

// replay before follow. What was read before the log was followed has no
// proof, whatever place in it the first caller is at.
func TestR124WhatWasReadBeforeTheLogIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := &server{Store: idle(t, b, nil), t: t}
		rec, slow := insert(t, b.MemStore, session("ann")), insert(t, b.MemStore, session("bob"))
		s.get(rec.ID)
		arrive := late(t, b, s, slow.ID, roam.Want{Version: 1})
		end(t, b.MemStore, rec.ID)
		end(t, b.MemStore, slow.ID)
		log, err := b.MemStore.Ends(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		s.next = log.Next // behind both ends
		s.follow()
		arrive()
		dead(t, "read before", s.get(rec.ID))
		dead(t, "asked for before", s.get(slow.ID))
	})
}

// Bound: so long after the log was last read, and no longer, is memory trusted.
func TestR124AnUnreadLogIsFoundOutWithinBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		end(t, b.MemStore, rec.ID)
		b.ends = func(roam.Log, error) (roam.Log, error) { return roam.Log{}, roam.ErrUnavailable }
		for range 4 {
			time.Sleep(time.Second)
			if _, err := s.Ends(t.Context(), s.next); !errors.Is(err, roam.ErrUnavailable) {
				t.Fatalf("Ends: %v, want ErrUnavailable", err)
			}
		}
		time.Sleep(time.Second - time.Nanosecond)
		trips(t, b, 0, "just within the bound", func() { version(t, "just within the bound", s.get(rec.ID), 1) })
		time.Sleep(time.Nanosecond)
		dead(t, "at the bound", s.get(rec.ID))
	})
}

// A lease counts from when it was asked for, not from when it was granted.
func TestR124TheBoundCountsFromWhereTheReadBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		release := b.hold("Ends")
		done := start(s.follow)
		synctest.Wait()
		end(t, b.MemStore, rec.ID) // which the answer on its way does not tell
		time.Sleep(4 * time.Second)
		release()
		done()
		time.Sleep(time.Second)
		dead(t, "five seconds after the read began", s.get(rec.ID))
	})
}

// A suspended machine's monotonic clock stands still; a wall clock that is set
// back makes nothing younger.
func TestR124NeitherClockMakesTheFeedYounger(t *testing.T) {
	for _, c := range []struct {
		name       string
		mono, wall time.Duration // what happens to the clocks in 6 real seconds
	}{
		{"suspended", -6 * time.Second, 0},
		{"wall clock set back", 0, -time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			var mono, wall time.Duration
			s := &server{Store: idle(t, b, nil), t: t}
			s.Skew(func() (time.Duration, time.Duration) { return mono, wall })
			s.follow()
			rec := insert(t, s, session("ann"))
			end(t, b.MemStore, rec.ID)
			time.Sleep(6 * time.Second)
			mono, wall = c.mono, c.wall
			dead(t, c.name, s.get(rec.ID))
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		var wall time.Duration
		s := &server{Store: idle(t, b, nil), t: t}
		s.Skew(func() (time.Duration, time.Duration) { return 0, wall })
		s.follow()
		rec := insert(t, s, session("ann"))
		wall = time.Hour
		trips(t, b, 1, "the wall clock set forward", func() { s.get(rec.ID) })
		s.follow()
		got := s.get(rec.ID)
		if d := got.Now.Sub(rec.Now); d.Abs() > time.Second {
			t.Errorf("the wall clock was set, and the store's time is off by %v", d)
		}
	})
}

// A session is not kept late by a machine that was suspended for less than the
// bound.
func TestASuspendedMachineKeepsNobodyLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		var mono time.Duration
		s := &server{Store: idle(t, b, nil), t: t}
		s.Skew(func() (time.Duration, time.Duration) { return mono, 0 })
		rec := session("ann")
		rec.Idle = 3 * time.Second
		s.follow()
		rec = insert(t, s, rec)
		time.Sleep(3 * time.Second)
		mono = -3 * time.Second
		got := s.get(rec.ID)
		if _, _, over := got.Over(got.Now); !over {
			t.Error("a session is served past its deadline")
		}
	})
}

// MaxAge: what the log does not tell, and what a broken log loses, is seen then.
func TestWhatTheLogDoesNotTellIsSeenWithinMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec, ended := insert(t, s, session("ann")), insert(t, s, session("bob"))
		update(t, b.MemStore, rec, "elsewhere")
		b.ends = func(log roam.Log, err error) (roam.Log, error) { // lost
			log.Ends = nil
			return log, err
		}
		end(t, b.MemStore, ended.ID)
		for range 60 {
			time.Sleep(time.Second)
			s.follow()
			s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Now}})
		}
		version(t, "after a minute", s.get(rec.ID), 1)
		time.Sleep(time.Millisecond)
		version(t, "after more", s.get(rec.ID), 2)
		dead(t, "after a minute", s.get(ended.ID))
	})
}

// The log comes in any order, twice, and late in the sense of any store that
// keeps its word: an entry is never behind a cursor that was returned before it
// could be seen.
func TestR124EntriesInAnyOrderAndAgain(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	r := rand.New(rand.NewPCG(1, 2))
	var told []roam.End
	b.ends = func(log roam.Log, err error) (roam.Log, error) {
		told = append(told, log.Ends...)
		log.Ends = slices.Clone(told)
		r.Shuffle(len(told), func(i, j int) { log.Ends[i], log.Ends[j] = log.Ends[j], log.Ends[i] })
		return log, err
	}
	alive := make(map[roam.ID]roam.Record)
	var ended []roam.ID
	for i := range 300 {
		rec := insert(t, b.MemStore, session("ann"))
		s.get(rec.ID)
		switch i % 3 {
		case 0:
			end(t, b.MemStore, rec.ID)
			ended = append(ended, rec.ID)
		case 1:
			alive[rec.ID] = rotate(t, b.MemStore, rotate(t, b.MemStore, rec))
		case 2:
			alive[rec.ID] = rec
		}
		if i%10 == 0 {
			s.follow()
		}
	}
	s.follow()
	for _, id := range ended {
		dead(t, "in the log", s.get(id))
	}
	for id, rec := range alive {
		if got := s.get(id); got.Version != rec.Version || got.Proof != rec.Proof {
			t.Errorf("version %d, want %d", got.Version, rec.Version)
		}
	}
	s.follow()
	trips(t, b, 0, "entries of what is known", func() {
		for id := range alive {
			s.get(id)
		}
	})
}

// the log only takes away.
func TestR130TheLogOnlyTakesAway(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec := insert(t, s, session("ann"))
	b.ends = func(log roam.Log, err error) (roam.Log, error) {
		log.Ends = append(log.Ends, roam.End{ID: rec.ID, Version: 1 << 60}, roam.End{ID: session("").ID, Version: 1}, roam.End{})
		return log, err
	}
	before := s.Stats()
	s.follow()
	trips(t, b, 1, "a record that the log says is another", func() { version(t, "asked anew", s.get(rec.ID), 1) })
	if after := s.Stats(); after.Entries > before.Entries {
		t.Errorf("%+v, then %+v", before, after)
	}
}

// Law 14: another epoch ends all that was known.
func TestANewerEpochDropsEverything(t *testing.T) {
	for _, how := range []string{"log", "load", "write", "missing"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			s := serve(t, b, nil)
			rec, other, slow := insert(t, s, session("ann")), insert(t, s, session("ann")), insert(t, b.MemStore, session("bob"))
			arrive := late(t, b, s, slow.ID, roam.Want{Version: 1})
			b.load = func(r roam.Record, err error) (roam.Record, error) { r.Epoch++; return r, err }
			b.write = b.load
			b.ends = func(log roam.Log, err error) (roam.Log, error) { log.Epoch++; return log, err }
			switch how {
			case "log":
				s.follow()
			case "load":
				s.want(other.ID, roam.Want{})
			case "write":
				update(t, s, other, "x")
			case "missing":
				s.want(session("").ID, roam.Want{})
			}
			if how != "log" {
				if st := s.Stats(); st.Entries != 0 || st.Age != -1 {
					t.Errorf("%s: %+v, want nothing left", how, st)
				}
				trips(t, b, 2, how, func() { s.get(rec.ID); s.get(rec.ID) })
			}
			arrive() // of the epoch before
			s.follow()
			trips(t, b, 2, how, func() { s.get(rec.ID); s.get(rec.ID); s.get(slow.ID) })
			if got := s.get(rec.ID); got.Epoch != rec.Epoch+1 {
				t.Errorf("%s: epoch %d, want %d", how, got.Epoch, rec.Epoch+1)
			}
			// The one that was replaced answers again, from a future that is lost.
			b.load = func(r roam.Record, err error) (roam.Record, error) { r.Version += 7; return r, err }
			b.ends = nil
			if _, err := s.Ends(t.Context(), s.next); err != nil {
				t.Errorf("Ends: %v", err)
			}
			if got := s.want(rec.ID, roam.Want{}); got.Epoch != rec.Epoch {
				t.Errorf("%s: the answer of the old primary has epoch %d, want %d: its caller judges it", how, got.Epoch, rec.Epoch)
			}
			trips(t, b, 0, how, func() {
				if got := s.get(rec.ID); got.Epoch != rec.Epoch+1 {
					t.Errorf("%s: epoch %d, want %d", how, got.Epoch, rec.Epoch+1)
				}
			})
		})
	}
}

// Now is the store's clock, estimated from here: never ahead of it, and never
// going back.
func TestNowIsTheStoresClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		last := rec.Now
		look := func() {
			t.Helper()
			got := s.get(rec.ID).Now
			truth, _ := b.MemStore.Ends(t.Context(), s.next)
			if got.Before(last) || got.After(truth.Now) || truth.Now.Sub(got) > 2*time.Second {
				t.Fatalf("Now is %v, after %v, and the store's clock says %v", got, last, truth.Now)
			}
			last = got
		}
		r := rand.New(rand.NewPCG(1, 2))
		some := func() time.Duration { return time.Duration(r.Int64N(int64(time.Second))) }
		there := some()
		b.ends = func(log roam.Log, err error) (roam.Log, error) {
			time.Sleep(there) // on the way to the store
			return b.MemStore.Ends(t.Context(), s.next)
		}
		for range 100 {
			there = some()
			release := b.hold("Ends")
			done := start(s.follow)
			time.Sleep(there + some())
			look()
			release()
			done()
			look()
		}
	})
}

// Two who read the log, each with a place of its own, both get what is due to
// them, and soon share one read.
func TestCallersAtOtherPlacesInTheLogGetTheirDue(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	var want []roam.End
	for range 3 {
		rec := insert(t, s, session("ann"))
		end(t, b.MemStore, rec.ID)
		s.follow()
		want = append(want, roam.End{ID: rec.ID, Version: 2})
	}
	all, err := s.Ends(t.Context(), "")
	if err != nil || len(all.Ends) != 3 {
		t.Fatalf("%d entries, %v, want all 3", len(all.Ends), err)
	}
	for i, e := range all.Ends {
		if e.ID != want[i].ID || e.Version != 2 {
			t.Errorf("entry %d is %+v, want %+v", i, e, want[i])
		}
	}
	if all.Next != s.next {
		t.Errorf("the caller is at %q now, want %q, where the near cache is", all.Next, s.next)
	}
	before := b.count("Ends")
	s.follow()
	if _, err := s.Ends(t.Context(), all.Next); err != nil {
		t.Error(err)
	}
	if n := b.count("Ends") - before; n != 2 {
		t.Errorf("two callers at the same place made %d reads, want 2", n)
	}
	// What ends between the read for the near cache and the one for the caller
	// comes with the caller's next, which is both at once again.
	var between roam.Record
	b.ends = func(log roam.Log, err error) (roam.Log, error) {
		b.ends = nil
		between = insert(t, b.MemStore, session("ann"))
		end(t, b.MemStore, between.ID)
		return log, err
	}
	all, err = s.Ends(t.Context(), "")
	if err != nil || len(all.Ends) != 4 {
		t.Errorf("%d entries, %v, want 4", len(all.Ends), err)
	}
	before = b.count("Ends")
	all, err = s.Ends(t.Context(), all.Next)
	if n := b.count("Ends") - before; n != 1 || err != nil || len(all.Ends) != 1 || all.Ends[0].ID != between.ID {
		t.Errorf("%d reads, %+v, %v, want the entry in between by one read", n, all.Ends, err)
	}
	s.next = all.Next

	// An entry that one of them takes is not missed by the other.
	rec := insert(t, s, session("ann"))
	end(t, b.MemStore, rec.ID)
	s.follow()
	log, err := s.Ends(t.Context(), all.Next)
	if err != nil || len(log.Ends) != 1 || log.Ends[0].ID != rec.ID {
		t.Errorf("the other got %+v, %v", log.Ends, err)
	}
}

// one trip for all who miss at once.
func TestR125WhoMissAtOnceShareATrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		release := b.hold("Load")
		trips(t, b, 1, "a hundred at once", func() {
			var wg sync.WaitGroup
			datas := make(chan []byte, 100)
			for range 100 {
				wg.Go(func() { datas <- s.get(rec.ID).Data })
			}
			synctest.Wait()
			release()
			wg.Wait()
			for range 100 {
				data := <-datas
				if string(data) != string(rec.Data) {
					t.Fatalf("data is %q", data)
				}
				copy(data, "spoiled")
			}
		})
	})
}

// and the end of one's patience is nobody else's.
func TestR125OneCallersCancellationIsNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		load := func(ctx context.Context) (err error) { _, err = s.Load(ctx, rec.ID, roam.Want{Version: 1}); return err }
		first, cancelFirst := context.WithCancel(t.Context())
		third, cancelThird := context.WithCancel(t.Context())
		release, releaseNext := b.hold("Load"), b.hold("Load")
		var errs [3]error
		var done []func()
		for i, ctx := range []context.Context{first, t.Context(), third} {
			done = append(done, start(func() { errs[i] = load(ctx) }))
			synctest.Wait()
		}
		cancelThird() // one who waits
		done[2]()
		cancelFirst() // the one who asks
		done[0]()
		synctest.Wait()
		releaseNext()
		done[1]()
		release()
		for i, want := range []bool{true, false, true} {
			if errors.Is(errs[i], roam.ErrUnavailable) != want || (errs[i] != nil) != want {
				t.Errorf("caller %d: %v, want an ErrUnavailable: %v", i+1, errs[i], want)
			}
		}
		if s.Readings() != 0 {
			t.Errorf("%d questions kept", s.Readings())
		}
	})
}

// Nor is a store's panic, which ends the request of the one who asked.
func TestR125APanicLeavesNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		release := b.hold("Load")
		var fell any
		first := start(func() {
			defer func() { fell = recover() }()
			ctx := &panicking{Context: t.Context()}
			s.Load(ctx, rec.ID, roam.Want{Version: 1})
		})
		synctest.Wait()
		var joined roam.Record
		second := start(func() { joined = s.get(rec.ID) })
		synctest.Wait()
		release()
		first()
		second()
		if fell == nil || joined.ID != rec.ID || s.Readings() != 0 {
			t.Errorf("panic %v, then %v, and %d questions kept", fell, joined.ID, s.Readings())
		}
	})
}

// A panicking context lets the store of this test panic when it has waited.
type panicking struct{ context.Context }

// What the store says to one it says to all: when it is down, nobody waits in a
// queue for the same answer.
func TestR125AnErrorOfTheStoreIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		down := errors.New("connection reset")
		b.load = func(roam.Record, error) (roam.Record, error) { return roam.Record{}, down }
		release := b.hold("Load")
		trips(t, b, 1, "ten at once", func() {
			var wg sync.WaitGroup
			var failed atomic.Int32
			for range 10 {
				wg.Go(func() {
					if _, err := s.Load(t.Context(), rec.ID, roam.Want{Version: 1}); errors.Is(err, down) {
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
			release()
			wg.Wait()
			if failed.Load() != 10 {
				t.Errorf("%d of 10 got the store's error", failed.Load())
			}
		})
	})
}

// A question for the newest is asked after whatever was acknowledged before it,
// so an answer that had left the store by then is none.
func TestR125AQuestionForTheNewestJoinsNoEarlierOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
		end(t, b.MemStore, rec.ID)
		dead(t, "the newest", s.want(rec.ID, roam.Want{}))
		arrive()
		dead(t, "then", s.get(rec.ID))
	})
}

// Who waits for an answer that was asked for before, gets it by the rules of
// memory only.
func TestR125WhoJoinsGetsNothingOlderThanMemoryMayGive(t *testing.T) {
	for name, happens := range map[string]func(t *testing.T, b *backend, s *server, id roam.ID){
		"an end by this server": func(t *testing.T, b *backend, s *server, id roam.ID) { end(t, s, id) },
		"an end in the log":     func(t *testing.T, b *backend, s *server, id roam.ID) { end(t, b.MemStore, id); s.follow() },
		"the bound": func(t *testing.T, b *backend, s *server, id roam.ID) {
			end(t, b.MemStore, id)
			time.Sleep(5 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackend()
				s := serve(t, b, nil)
				rec := insert(t, b.MemStore, session("ann"))
				arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
				var joined roam.Record
				done := start(func() { joined = s.get(rec.ID) })
				synctest.Wait()
				happens(t, b, s, rec.ID)
				arrive()
				done()
				dead(t, "who joined", joined)
			})
		})
	}
}

// That there was no record may have changed since it was asked for.
func TestR125NobodyJoinsInFindingNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := session("ann")
		arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
		insert(t, b.MemStore, rec)
		var joined roam.Record
		done := start(func() { joined = s.get(rec.ID) })
		synctest.Wait()
		arrive()
		done()
		version(t, "who joined", joined, 1)
	})
}

// while the store is away, memory answers as long as it may, and then
// the error is the store's.
func TestR127AStoreThatIsAwayIsBridgedForTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		b.load = func(roam.Record, error) (roam.Record, error) { return roam.Record{}, roam.ErrUnavailable }
		b.ends = func(roam.Log, error) (roam.Log, error) { return roam.Log{}, roam.ErrUnavailable }
		for i := range 10 {
			_, err := s.Load(t.Context(), rec.ID, roam.Want{Version: 1})
			if down := i >= 5; (err != nil) != down || down && !errors.Is(err, roam.ErrUnavailable) {
				t.Errorf("after %d s: %v", i, err)
			}
			time.Sleep(time.Second)
			s.Ends(t.Context(), s.next)
		}
		b.load, b.ends = nil, nil
		s.follow()
		trips(t, b, 0, "and when it is back", func() { s.get(rec.ID) })
	})
}

// a login on one server, the next request on another.
func TestR128NoServerOwnsASession(t *testing.T) {
	b := newBackend()
	var servers []*server
	for range 4 {
		servers = append(servers, serve(t, b, nil))
	}
	r := rand.New(rand.NewPCG(1, 2))
	one := func() *server { return servers[r.IntN(4)] }
	rec := insert(t, one(), session("ann"))
	for range 2000 {
		switch r.IntN(10) {
		case 0:
			rec = rotate(t, one(), rec)
		case 1:
			rec = update(t, one(), rec, "x")
		case 2:
			one().follow()
		}
		got := one().want(rec.ID, roam.Want{Version: rec.Version, Epoch: rec.Epoch})
		if got.Version != rec.Version || got.Proof != rec.Proof {
			t.Fatalf("version %d, want %d", got.Version, rec.Version)
		}
	}
}
