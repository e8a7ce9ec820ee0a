package roam_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/sealed"
)

// identifier is what a handler needs that is the same with and without a store.
type identifier interface {
	Identify(w http.ResponseWriter, r *http.Request) (roam.Identity, error)
	Logout(w http.ResponseWriter, r *http.Request) error
}

var (
	_ identifier = (*roam.Tickets)(nil)
	_ identifier = (*roam.Web[Cart])(nil)
)

const ticketCookie = "__Host-roam-ticket"

func ticketsOf(t testing.TB, web *roam.WebOptions, opts *roam.TicketOptions) *roam.Tickets {
	t.Helper()
	tickets, err := roam.NewTickets(web, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tickets
}

// issue logs in and returns the cookie's value and who it says.
func issue(t testing.TB, tickets *roam.Tickets, in roam.Login) (string, roam.Identity) {
	t.Helper()
	w := httptest.NewRecorder()
	who, err := tickets.Login(w, request("POST"), in)
	if err != nil {
		t.Fatal(err)
	}
	return (&http.Response{Header: w.Header()}).Cookies()[0].Value, who
}

// holder is who a ticket says that the visitor is.
func holder(t testing.TB, tickets *roam.Tickets, ticket string) roam.Identity {
	t.Helper()
	w := httptest.NewRecorder()
	who, err := tickets.Identify(w, request("GET", ticketCookie+"="+ticket))
	if err != nil {
		t.Fatal(err)
	}
	if set := w.Header()["Set-Cookie"]; set != nil {
		t.Fatalf("Identify sets %q", set)
	}
	return who
}

func TestATicketSaysWhoItIsOnEveryServer(t *testing.T) {
	here, there := ticketsOf(t, sealedWeb, nil), ticketsOf(t, sealedWeb, nil)
	ticket, who := issue(t, here, roam.Login{User: "ann", Level: 2})
	if who.User != "ann" || who.Level != 2 || who.ID.IsZero() || who.Expires.Sub(who.LoggedIn) != 12*time.Hour {
		t.Errorf("Login says %+v", who)
	}
	for _, server := range []*roam.Tickets{here, there, ticketsOf(t, sealedWeb, nil)} {
		if got := holder(t, server, ticket); got != who {
			t.Errorf("got %+v, want %+v", got, who)
		}
	}
	if got := holder(t, here, ""); got != (roam.Identity{}) {
		t.Errorf("without a ticket: %+v", got)
	}
}

// R-060, as far as it goes: each login has a ticket of its own. The one before
// goes on, and the documentation says so.
func TestEachLoginHasANewTicketAndTheOldOneGoesOn(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	seen := map[string]bool{}
	ids := map[roam.ID]bool{}
	for range 50 {
		ticket, who := issue(t, tickets, roam.Login{User: "ann"})
		if seen[ticket] || ids[who.ID] {
			t.Fatal("a ticket or an ID came twice")
		}
		seen[ticket], ids[who.ID] = true, true
	}
	for ticket := range seen {
		if holder(t, tickets, ticket).User != "ann" {
			t.Fatal("a ticket ended by itself")
		}
	}
}

// a ticket opens as nothing else, and nothing else as a ticket, even if
// one Sealer makes both.
func TestR022ATicketIsNoMarkAndAMarkNoTicket(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	for name, c := range map[string]struct{ site, twin *roam.WebOptions }{
		"by default":      {sealedWeb, sealedWeb},
		"names that meet": {&roam.WebOptions{Sealer: newSealer(1), Cookie: "__Host-a"}, &roam.WebOptions{Sealer: newSealer(1), Cookie: "__Host-a-ticket"}},
	} {
		web, tickets := website(t, m, c.site), ticketsOf(t, c.site, nil)
		b := &browser{web, map[string]string{}}
		b.login(t, "ann")
		base := "__Host-roam"
		if c.site.Cookie != "" {
			base = c.site.Cookie
		}
		mark, token := b.jar[base+"-mark"], b.jar[base]
		ticket, _ := issue(t, tickets, roam.Login{User: "bob"})
		raw, _ := base64.RawURLEncoding.DecodeString(mark)
		for _, value := range []string{mark, base64.RawURLEncoding.EncodeToString(raw[1:]), token} {
			if who, _ := tickets.Identify(httptest.NewRecorder(), request("GET", base+"-ticket="+value)); who != (roam.Identity{}) {
				t.Errorf("%s: a mark or token opens as a ticket of %q", name, who.User)
			}
		}
		calls := p.calls()
		for _, value := range []string{ticket, "AQ" + ticket, marked(ticket)} {
			for _, server := range []*roam.Web[Cart]{web, website(t, m, c.twin)} {
				for _, cookie := range []string{base, base + "-ticket"} {
					r := request("GET", cookie+"="+token+"; "+cookie+"-mark="+value)
					if who, err := server.Identify(httptest.NewRecorder(), r); who != (roam.Identity{}) || err != nil {
						t.Errorf("%s: a ticket opens as a mark: %+v, %v", name, who, err)
					}
				}
			}
		}
		if n := p.calls() - calls; n != 0 {
			t.Errorf("%s: %d calls of the store", name, n)
		}
	}
	// Nor do two sites that share keys let each other's visitors in.
	ticket, _ := issue(t, ticketsOf(t, sealedWeb, nil), roam.Login{User: "ann"})
	other := ticketsOf(t, &roam.WebOptions{Sealer: newSealer(1), Cookie: "__Host-other"}, nil)
	if who, _ := other.Identify(httptest.NewRecorder(), request("GET", "__Host-other-ticket="+ticket)); who != (roam.Identity{}) {
		t.Errorf("under another name: %+v", who)
	}
}

// marked is a ticket with what a mark has in front.
func marked(ticket string) string {
	raw, _ := base64.RawURLEncoding.DecodeString(ticket)
	return base64.RawURLEncoding.EncodeToString(append([]byte{1}, raw...))
}

// whatever is wrong with a ticket, the answer is the same.
func TestR024AForgedTicketIsAStrangers(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	good, _ := issue(t, tickets, roam.Login{User: "ann"})
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	forged := []string{"x", "=", good[1:], good + "A", good + "=", good[:len(good)-1], good[:len(good)-2], good + good, `"` + good + `"`, strings.Repeat("A", 5000)}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		forged = append(forged, base64.RawURLEncoding.EncodeToString(bad), base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(letters, good[len(good)-1])
	if len(raw)%3 == 0 {
		t.Fatal("the text of this ticket has no bits left over")
	}
	forged = append(forged, good[:len(good)-1]+string(letters[last|1])) // another text of the same bytes
	elsewhere, _ := issue(t, ticketsOf(t, &roam.WebOptions{Sealer: newSealer(2)}, nil), roam.Login{User: "ann"})
	forged = append(forged, elsewhere)

	answer := func(cookie string) string {
		w := httptest.NewRecorder()
		who, err := tickets.Identify(w, request("GET", cookie))
		var text strings.Builder
		w.Header().Write(&text)
		if who != (roam.Identity{}) || err != nil {
			t.Fatalf("%.60q: %+v, %v; want a stranger", cookie, who, err)
		}
		_, err = tickets.RequireLogin(httptest.NewRecorder(), request("GET", cookie), 0, 0)
		if !errors.Is(err, roam.ErrLogin) {
			t.Fatalf("%.60q: RequireLogin: %v", cookie, err)
		}
		return text.String() + err.Error()
	}
	none := answer("")
	for _, ticket := range forged {
		if got := answer(ticketCookie + "=" + ticket); got != none {
			t.Errorf("%.60q: got the answer %q, want %q", ticket, got, none)
		}
	}
	if who := holder(t, tickets, good); who.User != "ann" {
		t.Errorf("the good one: %+v", who)
	}
}

// what is sealed has one layout, which servers of two versions
// share. Another one is not guessed at.
func TestR030ATicketHasOneLayout(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	now := time.Now().UnixMicro()
	id := roam.ID{0xa0, 1, 2, 3, 4, 5, 0x46, 7, 0x88}
	plain := append([]byte{1}, id[:]...)
	plain = append(plain, 2)
	plain = binary.BigEndian.AppendUint64(plain, uint64(now))
	plain = binary.BigEndian.AppendUint64(plain, uint64(now+60e6))
	plain = append(plain, "ann"...)
	seal := func(plain []byte) string {
		return base64.RawURLEncoding.EncodeToString(newSealer(1).Seal(nil, plain, []byte("roam/ticket\x00"+ticketCookie)))
	}
	want := roam.Identity{ID: id, User: "ann", Level: 2, LoggedIn: time.UnixMicro(now).UTC(), Expires: time.UnixMicro(now + 60e6).UTC()}
	if got := holder(t, tickets, seal(plain)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	other := bytes.Clone(plain)
	other[0] = 2
	for _, plain := range [][]byte{other, nil, plain[:1], plain[:33], plain[:34]} { // the last one has no user
		if got := holder(t, tickets, seal(plain)); got != (roam.Identity{}) {
			t.Errorf("%x: %+v", plain, got)
		}
	}
}

//
func TestR029ATicketPastItsDeadlineIsAStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := ticketsOf(t, sealedWeb, &roam.TicketOptions{Lifetime: time.Hour})
		day := ticketsOf(t, sealedWeb, &roam.TicketOptions{Lifetime: 24 * time.Hour})
		short, _ := issue(t, tickets, roam.Login{User: "ann"})
		long, _ := issue(t, tickets, roam.Login{User: "ann", Persist: 48 * time.Hour})
		for _, c := range []struct {
			after       time.Duration
			short, long string
		}{{time.Hour - time.Microsecond, "ann", "ann"}, {time.Microsecond, "", "ann"}, {46 * time.Hour, "", "ann"}, {time.Hour, "", ""}} {
			time.Sleep(c.after)
			for _, server := range []*roam.Tickets{tickets, day} { // a ticket keeps the lifetime that it was given
				if got := holder(t, server, short).User; got != c.short {
					t.Errorf("%v later: got %q, want %q", c.after, got, c.short)
				}
				if got := holder(t, server, long).User; got != c.long {
					t.Errorf("%v later, remembered: got %q, want %q", c.after, got, c.long)
				}
			}
		}
	})
}

