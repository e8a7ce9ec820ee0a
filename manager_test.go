package roam_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

type Cart struct {
	Items []string `json:"items,omitempty"`
}

func put(item string) func(*Cart) error {
	return func(c *Cart) error { c.Items = append(c.Items, item); return nil }
}

func manager(t *testing.T, store roam.Store, opts *roam.Options) *roam.Manager[Cart] {
	t.Helper()
	m, err := roam.New[Cart](store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// start returns a guest with an item in the cart.
func start(t *testing.T, m *roam.Manager[Cart], item string) roam.Session[Cart] {
	t.Helper()
	s, err := m.Update(t.Context(), roam.Token{}, put(item))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func login(t *testing.T, m *roam.Manager[Cart], tok roam.Token, user string) roam.Session[Cart] {
	t.Helper()
	s, err := m.Login(t.Context(), tok, roam.Login{User: user}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// visitor returns the token as it comes back from a browser: without the
// record in hand, and without the secret's text.
func visitor(t *testing.T, s roam.Session[Cart]) roam.Token {
	t.Helper()
	tok, err := roam.ParseToken(s.Token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func reason(err error) roam.Reason {
	var ended *roam.EndedError
	if errors.As(err, &ended) {
		return ended.Reason
	}
	return ""
}

func wantReason(t *testing.T, what string, err error, want roam.Reason) {
	t.Helper()
	if reason(err) != want || !errors.Is(err, roam.ErrEnded) {
		t.Errorf("%s: %v, want ended: %s", what, err, want)
	}
}

func records(t *testing.T, store roam.Store) (recs []roam.Record) {
	t.Helper()
	for r, err := range store.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	return recs
}

// A probe is a Store that counts what reaches the store behind it, and lets a
// test act before or after a call.
type probe struct {
	roam.Store
	loads, inserts, updates, ends atomic.Int64
	touched                       atomic.Int64

	mu     sync.Mutex
	before func(method string) error // nil: nothing; an error: the call is not made
	after  func(method string) error // an error: the call was made, and its reply is lost
}

func newProbe() *probe { return &probe{Store: roam.NewMemStore()} }

func (p *probe) hooks(before, after func(string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

func (p *probe) around(method string, n *atomic.Int64, call func() error) error {
	p.mu.Lock()
	before, after := p.before, p.after
	p.mu.Unlock()
	n.Add(1)
	if before != nil {
		if err := before(method); err != nil {
			return err
		}
	}
	err := call()
	if after != nil && err == nil {
		err = after(method)
	}
	return err
}

func (p *probe) Load(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	err = p.around("Load", &p.loads, func() error { rec, err = p.Store.Load(ctx, id, want); return err })
	return rec, err
}

func (p *probe) Insert(ctx context.Context, r roam.Record) (rec roam.Record, err error) {
	err = p.around("Insert", &p.inserts, func() error { rec, err = p.Store.Insert(ctx, r); return err })
	return rec, err
}

func (p *probe) Update(ctx context.Context, r roam.Record) (rec roam.Record, err error) {
	err = p.around("Update", &p.updates, func() error { rec, err = p.Store.Update(ctx, r); return err })
	return rec, err
}

func (p *probe) Touch(ctx context.Context, seen []roam.Touch) error {
	p.touched.Add(int64(len(seen)) - 1)
	return p.around("Touch", &p.touched, func() error { return p.Store.Touch(ctx, seen) })
}

func (p *probe) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	return p.around("End", &p.ends, func() error { return p.Store.End(ctx, id, why) })
}

func (p *probe) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (n int, err error) {
	err = p.around("EndUser", &p.ends, func() error { n, err = p.Store.EndUser(ctx, user, why, except...); return err })
	return n, err
}

func (p *probe) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	if err := p.around("List", &p.loads, func() error { return nil }); err != nil {
		return func(yield func(roam.Record, error) bool) { yield(roam.Record{}, err) }
	}
	return p.Store.List(ctx, user)
}

func (p *probe) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	err = p.around("Ends", new(atomic.Int64), func() error { log, err = p.Store.Ends(ctx, after); return err })
	return log, err
}

func (p *probe) calls() int64 {
	return p.loads.Load() + p.inserts.Load() + p.updates.Load() + p.ends.Load() + p.touched.Load()
}

var errLost = errors.New("connection reset by peer")

// Law 1.

func TestParallelUpdatesAreAllKept(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	s := start(t, m, "first")
	var wg sync.WaitGroup
	for i := range 32 {
		m := manager(t, store, nil) // as many servers, that they race at the store
		wg.Go(func() {
			if _, err := m.Update(t.Context(), visitor(t, s), put(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := m.Get(t.Context(), visitor(t, s))
	if err != nil || len(got.Data.Items) != 33 {
		t.Errorf("%d items, %v; want 33", len(got.Data.Items), err)
	}
}

func TestUpdateRunsAgainOnNewData(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := start(t, m, "a")
	other := manager(t, p.Store, nil)
	var once sync.Once
	p.hooks(func(method string) error {
		if method == "Update" {
			once.Do(func() { other.Update(t.Context(), visitor(t, s), put("b")) })
		}
		return nil
	}, nil)
	var saw [][]string
	got, err := m.Update(t.Context(), s.Token, func(c *Cart) error {
		saw = append(saw, slices.Clone(c.Items))
		return put("c")(c)
	})
	if err != nil || !slices.Equal(got.Data.Items, []string{"a", "b", "c"}) {
		t.Errorf("got %v, %v; want [a b c]", got.Data.Items, err)
	}
	if fmt.Sprint(saw) != "[[a] [a b]]" {
		t.Errorf("fn saw %v, want [[a] [a b]]", saw)
	}
}

func TestUpdateWithTheRecordInHandIsOneTrip(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := start(t, m, "a")
	before := p.calls()
	if _, err := m.Update(t.Context(), s.Token, put("b")); err != nil {
		t.Fatal(err)
	}
	if n := p.calls() - before; n != 1 {
		t.Errorf("%d trips, want 1", n)
	}
}

func TestUpdateGivesUpWithAClearError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		p.hooks(func(method string) error {
			if method == "Update" {
				return roam.ErrConflict
			}
			return nil
		}, nil)
		_, err := m.Update(t.Context(), s.Token, put("b"))
		if !errors.Is(err, roam.ErrConflict) || !strings.Contains(err.Error(), "100 tries") {
			t.Errorf("got %v, want ErrConflict after 100 tries", err)
		}
	})
}

func TestUnchangedDataIsNotWritten(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := start(t, m, "a")
	got, err := m.Update(t.Context(), visitor(t, s), func(*Cart) error { return nil })
	if err != nil || got.ID != s.ID || p.updates.Load() != 0 {
		t.Errorf("got %v, %v, %d writes; want the session, nil, 0", got.ID, err, p.updates.Load())
	}
}

func TestFailedFnWritesNothing(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := start(t, m, "a")
	no := errors.New("no")
	for _, tok := range []roam.Token{s.Token, {}} {
		if _, err := m.Update(t.Context(), tok, func(c *Cart) error { c.Items = nil; return no }); err != no {
			t.Errorf("Update: %v, want fn's own error", err)
		}
	}
	if _, err := m.Login(t.Context(), s.Token, roam.Login{User: "ann"}, func(*Cart) error { return no }); err != no {
		t.Errorf("Login: %v, want fn's own error", err)
	}
	if got, err := m.Get(t.Context(), visitor(t, s)); err != nil || got.User != "" || len(got.Data.Items) != 1 || p.inserts.Load() != 1 {
		t.Errorf("after: %+v, %v, %d inserts", got, err, p.inserts.Load())
	}
}

func TestFatDataIsRefused(t *testing.T) {
	m := manager(t, roam.NewMemStore(), &roam.Options{MaxData: 100})
	s := start(t, m, "a")
	fat := put(strings.Repeat("x", 100))
	for name, tok := range map[string]roam.Token{"update": s.Token, "start": {}} {
		_, err := m.Update(t.Context(), tok, fat)
		if !errors.Is(err, roam.ErrTooLarge) || !strings.Contains(err.Error(), "MaxData is 100") {
			t.Errorf("%s: %v, want ErrTooLarge that names the limit", name, err)
		}
	}
	if got, err := m.Get(t.Context(), visitor(t, s)); err != nil || len(got.Data.Items) != 1 {
		t.Errorf("after: %v, %v", got.Data, err)
	}
}

// Law 2.

func TestLogoutIsNotUndoneByAnUpdateInFlight(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s := login(t, m, start(t, m, "a").Token, "ann")
	_, err := m.Update(t.Context(), s.Token, func(c *Cart) error {
		if err := m.Logout(t.Context(), visitor(t, s)); err != nil {
			t.Error(err)
		}
		return put("late")(c)
	})
	wantReason(t, "Update", err, roam.LoggedOut)
	_, err = m.Get(t.Context(), visitor(t, s))
	wantReason(t, "Get", err, roam.LoggedOut)
}

func TestUpdateNeverBringsBackWhatWasPruned(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	s := start(t, m, "a")
	m.Logout(t.Context(), s.Token)
	if n, err := store.Prune(t.Context(), 0, 10); n != 1 || err != nil {
		t.Fatalf("Prune = %d, %v", n, err)
	}
	_, err := m.Update(t.Context(), s.Token, put("late")) // with the record in hand
	wantReason(t, "Update", err, roam.Missing)
	if n := len(records(t, store)); n != 0 {
		t.Errorf("%d records, want none", n)
	}
}

func TestEveryEndTellsItsReason(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	ctx := t.Context()
	for want, end := range map[roam.Reason]func(s roam.Session[Cart]) error{
		roam.LoggedOut: func(s roam.Session[Cart]) error { return m.Logout(ctx, visitor(t, s)) },
		roam.Revoked:   func(s roam.Session[Cart]) error { return m.Revoke(ctx, s.ID, roam.Revoked) },
		roam.PasswordChanged: func(s roam.Session[Cart]) error {
			_, err := m.RevokeUser(ctx, s.User, roam.PasswordChanged)
			return err
		},
		roam.Replaced: func(s roam.Session[Cart]) error { login(t, m, visitor(t, s), "bob"); return nil },
		roam.Rotated:  func(s roam.Session[Cart]) error { login(t, m, visitor(t, s), s.User); return nil },
		"stolen":      func(s roam.Session[Cart]) error { return m.Revoke(ctx, s.ID, "stolen") },
	} {
		s := login(t, m, roam.Token{}, "user of "+string(want))
		if err := end(s); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		_, err := m.Get(ctx, visitor(t, s))
		wantReason(t, "Get", err, want)
		_, err = m.Update(ctx, s.Token, put("x"))
		wantReason(t, "Update", err, want)
	}
	for _, bad := range []roam.Reason{"", roam.Idle, roam.Lifetime, roam.Rotated, roam.Forged, roam.Missing, "\xff", "\x00", roam.Reason(strings.Repeat("x", 65))} {
		s := login(t, m, roam.Token{}, "ann")
		_, err := m.RevokeUser(ctx, "ann", bad)
		if err == nil || m.Revoke(ctx, s.ID, bad) == nil || m.RevokeOwn(ctx, s.Token, s.ID, bad) == nil {
			t.Errorf("reason %q was accepted", bad)
		}
	}
	if _, err := m.RevokeUser(ctx, "", roam.Revoked); err == nil {
		t.Error("RevokeUser of nobody: no error")
	}
}

func TestLogoutOfAnEndedSessionIsNoError(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s := login(t, m, roam.Token{}, "ann")
	for range 2 {
		if err := m.Logout(t.Context(), visitor(t, s)); err != nil {
			t.Error(err)
		}
	}
	if err := m.Logout(t.Context(), roam.Token{}); err != nil {
		t.Error(err)
	}
}

func TestLogoutWithAnOldSecretDoesNotClaimTheEnd(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	guest := start(t, m, "a")
	s := login(t, m, guest.Token, "ann")
	wantReason(t, "Logout", m.Logout(t.Context(), visitor(t, guest)), roam.Rotated)
	if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
		t.Errorf("the newer login: %v", err)
	}
}

func TestLogoutNeedsTheSecret(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s, other := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "eve")
	if err := m.Logout(t.Context(), forge(t, s.ID, other)); err != nil {
		t.Error(err)
	}
	if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
		t.Errorf("ended by a forged token: %v", err)
	}
}

func TestLogoutGoesOnWhenTheBrowserLeaves(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := login(t, m, roam.Token{}, "ann")
	for _, at := range []string{"Load", "End"} {
		s := login(t, m, s.Token, "ann")
		ctx, cancel := context.WithCancel(t.Context())
		p.hooks(func(method string) error {
			if method == at {
				cancel()
			}
			return nil
		}, nil)
		if err := m.Logout(ctx, visitor(t, s)); err != nil {
			t.Errorf("left at %s: %v", at, err)
		}
		p.hooks(nil, nil)
		_, err := m.Get(t.Context(), visitor(t, s))
		wantReason(t, "Get", err, roam.LoggedOut)
	}
}

func TestRevokeOwnEndsOnlyTheUsersOwn(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	ctx := t.Context()
	ann, phone := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann")
	bob, guest := login(t, m, roam.Token{}, "bob"), start(t, m, "a")
	wantReason(t, "bob's", m.RevokeOwn(ctx, visitor(t, ann), bob.ID, roam.LoggedOut), roam.Missing)
	wantReason(t, "a guest's", m.RevokeOwn(ctx, visitor(t, ann), guest.ID, roam.LoggedOut), roam.Missing)
	wantReason(t, "as a guest", m.RevokeOwn(ctx, visitor(t, guest), start(t, m, "b").ID, roam.LoggedOut), roam.Missing)
	if err := m.RevokeOwn(ctx, visitor(t, ann), phone.ID, roam.LoggedOut); err != nil {
		t.Error(err)
	}
	_, err := m.Get(ctx, visitor(t, phone))
	wantReason(t, "phone", err, roam.LoggedOut)
	for _, s := range []roam.Session[Cart]{ann, bob, guest} {
		if _, err := m.Get(ctx, visitor(t, s)); err != nil {
			t.Error(err)
		}
	}
}

func TestListShowsTheLivingAndOpensNone(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	first, second, gone := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann")
	login(t, m, roam.Token{}, "bob")
	start(t, m, "a")
	m.Logout(t.Context(), gone.Token)
	var ids []roam.ID
	for s, err := range m.List(t.Context(), "ann") {
		if err != nil {
			t.Error(err)
		}
		_, err = m.Get(t.Context(), s.Token)
		wantReason(t, "Get with a listed token", err, roam.Forged)
		_, err = m.Update(t.Context(), s.Token, put("x"))
		wantReason(t, "Update with a listed token", err, roam.Forged)
		ids = append(ids, s.ID)
	}
	if !slices.Equal(ids, []roam.ID{second.ID, first.ID}) {
		t.Errorf("List(ann) = %v, want the second login, then the first", ids)
	}
	for s := range m.List(t.Context(), "") {
		t.Errorf("List of nobody yields %v", s.ID)
	}
}

func TestSessionsPerUser(t *testing.T) {
	store := roam.NewMemStore()
	var managers []*roam.Manager[Cart]
	for range 3 {
		managers = append(managers, manager(t, store, &roam.Options{SessionsPerUser: 3}))
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { login(t, managers[i%3], roam.Token{}, "ann") })
	}
	wg.Wait()
	n := 0
	for range managers[0].List(t.Context(), "ann") {
		n++
	}
	if n != 3 {
		t.Errorf("%d sessions live, want exactly 3", n)
	}
	over := 0
	for _, r := range records(t, store) {
		if r.Why == roam.OverLimit {
			over++
		}
	}
	if over != 47 {
		t.Errorf("%d ended as %q, want 47", over, roam.OverLimit)
	}
	// The newest stay, whoever comes and goes.
	m := managers[0]
	for s := range m.List(t.Context(), "ann") {
		m.Revoke(t.Context(), s.ID, roam.Revoked)
	}
	var last []roam.ID
	for range 4 {
		last = append(last, login(t, m, roam.Token{}, "ann").ID)
	}
	var live []roam.ID
	for s := range m.List(t.Context(), "ann") {
		live = append(live, s.ID)
	}
	if want := []roam.ID{last[3], last[2], last[1]}; !slices.Equal(live, want) {
		t.Errorf("live are %v, want the newest: %v", live, want)
	}
}

// Law 4.

func TestAnOutageIsNoLogout(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	ctx := t.Context()
	s := login(t, m, roam.Token{}, "ann")
	p.hooks(func(string) error { return errLost }, nil)
	for name, call := range map[string]func() error{
		"Get":        func() error { _, err := m.Get(ctx, visitor(t, s)); return err },
		"Update":     func() error { _, err := m.Update(ctx, visitor(t, s), put("x")); return err },
		"Start":      func() error { _, err := m.Update(ctx, roam.Token{}, put("x")); return err },
		"Login":      func() error { _, err := m.Login(ctx, roam.Token{}, roam.Login{User: "ann"}, nil); return err },
		"Relogin":    func() error { _, err := m.Login(ctx, visitor(t, s), roam.Login{User: "ann"}, nil); return err },
		"Logout":     func() error { return m.Logout(ctx, visitor(t, s)) },
		"Revoke":     func() error { return m.Revoke(ctx, s.ID, roam.Revoked) },
		"RevokeUser": func() error { _, err := m.RevokeUser(ctx, "ann", roam.Revoked); return err },
		"List": func() error {
			for _, err := range m.List(ctx, "ann") {
				return err
			}
			return nil
		},
	} {
		if err := call(); !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	p.hooks(nil, nil)
	if got, err := m.Get(ctx, visitor(t, s)); err != nil || got.User != "ann" {
		t.Errorf("after the outage: %v, %v", got.User, err)
	}
}

func TestAnAnswerForAnotherSessionIsRefused(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	ann, bob := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "bob")
	if err := manager(t, crossed{p.Store, ann.ID}, nil).RevokeOwn(t.Context(), visitor(t, ann), bob.ID, roam.Revoked); !errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("RevokeOwn: %v, want ErrUnavailable", err)
	}
	if _, err := m.Get(t.Context(), visitor(t, bob)); err != nil {
		t.Errorf("ann ended bob's session: %v", err)
	}
	if _, err := manager(t, swapped{p.Store, bob.ID}, nil).Update(t.Context(), ann.Token, put("x")); !errors.Is(err, roam.ErrUnknown) {
		t.Errorf("Update: %v, want ErrUnknown", err)
	}
	if s, err := manager(t, crossed{p.Store, bob.ID}, nil).Get(t.Context(), visitor(t, ann)); !errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got %v, %v; want ErrUnavailable", s.User, err)
	}
}

// crossed answers every Load with one record, as a connection would that kept
// the reply of a cancelled request.
type crossed struct {
	roam.Store
	id roam.ID
}

func (c crossed) Load(ctx context.Context, _ roam.ID, want roam.Want) (roam.Record, error) {
	return c.Store.Load(ctx, c.id, want)
}

// swapped answers every Update with another session's record.
type swapped struct {
	roam.Store
	id roam.ID
}

func (s swapped) Update(ctx context.Context, r roam.Record) (roam.Record, error) {
	s.Store.Update(ctx, r)
	return s.Store.Load(ctx, s.id, roam.Want{})
}

// Law 5.

// The record in hand may be old. Only a swap or a fresh read decides.
func TestARecordInHandDecidesNothing(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	ctx := t.Context()
	revoked := login(t, m, roam.Token{}, "ann")
	m.Revoke(ctx, revoked.ID, roam.Revoked)
	_, err := m.Update(ctx, revoked.Token, func(*Cart) error { return nil })
	wantReason(t, "an update that changes nothing", err, roam.Revoked)
	_, err = m.Update(ctx, revoked.Token, func(*Cart) error { return errLost })
	wantReason(t, "an update that fails", err, roam.Revoked)

	fat := login(t, manager(t, store, &roam.Options{MaxData: 200}), roam.Token{}, "ann")
	fat, err = manager(t, store, nil).Update(ctx, fat.Token, put(strings.Repeat("x", 150)))
	if err != nil {
		t.Fatal(err)
	}
	manager(t, store, nil).Update(ctx, visitor(t, login(t, m, fat.Token, "ann")), func(c *Cart) error { c.Items = nil; return nil })
	_, err = manager(t, store, &roam.Options{MaxData: 200}).Update(ctx, fat.Token, put(strings.Repeat("x", 100)))
	wantReason(t, "an update too large for the old data only", err, roam.Rotated)

	old := login(t, m, roam.Token{}, "ann")
	newer := login(t, m, visitor(t, old), "ann")
	login(t, m, old.Token, "bob")
	if _, err := m.Get(ctx, visitor(t, newer)); err != nil {
		t.Errorf("a login with a dead token ended the newer session: %v", err)
	}
}

// What the application's function returns says nothing about the session.
func TestAnErrorOfFnIsNotTheSessions(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	s := login(t, m, start(t, m, "a").Token, "ann")
	web := website(t, m, nil)
	lookup := &roam.EndedError{ID: s.ID, Reason: roam.Missing}
	runs := 0
	fails := func(*Cart) error {
		if runs++; runs > 1 {
			return errors.New("fn ran again")
		}
		return lookup
	}
	w := httptest.NewRecorder()
	if _, err := web.Update(w, with(web, s), fails); err != lookup || w.Header()["Set-Cookie"] != nil {
		t.Errorf("Web.Update: %v, sets %q; want fn's error and no cookie", err, w.Header()["Set-Cookie"])
	}
	runs = 0
	if _, err := m.Update(t.Context(), visitor(t, s), fails); err != lookup {
		t.Errorf("Update: %v, want fn's error", err)
	}
	runs = 0
	if _, err := m.Login(t.Context(), visitor(t, s), roam.Login{User: "ann"}, fails); err != lookup || len(records(t, store)) != 1 {
		t.Errorf("Login: %v with %d records, want fn's error and 1", err, len(records(t, store)))
	}
	runs = 0
	if _, err := m.Login(t.Context(), roam.Token{}, roam.Login{User: "ann"}, fails); err != lookup {
		t.Errorf("first Login: %v, want fn's error", err)
	}
	if got, err := m.Get(t.Context(), visitor(t, s)); err != nil || len(got.Data.Items) != 1 {
		t.Errorf("after: %v, %v", got.Data, err)
	}
}

func TestALoginSetsWhatIsTheLogins(t *testing.T) {
	m := manager(t, roam.NewMemStore(), &roam.Options{IdleTimeout: time.Hour, Lifetime: 2 * time.Hour})
	phone, laptop := roam.Client{Agent: "phone"}, roam.Client{Agent: "laptop"}
	day := 24 * time.Hour
	in := roam.Login{User: "ann", Level: 1, From: phone, Persist: 30 * day}
	for name, tok := range map[string]roam.Token{"new": {}, "guest": start(t, m, "a").Token} {
		s, err := m.Login(t.Context(), tok, in, nil)
		if err != nil || s.Level != 1 || s.From != phone || s.Expires.Sub(s.LoggedIn) != 30*day {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		s, err = m.Login(t.Context(), s.Token, roam.Login{User: "ann", Level: 2, From: laptop}, nil)
		if err != nil || s.Level != 2 || s.From != laptop || s.Expires.Sub(s.Seen) != time.Hour {
			t.Errorf("%s, again: %+v, %v", name, s, err)
		}
		got, err := m.Get(t.Context(), visitor(t, s))
		if err != nil || got.Level != 2 || got.From != laptop || got.User != "ann" || got.Now.Before(got.LoggedIn) {
			t.Errorf("%s, read: %+v, %v", name, got, err)
		}
	}
}

func TestLoginHasANewSecretAndKeepsTheCart(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	guest := start(t, m, "tea")
	ann := login(t, m, visitor(t, guest), "ann")
	if ann.ID != guest.ID || ann.User != "ann" || !slices.Equal(ann.Data.Items, []string{"tea"}) {
		t.Errorf("Login = %+v; want the same session, ann's, with tea", ann)
	}
	if ann.Token.Equal(guest.Token) || ann.Token.Reveal() == guest.Token.Reveal() {
		t.Error("the secret is the old one")
	}
	if ann.LoggedIn.Before(ann.Created) || ann.LoggedIn.After(ann.Seen) {
		t.Errorf("LoggedIn %v is not between Created %v and Seen %v", ann.LoggedIn, ann.Created, ann.Seen)
	}
	_, err := m.Get(t.Context(), visitor(t, guest))
	wantReason(t, "the old token", err, roam.Rotated)
	again := login(t, m, visitor(t, ann), "ann")
	if again.ID != ann.ID || len(again.Data.Items) != 1 {
		t.Errorf("second login of the same user: %+v", again)
	}
	_, err = m.Get(t.Context(), visitor(t, ann))
	wantReason(t, "the token between", err, roam.Rotated)
	_, err = m.Get(t.Context(), visitor(t, guest))
	wantReason(t, "the token before both", err, roam.Forged)
}

func TestAnotherUsersLoginCarriesNothingOver(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	ann := login(t, m, start(t, m, "ann's").Token, "ann")
	bob, err := m.Login(t.Context(), visitor(t, ann), roam.Login{User: "bob"}, put("bob's"))
	if err != nil || bob.ID == ann.ID || !slices.Equal(bob.Data.Items, []string{"bob's"}) {
		t.Errorf("Login = %+v, %v; want a new session without ann's", bob, err)
	}
	_, err = m.Get(t.Context(), visitor(t, ann))
	wantReason(t, "ann's", err, roam.Replaced)
}

func TestALoginRacingUpdatesLosesNone(t *testing.T) {
	for range 50 {
		m := manager(t, roam.NewMemStore(), nil)
		guest := start(t, m, "first")
		var wg sync.WaitGroup
		var acked atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				switch _, err := m.Update(t.Context(), visitor(t, guest), put(fmt.Sprint(i))); reason(err) {
				case "":
					acked.Add(1)
				case roam.Rotated: // came after the login, and was told so
				default:
					t.Error(err)
				}
			})
		}
		var ann roam.Session[Cart]
		wg.Go(func() { ann = login(t, m, visitor(t, guest), "ann") })
		wg.Wait()
		if got, err := m.Get(t.Context(), ann.Token); err != nil || int64(len(got.Data.Items)) != acked.Load()+1 {
			t.Fatalf("%d items, %v; %d updates were acknowledged", len(got.Data.Items), err, acked.Load())
		}
	}
}

