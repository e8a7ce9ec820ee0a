package roam_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

// A sealer is AES-GCM under one key; package sealed has one that rotates.
type sealer struct{ cipher.AEAD }

func newSealer(key byte) roam.Sealer {
	block, err := aes.NewCipher(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		panic(err)
	}
	return sealer{roam.Must(cipher.NewGCMWithRandomNonce(block))}
}

func (s sealer) Seal(dst, plaintext, aad []byte) []byte { return s.AEAD.Seal(dst, nil, plaintext, aad) }
func (s sealer) Open(dst, sealed, aad []byte) ([]byte, error) {
	return s.AEAD.Open(dst, nil, sealed, aad)
}

// A browser keeps the cookies that responses set.
type browser struct {
	web *roam.Web[Cart]
	jar map[string]string
}

func (b *browser) request() *http.Request {
	var lines []string
	for name, value := range b.jar {
		lines = append(lines, name+"="+value)
	}
	return request("GET", strings.Join(lines, "; "))
}

// visit makes a request, and keeps what the response sets.
func (b *browser) visit(do func(w http.ResponseWriter, r *http.Request)) {
	w := httptest.NewRecorder()
	do(w, b.request())
	b.keep(w)
}

func (b *browser) keep(w *httptest.ResponseRecorder) {
	for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
		if b.jar[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.jar, c.Name)
		}
	}
}

func (b *browser) login(t *testing.T, user string) (s roam.Session[Cart]) {
	t.Helper()
	b.visit(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if s, err = b.web.Login(w, r, roam.Login{User: user}, nil); err != nil {
			t.Fatal(err)
		}
	})
	return s
}

func (b *browser) identify() (who roam.Identity, err error) {
	b.visit(func(w http.ResponseWriter, r *http.Request) { who, err = b.web.Identify(w, r) })
	return who, err
}

// at returns the browser as another server sees it.
func (b *browser) at(web *roam.Web[Cart]) *browser { return &browser{web, b.jar} }

var sealedWeb = &roam.WebOptions{Sealer: newSealer(1)}

// site is a manager that runs, with its web.
func site(t *testing.T, store roam.Store, opts *roam.Options, webOpts *roam.WebOptions) (*roam.Manager[Cart], *roam.Web[Cart]) {
	m := manager(t, store, opts)
	running(t, m)
	return m, website(t, m, webOpts)
}

func TestIdentifyAsksNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, p, nil, sealedWeb)
		_, other := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Second)
		before := p.loads.Load()
		for range 100 {
			for _, web := range []*roam.Web[Cart]{web, other} { // also one that has never seen the session
				if who, err := b.at(web).identify(); err != nil || who.User != "ann" || who.ID != s.ID || !who.LoggedIn.Equal(s.LoggedIn) || !who.Expires.Equal(s.Expires) {
					t.Fatalf("got %+v, %v; want ann, session %v", who, err, s)
				}
			}
			time.Sleep(time.Second)
		}
		if n := p.loads.Load() - before; n != 0 {
			t.Errorf("%d loads, want 0", n)
		}
		// The seal grows old; then each server asks once per window.
		for range 1000 {
			b.identify()
			time.Sleep(time.Second)
		}
		if n := p.loads.Load() - before; n < 3 || n > 4 {
			t.Errorf("%d loads in 1100 s, want one per 5 minutes", n)
		}
		if n := p.touched.Load(); n < 10 {
			t.Errorf("%d touches: Identify is use of a session", n)
		}
	})
}

func TestIdentifyWithoutASealAsksOncePerWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, p, nil, nil)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		time.Sleep(time.Second)
		for range 250 {
			if who, err := b.identify(); err != nil || who.User != "ann" {
				t.Fatal(who, err)
			}
			time.Sleep(time.Second)
		}
		if n := p.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

