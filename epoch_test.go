package roam_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

// A pair is a primary with a replica. While it lags, writes reach the primary
// alone; after a failover the replica answers, in another epoch.
type pair struct {
	roam.Store // the one that answers

	mu               sync.Mutex
	primary, replica *roam.MemStore
	epoch            uint64
	lags             bool
	ends             int // asked of the heir
	failEnds         error
}

func newPair() *pair {
	p := &pair{primary: roam.NewMemStore(), replica: roam.NewMemStore(), epoch: 1}
	p.Store = p.primary
	return p
}

func (p *pair) lag() { p.mu.Lock(); p.lags = true; p.mu.Unlock() }

func (p *pair) failOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Store, p.epoch = p.replica, p.epoch+1
}

// wakeUp lets the old primary answer again, as if nothing had happened.
func (p *pair) wakeUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Store, p.epoch = p.primary, p.epoch-1
}

func (p *pair) both(do func(roam.Store) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Store == roam.Store(p.primary) && !p.lags {
		do(p.replica)
	}
	return do(p.Store)
}

func (p *pair) Load(ctx context.Context, id roam.ID, want roam.Want) (r roam.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err = p.Store.Load(ctx, id, want)
	r.Epoch = p.epoch
	return r, err
}

func (p *pair) Insert(ctx context.Context, rec roam.Record) (r roam.Record, err error) {
	err = p.both(func(s roam.Store) error { r, err = s.Insert(ctx, rec); r.Epoch = p.epoch; return err })
	return r, err
}

func (p *pair) Update(ctx context.Context, rec roam.Record) (r roam.Record, err error) {
	err = p.both(func(s roam.Store) error { r, err = s.Update(ctx, rec); r.Epoch = p.epoch; return err })
	return r, err
}

func (p *pair) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	return p.both(func(s roam.Store) error {
		if s == roam.Store(p.replica) && p.Store == s {
			p.ends++
			if p.failEnds != nil {
				return p.failEnds
			}
		}
		return s.End(ctx, id, why)
	})
}

func (p *pair) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (n int, err error) {
	err = p.both(func(s roam.Store) error { n, err = s.EndUser(ctx, user, why, except...); return err })
	return n, err
}

func (p *pair) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err = p.Store.Ends(ctx, after)
	log.Epoch = p.epoch
	return log, err
}

// running runs the manager beside the test, in a bubble.
func running(t *testing.T, m *roam.Manager[Cart]) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

// Law 14.

func TestALogoutThatAFailoverLostIsMadeAgain(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	ann, bob := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "bob")
	p.lag()
	if err := m.Logout(t.Context(), visitor(t, ann)); err != nil {
		t.Fatal(err)
	}
	p.failOver()
	if _, err := p.replica.Load(t.Context(), ann.ID, roam.Want{}); err != nil {
		t.Fatal("the replica was not behind; the test proves nothing:", err)
	}
	_, err := m.Get(t.Context(), visitor(t, ann))
	wantReason(t, "logged out before the failover", err, roam.LoggedOut)
	if s, err := m.Get(t.Context(), visitor(t, bob)); err != nil || s.User != "bob" {
		t.Errorf("bob: %v, %v; a failover logs nobody out", s.User, err)
	}
}

// Nobody asks for the session by way of the server that ended it.
func TestAnEndIsMadeAgainByEveryServerThatKnowsIt(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error{
		"Logout": func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			return m.Logout(ctx, s.Token)
		},
		"RevokeUser": func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			_, err := m.RevokeUser(ctx, s.User, roam.Revoked)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair()
				dying, other := manager(t, p, nil), manager(t, p, nil)
				running(t, other)
				ann := login(t, dying, roam.Token{}, "ann")
				p.lag()
				if err := end(t.Context(), dying, ann); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1500 * time.Millisecond) // the other one reads the log once a second
				p.failOver()
				_, err := other.Get(t.Context(), visitor(t, ann))
				if reason(err) == "" {
					t.Errorf("the session answers again: %v", err)
				}
			})
		})
	}
}

// Without Run, RevokeUser itself finds out whom it has ended.
func TestRevokedUsersStayRevoked(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	one, two := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann")
	p.lag()
	if n, err := m.RevokeUser(t.Context(), "ann", roam.Revoked); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	p.failOver()
	for _, s := range []roam.Session[Cart]{one, two} {
		_, err := m.Get(t.Context(), visitor(t, s))
		wantReason(t, "revoked before the failover", err, roam.Revoked)
	}
}

// The log also tells of logins, which end no session.
func TestALoginIsNotMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		m := manager(t, p, nil)
		running(t, m)
		ann := login(t, m, start(t, m, "a").Token, "ann")
		time.Sleep(1500 * time.Millisecond)
		p.failOver()
		if s, err := m.Get(t.Context(), visitor(t, ann)); err != nil || s.User != "ann" {
			t.Errorf("got %q, %v; want ann", s.User, err)
		}
	})
}

