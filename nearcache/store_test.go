package nearcache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, o := range []nearcache.Options{{Bytes: -1}, {Bytes: 1000}, {Bound: -1}, {Bound: time.Hour}, {MaxAge: -1}} {
		if _, err := nearcache.New(roam.NewMemStore(), &o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := nearcache.New(nil, nil); err == nil {
		t.Error("no store: no error")
	}
}

func TestWithoutTheLogNothingIsAnsweredFromMemory(t *testing.T) {
	b := newBackend()
	s := idle(t, b, nil)
	rec := insert(t, s, session("ann"))
	trips(t, b, 3, "three reads", func() {
		for range 3 {
			s.Load(t.Context(), rec.ID, roam.Want{Version: 1})
		}
	})
	if st := s.Stats(); st.Entries != 0 || st.Bytes != 0 || st.Hits != 0 || st.Misses != 3 || st.Age != -1 {
		t.Errorf("%+v: want nothing remembered", st)
	}
}

func TestAReadOfWhatHasNotChangedCostsNoTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		a, c := serve(t, b, nil), serve(t, b, nil)
		rec := insert(t, a, session("ann"))
		trips(t, b, 0, "reads on the server that wrote", func() { a.get(rec.ID); a.get(rec.ID) })
		trips(t, b, 1, "reads on another one", func() { c.get(rec.ID); c.get(rec.ID); c.get(rec.ID) })
		for range 50 {
			time.Sleep(time.Second)
			a.follow()
		}
		trips(t, b, 0, "a read fifty seconds later", func() { a.get(rec.ID) })
		st := a.Stats()
		if st.Hits != 3 || st.Misses != 0 || st.Entries != 1 || st.Bytes < 400 || st.Age != 0 {
			t.Errorf("%+v: want 3 hits and one entry", st)
		}
	})
}

func TestTheNewestIsAlwaysTheStores(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec := insert(t, s, session("ann"))
	update(t, b.MemStore, rec, "elsewhere")
	for _, want := range []roam.Want{{Version: 1, Durable: true}, {}, {Durable: true}} {
		trips(t, b, 1, fmt.Sprintf("%+v", want), func() { version(t, fmt.Sprintf("%+v", want), s.want(rec.ID, want), 2) })
	}
	trips(t, b, 0, "and then", func() { version(t, "and then", s.get(rec.ID), 2) })
}

// Law 3 with a mark: who has seen a version never gets an older one.
func TestAnOlderVersionThanWantedIsNotServed(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec := insert(t, s, session("ann"))
	rec = update(t, b.MemStore, rec, "elsewhere")
	version(t, "without a mark", s.want(rec.ID, roam.Want{Version: 1, Epoch: rec.Epoch}), 1)
	version(t, "with a mark", s.want(rec.ID, roam.Want{Version: 2, Epoch: rec.Epoch}), 2)
	trips(t, b, 2, "versions and epochs that are not there", func() {
		s.want(rec.ID, roam.Want{Version: math.MaxUint64})
		s.want(rec.ID, roam.Want{Version: 1, Epoch: rec.Epoch + 1})
	})
}

// A miss asks for the newest, whatever its caller would have put up with: the
// log tells nothing of a copy that is behind.
func TestAMissDoesNotAskACopy(t *testing.T) {
	b := newBackend()
	copied := &wants{Store: b}
	s := serve(t, copied, nil)
	rec := insert(t, b.MemStore, session("ann"))
	s.want(rec.ID, roam.Want{Version: 1, Epoch: 1})
	s.want(rec.ID, roam.Want{Version: 1, Epoch: 1, Durable: true})
	if want := []roam.Want{{}, {Durable: true}}; !reflect.DeepEqual(copied.asked, want) {
		t.Errorf("the store was asked for %+v, want %+v", copied.asked, want)
	}
}

type wants struct {
	roam.Store
	asked []roam.Want
}

func (w *wants) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	w.asked = append(w.asked, want)
	return w.Store.Load(ctx, id, want)
}