func TestIdentifyAsksWhoeverHasNotReadTheLog(t *testing.T) {
	p := newProbe()
	web := website(t, manager(t, p, nil), sealedWeb) // does not run
	b := &browser{web, map[string]string{}}
	b.login(t, "ann")
	for n := range int64(3) {
		if who, err := b.identify(); err != nil || who.User != "ann" || p.loads.Load() != n+1 {
			t.Errorf("got %v, %v after %d loads, want %d", who.User, err, p.loads.Load(), n+1)
		}
	}
}

// Laws 2 and 11, the bound of Identify.
func TestR036ARevokeShowsOnEveryServerWithinASecond(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error
		want roam.Reason
	}{
		"logout": {func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			return m.Logout(ctx, s.Token)
		}, roam.LoggedOut},
		"revoke": {func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			return m.Revoke(ctx, s.ID, "stolen")
		}, "stolen"},
		"revoke user": {func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			_, err := m.RevokeUser(ctx, s.User, roam.PasswordChanged)
			return err
		}, roam.PasswordChanged},
		"login": {func(ctx context.Context, m *roam.Manager[Cart], s roam.Session[Cart]) error {
			_, err := m.Login(ctx, s.Token, roam.Login{User: s.User}, nil)
			return err
		}, roam.Rotated},
	} {
		for _, opts := range []*roam.WebOptions{sealedWeb, nil} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := roam.NewMemStore()
					_, here := site(t, store, nil, opts)
					m, _ := site(t, store, nil, opts)
					b := &browser{here, map[string]string{}}
					s := b.login(t, "ann")
					time.Sleep(1234 * time.Millisecond)
					if _, err := b.identify(); err != nil {
						t.Fatal(err)
					}
					if err := end.do(t.Context(), m, s); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					_, err := b.identify()
					wantReason(t, "a second later", err, end.want)
				})
			})
		}
	}
}

func TestR124ACutFeedIsTrustedForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m, _ := site(t, p.Store, nil, sealedWeb)
		_, web := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Second)
		p.hooks(func(method string) error {
			if method == "Ends" {
				return errLost
			}
			return nil
		}, nil)
		if err := m.Revoke(t.Context(), s.ID, roam.Revoked); err != nil {
			t.Fatal(err)
		}
		b.identify() // may be either
		time.Sleep(5 * time.Second)
		_, err := b.identify()
		wantReason(t, "five seconds later", err, roam.Revoked)

		// With the store gone as well nothing is known.
		p.hooks(func(string) error { return errLost }, nil)
		if _, err := b.identify(); !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
			t.Errorf("store down: %v, want unavailable", err)
		}
	})
}

// What ended while the log was being read is not in what was read.
func TestASlowFeedCountsFromItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m := manager(t, p.Store, nil)
		_, web := site(t, p, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		p.hooks(nil, func(method string) error {
			if method == "Ends" {
				time.Sleep(4 * time.Second)
			}
			return nil
		})
		time.Sleep(8*time.Second + 600*time.Millisecond) // a read has just begun
		if err := m.Revoke(t.Context(), s.ID, roam.Revoked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5500 * time.Millisecond)
		_, err := b.identify()
		wantReason(t, "later", err, roam.Revoked)
	})
}

// Law 8: neither early nor late, whatever this server's clock says.
func TestIdentifyJudgesLimitsByTheStoresClock(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, 0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			store := roam.NewMemStore()
			opts := &roam.Options{IdleTimeout: 10 * time.Minute, Lifetime: 30 * time.Minute}
			other, _ := site(t, store, opts, sealedWeb)
			_, web := site(t, skewed{store, off}, opts, sealedWeb)
			lazy, busy := &browser{web, map[string]string{}}, &browser{web, map[string]string{}}
			lazy.login(t, "ann")
			s := busy.login(t, "bob")
			for range 3 {
				time.Sleep(4 * time.Minute)
				if _, err := other.Get(t.Context(), visitor(t, s)); err != nil { // used on another server only
					t.Fatal(err)
				}
				time.Sleep(4 * time.Minute)
			}
			_, err := lazy.identify()
			wantReason(t, "kept late", err, roam.Idle)
			if who, err := busy.identify(); err != nil || who.User != "bob" {
				t.Errorf("clock off by %v: logged out early: %v", off, err)
			}
			for range 3 {
				time.Sleep(2 * time.Minute)
				_, err = busy.identify()
			}
			wantReason(t, "kept late", err, roam.Lifetime)
		})
	}
}

