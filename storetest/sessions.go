package storetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A cart is the session data of the laws about managers: updates append to it,
// so that one that is lost or done twice shows.
type cart struct {
	Items []string `json:"items,omitempty"`
}

func add(item string) func(*cart) error {
	return func(c *cart) error { c.Items = append(c.Items, item); return nil }
}

func (t *tester) manager(store roam.Store, opts *roam.Options) *roam.Manager[cart] {
	t.Helper()
	m, err := roam.New[cart](store, opts)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return m
}

// managers are three web servers that know nothing of one another.
func (t *tester) managers(opts *roam.Options) (ms [3]*roam.Manager[cart]) {
	for i := range ms {
		ms[i] = t.manager(t.store, opts)
	}
	return ms
}

// parse returns the token as a browser brings it back.
func (t *tester) parse(tok roam.Token) roam.Token {
	t.Helper()
	parsed, err := roam.ParseToken(tok.Reveal())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return parsed
}

// handy returns the token with its record in hand, as a handler has it that
// reads first and updates then.
func (t *tester) handy(m *roam.Manager[cart], tok roam.Token) roam.Token {
	t.Helper()
	s, err := m.Get(t.Context(), tok)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return s.Token
}

func (t *tester) start(m *roam.Manager[cart], item string) roam.Session[cart] {
	t.Helper()
	s, err := m.Update(t.Context(), roam.Token{}, add(item))
	if err != nil {
		t.Fatalf("Update that starts a session: %v", err)
	}
	return s
}

func (t *tester) login(m *roam.Manager[cart], tok roam.Token, in roam.Login) roam.Session[cart] {
	t.Helper()
	s, err := m.Login(t.Context(), tok, in, nil)
	if err != nil {
		t.Fatalf("Login: %v", err)
	}
	return s
}

// ended fails unless err says that the session ended, for one of the reasons.
func (t *tester) ended(what string, err error, why ...roam.Reason) {
	t.Helper()
	var ended *roam.EndedError
	if !errors.As(err, &ended) || !slices.Contains(why, ended.Reason) {
		t.Errorf("%s: error %v, want that it ended: %q", what, err, why)
	}
}

// has fails unless the session has exactly these items, in any order.
func (t *tester) has(what string, s roam.Session[cart], err error, want []string) {
	t.Helper()
	got := slices.Sorted(slices.Values(s.Data.Items))
	want = slices.Sorted(slices.Values(want))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: error %v, items %q, want %q", what, err, got, want)
	}
}