func TestTwoLoginsSentAtOnceEndInOneSession(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	guest := start(t, m, "tea")
	first := login(t, m, visitor(t, guest), "ann")
	second := login(t, m, visitor(t, guest), "ann") // the form was sent twice, with the same cookie
	if second.ID != first.ID || len(second.Data.Items) != 1 || len(records(t, store)) != 1 {
		t.Errorf("second login: %+v; want the same session with its tea", second)
	}
	_, err := m.Get(t.Context(), visitor(t, first))
	wantReason(t, "the first answer's token", err, roam.Forged)
	third := login(t, m, visitor(t, guest), "ann")
	if third.ID != first.ID || len(third.Data.Items) != 1 {
		t.Errorf("third login: %+v; want the same session with its tea", third)
	}
	eve := login(t, m, visitor(t, guest), "eve") // but an old secret gives nobody else anything
	if eve.ID == first.ID || len(eve.Data.Items) != 0 {
		t.Errorf("eve got %+v", eve)
	}
	if _, err := m.Get(t.Context(), visitor(t, third)); err != nil {
		t.Errorf("ann was logged out by eve's login: %v", err)
	}
}

func TestLoginIsChecked(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	for _, in := range []roam.Login{
		{}, {User: strings.Repeat("x", 256)}, {User: "a\xff"},
		{User: "a\x00b"}, {User: "ann", Persist: -1}, {User: "ann", Persist: 401 * 24 * time.Hour},
	} {
		if _, err := m.Login(t.Context(), roam.Token{}, in, nil); err == nil {
			t.Errorf("Login(%+v): no error", in)
		}
	}
}