// The window of a seal is longer than a short idle timeout.
func TestR029ASealPastItsDeadlineDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, web := site(t, roam.NewMemStore(), &roam.Options{IdleTimeout: time.Minute, Lifetime: 2 * time.Minute}, sealedWeb)
		lazy, busy := &browser{web, map[string]string{}}, &browser{web, map[string]string{}}
		lazy.login(t, "ann")
		busy.login(t, "bob")
		for range 3 {
			time.Sleep(30 * time.Second)
			if who, err := busy.identify(); err != nil || who.User != "bob" {
				t.Errorf("in use: %v", err)
			}
		}
		_, err := lazy.identify()
		wantReason(t, "not in use", err, roam.Idle)
		time.Sleep(30 * time.Second)
		_, err = busy.identify()
		wantReason(t, "in use for too long", err, roam.Lifetime)
	})
}

// crowd makes 70 thousand sessions of ann's, more than a server remembers ends
// of, and returns the browsers that have one in a hundred of them.
func crowd(t *testing.T, store roam.Store, web *roam.Web[Cart]) (some []*browser) {
	t.Helper()
	for i := range 70_000 {
		if i%100 == 0 {
			b := &browser{web, map[string]string{}}
			b.login(t, "ann")
			some = append(some, b)
			continue
		}
		if _, err := store.Insert(t.Context(), roam.Record{ID: roam.ID{6: 0x40, 8: 0x80, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}, User: "ann", Idle: time.Hour, Lifetime: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	return some
}

// More ends than a server remembers: what it forgets it asks for.
func TestMassRevocationIsSeenInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		m, web := site(t, store, nil, sealedWeb)
		some := crowd(t, store, web)
		if n, err := m.RevokeUser(t.Context(), "ann", roam.Revoked); n != 70_000 || err != nil {
			t.Fatal(n, err)
		}
		time.Sleep(time.Second)
		alive := 0
		for _, b := range some {
			if _, err := b.identify(); reason(err) != roam.Revoked {
				alive++
			}
		}
		if alive > 0 {
			t.Errorf("%d of %d revoked sessions still answer", alive, len(some))
		}
	})
}

// A login that the failover lost is nobody's, though its seal is good.
func TestASealOfAnOlderEpochDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		m, web := site(t, p, nil, sealedWeb)
		kept := login(t, m, roam.Token{}, "bob")
		p.lag()
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		time.Sleep(time.Second)
		p.failOver()
		for _, wait := range []time.Duration{0, time.Second} {
			if _, err := m.Get(t.Context(), visitor(t, kept)); err != nil { // notices the failover
				t.Fatal(err)
			}
			time.Sleep(wait)
			_, err := b.identify()
			wantReason(t, "lost", err, roam.Missing)
		}
	})
}

// Law 14.
func TestIdentifyAsksAfterAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		probe := &probe{Store: p}
		m, web := site(t, probe, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Second)
		p.lag()
		if err := m.Logout(t.Context(), visitor(t, s)); err != nil {
			t.Fatal(err)
		}
		p.failOver()
		time.Sleep(time.Second)
		_, err := b.identify()
		wantReason(t, "logged out before the failover", err, roam.LoggedOut)
	})
}