var sessionLaws = []law{
	{"Sessions/NoUpdateIsLost", func(t *tester) {
		ms := t.managers(nil)
		s := t.start(ms[0], "start")
		tok, want := t.parse(s.Token), []string{"start"}
		for i := range 32 {
			want = append(want, fmt.Sprint(i))
		}
		each(32, func(i int) {
			tok := tok
			if i%2 == 0 {
				tok = s.Token // with a record in hand that is soon out of date
			}
			if _, err := ms[i%3].Update(t.Context(), tok, add(fmt.Sprint(i))); err != nil {
				t.Errorf("Update %d of 32 at once: %v", i, err)
			}
		})
		got, err := ms[0].Get(t.Context(), tok)
		t.has("after 32 updates at once", got, err, want)
	}},

	{"Sessions/EveryServerReadsWhatAnyWrote", func(t *tester) {
		ms := t.managers(nil)
		tok := t.parse(t.start(ms[0], "0").Token)
		want := []string{"0"}
		for i := 1; i < 60; i++ {
			item := fmt.Sprint(i)
			want = append(want, item)
			_, err := ms[i%3].Update(t.Context(), tok, add(item))
			if err != nil {
				t.Fatalf("Update: %v", err)
			}
			if s, err := ms[(i+1)%3].Get(t.Context(), tok); err != nil || !slices.Equal(s.Data.Items, want) {
				t.Fatalf("the next server has %q, error %v, want %q", s.Data.Items, err, want)
			}
		}
	}},

	{"Sessions/ALoginLosesNoUpdate", func(t *tester) {
		ms := t.managers(nil)
		for range t.rounds(8) {
			guest := t.start(ms[0], "start")
			tok := t.parse(guest.Token)
			var mu sync.Mutex
			want := []string{"start"}
			var s roam.Session[cart]
			each(9, func(i int) {
				if i == 0 {
					runtime.Gosched()
					var err error
					if s, err = ms[0].Login(t.Context(), tok, roam.Login{User: "ann"}, nil); err != nil {
						t.Errorf("Login while updates ran: %v", err)
					}
					if _, err := ms[1].Get(t.Context(), tok); err == nil {
						t.Errorf("the old secret opens the session after Login returned")
					}
					return
				}
				for k := range 2 {
					item := fmt.Sprint(i, "-", k)
					_, err := ms[i%3].Update(t.Context(), []roam.Token{tok, guest.Token}[k], add(item))
					if err == nil {
						mu.Lock()
						want = append(want, item)
						mu.Unlock()
					} else {
						t.ended("an update with the old secret", err, roam.Rotated)
					}
				}
			})
			if t.Failed() {
				return
			}
			got, err := ms[2].Get(t.Context(), t.parse(s.Token))
			t.has("after a login among updates", got, err, want)
		}
	}},

	{"Sessions/ALoginHasANewSecret", func(t *tester) {
		ms := t.managers(nil)
		guest := t.start(ms[0], "x")
		old := t.parse(guest.Token)
		s := t.login(ms[1], old, roam.Login{User: "ann", Level: 2})
		if s.ID != guest.ID {
			t.Errorf("the guest's session %v became another, %v", guest.ID, s.ID)
		}
		for _, m := range ms {
			for _, tok := range []roam.Token{old, guest.Token} {
				_, err := m.Get(t.Context(), tok)
				t.ended("Get with the old secret", err, roam.Rotated)
				_, err = m.Update(t.Context(), tok, add("stolen"))
				t.ended("Update with the old secret", err, roam.Rotated)
				t.ended("Logout with the old secret", m.Logout(t.Context(), tok), roam.Rotated)
				t.ended("RevokeOwn with the old secret", m.RevokeOwn(t.Context(), tok, s.ID, roam.Revoked), roam.Rotated)
			}
			got, err := m.Get(t.Context(), t.parse(s.Token))
			t.has("the guest's cart came along", got, err, []string{"x"})
			if got.User != "ann" || got.Level != 2 {
				t.Errorf("user %q, level %d, want ann at 2", got.User, got.Level)
			}
		}
	}},

	{"Sessions/TwoLoginsAtOnceAreOneSession", func(t *tester) {
		ms := t.managers(nil)
		for i := range t.rounds(20) {
			user := fmt.Sprint("ann", i)
			tok := t.parse(t.start(ms[0], "x").Token)
			var got [2]roam.Session[cart]
			each(2, func(i int) {
				var err error
				if got[i], err = ms[i].Login(t.Context(), tok, roam.Login{User: user}, nil); err != nil {
					t.Errorf("Login %d of two at once: %v", i, err)
				}
			})
			if t.Failed() {
				return
			}
			opens := 0
			for _, s := range got {
				if _, err := ms[2].Get(t.Context(), t.parse(s.Token)); err == nil {
					opens++
				}
			}
			if n := len(t.list(user)); n != 1 || opens != 1 {
				t.Errorf("two logins made %d sessions, and %d of their secrets open one; want 1 and 1", n, opens)
			}
		}
	}},

	{"Sessions/AnotherUsersLoginCarriesNothing", func(t *tester) {
		ms := t.managers(nil)
		ann := t.login(ms[0], t.parse(t.start(ms[0], "ann's").Token), roam.Login{User: "ann"})
		bob := t.login(ms[1], t.parse(ann.Token), roam.Login{User: "bob"})
		if bob.ID == ann.ID {
			t.Errorf("bob's login took ann's session over")
		}
		got, err := ms[2].Get(t.Context(), t.parse(bob.Token))
		t.has("bob's session", got, err, nil)
		if got.User != "bob" {
			t.Errorf("user is %q, want bob", got.User)
		}
		_, err = ms[2].Get(t.Context(), t.parse(ann.Token))
		t.ended("ann's session", err, roam.Replaced)
		if rec := t.load(ann.ID); rec.Data != nil {
			t.Errorf("ann's tombstone has data %q", rec.Data)
		}
	}},

	{"Sessions/LogoutIsFinal", func(t *tester) {
		ms := t.managers(nil)
		const lanes = 8
		each(lanes, func(lane int) {
			r := rand.New(rand.NewPCG(uint64(lane), 4))
			for range t.rounds(1000) / lanes {
				t.logoutRace(ms, r.Uint64())
			}
		})
	}},

	{"Sessions/RevokeUserEndsWhoeverHadLoggedIn", func(t *tester) {
		ms := t.managers(nil)
		for round := range t.rounds(20) {
			user := fmt.Sprint("ann", round)
			const logins = 9
			returned := make(chan roam.Session[cart], logins)
			var wg sync.WaitGroup
			for i := range logins {
				wg.Go(func() {
					tok := roam.Token{}
					if i%2 == 0 {
						s, err := ms[i%3].Update(t.Context(), tok, add("x"))
						if err != nil {
							t.Errorf("Update: %v", err)
						}
						tok = s.Token
					}
					s, err := ms[i%3].Login(t.Context(), tok, roam.Login{User: user}, nil)
					if err != nil {
						t.Errorf("Login: %v", err)
					}
					returned <- s
				})
			}
			var before []roam.Session[cart]
			for range 1 + round%logins {
				before = append(before, <-returned)
			}
			for len(returned) > 0 {
				before = append(before, <-returned)
			}
			n, err := ms[round%3].RevokeUser(t.Context(), user, roam.PasswordChanged)
			if err != nil || n < len(before) {
				t.Errorf("RevokeUser ended %d sessions, error %v; %d logins had returned", n, err, len(before))
			}
			for _, s := range before {
				_, err := ms[(round+1)%3].Get(t.Context(), t.parse(s.Token))
				t.ended("a session whose login had returned before RevokeUser", err, roam.PasswordChanged)
			}
			wg.Wait()
			if t.Failed() {
				return
			}
		}
	}},

	{"Sessions/TheLimitHolds", func(t *tester) {
		const limit, logins = 5, 50
		ms := t.managers(&roam.Options{SessionsPerUser: limit})
		toks := make([]roam.Token, logins)
		each(logins, func(i int) {
			tok := roam.Token{}
			if i%5 == 0 {
				s, err := ms[i%3].Update(t.Context(), tok, add("x"))
				if err != nil {
					t.Errorf("Update: %v", err)
				}
				tok = s.Token
			}
			s, err := ms[i%3].Login(t.Context(), tok, roam.Login{User: "ann"}, nil)
			if err != nil {
				t.Errorf("Login %d of %d at once: %v", i, logins, err)
				return
			}
			toks[i] = s.Token
		})
		if t.Failed() {
			return
		}
		open := 0
		for _, tok := range toks {
			if _, err := ms[0].Get(t.Context(), t.parse(tok)); err == nil {
				open++
			} else {
				t.ended("a session beyond the limit", err, roam.OverLimit)
			}
		}
		if n := len(t.list("ann")); n != limit || open != limit {
			t.Errorf("after %d logins %d sessions are listed and %d open, want %d", logins, n, open, limit)
		}
		newest := t.list("ann")[0]
		t.untilAfter(newest.LoggedIn, newest.ID)
		last := t.login(ms[1], roam.Token{}, roam.Login{User: "ann"})
		if got := t.list("ann"); len(got) != limit || got[0].ID != last.ID {
			t.Errorf("one login later %d sessions are listed, want %d with the newest first", len(got), limit)
		}
	}},

	{"Sessions/ExpiryIsJudgedOnLoad", func(t *tester) {
		ms := t.managers(nil)
		s := t.login(ms[0], t.parse(t.start(ms[0], "x").Token), roam.Login{User: "ann", Persist: 40 * time.Millisecond})
		tok := t.parse(s.Token)
		var err error
		for start := time.Now(); err == nil && time.Since(start) < t.patience; {
			_, err = ms[1].Get(t.Context(), tok) // which touches it: to be in use helps against idleness only
		}
		t.ended("a session past its lifetime", err, roam.Idle, roam.Lifetime)
		rec := t.load(s.ID)
		var ended *roam.EndedError
		if errors.As(err, &ended) && ended.At.After(rec.Now) {
			t.Errorf("ended at %v, which the store's clock, %v, has not reached", ended.At, rec.Now)
		}
		if !rec.Ended.IsZero() {
			t.Errorf("expiry left a tombstone: nobody ended this session")
		}
		for _, m := range ms {
			for _, tok := range []roam.Token{tok, s.Token} {
				_, err = m.Get(t.Context(), tok)
				t.ended("Get", err, roam.Idle, roam.Lifetime)
				_, err = m.Update(t.Context(), tok, add("late"))
				t.ended("Update", err, roam.Idle, roam.Lifetime)
				t.ended("RevokeOwn", m.RevokeOwn(t.Context(), tok, s.ID, roam.Revoked), roam.Idle, roam.Lifetime)
				if err := m.Logout(t.Context(), tok); err != nil {
					t.Errorf("Logout: %v", err)
				}
			}
			for other, err := range m.List(t.Context(), "ann") {
				t.Errorf("List yields %v, error %v, of a user whose only session is over", other.ID, err)
			}
		}
		t.stored(rec)
		again := t.login(ms[0], tok, roam.Login{User: "ann"})
		if again.ID == s.ID || len(again.Data.Items) != 0 {
			t.Errorf("a login with the token of a session that is over went on with it")
		}
	}},

	// A web server whose clock is wrong logs nobody out early and keeps
	// nobody late.
	{"Sessions/AWrongClockChangesNothing", func(t *tester) {
		right := t.manager(t.store, nil)
		for _, by := range []time.Duration{time.Hour, -time.Hour, 1000 * time.Hour, -1000 * time.Hour} {
			wrong := t.manager(&Skewed{Store: t.store, By: by}, nil)
			for name, m := range map[string][2]*roam.Manager[cart]{
				"wrong server first": {wrong, right}, "right server first": {right, wrong}, "wrong server alone": {wrong, wrong},
			} {
				before := t.insert(record("")).Now
				s := t.login(m[0], t.parse(t.start(m[0], "x").Token), roam.Login{User: "ann", Persist: 10 * time.Minute})
				tok := t.parse(s.Token)
				if _, err := m[1].Update(t.Context(), tok, add("y")); err != nil {
					t.Errorf("clock off by %v, %s: Update: %v", by, name, err)
				}
				if _, err := m[0].Update(t.Context(), s.Token, add("z")); err != nil {
					t.Errorf("clock off by %v, %s: Update with a record in hand: %v", by, name, err)
				}
				got, err := m[1].Get(t.Context(), tok)
				t.has("session", got, err, []string{"x", "y", "z"})
				rec := t.load(s.ID)
				for what, at := range map[string]time.Time{"Created": rec.Created, "LoggedIn": rec.LoggedIn, "Seen": rec.Seen} {
					// A manager knows the time at the store give or take a trip.
					if at.Before(before.Add(-time.Minute)) || at.After(rec.Now.Add(time.Minute)) {
						t.Errorf("clock off by %v, %s: %s is %v, want the store's time, %v to %v", by, name, what, at, before, rec.Now)
					}
				}

				s = t.login(m[0], roam.Token{}, roam.Login{User: "ann", Persist: 15 * time.Millisecond})
				tok = t.parse(s.Token)
				for start := time.Now(); err == nil && time.Since(start) < t.patience; {
					_, err = m[1].Get(t.Context(), tok)
				}
				t.ended("a session past its lifetime", err, roam.Idle, roam.Lifetime)
				if rec := t.load(s.ID); rec.Now.Before(rec.LoggedIn.Add(rec.Lifetime)) {
					t.Errorf("clock off by %v, %s: logged out %v early", by, name, rec.LoggedIn.Add(rec.Lifetime).Sub(rec.Now))
				}
				_, err = m[0].Get(t.Context(), tok)
				t.ended("the same session on the first server", err, roam.Idle, roam.Lifetime)
				_, err = m[0].Update(t.Context(), s.Token, add("late"))
				t.ended("an update with the record in hand", err, roam.Idle, roam.Lifetime)
				if t.Failed() {
					return
				}
			}
		}
	}},

	// Whoever reads the whole store, from a backup for instance, still has
	// no session.
	{"Sessions/TheStoreOpensNothing", func(t *tester) {
		m := t.manager(t.store, nil)
		t.start(m, "guest's")
		s := t.login(m, t.parse(t.start(m, "ann's").Token), roam.Login{User: "ann", From: roam.Client{Agent: "agent"}})
		s = t.login(m, t.parse(s.Token), roam.Login{User: "ann"}) // so that there is a previous proof
		dead := t.login(m, roam.Token{}, roam.Login{User: "ann"})
		t.end(dead.ID, roam.Revoked)

		var dump []byte
		var all []roam.ID
		for id, rec := range t.all() {
			all = append(all, id)
			for _, part := range [][]byte{rec.ID[:], rec.Proof[:], rec.Previous[:], []byte(rec.User), rec.Data, []byte(rec.Why), []byte(rec.From.Agent)} {
				dump = append(dump, part...)
			}
			for _, w := range rec.Writes {
				dump = binary.BigEndian.AppendUint64(dump, w)
			}
			dump = append(dump, strings.Repeat("\x00", 32)...)
		}
		for _, tok := range []roam.Token{s.Token, dead.Token} {
			text := tok.Reveal()
			raw, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil {
				t.Fatalf("%v", err)
			}
			for form, secret := range map[string][]byte{
				"as it is": raw[16:], "in hex": []byte(hex.EncodeToString(raw[16:])), "as the token": []byte(text),
			} {
				if bytes.Contains(dump, secret) {
					t.Errorf("the store has the secret, %s", form)
				}
			}
		}
		for i := 0; i+32 <= len(dump); i++ {
			for _, id := range all {
				tok, err := roam.ParseToken(base64.RawURLEncoding.EncodeToString(append(id[:], dump[i:i+32]...)))
				if err != nil {
					t.Fatalf("%v", err)
				}
				if got, err := m.Get(t.Context(), tok); !errors.Is(err, roam.ErrEnded) {
					t.Fatalf("bytes %d to %d of the store open session %v: error %v", i, i+32, got.ID, err)
				}
			}
		}
	}},

	{"Sessions/ReadsLeaveNoRecord", func(t *tester) {
		m := t.manager(t.store, nil)
		ctx := t.Context()
		same := func(*cart) error { return nil }
		fails := errors.New("no")
		for _, tok := range []roam.Token{{}, t.forged(newID()), t.forged(newID())} {
			m.Get(ctx, tok)
			m.Update(ctx, tok, same)
			m.Update(ctx, tok, func(c *cart) error { c.Items = []string{"x"}; return fails })
			m.Logout(ctx, tok)
			m.Login(ctx, tok, roam.Login{}, nil) // no user
			m.Login(ctx, tok, roam.Login{User: "ann"}, func(*cart) error { return fails })
			m.RevokeOwn(ctx, tok, newID(), roam.Revoked)
			if !tok.IsZero() {
				_, err := m.Update(ctx, tok, add("x"))
				t.ended("Update of a session that never was", err, roam.Missing)
			}
		}
		m.Revoke(ctx, newID(), roam.Revoked)
		m.RevokeUser(ctx, "nobody", roam.Revoked)
		for range m.List(ctx, "nobody") {
		}
		if n := len(t.all()); n != 0 {
			t.Errorf("%d records, want none: nobody wrote anything", n)
		}
		s := t.start(m, "x")
		rec := t.load(s.ID)
		for range 20 {
			m.Get(ctx, t.parse(s.Token))
			m.Update(ctx, s.Token, same)
			m.Get(ctx, t.forged(s.ID))
			m.Logout(ctx, t.forged(s.ID))
			m.Update(ctx, t.forged(s.ID), add("y"))
			m.Login(ctx, t.parse(s.Token), roam.Login{User: "ann"}, func(*cart) error { return fails })
		}
		t.stored(rec)
	}},

	// Whoever presents an unknown token is never given a session by that name.
	{"Sessions/AnUnknownTokenIsNeverAdopted", func(t *tester) {
		m := t.manager(t.store, nil)
		victim := t.login(m, roam.Token{}, roam.Login{User: "ann"})
		for _, tok := range []roam.Token{t.forged(newID()), t.forged(victim.ID)} {
			s := t.login(m, tok, roam.Login{User: "ann"})
			if s.ID == tok.ID() {
				t.Errorf("a login took over the ID of a token that opened nothing")
			}
			_, err := m.Get(t.Context(), tok)
			t.ended("the token presented", err, roam.Missing, roam.Forged)
		}
		if _, err := m.Get(t.Context(), t.parse(victim.Token)); err != nil {
			t.Errorf("the session whose ID was presented: %v", err)
		}
	}},

	{"Sessions/AStoreThatIsDownEndsNobody", func(t *tester) {
		honest := t.manager(t.store, nil)
		for name, faults := range map[string]Faults{"refuses": {Refused: 1}, "is silent": {LostRequest: 1}} {
			s := t.login(honest, t.parse(t.start(honest, "x").Token), roam.Login{User: "ann"})
			tok := t.parse(s.Token)
			net := &Faulty{Store: t.store, Faults: faults}
			m := t.manager(net, nil)
			_, getErr := m.Get(t.Context(), tok)
			_, updateErr := m.Update(t.Context(), tok, add("y"))
			_, handyErr := m.Update(t.Context(), s.Token, add("y"))
			_, loginErr := m.Login(t.Context(), tok, roam.Login{User: "ann"}, nil)
			_, startErr := m.Login(t.Context(), roam.Token{}, roam.Login{User: "ann"}, nil)
			_, userErr := m.RevokeUser(t.Context(), "ann", roam.Revoked)
			var listErr error
			for _, err := range m.List(t.Context(), "ann") {
				listErr = err
			}
			for verb, err := range map[string]error{
				"Get": getErr, "Update": updateErr, "Update with a record in hand": handyErr, "Login": loginErr, "first Login": startErr,
				"Logout": m.Logout(t.Context(), tok), "Revoke": m.Revoke(t.Context(), s.ID, roam.Revoked), "RevokeUser": userErr,
				"RevokeOwn": m.RevokeOwn(t.Context(), tok, s.ID, roam.Revoked), "List": listErr,
			} {
				if !errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrEnded) {
					t.Errorf("the store %s: %s: error %v, want ErrUnavailable", name, verb, err)
				}
			}
			net.Heal()
			got, err := m.Get(t.Context(), tok)
			t.has("when the store is back", got, err, []string{"x"})
			t.endUser("ann", roam.Revoked)
		}
	}},

	// A revoke is not undone by a closed browser window.
	{"Sessions/ARevokeOutlivesItsRequest", func(t *tester) {
		m := t.manager(t.store, nil)
		ctx := cancelled(t.Context())
		s := t.login(m, roam.Token{}, roam.Login{User: "ann"})
		if err := m.Revoke(ctx, s.ID, roam.Revoked); err != nil {
			t.Errorf("Revoke: %v", err)
		}
		_, err := m.Get(t.Context(), t.parse(s.Token))
		t.ended("a revoked session", err, roam.Revoked)
		s = t.login(m, roam.Token{}, roam.Login{User: "ann"})
		if n, err := m.RevokeUser(ctx, "ann", "stolen laptop"); n != 1 || err != nil {
			t.Errorf("RevokeUser ended %d, error %v, want 1", n, err)
		}
		_, err = m.Get(t.Context(), t.parse(s.Token))
		t.ended("a revoked user's session", err, "stolen laptop")
	}},

	{"Sessions/OnlyOnesOwnCanBeRevokedAsOnesOwn", func(t *tester) {
		m := t.manager(t.store, nil)
		ann, other := t.login(m, roam.Token{}, roam.Login{User: "ann"}), t.login(m, roam.Token{}, roam.Login{User: "ann"})
		bob, guest := t.login(m, roam.Token{}, roam.Login{User: "bob"}), t.start(m, "x")
		for what, id := range map[string]roam.ID{"bob's": bob.ID, "a guest's": guest.ID, "no": newID()} {
			t.ended("RevokeOwn of "+what+" session", m.RevokeOwn(t.Context(), t.parse(ann.Token), id, roam.Revoked), roam.Missing)
		}
		t.ended("RevokeOwn by a guest", m.RevokeOwn(t.Context(), t.parse(guest.Token), guest.ID, roam.Revoked), roam.Missing)
		t.living(ann.ID, other.ID, bob.ID, guest.ID)
		if err := m.RevokeOwn(t.Context(), t.parse(ann.Token), other.ID, roam.Revoked); err != nil {
			t.Errorf("RevokeOwn: %v", err)
		}
		t.living(ann.ID, bob.ID, guest.ID)
	}},
}