// Each field of a Record, also one that is added one day, comes back.
func TestARecordFromMemoryIsTheRecord(t *testing.T) {
	b := newBackend()
	var n byte
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(time.Now().UTC().Truncate(time.Microsecond).Add(time.Duration(n) * time.Second)))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					fill(v.Field(i))
				}
			}
		case v.Kind() == reflect.Array:
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case v.Kind() == reflect.String:
			v.SetString(fmt.Sprintf("text %d", n))
		case v.Kind() == reflect.Slice:
			v.SetBytes([]byte{n, 0, 255})
		case v.CanInt():
			v.SetInt(int64(time.Hour) + int64(n))
		case v.CanUint():
			v.SetUint(uint64(n))
		}
	}
	for _, ended := range []bool{false, true} {
		rec := session("")
		fill(reflect.ValueOf(&rec).Elem())
		rec.From.Addr = session("").From.Addr
		if !ended {
			rec.Ended, rec.Why = time.Time{}, ""
		}
		rec.Epoch = insert(t, b.MemStore, session("")).Epoch
		b.load = func(roam.Record, error) (roam.Record, error) {
			got := rec
			got.Data = bytes.Clone(rec.Data)
			return got, nil
		}
		s := serve(t, b, nil)
		want := rec
		for i := range 2 {
			trips(t, b, 1-i, "read", func() {
				got := s.get(rec.ID)
				if got.Now.Before(want.Now) {
					t.Errorf("Now went back from %v to %v", want.Now, got.Now)
				}
				got.Now = want.Now
				for i := range reflect.TypeFor[roam.Record]().NumField() {
					f := reflect.TypeFor[roam.Record]().Field(i)
					g, w := reflect.ValueOf(got).Field(i), reflect.ValueOf(want).Field(i)
					if f.IsExported() && !reflect.DeepEqual(g.Interface(), w.Interface()) {
						t.Errorf("%s is %v, want %v", f.Name, g, w)
					}
				}
			})
		}
	}
}

// what is handed out is the caller's.
func TestR121NoReaderChangesWhatTheNextOneSees(t *testing.T) {
	s := serve(t, newBackend(), nil)
	given := session("ann")
	data := given.Data
	rec := insert(t, s, given)
	want := string(data)
	for range 3 {
		copy(data, "spoiled")
		copy(rec.Data, "spoiled")
		_ = append(rec.Data, "spoiled"...)
		rec = s.get(given.ID)
		if string(rec.Data) != want {
			t.Fatalf("data is %q, want %q", rec.Data, want)
		}
	}
}

// what a visitor chooses finds nothing that is not its own.
func TestR120AnIDFindsItsOwnRecordOnly(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec, other := insert(t, s, session("ann")), insert(t, b.MemStore, session("bob"))
	for i := range rec.ID {
		for bit := range 8 {
			id := rec.ID
			id[i] ^= 1 << bit
			if got, err := s.Load(t.Context(), id, roam.Want{Version: 1}); !errors.Is(err, roam.ErrNotFound) {
				t.Fatalf("an ID that differs in a bit: version %d of %q, error %v", got.Version, got.User, err)
			}
		}
	}
	if got := s.get(other.ID); got.User != "bob" {
		t.Errorf("bob's session is %q's", got.User)
	}
}

// An answer to another question is neither remembered nor given to those who
// wait. The caller sees it, and judges.
func TestAnAnswerWithAnotherIDIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		ann, bob := insert(t, b.MemStore, session("ann")), insert(t, b.MemStore, session("bob"))
		b.load = func(roam.Record, error) (roam.Record, error) { return bob, nil }
		release := b.hold("Load")
		var lead, joined roam.Record
		done := start(func() { lead = s.get(ann.ID) })
		synctest.Wait()
		wait := start(func() { joined = s.get(ann.ID) })
		synctest.Wait()
		b.load = nil
		release()
		done()
		wait()
		if lead.ID != bob.ID || joined.ID != ann.ID || s.Stats().Entries != 1 || s.get(ann.ID).User != "ann" {
			t.Errorf("asked for ann: the first got %q, who joined %q, then %+v", lead.User, joined.User, s.Stats())
		}
	})
}