// what was not sealed by us costs no trip and opens nothing.
func TestR024AndR123AForgedMarkIsAStrangers(t *testing.T) {
	p := newProbe()
	web := website(t, manager(t, p, nil), sealedWeb)
	b := &browser{web, map[string]string{}}
	b.login(t, "ann")
	good := b.jar["__Host-roam-mark"]
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	forged := []string{"", "x", good[1:], good + "A", good[:len(good)-2], strings.Repeat("A", 5000)}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		forged = append(forged, base64.RawURLEncoding.EncodeToString(bad))
	}
	elsewhere := &browser{website(t, manager(t, p, nil), &roam.WebOptions{Sealer: newSealer(2)}), map[string]string{"__Host-roam": b.jar["__Host-roam"]}}
	other := &browser{website(t, manager(t, p, nil), &roam.WebOptions{Sealer: newSealer(1), Cookie: "__Host-other"}), map[string]string{}}
	elsewhere.login(t, "ann")
	other.login(t, "ann")
	forged = append(forged, elsewhere.jar["__Host-roam-mark"], other.jar["__Host-other-mark"])

	calls := p.calls()
	for _, mark := range forged {
		b.jar["__Host-roam-mark"] = mark
		who, err := b.identify()
		if who != (roam.Identity{}) || err != nil {
			t.Fatalf("mark %.40q: %+v, %v; want a stranger", mark, who, err)
		}
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			if s, err := web.Get(w, r); s.User != "" || err != nil {
				t.Fatalf("mark %.40q: Get %v, %v", mark, s.User, err)
			}
		})
		if b.jar["__Host-roam"] == "" {
			t.Fatal("the cookie is gone")
		}
	}
	if n := p.calls() - calls; n != 0 {
		t.Errorf("%d calls of the store, want 0", n)
	}
	b.jar["__Host-roam-mark"] = good
	if who, err := b.identify(); err != nil || who.User != "ann" {
		t.Errorf("the good one: %v, %v", who.User, err)
	}
}

// A late response from before the login brings back an old mark.
func TestAMarkFromBeforeALoginIsIgnored(t *testing.T) {
	for name, opts := range map[string]*roam.WebOptions{"sealed": sealedWeb, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			m := manager(t, roam.NewMemStore(), nil)
			web := website(t, m, opts)
			b := &browser{web, map[string]string{}}
			b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
			late := httptest.NewRecorder()
			web.Update(late, b.request(), put("milk"))
			b.login(t, "ann")
			b.keep(late)
			if who, err := b.identify(); err != nil || who.User != "ann" {
				t.Errorf("got %q, %v; want ann", who.User, err)
			}
			b.visit(func(w http.ResponseWriter, r *http.Request) {
				if s, err := web.Get(w, r); err != nil || len(s.Data.Items) != 2 {
					t.Errorf("Get: %+v, %v", s.Data, err)
				}
			})
		})
	}
}

// Nobody is logged out when a Sealer is added, nor when it is taken away.
func TestR129SealingCanBeSwitchedOnAndOff(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	plain, strict := website(t, m, nil), website(t, m, sealedWeb)
	both := website(t, m, &roam.WebOptions{Sealer: sealedWeb.Sealer, AllowUnsealed: true})
	b := &browser{plain, map[string]string{}}
	b.login(t, "ann")
	for i, web := range []*roam.Web[Cart]{plain, both, plain, both, both} {
		if who, err := b.at(web).identify(); err != nil || who.User != "ann" {
			t.Errorf("step %d: %q, %v", i, who.User, err)
		}
	}
	b.at(both).visit(func(w http.ResponseWriter, r *http.Request) { both.Update(w, r, put("tea")) })
	for i, web := range []*roam.Web[Cart]{strict, plain, both} {
		if who, err := b.at(web).identify(); err != nil || who.User != "ann" {
			t.Errorf("with a sealed mark, step %d: %q, %v", i, who.User, err)
		}
	}
}

//
func TestR031ASealedMarkSaysNothingToItsReader(t *testing.T) {
	web := website(t, manager(t, roam.NewMemStore(), nil), sealedWeb)
	b := &browser{web, map[string]string{}}
	s := b.login(t, "ann.example")
	raw, _ := base64.RawURLEncoding.DecodeString(b.jar["__Host-roam-mark"])
	if bytes.Contains(raw, []byte("ann")) || bytes.Contains(raw, s.ID[:]) {
		t.Error("user or ID in clear")
	}
}

