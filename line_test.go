package roam_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

// slow makes every update take a millisecond.
func slow(p *probe) {
	p.hooks(func(method string) error {
		if method == "Update" {
			time.Sleep(time.Millisecond)
		}
		return nil
	}, nil)
}

// Sixty-four updates of one session at once are as many trips, and one to read
// it: nobody writes in vain, and nobody reads what the one before has written.
func TestUpdatesOfOneSessionLineUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "first")
		slow(p)
		loads, updates := p.loads.Load(), p.updates.Load()
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				got, err := m.Update(t.Context(), visitor(t, s), put(fmt.Sprint(i)))
				if err != nil || got.Data.Items[len(got.Data.Items)-1] != fmt.Sprint(i) {
					t.Errorf("update %d: %v, %v", i, got.Data.Items, err)
				}
			})
		}
		wg.Wait()
		if n, k := p.updates.Load()-updates, p.loads.Load()-loads; n != 64 || k != 1 {
			t.Errorf("%d updates and %d loads, want 64 and 1", n, k)
		}
		got, err := m.Get(t.Context(), visitor(t, s))
		if err != nil || len(got.Data.Items) != 65 {
			t.Errorf("%d items, %v; want 65", len(got.Data.Items), err)
		}
	})
}

func TestUpdatesOfOtherSessionsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), nil)
		one, other := start(t, m, "a"), start(t, m, "a")
		began := time.Now()
		go m.Update(t.Context(), visitor(t, one), func(*Cart) error { time.Sleep(time.Minute); return nil })
		synctest.Wait()
		if _, err := m.Update(t.Context(), visitor(t, other), put("b")); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v, want nil after 0 s", err, time.Since(began))
		}
		time.Sleep(time.Minute)
	})
}

// Whoever knows a session's ID, which is public, keeps nobody from changing it.
func TestAForgedTokenIsInNobodysLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		forged, err := roam.ParseToken(s.Token.Reveal()[:30] + start(t, m, "b").Token.Reveal()[30:])
		if err != nil || forged.ID() != s.ID {
			t.Fatal(forged, err)
		}
		p.hooks(func(method string) error {
			if method == "Load" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}, nil)
		for range 10 {
			go m.Update(t.Context(), forged, put("x"))
		}
		synctest.Wait()
		began := time.Now()
		if _, err := m.Update(t.Context(), s.Token, put("c")); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v, want nil after 0 s", err, time.Since(began))
		}
		time.Sleep(10 * time.Second)
	})
}

// The line is no lock: a function that hangs, or that updates its own session,
// delays the others, and does not stop them.
func TestALineIsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), nil)
		s := start(t, m, "a")
		runs := 0
		began := time.Now()
		_, err := m.Update(t.Context(), visitor(t, s), func(c *Cart) error {
			if runs++; runs == 1 {
				if _, err := m.Update(t.Context(), visitor(t, s), put("inner")); err != nil {
					t.Error(err)
				}
			}
			return put("outer")(c)
		})
		if took := time.Since(began); err != nil || took > time.Second || runs != 2 {
			t.Errorf("%v after %v and %d runs, want nil within a second and 2 runs", err, took, runs)
		}
		got, err := m.Get(t.Context(), visitor(t, s))
		if err != nil || fmt.Sprint(got.Data.Items) != "[a inner outer]" {
			t.Errorf("got %v, %v; want [a inner outer]", got.Data.Items, err)
		}
	})
}

func TestWhoLeavesTheLineHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		slow(p)
		ctx, cancel := context.WithCancel(t.Context())
		cause := make(chan error, 1)
		go m.Update(t.Context(), visitor(t, s), put("b"))
		synctest.Wait()
		go func() {
			_, err := m.Update(ctx, visitor(t, s), put("never"))
			cause <- err
		}()
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-cause; !errors.Is(err, roam.ErrUnavailable) || !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("%v after %v, want unavailable, cancelled, at once", err, time.Since(began))
		}
		got, err := m.Update(t.Context(), visitor(t, s), put("c"))
		if err != nil || fmt.Sprint(got.Data.Items) != "[a b c]" || time.Since(began) > 2*time.Millisecond {
			t.Errorf("got %v, %v after %v; want [a b c] after two updates", got.Data.Items, err, time.Since(began))
		}
	})
}

// Whose turn comes in the very moment in which it stops to wait takes it.
func TestATurnThatComesLateIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), nil)
		for range 30 {
			s := start(t, m, "a")
			var wg sync.WaitGroup
			wg.Go(func() {
				m.Update(t.Context(), visitor(t, s), func(*Cart) error { time.Sleep(250 * time.Millisecond); return nil })
			})
			synctest.Wait()
			wg.Go(func() {
				if _, err := m.Update(t.Context(), visitor(t, s), put("b")); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			began := time.Now()
			if _, err := m.Update(t.Context(), visitor(t, s), put("c")); err != nil || time.Since(began) != 0 {
				t.Fatalf("%v after %v, want nil after 0 s", err, time.Since(began))
			}
		}
	})
}

// A function that panics, as net/http recovers from it, leaves the line too.
func TestAPanicGivesTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), nil)
		s := start(t, m, "a")
		func() {
			defer func() { recover() }()
			m.Update(t.Context(), visitor(t, s), func(*Cart) error { panic("a bug") })
		}()
		began := time.Now()
		if _, err := m.Update(t.Context(), visitor(t, s), put("b")); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v, want nil after 0 s", err, time.Since(began))
		}
	})
}

// What the one before has written opens only to who has its secret.
func TestALoginEndsTheLineOfTheOldSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		slow(p)
		go m.Login(t.Context(), visitor(t, s), roam.Login{User: "ada"}, nil)
		synctest.Wait()
		_, err := m.Update(t.Context(), visitor(t, s), put("b"))
		wantReason(t, "an update behind a login", err, roam.Rotated)
	})
}

// An end that comes from elsewhere while updates wait ends them all.
func TestAnEndEndsTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		elsewhere := manager(t, p.Store, nil)
		slow(p)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := m.Update(t.Context(), visitor(t, s), put("b")); err != nil {
					wantReason(t, "an update after the logout", err, roam.LoggedOut)
				}
			})
		}
		time.Sleep(4500 * time.Microsecond)
		if err := elsewhere.Logout(t.Context(), visitor(t, s)); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n := p.updates.Load(); n != 5 {
			t.Errorf("%d updates were sent, want the 4 before the logout and 1 that found out", n)
		}
	})
}