// forged returns a well-formed token with this ID and a secret of nobody's.
func (t *tester) forged(id roam.ID) roam.Token {
	t.Helper()
	secret := make([]byte, 32)
	binary.LittleEndian.PutUint64(secret, random64())
	tok, err := roam.ParseToken(base64.RawURLEncoding.EncodeToString(append(id[:], secret...)))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return tok
}

// logoutRace logs one session out while three servers update and touch it.
func (t *tester) logoutRace(ms [3]*roam.Manager[cart], seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	ctx := context.WithoutCancel(t.Context())
	s, err := ms[0].Update(ctx, roam.Token{}, add("x"))
	if err != nil {
		t.Errorf("Update that starts a session: %v", err)
		return
	}
	tok, err := roam.ParseToken(s.Token.Reveal())
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	rec, err := t.store.Load(ctx, s.ID, roam.Want{})
	if err != nil {
		t.Errorf("Load: %v", err)
		return
	}
	var waits [4]int
	for i := range waits {
		waits[i] = r.IntN(4)
	}
	each(len(waits), func(i int) {
		for range waits[i] {
			runtime.Gosched()
		}
		switch i {
		case 0:
			err := ms[0].Logout(ctx, tok)
			_, getErr := ms[1].Get(ctx, tok)
			_, updateErr := ms[2].Update(ctx, s.Token, add("late"))
			if err != nil || !errors.Is(getErr, roam.ErrEnded) || !errors.Is(updateErr, roam.ErrEnded) {
				t.Errorf("Logout returned %v, then Get %v and Update %v, want that it ended", err, getErr, updateErr)
			}
		case 1, 2:
			tok := tok
			if i == 2 {
				tok = s.Token // with a record in hand: a long request that began before the logout
			}
			if _, err := ms[i].Update(ctx, tok, add("y")); err != nil && !errors.Is(err, roam.ErrEnded) {
				t.Errorf("Update beside a logout: %v", err)
			}
		case 3:
			if err := t.store.Touch(ctx, []roam.Touch{{ID: s.ID, At: rec.Now.Add(time.Hour)}}); err != nil {
				t.Errorf("Touch: %v", err)
			}
		}
	})
	_, err = ms[1].Get(ctx, tok)
	t.ended("a session after its logout", err, roam.LoggedOut)
	if dead, err := t.store.Load(ctx, s.ID, roam.Want{}); err != nil || dead.Ended.IsZero() || dead.Data != nil {
		t.Errorf("after a logout the record has Ended %v and data %s, error %v", dead.Ended, abridge(dead.Data), err)
	}
}