// A mark serves its own token only.
func TestAnothersMarkSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, web := site(t, roam.NewMemStore(), nil, sealedWeb)
		ann, bob := &browser{web, map[string]string{}}, &browser{web, map[string]string{}}
		ann.login(t, "ann")
		bob.login(t, "bob")
		time.Sleep(time.Second)
		ann.jar["__Host-roam-mark"] = bob.jar["__Host-roam-mark"]
		if who, err := ann.identify(); err != nil || who.User != "ann" {
			t.Errorf("got %q, %v; want ann", who.User, err)
		}
		ann.jar["__Host-roam"] = ann.jar["__Host-roam"][:22] + bob.jar["__Host-roam"][22:] // ann's ID, bob's secret
		_, err := ann.identify()
		wantReason(t, "another's secret", err, roam.Forged)
	})
}

// A mark lives as long as its token, so that a gate does not close early.
func TestARememberedMarkOutlivesTheBrowser(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, sealedWeb)
	w := httptest.NewRecorder()
	if _, err := web.Login(w, request("POST"), roam.Login{User: "ann", Persist: 48 * time.Hour}, nil); err != nil {
		t.Fatal(err)
	}
	b := &browser{web, map[string]string{}}
	b.keep(w)
	token, mark := cookiesFrom(t, w)
	w = httptest.NewRecorder()
	web.Update(w, b.request(), put("tea"))
	_, again := cookiesFrom(t, w)
	if token.MaxAge != 172800 || mark.MaxAge != token.MaxAge || again.MaxAge < 172790 || again.MaxAge > 172800 {
		t.Errorf("Max-Age: token %d, mark %d, after an update %d; want two days", token.MaxAge, mark.MaxAge, again.MaxAge)
	}
}

// A stale keeps copies of what it loads, and answers with them if they are new
// enough.
type stale struct {
	roam.Store
	mu  sync.Mutex
	old map[roam.ID]roam.Record
}

func (s *stale) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.Store.Load(ctx, id, want)
	if err != nil {
		return rec, err
	}
	if old, ok := s.old[id]; ok && want.Version != 0 && old.Version >= want.Version && old.Epoch >= want.Epoch {
		old.Data, old.Now = bytes.Clone(old.Data), rec.Now
		return old, nil
	}
	kept := rec
	kept.Data = bytes.Clone(rec.Data)
	s.old[id] = kept
	return rec, nil
}

// Law 3.
func TestR128AVisitorReadsItsOwnWritesOnEveryServer(t *testing.T) {
	for name, opts := range map[string]*roam.WebOptions{"sealed": sealedWeb, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			store := roam.NewMemStore()
			var webs []*roam.Web[Cart]
			for range 3 {
				webs = append(webs, website(t, manager(t, &stale{Store: store, old: map[roam.ID]roam.Record{}}, nil), opts))
			}
			b := &browser{webs[0], map[string]string{}}
			b.login(t, "ann")
			for n := range 12 {
				b.visit(func(w http.ResponseWriter, r *http.Request) {
					if _, err := webs[n%3].Update(w, r, put("tea")); err != nil {
						t.Fatal(err)
					}
				})
				for _, web := range webs {
					b.visit(func(w http.ResponseWriter, r *http.Request) {
						if s, err := web.Get(w, r); err != nil || len(s.Data.Items) != n+1 {
							t.Fatalf("after %d updates a server shows %d items, %v", n+1, len(s.Data.Items), err)
						}
					})
				}
			}
			// What is decided on a copy alone would be decided on the past.
			full := errors.New("full")
			if _, err := webs[1].Update(httptest.NewRecorder(), b.request(), put("elsewhere")); err != nil { // its mark never arrives
				t.Fatal(err)
			}
			b.visit(func(w http.ResponseWriter, r *http.Request) {
				_, err := webs[0].Update(w, r, func(c *Cart) error {
					if len(c.Items) == 13 {
						return full
					}
					return nil
				})
				if err != full {
					t.Errorf("an update that decides on the data: %v, want it to see 13 items", err)
				}
			})
		})
	}
}

