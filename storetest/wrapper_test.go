package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func TestCountingCountsEveryMethod(t *testing.T) {
	c := &Counting{Store: roam.NewMemStore()}
	if got, want := c.String(), "no calls"; got != want {
		t.Errorf("new: %q, want %q", got, want)
	}
	ctx, rec := t.Context(), record("ann")
	c.Insert(ctx, rec)
	c.Load(ctx, rec.ID, roam.Want{})
	c.Load(ctx, rec.ID, roam.Want{})
	c.Update(ctx, rec)
	c.Touch(ctx, nil)
	c.End(ctx, rec.ID, roam.Revoked)
	c.EndUser(ctx, "ann", roam.Revoked)
	c.Ends(ctx, "")
	for range c.List(ctx, "ann") {
	}
	for range c.All(ctx) {
	}
	c.Prune(ctx, 0, 1)
	if got, want := c.String(), "All 1 End 1 EndUser 1 Ends 1 Insert 1 List 1 Load 2 Prune 1 Touch 1 Update 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := c.Calls(); got != 11 {
		t.Errorf("%d calls, want 11", got)
	}
	if got := c.Calls("Load", "Insert"); got != 3 {
		t.Errorf("%d loads and inserts, want 3", got)
	}
	c.Reset()
	if got := c.Calls(); got != 0 {
		t.Errorf("%d calls after Reset, want 0", got)
	}
}

func TestCountingKeepsTheLaw(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return &Counting{Store: roam.NewMemStore()} })
}

func TestFaultyWithoutFaultsKeepsTheLaw(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return &Faulty{Store: roam.NewMemStore()} })
}

// Slow answers break no law.
func TestASlowStoreKeepsTheLaw(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	for _, l := range slices.Concat(concurrentLaws, historyLaws, sessionLaws) {
		switch l.name {
		case "Sessions/LogoutIsFinal", "Sessions/TheStoreOpensNothing": // thousands of calls, one after the other
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel() // they wait, mostly
			l.check(newTester(t, &Faulty{Store: roam.NewMemStore(), Faults: Faults{Delay: 500 * time.Microsecond}}))
		})
	}
}

// Each fault does to the store and to the caller what Faults says of it.
func TestFaultsAreWhatTheySay(t *testing.T) {
	for name, tt := range map[string]struct {
		faults      Faults
		want        error // of the caller
		now, healed bool  // whether the insert is in the store
	}{
		"Refused":     {faults: Faults{Refused: 1}, want: roam.ErrUnavailable},
		"LostRequest": {faults: Faults{LostRequest: 1}, want: errLost},
		"LostAnswer":  {faults: Faults{LostAnswer: 1}, want: errLost, now: true, healed: true},
		"Late":        {faults: Faults{Late: 1}, want: errLost, healed: true},
		"Repeated":    {faults: Faults{Repeated: 1}, now: true, healed: true},
	} {
		t.Run(name, func(t *testing.T) {
			store := &Counting{Store: roam.NewMemStore()}
			net := &Faulty{Store: store, Faults: tt.faults}
			rec := record("ann")
			has := func() bool { _, err := store.Store.Load(t.Context(), rec.ID, roam.Want{}); return err == nil }
			if _, err := net.Insert(t.Context(), rec); !errors.Is(err, tt.want) || errors.Is(err, roam.ErrUnavailable) != (tt.want == roam.ErrUnavailable) {
				t.Errorf("Insert: error %v, want %v", err, tt.want)
			}
			if got := has(); got != tt.now {
				t.Errorf("in the store at once: %v, want %v", got, tt.now)
			}
			if got := net.Happened(name); got != 1 {
				t.Errorf("happened %d times, want 1", got)
			}
			net.Heal()
			if got := has(); got != tt.healed {
				t.Errorf("in the store after Heal: %v, want %v", got, tt.healed)
			}
			if got, want := store.Calls("Insert"), map[string]int{"LostAnswer": 1, "Late": 1, "Repeated": 2}[name]; got != want {
				t.Errorf("%d inserts arrived, want %d", got, want)
			}
			if _, err := net.Load(t.Context(), rec.ID, roam.Want{}); (err == nil) != tt.healed || errors.Is(err, errLost) {
				t.Errorf("Load after Heal: %v", err)
			}
		})
	}
}

// The same seed is the same network.
func TestFaultsFollowTheirSeed(t *testing.T) {
	history := func(seed uint64) (errs []string) {
		net := &Faulty{Store: roam.NewMemStore(), Faults: Faults{Seed: seed, Refused: .2, LostRequest: .2, LostAnswer: .2, Late: .2, Repeated: .2}}
		for range 100 {
			_, err := net.Insert(t.Context(), record("ann"))
			errs = append(errs, fmt.Sprint(err))
		}
		return errs
	}
	if !slices.Equal(history(1), history(1)) {
		t.Error("two runs with one seed differ")
	}
	if slices.Equal(history(1), history(2)) {
		t.Error("two seeds give the same faults")
	}
}