// nothing is remembered of IDs that are not there.
func TestR123UnknownIDsEvictNothing(t *testing.T) {
	b := newBackend()
	s := serve(t, b, &nearcache.Options{Bytes: 1 << 20})
	var ids []roam.ID
	for range 500 {
		ids = append(ids, insert(t, s, session("ann")).ID)
	}
	before := s.Stats()
	for range 100_000 {
		if _, err := s.Load(t.Context(), session("").ID, roam.Want{Version: 1}); !errors.Is(err, roam.ErrNotFound) {
			t.Fatal(err)
		}
	}
	trips(t, b, 0, "reads of those that are", func() {
		for _, id := range ids {
			s.get(id)
		}
	})
	after := s.Stats()
	if after.Entries != before.Entries || after.Bytes != before.Bytes || after.Evicted != 0 || s.Readings() != 0 {
		t.Errorf("%+v, then %+v and %d questions kept", before, after, s.Readings())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const most = 2 << 20
	b := newBackend()
	s := serve(t, b, &nearcache.Options{Bytes: most})
	want := make(map[roam.ID]string)
	for i := range 10_000 {
		rec := session("ann")
		rec.Data = []byte(strings.Repeat("x", i%5000))
		if i%1000 == 0 {
			rec.Data = make([]byte, most) // too large to be worth it
		}
		rec = insert(t, s, rec)
		if i%3 == 0 {
			rec = update(t, s, rec, strings.Repeat("y", (i*7)%3000))
		}
		want[rec.ID] = string(rec.Data)
		if st := s.Stats(); st.Bytes > most {
			t.Fatalf("%+v: more than %d bytes", st, most)
		}
	}
	st := s.Stats()
	if st.Evicted == 0 || st.Entries < 100 || st.Bytes < most/2 {
		t.Errorf("%+v: want it nearly full", st)
	}
	for id, data := range want {
		if got := s.get(id); string(got.Data) != data {
			t.Fatalf("%d bytes of data, want %d", len(got.Data), len(data))
		}
	}
}

// What is asked for again stays, what is not goes.
func TestEvictionSparesWhatIsInUse(t *testing.T) {
	b := newBackend()
	s := serve(t, b, &nearcache.Options{Bytes: 1 << 20})
	var used []roam.ID
	for range 200 {
		used = append(used, insert(t, s, session("ann")).ID)
	}
	trips(t, b, 0, "those in use", func() {
		for range 20 {
			for range 500 {
				insert(t, s, session("bob"))
			}
			for _, id := range used {
				s.get(id)
			}
		}
	})
	if st := s.Stats(); st.Evicted < 5000 {
		t.Errorf("%+v: want most of 10200 evicted", st)
	}
}

func TestThatThereIsNoRecordIsNotRemembered(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec := session("ann")
	if got := s.get(rec.ID); got.Epoch == 0 || got.Now.IsZero() {
		t.Errorf("no record: Now %v and epoch %d, want the store's", got.Now, got.Epoch)
	}
	insert(t, b.MemStore, rec)
	version(t, "after it was inserted elsewhere", s.get(rec.ID), 1)
}

// What this server itself does counts here at once.
func TestOwnWritesCountAtOnce(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	rec := insert(t, s, session("ann"))
	old := rec.Proof
	rec = rotate(t, s, rec)
	if got := s.get(rec.ID); got.Proof == old || got.Version != 2 {
		t.Errorf("after a login version %d is read", got.Version)
	}
	end(t, s, rec.ID)
	dead(t, "after End", s.get(rec.ID))

	all := []roam.Record{insert(t, s, session("bob")), insert(t, s, session("bob")), insert(t, s, session("bob"))}
	if n, err := s.EndUser(t.Context(), "bob", roam.Revoked, all[2].ID); n != 2 || err != nil {
		t.Fatalf("EndUser: %d, %v", n, err)
	}
	dead(t, "after EndUser", s.get(all[0].ID))
	version(t, "the one excepted", s.get(all[2].ID), 1)
	s.follow()
	trips(t, b, 0, "when the log has been read", func() { s.get(all[0].ID); s.get(all[2].ID) })
	dead(t, "after EndUser and the log", s.get(all[0].ID))
	dead(t, "after EndUser and the log", s.get(all[1].ID))
	trips(t, b, 0, "a user who has no sessions", func() {
		s.EndUser(t.Context(), "carol", roam.Revoked)
		s.get(all[2].ID)
	})
}

// EndUser begins while the log is being read: that read does not tell of it.
func TestEndUserIsNotVouchedForByAnEarlierRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		release := b.hold("Ends")
		done := start(s.follow)
		synctest.Wait()
		s.EndUser(t.Context(), "ann", roam.Revoked)
		release()
		done()
		dead(t, "after EndUser", s.get(rec.ID))
	})
}

