package shop_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// warm asks until both servers answer who is it and what is in the cart from
// what they have, as they do once they have read the log of ends.
func (b *browser) warm() {
	b.t.Helper()
	b.until(func() bool {
		before := b.farm.store.loads.Load()
		for range b.farm.servers {
			b.get("/api/whoami")
			b.get("/api/cart")
		}
		for range b.farm.servers { // and the other way round, as they take turns
			b.get("/api/cart")
			b.get("/api/whoami")
		}
		return b.farm.store.loads.Load() == before
	})
}

func TestPagesThatAskWhoItIsCostNoTrip(t *testing.T) {
	f := newNearFarm(t, 2)
	b := f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "oolong")
	order := b.must("/checkout")
	b.must("/cart/add", "product", "teapot")
	b.warm()
	for path, want := range map[string]int64{"/api/whoami": 0, order: 0, "/cart": 0, "/orders": 0, "/login?again=yes": 0, "/account": 1, "/devices": 1} {
		for range 4 {
			before := f.store.loads.Load()
			a := b.get(path)
			if got := f.store.loads.Load() - before; got != want || a.status != http.StatusOK || !strings.Contains(a.body, "ann") {
				t.Errorf("GET %s: %d loads, status %d, want %d and a page that knows ann\n%.300s", path, got, a.status, want, a.body)
			}
		}
	}
	before := f.store.calls.Load()
	guest := f.browser(t)
	guest.get("/api/whoami")
	guest.get("/cart")
	forged := f.browser(t).do("GET", "/api/whoami", nil, "Cookie", sessionCookie+"="+b.cookie(sessionCookie)+"; "+sessionCookie+"-mark=AQAA")
	if strings.Contains(forged.body, "ann") {
		t.Errorf("a token without its mark opens: %s", forged.body)
	}
	if got := f.store.calls.Load() - before; got > 4 { // the two servers follow the log meanwhile
		t.Errorf("strangers cost %d calls", got)
	}
}

// The servers have the cart in their memory, and only one of them takes part in
// each change.
func TestEachServerShowsWhatAnotherHasChanged(t *testing.T) {
	f := newNearFarm(t, 3)
	b := f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "oolong")
	b.warm()
	for i := range 5 {
		b.must("/cart/add", "product", "oolong")
		for range f.servers {
			if got := b.whoami().Count; got != i+2 {
				t.Errorf("the cart has %d, want %d", got, i+2)
			}
		}
	}
	b.must("/checkout")
	for range f.servers {
		if got := b.whoami().Count; got != 0 {
			t.Errorf("after the order the cart has %d, want 0", got)
		}
	}
}

// What follows cannot be undone by hearing of the end a second later.
func TestASessionThatEndedElsewhereOrdersNothing(t *testing.T) {
	f := newNearFarm(t, 2)
	b, phone := f.browser(t), f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "oolong")
	phone.login("ann")
	b.warm()
	phone.must("/devices/logout-others")
	if a := b.post("/checkout"); a.status != http.StatusConflict {
		t.Errorf("POST /checkout: status %d, want 409", a.status)
	}
	if got := phone.orders(); len(got) != 0 {
		t.Errorf("orders are %v, want none", got)
	}
}

// A stream is what a browser hears from /api/live.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
}

type news struct {
	Server, User, Ended, Text string
	Session, Rotated          bool
}

func (b *browser) listen(server int) *stream {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.farm.servers[server].URL+"/api/live", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	w, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { w.Body.Close() })
	if got := w.Header.Get("Content-Type"); w.StatusCode != http.StatusOK || got != "text/event-stream" || w.Header.Get("Cache-Control") != "no-store" {
		b.t.Fatalf("GET /api/live: status %d, %q", w.StatusCode, w.Header)
	}
	return &stream{b.t, bufio.NewScanner(w.Body)}
}

// next returns the next event, or "" at the end of the stream.
func (s *stream) next() (event string, n news) {
	s.t.Helper()
	for s.lines.Scan() {
		switch name, value, _ := strings.Cut(s.lines.Text(), ": "); name {
		case "event":
			event = value
		case "data":
			if err := json.Unmarshal([]byte(value), &n); err != nil {
				s.t.Fatal(err)
			}
		case "":
			return event, n
		}
	}
	return "", n
}

func TestTheLivePageHearsOfAnEndElsewhere(t *testing.T) {
	f := newNearFarm(t, 2)
	b, phone := f.browser(t), f.browser(t)
	b.login("ann")
	phone.login("ann")
	b.warm()
	loads := f.store.loads.Load()
	first, second := b.listen(0), b.listen(1)
	for i, s := range []*stream{first, second} {
		if event, n := s.next(); event != "watching" || n.User != "ann" || !n.Session {
			t.Fatalf("server %d begins with %q %+v, want to be told that it watches ann", i+1, event, n)
		}
	}
	if got := f.store.loads.Load() - loads; got != 0 {
		t.Errorf("two streams cost %d loads, want 0", got)
	}
	phone.must("/devices/logout-others")
	ended := time.Now()
	for i, s := range []*stream{first, second} {
		event, n := s.next()
		if event != "ended" || n.Ended != "revoked" || !strings.Contains(n.Text, "from another device") || n.Rotated {
			t.Errorf("server %d: then comes %q %+v, want the end with its reason", i+1, event, n)
		}
		t.Logf("server %d told after %v", i+1, time.Since(ended).Round(time.Millisecond))
		if event, n := s.next(); event != "" {
			t.Errorf("server %d: after the end comes %q %+v", i+1, event, n)
		}
	}
	if event, n := b.listen(0).next(); event != "ended" || n.Ended != "revoked" {
		t.Errorf("a stream that is opened later begins with %q %+v, want the end", event, n)
	}
}