func TestNothingIsServedBeforeTheEndsAreMadeAgain(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	ann, bob := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "bob")
	p.lag()
	m.Logout(t.Context(), ann.Token)
	p.failOver()
	p.failEnds = errors.New("disk full")
	for what, call := range map[string]func() error{
		"Get":    func() error { _, err := m.Get(t.Context(), visitor(t, ann)); return err },
		"Update": func() error { _, err := m.Update(t.Context(), ann.Token, put("x")); return err },
		"Login":  func() error { _, err := m.Login(t.Context(), roam.Token{}, roam.Login{User: "bob"}, nil); return err },
		"bob":    func() error { _, err := m.Get(t.Context(), visitor(t, bob)); return err },
	} {
		if err := call(); !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
			t.Errorf("%s: %v, want unavailable", what, err)
		}
	}
	p.failEnds = nil
	_, err := m.Update(t.Context(), ann.Token, put("x"))
	wantReason(t, "then", err, roam.LoggedOut)
}

func TestADeposedPrimaryIsNotBelieved(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	ann := login(t, m, roam.Token{}, "ann")
	p.failOver()
	bob := login(t, m, roam.Token{}, "bob") // only the heir has him
	p.wakeUp()
	for what, call := range map[string]func() error{
		"read":          func() error { _, err := m.Get(t.Context(), visitor(t, ann)); return err },
		"write":         func() error { _, err := m.Update(t.Context(), visitor(t, ann), put("x")); return err },
		"write in hand": func() error { _, err := m.Update(t.Context(), ann.Token, put("x")); return err },
		"start":         func() error { _, err := m.Update(t.Context(), roam.Token{}, put("x")); return err },
		"absent":        func() error { _, err := m.Get(t.Context(), visitor(t, bob)); return err },
	} {
		if err := call(); !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
			t.Errorf("%s: %v, want unavailable", what, err)
		}
	}
}

// What a write tells after the epoch changed is settled, not believed: fn does
// not run twice on it, and nothing is lost.
func TestAWriteAcrossAFailoverLandsOnce(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	s := start(t, m, "a")
	p.failOver()
	got, err := m.Update(t.Context(), s.Token, put("b"))
	if err != nil || fmt.Sprint(got.Data.Items) != "[a b]" {
		t.Errorf("got %v, %v; want [a b]", got.Data.Items, err)
	}
	if got, err := m.Get(t.Context(), visitor(t, s)); err != nil || fmt.Sprint(got.Data.Items) != "[a b]" {
		t.Errorf("stored %v, %v; want [a b]", got.Data.Items, err)
	}
}

func TestLostWritesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		var log bytes.Buffer
		m := manager(t, p, &roam.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		running(t, m)
		kept, some, overtaken := start(t, m, "a"), start(t, m, "a"), start(t, m, "a")
		p.lag()
		for range 3 {
			if _, err := m.Update(t.Context(), visitor(t, some), put("lost")); err != nil {
				t.Fatal(err)
			}
		}
		m.Update(t.Context(), overtaken.Token, put("lost"))
		gone := login(t, m, roam.Token{}, "ann")
		p.failOver()
		other := manager(t, p, nil)
		for range 3 { // the version is beyond the lost one's before anybody looks
			if _, err := other.Update(t.Context(), visitor(t, overtaken), put("new")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := m.Lost(); got != 5 {
			t.Errorf("Lost() = %d, want 5: three updates, one that others overtook, and a login\n%s", got, &log)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "writes=5") {
			t.Errorf("the log does not tell:\n%s", &log)
		}
		for _, s := range []roam.Session[Cart]{kept, some, overtaken} {
			if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
				t.Errorf("logged out by a failover: %v", err)
			}
		}
		_, err := m.Get(t.Context(), visitor(t, gone))
		wantReason(t, "a login that is gone", err, roam.Missing)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := m.Lost(); got != 5 {
			t.Errorf("a minute later: Lost() = %d, want still 5", got)
		}
	})
}

func TestALostWriteWhoseAnswerWasLostTooIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		wire := &probe{Store: p}
		m := manager(t, wire, nil)
		running(t, m)
		s := start(t, m, "a")
		p.lag()
		wire.hooks(nil, func(method string) error {
			if method == "Update" {
				return errLost
			}
			return nil
		})
		if _, err := m.Update(t.Context(), s.Token, put("lost")); err != nil {
			t.Fatal(err)
		}
		wire.hooks(nil, nil)
		p.failOver()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := m.Lost(); got != 1 {
			t.Errorf("Lost() = %d, want 1", got)
		}
	})
}