func TestAWriteThatFailsLeavesNothingThatMayBeOld(t *testing.T) {
	lost := errors.New("the answer did not come")
	for _, c := range []struct {
		name string
		err  error
		keep bool
	}{
		{"conflict", roam.ErrConflict, false},
		{"unknown", lost, false},
		{"unavailable", fmt.Errorf("%w: refused", roam.ErrUnavailable), true},
	} {
		b := newBackend()
		s := serve(t, b, nil)
		rec, ended := insert(t, s, session("ann")), insert(t, s, session("bob"))
		b.write = func(rec roam.Record, err error) (roam.Record, error) { return roam.Record{}, c.err }
		if _, err := s.Update(t.Context(), rec); !errors.Is(err, c.err) {
			t.Errorf("Update: %v, want %v", err, c.err)
		}
		if err := s.End(t.Context(), ended.ID, roam.Revoked); !errors.Is(err, c.err) {
			t.Errorf("End: %v, want %v", err, c.err)
		}
		want := 2
		if c.keep {
			want = 0
		}
		trips(t, b, want, c.name, func() { s.get(rec.ID); s.get(ended.ID) })
	}
	b := newBackend()
	s := serve(t, b, nil)
	rec := insert(t, s, session("ann"))
	all := errLosing{b, lost}
	s2 := serve(t, all, nil)
	s2.get(rec.ID)
	s2.EndUser(t.Context(), "ann", roam.Revoked)
	dead(t, "after EndUser without an answer", s2.get(rec.ID))
}

// errLosing loses the answers of EndUser.
type errLosing struct {
	roam.Store
	err error
}

func (l errLosing) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	l.Store.EndUser(ctx, user, why, except...)
	return 0, l.err
}

// Law 7.
func TestATouchMovesSeenInMemoryAsInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, s, session("ann"))
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Seen.Add(-time.Second)}, {ID: session("").ID, At: rec.Seen}})
		trips(t, b, 0, "after a touch in the past", func() {
			if got := s.get(rec.ID); !got.Seen.Equal(rec.Seen) {
				t.Errorf("Seen went from %v to %v", rec.Seen, got.Seen)
			}
		})
		time.Sleep(30 * time.Second)
		s.follow()
		at := rec.Seen.Add(20*time.Second + 123*time.Nanosecond)
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: at}})
		trips(t, b, 0, "after a touch", func() {
			if got, want := s.get(rec.ID).Seen, at.Truncate(time.Microsecond); !got.Equal(want) {
				t.Errorf("Seen is %v, want %v", got, want)
			}
		})
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: at.Add(time.Hour)}})
		if got, want := s.get(rec.ID).Seen, s.want(rec.ID, roam.Want{}).Seen; !got.Equal(want) {
			t.Errorf("after a touch beyond the clock Seen is %v, in the store %v", got, want)
		}
	})
}

// An answer that left the store before the touch does not take it back.
func TestALateAnswerDoesNotTakeATouchBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := insert(t, b.MemStore, session("ann"))
		arrive := late(t, b, s, rec.ID, roam.Want{Version: 1})
		time.Sleep(time.Second)
		at := rec.Seen.Add(time.Second)
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: at}})
		arrive()
		if got := s.get(rec.ID).Seen; !got.Equal(at) {
			t.Errorf("Seen is %v, want %v", got, at)
		}
	})
}