func TestACancelledCallStopsWaiting(t *testing.T) {
	net := &Faulty{Store: roam.NewMemStore(), Faults: Faults{Delay: 1000 * time.Hour}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := net.Load(ctx, newID(), roam.Want{}); !errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("Load: error %v, want ErrUnavailable", err)
	}
}

func TestALateRequestIsWhatItWasWhenSent(t *testing.T) {
	store := roam.NewMemStore()
	net := &Faulty{Store: store, Faults: Faults{Late: 1}}
	rec := record("ann")
	rec.Data = []byte("as it was")
	net.Insert(t.Context(), rec)
	copy(rec.Data, "spoiled")
	net.Heal()
	if got, err := store.Load(t.Context(), rec.ID, roam.Want{}); err != nil || string(got.Data) != "as it was" {
		t.Errorf("data %q, error %v", got.Data, err)
	}
}

func TestBrokenListsSaySo(t *testing.T) {
	store := roam.NewMemStore()
	for range 3 {
		store.Insert(t.Context(), record("ann"))
	}
	for name, faults := range map[string]Faults{"refused": {Refused: 1}, "broken off": {LostAnswer: 1}} {
		net := &Faulty{Store: store, Faults: faults}
		for method, seq := range map[string]func() ([]roam.Record, error){
			"List": func() ([]roam.Record, error) { return collect(net.List(t.Context(), "ann")) },
			"All":  func() ([]roam.Record, error) { return collect(net.All(t.Context())) },
		} {
			if recs, err := seq(); err == nil || len(recs) >= 3 {
				t.Errorf("%s, %s: %d records, error %v", method, name, len(recs), err)
			}
		}
	}
}

func TestSkewedShiftsEveryTime(t *testing.T) {
	store := roam.NewMemStore()
	skewed := &Skewed{Store: store, By: time.Hour}
	given := record("ann")
	rec, err := skewed.Insert(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	plain := func() roam.Record {
		rec, err := store.Load(t.Context(), given.ID, roam.Want{})
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	check := func(what string, got roam.Record) {
		t.Helper()
		want := plain()
		for name, at := range map[string][2]time.Time{
			"Created": {got.Created, want.Created}, "LoggedIn": {got.LoggedIn, want.LoggedIn}, "Seen": {got.Seen, want.Seen}, "Ended": {got.Ended, want.Ended},
		} {
			if want := at[1].Add(time.Hour); !at[0].Equal(want) && !(at[0].IsZero() && at[1].IsZero()) {
				t.Errorf("%s: %s is %v, want %v", what, name, at[0], want)
			}
		}
		if d := got.Now.Sub(want.Now); d > time.Hour || d < 50*time.Minute {
			t.Errorf("%s: Now is ahead by %v, want about an hour", what, d)
		}
	}
	check("Insert", rec)
	rec.LoggedIn = rec.Now.Add(-time.Minute)
	if rec, err = skewed.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	check("Update", rec)
	at := (&tester{trial: t, store: store, patience: time.Minute}).untilAfter(plain().Seen, given.ID).Now
	if err := skewed.Touch(t.Context(), []roam.Touch{{ID: given.ID, At: at.Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if got := plain().Seen; !got.Equal(at) {
		t.Errorf("touched at %v through the skew: Seen is %v", at.Add(time.Hour), got)
	}
	for rec, err := range skewed.List(t.Context(), "ann") {
		if check("List", rec); err != nil {
			t.Error(err)
		}
	}
	skewed.End(t.Context(), given.ID, roam.Revoked)
	for rec, err := range skewed.All(t.Context()) {
		if check("All", rec); err != nil {
			t.Error(err)
		}
	}
	rec, _ = skewed.Load(t.Context(), given.ID, roam.Want{})
	check("Load", rec)
	log, err := skewed.Ends(t.Context(), "")
	behind, plainErr := store.Ends(t.Context(), "")
	if err != nil || plainErr != nil || len(log.Ends) != 1 || len(behind.Ends) != 1 {
		t.Fatalf("Ends: %d entries, error %v; behind the skew %d, error %v", len(log.Ends), err, len(behind.Ends), plainErr)
	}
	if d := log.Now.Sub(behind.Now); d > time.Hour || d < 50*time.Minute {
		t.Errorf("Ends: Now is ahead by %v, want about an hour", d)
	}
	if got, want := log.Ends[0].At, behind.Ends[0].At.Add(time.Hour); !got.Equal(want) {
		t.Errorf("Ends: At is %v, want %v", got, want)
	}
}