// Laws 7 and 8, in simulated time.

func TestUseIsNotedOncePerWindow(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("run=%v", running), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProbe()
				m := manager(t, p, &roam.Options{IdleTimeout: 10 * time.Minute}) // window: 30 s
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				if running {
					go func() { done <- m.Run(ctx) }()
				} else {
					done <- nil
				}
				s := start(t, m, "a")
				tok := visitor(t, s)
				p.hooks(func(method string) error {
					if method == "Touch" {
						time.Sleep(100 * time.Millisecond) // the others come while it is on its way
					}
					return nil
				}, nil)
				for range 60 { // a minute of pages, each with four parallel calls
					time.Sleep(time.Second)
					var wg sync.WaitGroup
					for range 4 {
						wg.Go(func() {
							if _, err := m.Get(t.Context(), tok); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
				}
				time.Sleep(2 * time.Second)
				if n := p.touched.Load(); n != 2 {
					t.Errorf("%d touches in a minute, want 2", n)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				rec, _ := p.Store.Load(t.Context(), s.ID, roam.Want{})
				if rec.Version != 1 || rec.Seen.Sub(rec.Created) < 55*time.Second {
					t.Errorf("version %d, seen %v after the start; want 1, about a minute", rec.Version, rec.Seen.Sub(rec.Created))
				}
			})
		})
	}
}