func TestTheLivePageOfAGuestAndOfALoginInAnotherTab(t *testing.T) {
	f := newNearFarm(t, 2)
	b := f.browser(t)
	if event, n := b.listen(0).next(); event != "watching" || n.Session || n.User != "" {
		t.Errorf("a first visit begins with %q %+v, want that there is nothing to watch", event, n)
	}
	b.must("/cart/add", "product", "oolong")
	s := b.listen(1)
	if event, n := s.next(); event != "watching" || !n.Session || n.User != "" {
		t.Errorf("a guest's begins with %q %+v, want that a session is watched", event, n)
	}
	b.login("ann")
	if event, n := s.next(); event != "ended" || !n.Rotated {
		t.Errorf("after a login in another tab: %q %+v, want to be told of it", event, n)
	}
	if event, n := b.listen(1).next(); event != "watching" || n.User != "ann" {
		t.Errorf("the next stream begins with %q %+v, want ann", event, n)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	stopping := make(chan struct{})
	open := func(cfg shop.Config) *stream {
		b := newFarmOf(t, 1, cfg).browser(t)
		b.login("ann")
		s := b.listen(0)
		if event, _ := s.next(); event != "watching" {
			t.Fatalf("it begins with %q", event)
		}
		return s
	}
	// All streams end in time. One that is older, of a server that goes on, tells
	// whether this one's time had come.
	older := open(shop.Config{})
	s := open(shop.Config{Stopping: stopping})
	var over atomic.Bool
	var reading sync.WaitGroup
	reading.Go(func() { older.next(); over.Store(true) })
	close(stopping)
	if event, n := s.next(); event != "" {
		t.Errorf("then comes %q %+v, want the end of the stream and no end of the session", event, n)
	}
	if over.Load() {
		t.Error("the stream went on until its time had come")
	}
	reading.Wait()
}

func TestLoggingOutOthersNeedsARecentPassword(t *testing.T) {
	f := newFarm(t, 2)
	here, phone := f.browser(t), f.browser(t)
	here.must("/cart/add", "product", "oolong")
	here.login("ann")
	phone.login("ann")
	id := deviceID.FindStringSubmatch(here.get("/devices").body)[1]
	now := time.Now()
	f.store.old.Store(&now)
	for _, form := range [][]string{{"/devices/logout-others"}, {"/devices/logout", "id", id}} {
		if to := here.must(form[0], form[1:]...); to != "/login?again=yes&next=%2Fdevices" {
			t.Errorf("POST %s leads to %q, want to the login and back", form[0], to)
		}
	}
	if got := phone.whoami().User; got != "ann" {
		t.Fatalf("the phone is %q, want ann as before", got)
	}
	a := here.get("/login?again=yes&next=%2Fdevices")
	if !strings.Contains(a.body, "Is it still you?") || !strings.Contains(a.body, `name="user" value="ann" readonly`) {
		t.Errorf("the page does not ask ann for her password:\n%s", a.body)
	}
	if a := here.post("/login", "user", "ann", "password", "guess", "again", "yes", "next", "/devices"); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "Is it still you?") {
		t.Errorf("a wrong password: status %d, want 422 and to be asked again", a.status)
	}
	if to := here.must("/login", "user", "ann", "password", shop.Password, "again", "yes", "next", "/devices"); to != "/devices" {
		t.Errorf("the password leads to %q, want /devices", to)
	}
	if to := here.must("/devices/logout-others"); to != "/devices" {
		t.Errorf("then logging out others leads to %q, want /devices", to)
	}
	if got := phone.whoami(); got.Ended != "revoked" {
		t.Errorf("the phone is %+v, want it logged out", got)
	}
	if got := here.whoami(); got.User != "ann" || got.Count != 1 {
		t.Errorf("this browser is %+v, want ann with her cart", got)
	}
	if a := f.browser(t).get("/login?again=yes"); !strings.Contains(a.body, "<h1>Log in</h1>") {
		t.Error("a guest is asked whether it is still them")
	}
}

func TestAnOutageLeavesTheGreeting(t *testing.T) {
	f := newNearFarm(t, 2)
	b, gone, guest := f.browser(t), f.browser(t), f.browser(t)
	gone.login("ann")
	gone.warm()
	b.login("ann")
	b.must("/devices/logout-others")
	gone.until(func() bool {
		for range f.servers { // they take turns
			if !strings.Contains(gone.get("/api/whoami").body, "revoked") {
				return false
			}
		}
		return true
	})
	b.warm()
	f.store.down.Store(true)
	for range f.servers {
		a := b.get("/account")
		if user, there := a.attr("data-user"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "Hello, ann") || there || a.header["Set-Cookie"] != nil {
			t.Errorf("status %d, data-user %q %v, cookies %q; want 503 and a greeting\n%s", a.status, user, there, a.header["Set-Cookie"], a.body)
		}
	}
	if a := gone.get("/account"); strings.Contains(a.body, "Hello") {
		t.Errorf("somebody is greeted whose session is known to have ended:\n%s", a.body)
	}
	if a := guest.get("/account"); a.status != http.StatusSeeOther {
		t.Errorf("a guest: status %d, want to be led to the login", a.status)
	}
	f.store.down.Store(false)
	if a := b.get("/account"); a.status != http.StatusOK {
		t.Errorf("after the outage: status %d, want 200", a.status)
	}
}

// until asks again until it is so, which the servers hear of twice a second. It
// gives up long after.
func (b *browser) until(so func() bool) {
	b.t.Helper()
	for range 1000 {
		if so() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatal("it is not so, and will not be")
}