// A late mark from before a login is too old to ask a copy by.
func TestALateMarkLeadsNobodyBack(t *testing.T) {
	store := roam.NewMemStore()
	copied := website(t, manager(t, &stale{Store: store, old: map[roam.ID]roam.Record{}}, nil), nil)
	web := website(t, manager(t, store, nil), nil)
	b := &browser{web, map[string]string{}}
	late := httptest.NewRecorder()
	web.Update(late, b.request(), put("tea"))
	b.keep(late)
	b.login(t, "ann")
	b.visit(func(w http.ResponseWriter, r *http.Request) { copied.Get(w, r) })
	b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("milk")) })
	b.jar["__Host-roam-mark"] = func() string { _, mark := cookiesFrom(t, late); return mark.Value }()
	b.visit(func(w http.ResponseWriter, r *http.Request) {
		if s, err := copied.Get(w, r); err != nil || len(s.Data.Items) != 2 {
			t.Errorf("got %v, %v; want tea and milk", s.Data.Items, err)
		}
	})
}

// A copy does not know of use elsewhere.
func TestACopyThatLooksIdleIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		m := manager(t, store, nil)
		copied := website(t, manager(t, &stale{Store: store, old: map[roam.ID]roam.Record{}}, nil), nil)
		b := &browser{website(t, m, nil), map[string]string{}}
		s := b.login(t, "ann")
		b.visit(func(w http.ResponseWriter, r *http.Request) { copied.Get(w, r) })
		for range 3 {
			time.Sleep(45 * time.Minute)
			if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
				t.Fatal(err)
			}
		}
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			if s, err := copied.Get(w, r); err != nil || s.User != "ann" {
				t.Errorf("got %v, %v; want ann", s.User, err)
			}
		})
	})
}

// A copy that has not heard of a login turns nobody away.
func TestACopyTurnsNobodyAway(t *testing.T) {
	store := roam.NewMemStore()
	copied := &stale{Store: store, old: map[roam.ID]roam.Record{}}
	here, there := website(t, manager(t, copied, nil), nil), website(t, manager(t, store, nil), nil)
	b := &browser{here, map[string]string{}}
	b.login(t, "ann")
	b.visit(func(w http.ResponseWriter, r *http.Request) { here.Get(w, r) })
	mark := b.jar["__Host-roam-mark"]
	b.at(there).login(t, "ann")
	for _, m := range []string{mark, b.jar["__Host-roam-mark"], ""} {
		b.jar["__Host-roam-mark"] = m
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			if s, err := here.Get(w, r); err != nil || s.User != "ann" {
				t.Errorf("got %v, %v; want ann", s.User, err)
			}
		})
	}
}

// Law 14.
func TestAStoreBehindASealedMarkHasLostWrites(t *testing.T) {
	p := newPair()
	m := manager(t, p, nil)
	web := website(t, m, sealedWeb)
	b := &browser{web, map[string]string{}}
	b.login(t, "ann")
	p.lag()
	for range 3 {
		b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("lost")) })
	}
	p.failOver()
	p.epoch-- // nobody has said so
	for range 3 {
		if who, err := b.identify(); err != nil || who.User != "ann" {
			t.Errorf("got %v, %v; a loss logs nobody out", who.User, err)
		}
	}
	if got := m.Lost(); got != 3 {
		t.Errorf("Lost() = %d, want 3", got)
	}

	// A primary that was replaced, seen by a server that has just started.
	p.epoch += 5
	b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("new")) })
	p.epoch -= 5
	fresh := website(t, manager(t, p, nil), sealedWeb)
	if _, err := b.at(fresh).identify(); !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
		t.Errorf("an older epoch than the visitor has seen: %v, want unavailable", err)
	}
}