// The dead stay dead: the store does not touch what is over.
func TestATouchRevivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := session("ann")
		rec.Idle = 20 * time.Second
		rec = insert(t, s, rec)
		for range 19 {
			time.Sleep(time.Second)
			s.follow()
		}
		s.get(rec.ID)
		time.Sleep(time.Second)
		s.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Seen.Add(15 * time.Second)}})
		got := s.get(rec.ID)
		if why, _, over := got.Over(got.Now); !over {
			t.Errorf("a session that was over lives until %v after a late touch, %s", got.Seen.Add(got.Idle), why)
		}
	})
}

// Law 8: another server may have touched what looks idle here.
func TestWhatLooksOverIsConfirmedByTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s, other := serve(t, b, nil), serve(t, b, nil)
		rec := session("ann")
		rec.Idle = 30 * time.Second
		rec = insert(t, s, rec)
		time.Sleep(20 * time.Second)
		other.Touch(t.Context(), []roam.Touch{{ID: rec.ID, At: rec.Seen.Add(20 * time.Second)}})
		s.follow()
		trips(t, b, 0, "before the deadline", func() { s.get(rec.ID) })
		time.Sleep(10 * time.Second)
		s.follow()
		trips(t, b, 1, "at the deadline known here", func() {
			got := s.get(rec.ID)
			if _, _, over := got.Over(got.Now); over {
				t.Error("a session that was touched elsewhere is over")
			}
		})
		time.Sleep(19 * time.Second)
		s.follow()
		trips(t, b, 0, "before the next", func() { s.get(rec.ID) })
		time.Sleep(time.Second)
		s.follow()
		got := s.get(rec.ID)
		if _, _, over := got.Over(got.Now); !over {
			t.Error("a session is served past its deadline")
		}
	})
}

// That an answer is late must not lend a session time.
func TestALateAnswerKeepsNobodyLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		s := serve(t, b, nil)
		rec := session("ann")
		rec.Idle = 20 * time.Second
		rec = insert(t, b.MemStore, rec)
		slow := func(method string, do func()) {
			release := b.hold(method)
			done := start(do)
			synctest.Wait()
			time.Sleep(4 * time.Second)
			release()
			done()
		}
		slow("Load", func() { s.get(rec.ID) })
		for range 12 {
			time.Sleep(time.Second)
			s.follow()
		}
		slow("Ends", s.follow)
		got := s.get(rec.ID) // at its deadline to the second
		if _, _, over := got.Over(got.Now); !over {
			t.Errorf("served %v after it was over", time.Since(rec.Seen.Add(rec.Idle)))
		}
	})
}

// The memo of what a record's data was decoded into comes with the record, and
// goes with it.
func TestTheDataIsDecodedOncePerVersion(t *testing.T) {
	b := newBackend()
	s := serve(t, b, nil)
	codec := &counting{}
	m, err := roam.New[int](anyVersion{s}, &roam.Options{Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	set := func(n int) func(*int) error { return func(v *int) error { *v = n; return nil } }
	sess, err := m.Login(t.Context(), roam.Token{}, roam.Login{User: "ann"}, set(7))
	if err != nil {
		t.Fatal(err)
	}
	rec := s.get(sess.ID)
	for want := 8; want < 11; want++ {
		rec = update(t, s, rec, fmt.Sprint(want))
		codec.decodes = 0
		for range 5 {
			got, err := m.Get(t.Context(), sess.Token)
			if err != nil || got.Data != want {
				t.Fatalf("Get: %d, %v, want %d", got.Data, err, want)
			}
		}
		if codec.decodes != 1 {
			t.Errorf("version %d was decoded %d times, want once", rec.Version, codec.decodes)
		}
	}
}

// anyVersion is for visitors who know of the first version only.
type anyVersion struct{ roam.Store }

func (s anyVersion) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	want.Version = max(want.Version, 1)
	return s.Store.Load(ctx, id, want)
}

type counting struct {
	roam.JSON
	decodes int
}

func (c *counting) Decode(data []byte, v any) error { c.decodes++; return c.JSON.Decode(data, v) }