// A touch that could not be written is due again, also if it failed because
// the browser left.
func TestAFailedTouchIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		time.Sleep(30 * time.Minute)
		p.hooks(func(method string) error {
			if method == "Touch" {
				return errLost
			}
			return nil
		}, nil)
		m.Get(t.Context(), visitor(t, s))
		p.hooks(nil, nil)
		time.Sleep(time.Second)
		ctx, leave := context.WithCancel(t.Context())
		p.hooks(nil, func(method string) error {
			if method == "Load" {
				leave()
			}
			return nil
		})
		m.Get(ctx, visitor(t, s))
		time.Sleep(50 * time.Minute)
		if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
			t.Errorf("used 50 minutes ago, with an idle timeout of an hour: %v", err)
		}
	})
}

func TestRunWritesTheLastTouchesWhenItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		time.Sleep(10 * time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		if err := m.Run(t.Context()); err == nil {
			t.Error("a second Run: no error")
		}
		m.Get(t.Context(), visitor(t, s))
		if p.touched.Load() != 0 {
			t.Error("Get wrote the touch itself while Run runs")
		}
		stop()
		if err := <-done; err != nil || p.touched.Load() != 1 {
			t.Errorf("Run: %v, %d touches; want nil, 1", err, p.touched.Load())
		}
		if rec, _ := p.Store.Load(t.Context(), s.ID, roam.Want{}); rec.Seen.Sub(rec.Created) != 10*time.Minute {
			t.Errorf("seen %v after the start, want 10m", rec.Seen.Sub(rec.Created))
		}
	})
}

func TestTouchesOutliveAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(30*time.Minute + time.Millisecond)
		p.hooks(func(method string) error {
			if method == "Touch" {
				return errLost
			}
			return nil
		}, nil)
		m.Get(t.Context(), visitor(t, s))
		time.Sleep(5 * time.Second)
		p.hooks(nil, nil)
		time.Sleep(2 * time.Second)
		stop()
		<-done
		rec, _ := p.Store.Load(t.Context(), s.ID, roam.Want{})
		if got := rec.Seen.Sub(rec.Created).Round(time.Second); got != 30*time.Minute {
			t.Errorf("seen %v after the start, want 30m: when it was used, not when it was written", got)
		}
	})
}

func TestATouchNeverConflictsWithAnUpdate(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	s := start(t, m, "a")
	if _, err := m.Update(t.Context(), s.Token, func(c *Cart) error {
		store.Touch(t.Context(), []roam.Touch{{ID: s.ID, At: time.Now()}})
		return put("b")(c)
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.Get(t.Context(), s.Token); len(got.Data.Items) != 2 {
		t.Errorf("items %v", got.Data.Items)
	}
}

func TestLimitsAreJudgedOnEveryLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		m := manager(t, store, &roam.Options{IdleTimeout: time.Hour, Lifetime: 5 * time.Hour})
		ctx := t.Context()
		lazy, busy := start(t, m, "a"), start(t, m, "b")
		keep, err := m.Login(ctx, roam.Token{}, roam.Login{User: "ann", Persist: 365 * 24 * time.Hour}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := keep.Expires.Sub(keep.LoggedIn); got != 365*24*time.Hour {
			t.Errorf("a persistent session expires after %v, want a year", got)
		}
		for range 6 {
			time.Sleep(50 * time.Minute)
			if _, err := m.Get(ctx, visitor(t, busy)); err != nil && reason(err) != roam.Lifetime {
				t.Error(err)
			}
		}
		_, err = m.Get(ctx, visitor(t, lazy))
		wantReason(t, "not used for an hour", err, roam.Idle)
		_, err = m.Update(ctx, lazy.Token, put("x"))
		wantReason(t, "update of the idle", err, roam.Idle)
		time.Sleep(time.Second)
		_, err = m.Get(ctx, visitor(t, busy))
		wantReason(t, "used for five hours", err, roam.Lifetime)
		_, err = m.Update(ctx, busy.Token, put("x"))
		wantReason(t, "update of the old", err, roam.Lifetime)
		for s := range m.List(ctx, "ann") {
			if s.ID != keep.ID {
				t.Errorf("List shows %v", s.ID)
			}
		}
		time.Sleep(360 * 24 * time.Hour)
		if _, err := m.Get(ctx, visitor(t, keep)); err != nil {
			t.Errorf("remembered for a year, after 360 days: %v", err)
		}
		time.Sleep(5 * 24 * time.Hour)
		_, err = m.Get(ctx, visitor(t, keep))
		wantReason(t, "after a year", err, roam.Lifetime)
	})
}

func TestASessionThatStraddlesItsDeadlineIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), &roam.Options{IdleTimeout: time.Hour, Lifetime: time.Hour})
		s := start(t, m, "a")
		time.Sleep(time.Hour - time.Second)
		_, err := m.Update(t.Context(), visitor(t, s), func(c *Cart) error {
			time.Sleep(2 * time.Second) // the deadline passes in here
			return put("late")(c)
		})
		wantReason(t, "Update across the deadline", err, roam.Lifetime)
		time.Sleep(365 * 24 * time.Hour)
		if _, err := m.Get(t.Context(), visitor(t, s)); !errors.Is(err, roam.ErrEnded) {
			t.Errorf("a year later: %v", err)
		}
	})
}