// A try that may have landed is not forgotten because the next one could not
// be made.
func TestAnEndThatMayHaveLandedIsNotDenied(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	ann := login(t, m, roam.Token{}, "ann")
	for what, end := range map[string]func() error{
		"Logout":     func() error { return m.Logout(t.Context(), visitor(t, ann)) },
		"Revoke":     func() error { return m.Revoke(t.Context(), ann.ID, roam.Revoked) },
		"RevokeUser": func() error { _, err := m.RevokeUser(t.Context(), "ann", roam.Revoked); return err },
	} {
		tries := 0
		p.hooks(func(method string) error {
			if method != "End" && method != "EndUser" {
				return nil
			}
			if tries++; tries > 1 {
				return fmt.Errorf("%w: down", roam.ErrUnavailable)
			}
			return errLost
		}, nil)
		if err := end(); !errors.Is(err, roam.ErrUnknown) || !errors.Is(err, roam.ErrUnavailable) {
			t.Errorf("%s: %v, want unknown", what, err)
		}
		tries = 1
		if err := end(); errors.Is(err, roam.ErrUnknown) || !errors.Is(err, roam.ErrUnavailable) {
			t.Errorf("%s that was never sent: %v, want unavailable", what, err)
		}
	}
}

// An outage is told once, and its end.
func TestRunTellsOfAnOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		var log bytes.Buffer
		m := manager(t, p, &roam.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		running(t, m)
		p.hooks(func(string) error { return errLost }, nil)
		time.Sleep(10 * time.Second)
		p.hooks(nil, nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("%d lines, want 2:\n%s", got, &log)
		}
	})
}

// Law 15.

func TestUpgradeBringsOldDataIntoTheNewForm(t *testing.T) {
	store := roam.NewMemStore()
	old := manager(t, store, nil)
	s := start(t, old, "tea")

	type Basket struct {
		Items  []string       `json:"items,omitempty"` // for programs that know no amounts
		Amount map[string]int `json:"amount,omitempty"`
	}
	var given []string
	next, err := roam.New[Basket](store, &roam.Options{Upgrade: func(stored []byte) ([]byte, error) {
		given = append(given, string(stored))
		if bytes.Contains(stored, []byte("amount")) {
			return stored, nil
		}
		if bytes.Contains(stored, []byte("broken")) {
			return nil, errors.New("no such item")
		}
		return append(stored[:len(stored)-1], `,"amount":{"tea":1}}`...), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := next.Get(t.Context(), visitor(t, s))
	if err != nil || got.Data.Amount["tea"] != 1 {
		t.Fatalf("read by the newer program: %+v, %v", got.Data, err)
	}
	if rec := records(t, store)[0]; string(rec.Data) != `{"items":["tea"]}` {
		t.Errorf("reading has changed the record: %s", rec.Data)
	}
	if _, err := next.Update(t.Context(), visitor(t, s), func(b *Basket) error {
		b.Items, b.Amount["cup"] = append(b.Items, "cup"), 2
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// And back: the older one changes what it knows and keeps the rest.
	if _, err := old.Update(t.Context(), visitor(t, s), put("pot")); err != nil {
		t.Fatal(err)
	}
	got, err = next.Get(t.Context(), visitor(t, s))
	if err != nil || got.Data.Amount["cup"] != 2 || len(got.Data.Items) != 3 {
		t.Errorf("after going back and forth: %+v, %v", got.Data, err)
	}
	if len(given) != 3 {
		t.Errorf("Upgrade ran %d times for 3 decodes: %q", len(given), given)
	}
	broken := start(t, old, "broken")
	if _, err := next.Get(t.Context(), visitor(t, broken)); !errors.Is(err, roam.ErrUndecodable) || !strings.Contains(err.Error(), "no such item") {
		t.Errorf("an Upgrade that fails: %v", err)
	}
}

// What Upgrade takes out stays out; only what it leaves and T does not know is
// kept for newer programs.
func TestAnUpdateWritesTheUpgradedForm(t *testing.T) {
	store := roam.NewMemStore()
	type Old struct {
		Cart
		Legacy int `json:"legacy"`
	}
	old, err := roam.New[Old](store, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := old.Update(t.Context(), roam.Token{}, func(o *Old) error { o.Legacy = 7; return nil })
	if err != nil {
		t.Fatal(err)
	}
	m := manager(t, store, &roam.Options{Upgrade: func(stored []byte) ([]byte, error) {
		return bytes.ReplaceAll(stored, []byte(`"legacy"`), []byte(`"newer"`)), nil
	}})
	tok, _ := roam.ParseToken(s.Token.Reveal())
	if _, err := m.Update(t.Context(), tok, put("tea")); err != nil {
		t.Fatal(err)
	}
	if got, want := string(records(t, store)[0].Data), `{"items":["tea"],"newer":7}`; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}