// The clock of one server may be a little ahead of another's. By how much is
// bounded, so that a clock that was wrong once makes no ticket for a year.
func TestATicketFromTheFutureIsNotBelieved(t *testing.T) {
	for ahead, want := range map[time.Duration]string{time.Minute: "ann", time.Hour: "ann", time.Hour + time.Second: "", 365 * 24 * time.Hour: ""} {
		var ticket string
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(ahead)
			ticket, _ = issue(t, ticketsOf(t, sealedWeb, nil), roam.Login{User: "ann"})
		})
		synctest.Test(t, func(t *testing.T) { // at the beginning again
			if got := holder(t, ticketsOf(t, sealedWeb, nil), ticket).User; got != want {
				t.Errorf("%v ahead: got %q, want %q", ahead, got, want)
			}
		})
	}
}

//
func TestR031ATicketSaysNothingToItsReader(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	ticket, who := issue(t, tickets, roam.Login{User: "ann.example"})
	raw, _ := base64.RawURLEncoding.DecodeString(ticket)
	if bytes.Contains(raw, []byte("ann")) || bytes.Contains(raw, who.ID[:]) {
		t.Error("user or ID in clear")
	}
}

//
func TestTheCookieOfATicket(t *testing.T) {
	for name, c := range map[string]struct {
		opts *roam.WebOptions
		in   roam.Login
		want string
	}{
		"default":  {sealedWeb, roam.Login{User: "ann"}, "__Host-roam-ticket=TICKET; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"remember": {sealedWeb, roam.Login{User: "ann", Persist: 30 * 24 * time.Hour}, "__Host-roam-ticket=TICKET; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax"},
		"strict":   {&roam.WebOptions{Sealer: newSealer(1), Cookie: "__Host-id", SameSite: http.SameSiteStrictMode}, roam.Login{User: "ann"}, "__Host-id-ticket=TICKET; Path=/; HttpOnly; Secure; SameSite=Strict"},
		"insecure": {&roam.WebOptions{Sealer: newSealer(1), InsecureHTTP: true}, roam.Login{User: "ann"}, "roam-insecure-ticket=TICKET; Path=/; HttpOnly; SameSite=Lax"},
	} {
		w := httptest.NewRecorder()
		if _, err := ticketsOf(t, c.opts, nil).Login(w, request("POST"), c.in); err != nil {
			t.Fatal(err)
		}
		value := (&http.Response{Header: w.Header()}).Cookies()[0].Value
		if got := strings.Replace(w.Header().Get("Set-Cookie"), value, "TICKET", 1); got != c.want || len(w.Header()["Set-Cookie"]) != 1 {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
	name := "__Host-" + strings.Repeat("x", 57)
	tickets := ticketsOf(t, &roam.WebOptions{Sealer: keyring(t).Sealer(name, strings.Repeat("y", 100), "ticket"), Cookie: name}, nil)
	ticket, who := issue(t, tickets, roam.Login{User: strings.Repeat("u", 255)})
	if n := len(name) + len("-ticket=") + len(ticket); n >= 512 {
		t.Errorf("the largest cookie has %d bytes", n)
	}
	if got, _ := tickets.Identify(httptest.NewRecorder(), request("GET", name+"-ticket="+ticket)); got != who {
		t.Errorf("the largest one: got %+v, want %+v", got, who)
	}
}

func keyring(t testing.TB) *sealed.Keyring {
	t.Helper()
	keys, err := sealed.New(t.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		return []sealed.Key{sealed.NewKey(time.Now().Add(-24 * time.Hour))}, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

//
func TestTicketsWhoseOptionsContradictEachOtherAreRefused(t *testing.T) {
	s := newSealer(1)
	for _, c := range []struct {
		web  *roam.WebOptions
		opts roam.TicketOptions
		want string
	}{
		{nil, roam.TicketOptions{}, "Sealer is nil"},
		{&roam.WebOptions{}, roam.TicketOptions{}, "Sealer is nil"},
		{&roam.WebOptions{Sealer: s, AllowUnsealed: true}, roam.TicketOptions{}, "AllowUnsealed"},
		{&roam.WebOptions{Sealer: s, Cookie: "session"}, roam.TicketOptions{}, "must begin with __Host-"},
		{&roam.WebOptions{Sealer: s, SameSite: http.SameSiteNoneMode}, roam.TicketOptions{}, "SameSite"},
		{sealedWeb, roam.TicketOptions{Lifetime: -1}, "Lifetime is -1ns"},
		{sealedWeb, roam.TicketOptions{Lifetime: 401 * 24 * time.Hour}, "400 days"},
	} {
		if _, err := roam.NewTickets(c.web, &c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v, %+v: got %v, want %q", c.web, c.opts, err, c.want)
		}
	}
}

func TestATicketsLoginIsChecked(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	for _, in := range []roam.Login{{}, {User: strings.Repeat("u", 256)}, {User: "a\x00b"}, {User: "ann", Persist: -1}, {User: "ann", Persist: 401 * 24 * time.Hour}} {
		w := httptest.NewRecorder()
		if who, err := tickets.Login(w, request("POST"), in); err == nil || who != (roam.Identity{}) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%+v: %+v, %v, sets %q", in, who, err, w.Header()["Set-Cookie"])
		}
	}
	keyless := ticketsOf(t, &roam.WebOptions{Sealer: noKey{}}, nil)
	w := httptest.NewRecorder()
	if _, err := keyless.Login(w, request("POST"), roam.Login{User: "ann"}); err == nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("without a key: %v, sets %q", err, w.Header()["Set-Cookie"])
	}
}

// noKey has no key to seal with.
type noKey struct{}

func (noKey) Seal(_, _, _ []byte) []byte          { return nil }
func (noKey) Open(_, _, _ []byte) ([]byte, error) { return nil, errors.New("no key") }

//
func TestSeveralTicketsAreRefused(t *testing.T) {
	var log strings.Builder
	tickets := ticketsOf(t, sealedWeb, &roam.TicketOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
	for _, cookies := range [][]string{
		{ticketCookie + "=" + ticket + "; " + ticketCookie + "=" + ticket},
		{ticketCookie + "=" + ticket, ticketCookie + "=x"},
	} {
		w := httptest.NewRecorder()
		if who, err := tickets.Identify(w, request("GET", cookies...)); who != (roam.Identity{}) || err != nil {
			t.Errorf("Identify: %+v, %v", who, err)
		}
		if _, err := tickets.Login(w, request("POST", cookies...), roam.Login{User: "ann"}); !errors.Is(err, roam.ErrRequest) {
			t.Errorf("Login: %v", err)
		}
		if err := tickets.Logout(w, request("POST", cookies...)); !errors.Is(err, roam.ErrRequest) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("Logout: %v, sets %q", err, w.Header()["Set-Cookie"])
		}
	}
	if !strings.Contains(log.String(), "session: duplicate cookie") || strings.Contains(log.String(), ticket) {
		t.Errorf("the log:\n%s", log.String())
	}
	for _, cookie := range []string{"__Host-roam-ticket2=", "__Host-roam-ticke=", "__host-roam-ticket=", "\u2000__Host-roam-ticket=", "__Host-roam=", "__Host-roam-mark="} {
		if who, _ := tickets.Identify(httptest.NewRecorder(), request("GET", cookie+ticket)); who != (roam.Identity{}) {
			t.Errorf("%q counts", cookie)
		}
	}
}

//
func TestAResponseThatLookedAtATicketIsMarked(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
	for name, verb := range map[string]func(w http.ResponseWriter, r *http.Request){
		"Identify":     func(w http.ResponseWriter, r *http.Request) { tickets.Identify(w, r) },
		"RequireLogin": func(w http.ResponseWriter, r *http.Request) { tickets.RequireLogin(w, r, 0, 0) },
		"Login":        func(w http.ResponseWriter, r *http.Request) { tickets.Login(w, r, roam.Login{User: "ann"}) },
		"Logout":       func(w http.ResponseWriter, r *http.Request) { tickets.Logout(w, r) },
	} {
		for _, cookie := range []string{"", ticketCookie + "=" + ticket, ticketCookie + "=x"} {
			bare := httptest.NewRecorder()
			verb(bare, request("GET", cookie))
			if got := bare.Header()["Vary"]; !slices.Equal(got, []string{"Cookie"}) {
				t.Errorf("%s: Vary %q", name, got)
			}
			for chosen, want := range map[string]string{"": "no-store", "private, max-age=60": "private, max-age=60", "public, max-age=60": "public, max-age=60"} {
				w := httptest.NewRecorder()
				w.Header().Set("Vary", "Accept-Language")
				if chosen != "" {
					w.Header().Set("Cache-Control", chosen)
				}
				verb(w, request("GET", cookie))
				verb(w, request("GET", cookie))
				if w.Header().Get("Set-Cookie") != "" && strings.HasPrefix(want, "public") {
					want = "no-store"
				}
				if got := w.Header()["Vary"]; !slices.Equal(got, []string{"Accept-Language", "Cookie"}) {
					t.Errorf("%s: Vary %q", name, got)
				}
				if got := w.Header()["Cache-Control"]; len(got) != 1 || got[0] != want {
					t.Errorf("%s, chosen %q: Cache-Control %q, want %q", name, chosen, got, want)
				}
				if n := len(w.Header()["Set-Cookie"]); n > 1 {
					t.Errorf("%s: %d cookies", name, n)
				}
			}
		}
	}
}

//
func TestPlainHTTPCarriesNoTicket(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
	r := request("GET", ticketCookie+"="+ticket)
	r.TLS = nil
	w := httptest.NewRecorder()
	if who, err := tickets.Identify(w, r); who != (roam.Identity{}) || err != nil {
		t.Errorf("Identify: %+v, %v", who, err)
	}
	if _, err := tickets.Login(w, r, roam.Login{User: "ann"}); !errors.Is(err, roam.ErrRequest) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("Login: %v, sets %q", err, w.Header()["Set-Cookie"])
	}
}

// Two verbs of one handler speak of the same login.
func TestLogoutDeletesTheTicketInThisBrowserOnly(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
	w, r := httptest.NewRecorder(), request("POST", ticketCookie+"="+ticket)
	if err := tickets.Logout(w, r); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Set-Cookie"); got != "__Host-roam-ticket=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("sets %s", got)
	}
	if who, _ := tickets.Identify(w, r); who != (roam.Identity{}) {
		t.Errorf("after it, in the same response: %+v", who)
	}
	bob, err := tickets.Login(w, r, roam.Login{User: "bob"})
	if err != nil || len(w.Header()["Set-Cookie"]) != 1 {
		t.Errorf("a login after it: %v, sets %q", err, w.Header()["Set-Cookie"])
	}
	if who, _ := tickets.Identify(w, r); who != bob {
		t.Errorf("after that: %+v, want bob", who)
	}
	if who := holder(t, tickets, ticket); who.User != "ann" {
		t.Errorf("a copy of ann's ticket opens as %q; the documentation says that it lives on", who.User)
	}
}

func TestRequireLoginWithATicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := ticketsOf(t, sealedWeb, nil)
		try := func(what, ticket string, within time.Duration, level roam.Level, want string) {
			t.Helper()
			who, err := tickets.RequireLogin(httptest.NewRecorder(), request("GET", ticketCookie+"="+ticket), within, level)
			if want == "" && (err != nil || who.User != "ann") || want != "" && (!errors.Is(err, roam.ErrLogin) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %+v, %v; want %q", what, who, err, want)
			}
		}
		try("a stranger", "", 0, 0, "nobody is logged in")
		ticket, _ := issue(t, tickets, roam.Login{User: "ann", Level: 1})
		try("logged in", ticket, 0, 0, "")
		try("just now", ticket, time.Minute, 1, "")
		try("of a higher level", ticket, 0, 2, "of level 1, and this needs level 2")
		time.Sleep(2 * time.Minute)
		try("too long ago", ticket, time.Minute, 0, "2m0s old, and this needs one within 1m0s")
		stepped, _ := issue(t, tickets, roam.Login{User: "ann", Level: 2})
		try("stepped up", stepped, time.Minute, 2, "")
		try("the one from before", ticket, 0, 2, "of level 1")
	})
}