// A web server whose clock is an hour off logs nobody out early and keeps
// nobody late: seen from it, the store's clock is off.
func TestTheStoresClockDecides(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, 0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := manager(t, skewed{roam.NewMemStore(), off}, &roam.Options{IdleTimeout: 10 * time.Minute, Lifetime: 30 * time.Minute})
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- m.Run(ctx) }()
			defer func() { stop(); <-done }()
			lazy, seen, busy := start(t, m, "a"), start(t, m, "b"), login(t, m, roam.Token{}, "ann")
			busy = login(t, m, busy.Token, "ann")
			for range 3 {
				time.Sleep(9 * time.Minute)
				if _, err := m.Get(t.Context(), visitor(t, seen)); err != nil {
					t.Errorf("clock off by %v: logged out early: %v", off, err)
				}
				if s, err := m.Update(t.Context(), busy.Token, put("x")); err != nil {
					t.Errorf("clock off by %v: logged out early: %v", off, err)
				} else {
					busy = s
				}
			}
			_, err := m.Get(t.Context(), visitor(t, lazy))
			wantReason(t, "kept late", err, roam.Idle)
			time.Sleep(3 * time.Minute)
			_, err = m.Get(t.Context(), visitor(t, busy))
			wantReason(t, "kept late", err, roam.Lifetime)
		})
	}
}

// skewed is a store whose clock is off.
type skewed struct {
	roam.Store
	off time.Duration
}

func (s skewed) out(r roam.Record, err error) (roam.Record, error) {
	for _, t := range []*time.Time{&r.Created, &r.LoggedIn, &r.Seen, &r.Ended, &r.Now} {
		if !t.IsZero() {
			*t = t.Add(s.off)
		}
	}
	return r, err
}

func (s skewed) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	return s.out(s.Store.Load(ctx, id, want))
}

func (s skewed) Insert(ctx context.Context, r roam.Record) (roam.Record, error) {
	return s.out(s.Store.Insert(ctx, r))
}

func (s skewed) Update(ctx context.Context, r roam.Record) (roam.Record, error) {
	if !r.LoggedIn.IsZero() {
		r.LoggedIn = r.LoggedIn.Add(-s.off)
	}
	return s.out(s.Store.Update(ctx, r))
}

func (s skewed) Touch(ctx context.Context, seen []roam.Touch) error {
	seen = slices.Clone(seen)
	for i := range seen {
		seen[i].At = seen[i].At.Add(-s.off)
	}
	return s.Store.Touch(ctx, seen)
}

func TestReloginStartsBothLimitsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), &roam.Options{IdleTimeout: time.Hour, Lifetime: 2 * time.Hour})
		s := login(t, m, roam.Token{}, "ann")
		for range 5 {
			time.Sleep(45 * time.Minute)
			s = login(t, m, visitor(t, s), "ann")
		}
		if got := s.Expires.Sub(s.LoggedIn).Round(time.Second); got != time.Hour {
			t.Errorf("expires %v after the login, want 1h", got)
		}
	})
}

func TestRunPrunesWhatEndedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		m := manager(t, store, &roam.Options{Retain: 24 * time.Hour})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		out, idle := login(t, m, roam.Token{}, "ann"), start(t, m, "a")
		m.Logout(ctx, out.Token)
		for i := range 2500 { // more than two batches
			_, err := store.Insert(ctx, roam.Record{ID: testID(i), Idle: time.Second, Lifetime: time.Second})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(23 * time.Hour)
		_, err := m.Get(ctx, visitor(t, out))
		wantReason(t, "within a day", err, roam.LoggedOut)
		_, err = m.Get(ctx, visitor(t, idle))
		wantReason(t, "within a day", err, roam.Idle)
		time.Sleep(time.Hour + 70*time.Second) // in batches of a thousand, without a pause
		if n := len(records(t, store)); n != 1 {
			t.Errorf("%d records a minute after they were due, want only the one that idled longer", n)
		}
		time.Sleep(2 * time.Hour)
		if n := len(records(t, store)); n != 0 {
			t.Errorf("%d records left after a day", n)
		}
		_, err = m.Get(ctx, visitor(t, out))
		wantReason(t, "after a day", err, roam.Missing)
		stop()
		<-done
	})
}

func testID(i int) (id roam.ID) {
	id, err := roam.ParseID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i))
	if err != nil {
		panic(err)
	}
	return id
}

// Law 9.

func TestWhatTheStoreHoldsOpensNothing(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	guest := start(t, m, "a")
	s := login(t, m, guest.Token, "ann")
	rec := records(t, store)[0]
	secret, _ := base64.RawURLEncoding.DecodeString(s.Token.Reveal())
	if strings.Contains(fmt.Sprintf("%x %x %x %x %x %x", rec.ID[:], rec.Proof[:], rec.Previous[:], rec.User, rec.Data, rec.Writes), fmt.Sprintf("%x", secret[16:])) {
		t.Error("the record holds the secret")
	}
	for name, field := range map[string]roam.Proof{"Proof": rec.Proof, "Previous": rec.Previous, "zero": {}} {
		tok, err := roam.ParseToken(base64.RawURLEncoding.EncodeToString(append(rec.ID[:], field[:]...)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Get(t.Context(), tok)
		wantReason(t, name, err, roam.Forged)
	}
}

// forge puts another session's secret behind an ID.
func forge(t *testing.T, id roam.ID, from roam.Session[Cart]) roam.Token {
	t.Helper()
	raw, _ := base64.RawURLEncoding.DecodeString(from.Token.Reveal())
	tok, err := roam.ParseToken(base64.RawURLEncoding.EncodeToString(append(id[:], raw[16:]...)))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Law 10.

func TestReadsAndTheEmptyHandedCreateNoRecord(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	ctx := t.Context()
	var raw [48]byte
	rand.Read(raw[:])
	raw[6], raw[8] = 0x40, 0x80
	unknown, err := roam.ParseToken(base64.RawURLEncoding.EncodeToString(raw[:]))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := m.Get(ctx, roam.Token{}); err != nil || !s.ID.IsZero() || p.calls() != 0 {
		t.Errorf("a first visit: %v, %v, %d store calls; want the zero session, nil, 0", s.ID, err, p.calls())
	}
	_, err = m.Get(ctx, unknown)
	wantReason(t, "Get of an unknown token", err, roam.Missing)
	_, err = m.Update(ctx, unknown, put("x"))
	wantReason(t, "Update of an unknown token", err, roam.Missing)
	if err := m.Logout(ctx, unknown); err != nil {
		t.Error(err)
	}
	if s, err := m.Update(ctx, roam.Token{}, func(c *Cart) error { c.Items = c.Items[:0]; return nil }); err != nil || !s.ID.IsZero() {
		t.Errorf("nothing put in: %v, %v; want the zero session", s.ID, err)
	}
	if n := len(records(t, p.Store)); n != 0 {
		t.Errorf("%d records", n)
	}
	s, err := m.Login(ctx, unknown, roam.Login{User: "ann"}, nil)
	if err != nil || s.ID == unknown.ID() {
		t.Errorf("Login adopted the ID %v that the visitor brought (%v)", s.ID, err)
	}
}

// Law 11.

func TestRevokeUserEndsEveryLoginThatHadReturned(t *testing.T) {
	for range 100 {
		m := manager(t, roam.NewMemStore(), nil)
		var mu sync.Mutex
		var returned []roam.Session[Cart]
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 8 {
					s := login(t, m, start(t, m, "a").Token, "ann")
					mu.Lock()
					returned = append(returned, s)
					mu.Unlock()
				}
			})
		}
		mu.Lock()
		had := slices.Clone(returned)
		mu.Unlock()
		if _, err := m.RevokeUser(t.Context(), "ann", roam.PasswordChanged); err != nil {
			t.Fatal(err)
		}
		for _, s := range had {
			_, err := m.Get(t.Context(), visitor(t, s))
			wantReason(t, "a login from before", err, roam.PasswordChanged)
		}
		wg.Wait()
		m.RevokeUser(t.Context(), "ann", roam.PasswordChanged)
		for _, s := range returned {
			_, err := m.Get(t.Context(), visitor(t, s))
			wantReason(t, "a login from before", err, roam.PasswordChanged)
		}
	}
}

