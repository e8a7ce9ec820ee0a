package roam_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

// After a gap that is longer than what the log keeps, what ended meanwhile is in
// it no more: every watch is confirmed at the store.
func TestAWatchEndsAlsoIfTheLogHasForgottenWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		operator := manager(t, p.Store, nil)
		_, web := site(t, p, &roam.Options{IdleTimeout: 12 * time.Hour, Lifetime: 24 * time.Hour}, sealedWeb)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Second)
		ctx, _, err := web.Watch(httptest.NewRecorder(), b.request())
		if err != nil {
			t.Fatal(err)
		}
		p.hooks(func(string) error { return errLost }, nil)
		time.Sleep(time.Minute)
		if err := operator.Revoke(t.Context(), s.ID, roam.Revoked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Minute)
		if _, err := p.Store.Prune(t.Context(), 7*24*time.Hour, 1000); err != nil {
			t.Fatal(err)
		}
		p.hooks(nil, nil)
		time.Sleep(2 * time.Second)
		if ctx.Err() == nil {
			t.Error("two seconds after the store answers again, the watch of a revoked session goes on")
		}
		wantReason(t, "the cause", context.Cause(ctx), roam.Revoked)
	})
}

// What the log said of a login that a failover has lost says nothing about the
// session as it is now.
func TestALoginThatWasLostEndsNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		m, web := site(t, p, nil, nil)
		first := login(t, m, roam.Token{}, "ann")
		time.Sleep(time.Second)
		p.lag()
		login(t, m, visitor(t, first), "ann") // rotates, and is lost
		time.Sleep(time.Second)
		p.failOver()
		time.Sleep(2 * time.Second)
		who, err := m.Identify(t.Context(), visitor(t, first))
		if err != nil || who.User != "ann" {
			t.Fatalf("the token from before: %q, %v; want ann", who.User, err)
		}
		ctx, _, err := web.Watch(httptest.NewRecorder(), with(web, first))
		if err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Errorf("the watch of a living session ends at once: %v", context.Cause(ctx))
		}
	})
}

// Many watched sessions that reach their deadlines at once are confirmed beside
// the feed, which nothing holds up.
func TestWatchesThatAreDueDelayNoRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		operator := manager(t, p.Store, nil)
		_, web := site(t, p, &roam.Options{IdleTimeout: time.Minute, Lifetime: 24 * time.Hour}, sealedWeb)
		for range 300 {
			b := &browser{web, map[string]string{}}
			b.login(t, "ann")
			if _, _, err := web.Watch(httptest.NewRecorder(), b.request()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(58 * time.Second)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "bob")
		p.hooks(nil, func(method string) error {
			if method == "Load" {
				time.Sleep(15 * time.Millisecond) // one after the other they would take seconds
			}
			return nil
		})
		time.Sleep(2600 * time.Millisecond)
		if err := operator.Revoke(t.Context(), s.ID, roam.Revoked); err != nil {
			t.Fatal(err)
		}
		ended := time.Now()
		for {
			if _, err := b.identify(); errors.Is(err, roam.ErrEnded) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if late := time.Since(ended); late > time.Second {
			t.Errorf("a revoked session was served for %v, with the store up", late)
		}
	})
}

// mute makes the log alone unreadable.
func mute(p *probe) {
	p.hooks(func(method string) error {
		if method == "Ends" {
			return errLost
		}
		return nil
	}, nil)
}

// While the store answers and only its log cannot be read, a watch ends within
// the bound all the same.
func TestAWatchEndsAlsoWhileTheLogCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Second, 4 * time.Second, time.Minute} {
			p := newProbe()
			operator := manager(t, p.Store, nil)
			_, web := site(t, p, nil, sealedWeb)
			b := &browser{web, map[string]string{}}
			s := b.login(t, "ann")
			time.Sleep(time.Second)
			ctx, _, err := web.Watch(httptest.NewRecorder(), b.request())
			if err != nil {
				t.Fatal(err)
			}
			mute(p)
			time.Sleep(after)
			if err := operator.Revoke(t.Context(), s.ID, roam.Revoked); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ctx.Done():
				wantReason(t, "the cause", context.Cause(ctx), roam.Revoked)
			case <-time.After(5 * time.Second):
				t.Errorf("%v after the log was cut: the watch goes on 5 s after the revoke", after)
			}
		}
	})
}

// The server that answered a RevokeUser knows what it has ended, or asks.
func TestRevokeUserCountsAtOnceWhereItWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m, web := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		time.Sleep(time.Second)
		mute(p)
		if n, err := m.RevokeUser(t.Context(), "ann", roam.Revoked); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		_, err := b.identify()
		wantReason(t, "Identify on the same server", err, roam.Revoked)
	})
}

// Nor does a login wait for the log to be known where it happened.
func TestALoginCountsAtOnceWhereItHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		time.Sleep(time.Second)
		thief := &browser{web, map[string]string{}}
		for name, value := range b.jar {
			thief.jar[name] = value
		}
		mute(p)
		b.login(t, "ann")
		_, err := thief.identify()
		wantReason(t, "the old token on the same server", err, roam.Rotated)
		if who, err := b.identify(); err != nil || who.User != "ann" {
			t.Errorf("the new token: %+v, %v", who, err)
		}
	})
}

// RevokeUser reads the log to know whom it has ended, and for no longer than its
// caller waits.
func TestRevokeUserWaitsForTheLogNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m, web := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		p.hooks(func(method string) error {
			if method == "Ends" {
				time.Sleep(3 * time.Second)
			}
			return nil
		}, nil)
		time.Sleep(4 * time.Second) // a read is under way
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		n, err := m.RevokeUser(ctx, "ann", roam.Revoked)
		if took := time.Since(began); n != 1 || err != nil || took > 100*time.Millisecond {
			t.Errorf("%d, %v after %v; want 1 within 100 ms", n, err, took)
		}
		_, err = b.identify()
		wantReason(t, "Identify on the same server", err, roam.Revoked)
		time.Sleep(10 * time.Second)
	})
}