// A dropped key ends all that it has sealed; a rotated one ends nothing.
func TestADroppedKeyEndsItsTickets(t *testing.T) {
	var mu sync.Mutex
	first, second := sealed.NewKey(time.Now().Add(-2*time.Hour)), sealed.NewKey(time.Now().Add(-2*time.Hour))
	current := []sealed.Key{first}
	set := func(keys ...sealed.Key) { mu.Lock(); defer mu.Unlock(); current = keys }
	ring, err := sealed.New(t.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		mu.Lock()
		defer mu.Unlock()
		return current, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	tickets := ticketsOf(t, &roam.WebOptions{Sealer: ring.Sealer(ticketCookie, "test", "ticket")}, nil)
	ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
	set(first, second)
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if who := holder(t, tickets, ticket); who.User != "ann" {
		t.Fatalf("after a rotation: %+v", who)
	}
	first.Dropped = time.Now()
	set(first, second)
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if who := holder(t, tickets, ticket); who != (roam.Identity{}) {
		t.Errorf("after its key was dropped: %+v", who)
	}
}

//
func TestEventsOfTicketsNameTheLoginAndNeverTheTicket(t *testing.T) {
	var log strings.Builder
	tickets := ticketsOf(t, sealedWeb, &roam.TicketOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ticket, who := issue(t, tickets, roam.Login{User: "ann"})
	tickets.Logout(httptest.NewRecorder(), request("POST", ticketCookie+"="+ticket))
	tickets.Logout(httptest.NewRecorder(), request("POST", ticketCookie+"=x"))
	for want, n := range map[string]int{"ticket: logged in": 1, "ticket: logged out": 1, "session=" + who.ID.String(): 2, "user=ann": 2, ticket: 0} {
		if got := strings.Count(log.String(), want); got != n {
			t.Errorf("%.40q is %d times in the log, want %d:\n%s", want, got, n, log.String())
		}
	}
	if long := regexp.MustCompile(`[\w-]{40,}`).FindString(log.String()); long != "" { // an ID has 36
		t.Errorf("the log has %q, which may be a ticket", long)
	}
}

// While a site gets a store, both are asked, and nobody is logged out.
func TestTicketsAndSessionsLiveSideBySide(t *testing.T) {
	opts := &roam.WebOptions{Sealer: newSealer(1)}
	tickets := ticketsOf(t, opts, nil)
	web := website(t, manager(t, roam.NewMemStore(), nil), opts)
	b := &browser{web, map[string]string{}}
	b.visit(func(w http.ResponseWriter, r *http.Request) { tickets.Login(w, r, roam.Login{User: "ann"}) })
	identify := func() (who roam.Identity) {
		b.visit(func(w http.ResponseWriter, r *http.Request) {
			var err error
			if who, err = web.Identify(w, r); err == nil && who.User == "" {
				who, err = tickets.Identify(w, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		return who
	}
	if who := identify(); who.User != "ann" {
		t.Errorf("with the ticket: %+v", who)
	}
	var s roam.Session[Cart]
	b.visit(func(w http.ResponseWriter, r *http.Request) {
		s, _ = web.Login(w, r, roam.Login{User: "ann"}, nil)
		tickets.Logout(w, r)
	})
	if len(b.jar) != 2 {
		t.Errorf("after a login at the store the browser has %d cookies, want token and mark", len(b.jar))
	}
	if who := identify(); who.ID != s.ID {
		t.Errorf("after it: %+v", who)
	}
}

func TestIdentifyWithATicketAllocatesNothing(t *testing.T) {
	for name, s := range map[string]roam.Sealer{"bare": newSealer(1), "keyring": keyring(t).Sealer(ticketCookie, "test", "ticket")} {
		tickets := ticketsOf(t, &roam.WebOptions{Sealer: s}, nil)
		ticket, _ := issue(t, tickets, roam.Login{User: "ann"})
		good, bad := request("GET", ticketCookie+"="+ticket), request("GET", ticketCookie+"=A"+ticket)
		w := httptest.NewRecorder()
		tickets.Identify(w, good)
		for _, r := range []*http.Request{good, bad} {
			if n := testing.AllocsPerRun(100, func() { tickets.Identify(w, r) }); n != 0 {
				t.Errorf("%s: %v allocations, want 0", name, n)
			}
		}
	}
}

// Two users never read each other's name, whatever they have in common.
func TestNamesOfUsersAreNotMixedUp(t *testing.T) {
	tickets := ticketsOf(t, sealedWeb, nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 3000 { // more than are remembered
				user := strings.Repeat("u", 1+i) + string(rune('a'+j%26)) + strings.Repeat("v", j/26)
				ticket, _ := issue(t, tickets, roam.Login{User: user})
				if got := holder(t, tickets, ticket).User; got != user {
					t.Errorf("got %q, want %q", got, user)
				}
			}
		})
	}
	wg.Wait()
}

// no text that we have not sealed opens, and whatever is in one that we
// have, it is read as its layout says or not at all.
func FuzzTicket(f *testing.F) {
	tickets, s := ticketsOf(f, sealedWeb, nil), newSealer(1)
	good, _ := issue(f, tickets, roam.Login{User: "ann"})
	plain := append(bytes.Repeat([]byte{0}, 26), "\x7f\xff\xff\xff\xff\xff\xff\xffann"...)
	plain[0] = 1
	f.Add("A"+good[1:len(good)-1], plain) // the seeds of another process open here too, so none is whole
	f.Add("", plain[:20])
	f.Add("; "+ticketCookie, []byte{})
	f.Fuzz(func(t *testing.T, text string, plain []byte) {
		read := func(text string) roam.Identity {
			who, err := tickets.Identify(httptest.NewRecorder(), request("GET", ticketCookie+"="+text))
			if err != nil {
				t.Error(err)
			}
			return who
		}
		if who := read(text); who != (roam.Identity{}) {
			t.Errorf("%q: %+v", text, who)
		}
		text = base64.RawURLEncoding.EncodeToString(s.Seal(nil, plain, []byte("roam/ticket\x00"+ticketCookie)))
		who := read(text)
		switch {
		case who == roam.Identity{}:
		case len(plain) <= 34 || plain[0] != 1 || who.User != string(plain[34:]) || who.ID != roam.ID(plain[1:17]) || !who.Expires.After(time.Now()):
			t.Errorf("%x: %+v", plain, who)
		}
	})
}

// BenchmarkTicket takes turns between the raw work of decoding and opening, and
// Identify; see BenchmarkPages.
func BenchmarkTicket(b *testing.B) {
	keys := keyring(b)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- keys.Run(ctx) }()
	defer func() { stop(); <-done }()
	tickets := ticketsOf(b, &roam.WebOptions{Sealer: keys.Sealer(ticketCookie, "bench", "ticket")}, nil)
	ticket, _ := issue(b, tickets, roam.Login{User: "user-12345"})
	good, forged := request("GET", ticketCookie+"="+ticket), request("GET", ticketCookie+"="+ticket[:100]+"Aa"+ticket[102:])

	raw, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil {
		b.Fatal(err)
	}
	block, err := aes.NewCipher(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead := roam.Must(cipher.NewGCMWithRandomNonce(block))
	var buf [1024]byte
	text := base64.RawURLEncoding.AppendEncode(nil, aead.Seal(nil, nil, make([]byte, len(raw)-sealed.Overhead), buf[:64]))
	bare := func() bool {
		n, err := base64.RawURLEncoding.Decode(buf[:512], text)
		if err != nil {
			return false
		}
		_, err = aead.Open(buf[512:512], nil, buf[:n], buf[900:964])
		return err == nil
	}
	clear(buf[:])

	header := http.Header{}
	rec := &recorder{header: header}
	for _, c := range []struct {
		name string
		r    *http.Request
		want string
	}{{"Identify", good, "user-12345"}, {"Forged", forged, ""}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var ours, theirs time.Duration
			b.ResetTimer()
			for n := 0; n < b.N; {
				k := min(1000, b.N-n)
				began := time.Now()
				for range k {
					clear(header)
					if who, _ := tickets.Identify(rec, c.r); who.User != c.want {
						b.Fatal(who)
					}
				}
				ours += time.Since(began)
				b.StopTimer()
				clear(buf[900:964])
				began = time.Now()
				for range k {
					clear(header)
					if !bare() {
						b.Fatal("raw")
					}
				}
				theirs += time.Since(began)
				b.StartTimer()
				n += k
			}
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N), "raw-ns/op")
			b.ReportMetric(float64(ours)/float64(theirs), "x-raw")
		})
	}
}