func TestRevokeUserSparesWhatIsExcepted(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	here, there := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann")
	n, err := m.RevokeUser(t.Context(), "ann", roam.Revoked, here.ID)
	if n != 1 || err != nil {
		t.Errorf("RevokeUser = %d, %v; want 1, nil", n, err)
	}
	if _, err := m.Get(t.Context(), visitor(t, here)); err != nil {
		t.Error(err)
	}
	_, err = m.Get(t.Context(), visitor(t, there))
	wantReason(t, "the other", err, roam.Revoked)
}

// Law 12.

func TestSessionsAreValues(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s := start(t, m, "tea")
	a, _ := m.Get(t.Context(), s.Token)
	a.Data.Items[0] = "poison"
	a.User = "root"
	s.Data.Items[0] = "poison"
	b, _ := m.Get(t.Context(), s.Token)
	c, _ := m.Update(t.Context(), a.Token, put("milk"))
	if b.Data.Items[0] != "tea" || c.Data.Items[0] != "tea" || c.User != "" {
		t.Errorf("changing a session changed another: %+v, %+v", b, c)
	}
}

// Law 13.

func TestALostAnswerIsSettled(t *testing.T) {
	lose := func(method string) func(string) error {
		var once sync.Once
		return func(m string) (err error) {
			if m == method {
				once.Do(func() { err = errLost })
			}
			return err
		}
	}
	t.Run("the update landed", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		runs := 0
		p.hooks(nil, lose("Update"))
		got, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) })
		if err != nil || runs != 1 || p.updates.Load() != 1 || got.Token.ID() != s.ID {
			t.Errorf("%v, fn ran %d times, %d writes; want nil, 1, 1", err, runs, p.updates.Load())
		}
		if now, _ := m.Get(t.Context(), visitor(t, s)); !slices.Equal(now.Data.Items, []string{"a", "b"}) {
			t.Errorf("items %v, want b once", now.Data.Items)
		}
	})
	t.Run("the update did not arrive", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		runs := 0
		p.hooks(lose("Update"), nil)
		_, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) })
		if now, _ := m.Get(t.Context(), visitor(t, s)); err != nil || runs != 1 || len(now.Data.Items) != 2 {
			t.Errorf("%v, fn ran %d times, items %v; want nil, 1, [a b]", err, runs, now.Data.Items)
		}
	})
	t.Run("another one was faster", func(t *testing.T) {
		p := newProbe()
		m, other := manager(t, p, nil), manager(t, p.Store, nil)
		s := start(t, m, "a")
		var once sync.Once
		runs := 0
		p.hooks(func(method string) (err error) {
			if method == "Update" {
				once.Do(func() {
					for i := range 8 {
						other.Update(t.Context(), visitor(t, s), put(fmt.Sprint(i)))
					}
					err = errLost
				})
			}
			return err
		}, nil)
		got, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) })
		if err != nil || runs != 2 || len(got.Data.Items) != 10 {
			t.Errorf("%v, fn ran %d times, items %v; want nil, 2, ten items", err, runs, got.Data.Items)
		}
	})
	t.Run("the update landed, and a login came after it", func(t *testing.T) {
		p := newProbe()
		m, other := manager(t, p, nil), manager(t, p.Store, nil)
		guest := start(t, m, "a")
		var ann roam.Session[Cart]
		p.hooks(nil, func(method string) error {
			if method == "Update" {
				ann = login(t, other, visitor(t, guest), "ann")
				return errLost
			}
			return nil
		})
		got, err := m.Update(t.Context(), visitor(t, guest), put("b"))
		if err != nil || got.User != "" || len(got.Data.Items) != 2 {
			t.Errorf("the guest's update answers %+v, %v; want the guest's session", got, err)
		}
		p.hooks(nil, nil)
		_, err = m.Update(t.Context(), got.Token, put("c"))
		wantReason(t, "an update with the dead secret", err, roam.Rotated)
		if now, _ := m.Get(t.Context(), ann.Token); len(now.Data.Items) != 2 {
			t.Errorf("ann's items %v, want a and b", now.Data.Items)
		}
	})
	t.Run("as many others as the record remembers came after it", func(t *testing.T) {
		p := newProbe()
		m, other := manager(t, p, nil), manager(t, p.Store, nil)
		s := start(t, m, "a")
		p.hooks(nil, func(method string) error {
			if method != "Update" {
				return nil
			}
			for i := range 8 { // one more than leaves our id in the ring
				other.Update(t.Context(), visitor(t, s), put(fmt.Sprint(i)))
			}
			return errLost
		})
		runs := 0
		if _, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) }); !errors.Is(err, roam.ErrUnknown) || runs != 1 {
			t.Errorf("%v, fn ran %d times; want ErrUnknown, 1", err, runs)
		}
	})
	t.Run("it was sent twice on the way", func(t *testing.T) {
		p := newProbe()
		m := manager(t, twice{p}, nil)
		s := start(t, m, "a")
		runs := 0
		got, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) })
		if err != nil || runs != 1 || !slices.Equal(got.Data.Items, []string{"a", "b"}) {
			t.Errorf("%v, fn ran %d times, items %v; want nil, 1, [a b]", err, runs, got.Data.Items)
		}
		if now, _ := m.Get(t.Context(), visitor(t, s)); len(now.Data.Items) != 2 {
			t.Errorf("items %v, want b once", now.Data.Items)
		}
	})
	t.Run("nobody can tell", func(t *testing.T) {
		p := newProbe()
		m, other := manager(t, p, nil), manager(t, p.Store, nil)
		s := start(t, m, "a")
		runs := 0
		p.hooks(nil, func(method string) error {
			if method != "Update" {
				return nil
			}
			for i := range 9 { // our id is pushed out of the ring
				other.Update(t.Context(), visitor(t, s), put(fmt.Sprint(i)))
			}
			return errLost
		})
		_, err := m.Update(t.Context(), s.Token, func(c *Cart) error { runs++; return put("b")(c) })
		if !errors.Is(err, roam.ErrUnknown) || !errors.Is(err, roam.ErrUnavailable) || runs != 1 {
			t.Errorf("%v, fn ran %d times; want ErrUnknown, 1", err, runs)
		}
	})
	t.Run("the store is gone", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		p.hooks(func(string) error { return errLost }, nil)
		if _, err := m.Update(t.Context(), s.Token, put("b")); !errors.Is(err, roam.ErrUnknown) {
			t.Errorf("%v, want ErrUnknown", err)
		}
	})
	t.Run("the store vouches that it wrote nothing", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := start(t, m, "a")
		p.hooks(func(string) error { return fmt.Errorf("%w: disk full", roam.ErrUnavailable) }, nil)
		_, err := m.Update(t.Context(), s.Token, put("b"))
		if !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrUnknown) || p.updates.Load() != 1 {
			t.Errorf("%v after %d writes, want ErrUnavailable after 1", err, p.updates.Load())
		}
	})
	t.Run("a start", func(t *testing.T) {
		for name, hook := range map[string]func(*probe){
			"landed":     func(p *probe) { p.hooks(nil, lose("Insert")) },
			"not landed": func(p *probe) { p.hooks(lose("Insert"), nil) },
		} {
			p := newProbe()
			m := manager(t, p, nil)
			hook(p)
			s := start(t, m, "a")
			if n := len(records(t, p.Store)); n != 1 {
				t.Errorf("%s: %d records, want 1", name, n)
			}
			if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("a login", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		guest := start(t, m, "a")
		p.hooks(nil, lose("Update"))
		s := login(t, m, guest.Token, "ann")
		if got, err := m.Get(t.Context(), visitor(t, s)); err != nil || got.User != "ann" {
			t.Errorf("%v, %v", got.User, err)
		}
	})
	t.Run("a logout", func(t *testing.T) {
		p := newProbe()
		m := manager(t, p, nil)
		s := login(t, m, roam.Token{}, "ann")
		p.hooks(nil, lose("End"))
		if err := m.Logout(t.Context(), s.Token); err != nil {
			t.Error(err)
		}
		_, err := m.Get(t.Context(), visitor(t, s))
		wantReason(t, "Get", err, roam.LoggedOut)
	})
}

// twice sends each update twice and keeps the second answer, as a driver does
// that repeats on a new connection what it did not hear of.
type twice struct{ roam.Store }

func (s twice) Update(ctx context.Context, r roam.Record) (roam.Record, error) {
	s.Store.Update(ctx, r)
	return s.Store.Update(ctx, r)
}

// Law 15.

func TestAnOlderProgramKeepsWhatItDoesNotKnow(t *testing.T) {
	type newer struct {
		Items    []string          `json:"items"`
		Wishlist []string          `json:"wishlist"`
		Coupons  map[string]string `json:"coupons"`
	}
	store := roam.NewMemStore()
	m2 := roam.Must(roam.New[newer](store, nil))
	m1 := manager(t, store, nil)
	s2, err := m2.Update(t.Context(), roam.Token{}, func(n *newer) error {
		*n = newer{[]string{"tea"}, []string{"pot"}, map[string]string{"a": "1"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tok, _ := roam.ParseToken(s2.Token.Reveal())
	if _, err := m1.Update(t.Context(), tok, put("milk")); err != nil {
		t.Fatal(err)
	}
	s1, err := m1.Login(t.Context(), tok, roam.Login{User: "ann"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s1, err = m1.Login(t.Context(), visitor(t, s1), roam.Login{User: "ann"}, put("at login"))
	if err != nil {
		t.Fatal(err)
	}
	tok = visitor(t, s1)
	if _, err := m1.Update(t.Context(), tok, func(c *Cart) error { c.Items = nil; return nil }); err != nil { // omitted by omitempty: stays away
		t.Fatal(err)
	}
	got, err := m2.Get(t.Context(), tok)
	if err != nil || got.Data.Items != nil || !slices.Equal(got.Data.Wishlist, []string{"pot"}) || got.Data.Coupons["a"] != "1" {
		t.Errorf("the newer program reads %+v, %v", got.Data, err)
	}
}

func TestUndecodableDataIsOneSessionsError(t *testing.T) {
	store := roam.NewMemStore()
	wrong := roam.Must(roam.New[map[string]int](store, nil))
	bad, err := wrong.Login(t.Context(), roam.Token{}, roam.Login{User: "ann"}, func(d *map[string]int) error { *d = map[string]int{"items": 1}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	m := manager(t, store, nil)
	good := login(t, m, roam.Token{}, "ann")
	tok, _ := roam.ParseToken(bad.Token.Reveal())
	_, err = m.Get(t.Context(), tok)
	if !errors.Is(err, roam.ErrUndecodable) || errors.Is(err, roam.ErrEnded) || !strings.Contains(err.Error(), bad.ID.String()) {
		t.Errorf("Get: %v, want ErrUndecodable that names the session", err)
	}
	if _, err := m.Update(t.Context(), tok, put("x")); !errors.Is(err, roam.ErrUndecodable) {
		t.Errorf("Update: %v, want ErrUndecodable", err)
	}
	if _, err := m.Get(t.Context(), good.Token); err != nil {
		t.Errorf("another session: %v", err)
	}
	n := 0
	for range m.List(t.Context(), "ann") {
		n++
	}
	if n != 2 {
		t.Errorf("List shows %d sessions, want both", n)
	}
	if err := m.Logout(t.Context(), tok); err != nil {
		t.Errorf("Logout: %v", err)
	}
}

func TestOptionsThatContradictEachOtherAreRefused(t *testing.T) {
	for _, o := range []roam.Options{
		{IdleTimeout: 2 * time.Hour, Lifetime: time.Hour},
		{IdleTimeout: -1}, {Lifetime: -1}, {Retain: -1}, {MaxData: -1}, {SessionsPerUser: -1},
		{IdleTimeout: 9 * time.Second}, {Retain: time.Second}, {Lifetime: 401 * 24 * time.Hour},
	} {
		if _, err := roam.New[Cart](roam.NewMemStore(), &o); err == nil {
			t.Errorf("New(%+v): no error", o)
		}
	}
	for _, o := range []*roam.Options{nil, {}, {IdleTimeout: 30 * 24 * time.Hour}, {Lifetime: 10 * time.Minute}} {
		if _, err := roam.New[Cart](roam.NewMemStore(), o); err != nil {
			t.Errorf("New(%+v): %v", o, err)
		}
	}
	if _, err := roam.New[Cart](nil, nil); err == nil {
		t.Error("New without a store: no error")
	}
}

func TestEventsNameTheSessionAndNeverTheSecret(t *testing.T) {
	var log strings.Builder
	m := manager(t, roam.NewMemStore(), &roam.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := login(t, m, start(t, m, "private").Token, "ann")
	m.Get(t.Context(), forge(t, s.ID, start(t, m, "b")))
	m.RevokeUser(t.Context(), "nobody", roam.Revoked)
	m.Logout(t.Context(), s.Token)
	for _, want := range []string{"session: started", "session: logged in", "session: wrong secret", "session: ended", s.ID.String(), "user=ann", `reason="logged out"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(s.Token.Reveal())
	for _, secret := range []string{s.Token.Reveal(), string(raw[16:]), fmt.Sprintf("%x", raw[16:]), "private"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestRecordsAreReadableJSON(t *testing.T) {
	store := roam.NewMemStore()
	start(t, manager(t, store, nil), "tea")
	var c Cart
	if err := json.Unmarshal(records(t, store)[0].Data, &c); err != nil || c.Items[0] != "tea" {
		t.Errorf("%v, %v", c, err)
	}
}