func TestAPlainMarkSteersNobody(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	web := website(t, m, nil)
	b := &browser{web, map[string]string{}}
	b.login(t, "ann")
	raw, _ := base64.RawURLEncoding.DecodeString(b.jar["__Host-roam-mark"])
	high := append(raw[:9:9], 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)
	b.jar["__Host-roam-mark"] = base64.RawURLEncoding.EncodeToString(high)
	if who, err := b.identify(); err != nil || who.User != "ann" || m.Lost() != 0 {
		t.Errorf("got %v, %v, %d lost; want ann and nothing believed", who.User, err, m.Lost())
	}
}

func TestR127StaleIdentityIsForThoseWhoAskForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		m, web := site(t, p, nil, sealedWeb)
		ann, bob := &browser{web, map[string]string{}}, &browser{web, map[string]string{}}
		ann.login(t, "ann")
		out := bob.login(t, "bob")
		time.Sleep(time.Second)
		if err := m.Logout(t.Context(), visitor(t, out)); err != nil {
			t.Fatal(err)
		}
		p.hooks(func(string) error { return errLost }, nil)
		for _, c := range []struct {
			after time.Duration
			b     *browser
			want  string
			stale bool
		}{
			{time.Second, ann, "ann", false}, // inside the bound: nothing to forgive
			{9 * time.Second, ann, "ann", true},
			{0, bob, "", false}, // this server knows that it has ended
			{4 * time.Minute, ann, "", false},
		} {
			time.Sleep(c.after)
			c.b.visit(func(w http.ResponseWriter, r *http.Request) {
				who, err := web.IdentifyStale(w, r, time.Minute)
				if who.User != c.want || who.Stale != c.stale || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, roam.ErrUnavailable) {
					t.Errorf("after %v: %+v, %v; want %q, stale %v", c.after, who, err, c.want, c.stale)
				}
			})
		}
	})
}

func TestRequireLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := website(t, manager(t, roam.NewMemStore(), nil), nil)
		b := &browser{web, map[string]string{}}
		try := func(within time.Duration, level roam.Level) (err error) {
			b.visit(func(w http.ResponseWriter, r *http.Request) { _, err = web.RequireLogin(w, r, within, level) })
			return err
		}
		want := func(what string, err error, ok bool) {
			t.Helper()
			if (err == nil) != ok || err != nil && !errors.Is(err, roam.ErrLogin) {
				t.Errorf("%s: %v", what, err)
			}
		}
		want("a stranger", try(0, 0), false)
		b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
		want("a guest", try(0, 0), false)
		b.login(t, "ann")
		want("logged in", try(0, 0), true)
		want("just now", try(time.Minute, 0), true)
		want("of a higher level", try(0, 2), false)
		time.Sleep(2 * time.Minute)
		want("too long ago", try(time.Minute, 0), false)
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			web.Login(w, r, roam.Login{User: "ann", Level: 2}, nil)
		})
		want("stepped up", try(time.Minute, 2), true)
		b.visit(func(w http.ResponseWriter, r *http.Request) { web.Logout(w, r) })
		want("logged out", try(0, 0), false)
	})
}

// Watch.

func TestWatchEndsWithTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(m *roam.Manager[Cart], s roam.Session[Cart])
		want roam.Reason
		wait time.Duration
	}{
		"logout":      {func(m *roam.Manager[Cart], s roam.Session[Cart]) { m.Logout(context.Background(), s.Token) }, roam.LoggedOut, time.Second},
		"revoke user": {func(m *roam.Manager[Cart], s roam.Session[Cart]) { m.RevokeUser(context.Background(), "ann", "stolen") }, "stolen", time.Second},
		"login": {func(m *roam.Manager[Cart], s roam.Session[Cart]) {
			m.Login(context.Background(), s.Token, roam.Login{User: "ann"}, nil)
		}, roam.Rotated, time.Second},
		"idle": {func(*roam.Manager[Cart], roam.Session[Cart]) {}, roam.Idle, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := roam.NewMemStore()
				_, web := site(t, store, nil, sealedWeb)
				m, _ := site(t, store, nil, sealedWeb)
				b := &browser{web, map[string]string{}}
				s := b.login(t, "ann")
				time.Sleep(time.Second)
				b.visit(func(w http.ResponseWriter, r *http.Request) {
					ctx, who, err := web.Watch(w, r)
					if err != nil || who.User != "ann" {
						t.Fatal(who, err)
					}
					time.Sleep(30 * time.Minute)
					if ctx.Err() != nil {
						t.Fatalf("ended by itself: %v", context.Cause(ctx))
					}
					c.end(m, s)
					time.Sleep(c.wait)
					synctest.Wait()
					wantReason(t, name, context.Cause(ctx), c.want)
				})
			})
		})
	}
}

func TestWatchGoesOnWhileTheSessionIsUsedElsewhereOrUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, p, nil, nil)
		m, _ := site(t, p.Store, nil, nil)
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			ctx, _, err := web.Watch(w, r)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				time.Sleep(30 * time.Minute)
				if _, err := m.Get(t.Context(), visitor(t, s)); err != nil {
					t.Fatal(err)
				}
			}
			p.hooks(func(method string) error {
				if method == "Load" {
					return errLost
				}
				return nil
			}, nil)
			time.Sleep(2 * time.Hour)
			if ctx.Err() != nil {
				t.Errorf("ended: %v", context.Cause(ctx))
			}
			p.hooks(nil, nil)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			wantReason(t, "when the store is back", context.Cause(ctx), roam.Idle)
		})
	})
}

// The session ends, and the log tells, before the answer that it lives arrives.
func TestWatchMissesNoEndWhileItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, p, nil, nil)
		m := manager(t, p.Store, nil)
		s := login(t, m, roam.Token{}, "ann")
		p.hooks(nil, func(method string) error {
			if method == "Load" {
				m.Logout(context.Background(), s.Token)
				time.Sleep(time.Second)
			}
			return nil
		})
		ctx, _, err := web.Watch(httptest.NewRecorder(), with(web, s))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantReason(t, "Watch", context.Cause(ctx), roam.LoggedOut)
	})
}

func TestWatchOfAnEndedSessionOrNone(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	if ctx, who, err := web.Watch(httptest.NewRecorder(), request("GET")); err != nil || who.ID != (roam.ID{}) || ctx.Err() != nil {
		t.Errorf("a stranger: %v, %v", who, err)
	}
	s := login(t, m, roam.Token{}, "ann")
	r := with(web, s)
	m.Logout(t.Context(), s.Token)
	_, _, err := web.Watch(httptest.NewRecorder(), r)
	wantReason(t, "Watch", err, roam.LoggedOut)
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	defer func() { stop(); <-done }()
	web := website(t, m, sealedWeb)
	b := &browser{web, map[string]string{}}
	b.login(t, "ann")
	r := b.request()
	w := httptest.NewRecorder()
	n := 1.0
	for began := time.Now(); n != 0 && time.Since(began) < 10*time.Second; { // until the log has been read
		if who, err := web.Identify(w, r); err != nil || who.User != "ann" {
			t.Fatal(who, err)
		}
		n = testing.AllocsPerRun(100, func() { web.Identify(w, r) })
	}
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// A lying store's log names everything as ended.
type lying struct{ roam.Store }

func (l lying) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	log, err := l.Store.Ends(ctx, after)
	for rec := range l.All(ctx) {
		log.Ends = append(log.Ends, roam.End{ID: rec.ID, Version: 1 << 62, Why: "a lie", At: log.Now})
	}
	return log, err
}

// What comes by the log can only make a server ask: it ends nobody's session
// and makes none.
func TestR130TheLogCanOnlyInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		_, web := site(t, lying{p}, nil, sealedWeb)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		time.Sleep(time.Second)
		before := p.loads.Load()
		if who, err := b.identify(); err != nil || who.User != "ann" {
			t.Errorf("got %q, %v; want ann", who.User, err)
		}
		if n := p.loads.Load() - before; n != 1 {
			t.Errorf("%d loads, want 1: the store decides", n)
		}
	})
}
