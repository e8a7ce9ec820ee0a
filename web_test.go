package roam_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

func website(t *testing.T, m *roam.Manager[Cart], opts *roam.WebOptions) *roam.Web[Cart] {
	t.Helper()
	web, err := roam.NewWeb(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return web
}

// request is an HTTPS request with these Cookie headers.
func request(method string, cookies ...string) *http.Request {
	r := httptest.NewRequest(method, "https://example.com/", nil)
	r.Header["Cookie"] = cookies
	return r
}

func with(web *roam.Web[Cart], s roam.Session[Cart]) *http.Request {
	return request("GET", web.RevealCookies(s)[0].Name+"="+s.Token.Reveal())
}

// cookiesFrom returns the cookie and the mark that a response sets, of which
// each comes at most once; nil if it does not set one.
func cookiesFrom(t *testing.T, w *httptest.ResponseRecorder) (token, mark *http.Cookie) {
	t.Helper()
	for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
		which := &token
		if strings.HasSuffix(c.Name, "-mark") {
			which = &mark
		}
		if *which != nil {
			t.Fatalf("the response sets %s twice", c.Name)
		}
		*which = c
	}
	return token, mark
}

// cookieFrom returns the token's cookie that a response sets.
func cookieFrom(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	c, _ := cookiesFrom(t, w)
	if c == nil {
		t.Fatal("the response sets no cookie")
	}
	return c
}

//
func TestTheCookie(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	for name, c := range map[string]struct {
		opts *roam.WebOptions
		in   roam.Login
		want string
	}{
		"default":  {nil, roam.Login{User: "ann"}, "__Host-roam=TOKEN; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"remember": {nil, roam.Login{User: "ann", Persist: 30 * 24 * time.Hour}, "__Host-roam=TOKEN; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax"},
		"strict":   {&roam.WebOptions{Cookie: "__Host-id", SameSite: http.SameSiteStrictMode}, roam.Login{User: "ann"}, "__Host-id=TOKEN; Path=/; HttpOnly; Secure; SameSite=Strict"},
		"insecure": {&roam.WebOptions{InsecureHTTP: true}, roam.Login{User: "ann"}, "roam-insecure=TOKEN; Path=/; HttpOnly; SameSite=Lax"},
	} {
		w := httptest.NewRecorder()
		s, err := website(t, m, c.opts).Login(w, request("POST"), c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Replace(w.Header().Get("Set-Cookie"), s.Token.Reveal(), "TOKEN", 1); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

//
func TestWebOptionsThatContradictEachOtherAreRefused(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	for _, o := range []roam.WebOptions{
		{Cookie: "session"}, {Cookie: "__Secure-session"}, {Cookie: "__Host-a b"}, {Cookie: "__Host-" + strings.Repeat("x", 60)},
		{TrustedProxies: make([]netip.Prefix, 1)}, {TrustedProxies: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		{Cookie: "__Host-x", InsecureHTTP: true}, {SameSite: http.SameSiteNoneMode}, {SameSite: 17},
	} {
		if _, err := roam.NewWeb(m, &o); err == nil {
			t.Errorf("NewWeb(%+v): no error", o)
		}
	}
	if _, err := roam.NewWeb[Cart](nil, nil); err == nil {
		t.Error("NewWeb of no manager: no error")
	}
}

//
func TestAResponseThatLookedIsMarked(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	s := login(t, m, roam.Token{}, "ann")
	verbs := map[string]func(w http.ResponseWriter, r *http.Request){
		"Get":     func(w http.ResponseWriter, r *http.Request) { web.Get(w, r) },
		"Update":  func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("x")) },
		"nothing": func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, func(*Cart) error { return nil }) },
		"Login":   func(w http.ResponseWriter, r *http.Request) { web.Login(w, r, roam.Login{User: "ann"}, nil) },
		"Logout":  func(w http.ResponseWriter, r *http.Request) { web.Logout(w, r) },
	}
	for name, verb := range verbs {
		for visitor, r := range map[string]*http.Request{"guest": request("GET"), "ann": with(web, s), "garbage": request("GET", "__Host-roam=x")} {
			for chosen, want := range map[string]string{"": "no-store", "private, max-age=60": "private, max-age=60", "public, max-age=60": "public, max-age=60", `public, private="X-Foo"`: `public, private="X-Foo"`} {
				w := httptest.NewRecorder()
				w.Header().Set("Vary", "Accept-Language")
				if chosen != "" {
					w.Header().Set("Cache-Control", chosen)
				}
				verb(w, r)
				verb(w, r)
				if w.Header().Get("Set-Cookie") != "" && strings.HasPrefix(want, "public") {
					want = "no-store" // a shared cache must not hand out a cookie
				}
				if got := w.Header()["Vary"]; !slices.Equal(got, []string{"Accept-Language", "Cookie"}) {
					t.Errorf("%s, %s: Vary %q", name, visitor, got)
				}
				if got := w.Header()["Cache-Control"]; len(got) != 1 || got[0] != want {
					t.Errorf("%s, %s, chosen %q: Cache-Control %q, want %q", name, visitor, chosen, got, want)
				}
			}
		}
	}
}

// Acceptance: a page that does not call roam pays nothing.
func TestAPageThatDoesNotCallPaysNothing(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	web := website(t, m, nil)
	s := login(t, m, roam.Token{}, "ann")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("GET /cart", func(w http.ResponseWriter, r *http.Request) { web.Get(w, r) })
	before := p.calls()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, with(web, s))
	if n := p.calls() - before; n != 0 {
		t.Errorf("%d store calls, want 0", n)
	}
	if h := w.Header(); len(h) != 1 || h.Get("Content-Type") == "" {
		t.Errorf("headers %v, want the Content-Type alone", h)
	}
}

// Law 6.
func TestReadsAndTouchesNeitherSetNorClearACookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), nil)
		web := website(t, m, nil)
		s, out := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann")
		m.Logout(t.Context(), out.Token)
		idle := start(t, m, "a")
		rotated := start(t, m, "b")
		login(t, m, rotated.Token, "bob")
		for range 4 {
			time.Sleep(31 * time.Minute)
			for name, r := range map[string]*http.Request{
				"living": with(web, s), "logged out": with(web, out), "idle": with(web, idle), "rotated": with(web, rotated),
				"guest": request("GET"), "garbage": request("GET", "__Host-roam=garbage"), "twice": request("GET", "__Host-roam=a; __Host-roam=b"),
			} {
				w := httptest.NewRecorder()
				web.Get(w, r)
				if c := w.Header()["Set-Cookie"]; len(c) != 0 {
					t.Errorf("%s: Get sets %q", name, c)
				}
			}
		}
		w := httptest.NewRecorder()
		_, err := web.Update(w, with(web, s), put("x"))
		if c, _ := cookiesFrom(t, w); err != nil || c != nil {
			t.Errorf("an update of a living session: %v, sets %v", err, c)
		}
	})
}

// no store call, no record, cookie untouched.
func TestCookiesThatAreNoTokenAreAnonymous(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	web := website(t, m, nil)
	good := login(t, m, roam.Token{}, "ann").Token.Reveal()
	before := p.calls()
	many := strings.Repeat("a=b; ", 4000)
	for name, cookies := range map[string][]string{
		"empty":       {"__Host-roam="},
		"short":       {"__Host-roam=" + good[:63]},
		"long":        {"__Host-roam=" + good + "A"},
		"oversized":   {"__Host-roam=" + strings.Repeat(good, 1000)},
		"zero":        {"__Host-roam=" + strings.Repeat("A", 64)},
		"quoted":      {`__Host-roam="` + good + `"`},
		"padded":      {"__Host-roam=" + good + "="},
		"inner space": {"__Host-roam= " + good},
		"case":        {"__host-roam=" + good},
		"encoded":     {"%5F%5FHost-roam=" + good},
		"bracket":     {"__Host-roam[x]=" + good},
		"nameless":    {"=__Host-roam=" + good},
		"nbsp":        {"\u00a0__Host-roam=" + good},
		"U+2000":      {"\u2000__Host-roam=" + good},
		"U+0085":      {"\u0085__Host-roam=" + good},
		"$Version":    {"$Version=1,__Host-roam=" + good},
		"comma":       {"a=b,__Host-roam=" + good},
		"twice":       {"__Host-roam=" + good + "; __Host-roam=" + good},
		"two lines":   {"__Host-roam=" + good, "__Host-roam=x"},
		"evil first":  {"__Host-roam=x; " + many + "__Host-roam=" + good},
		"no value":    {"__Host-roam"},
		"newline":     {"__Host-roam=" + good[:62] + "\r\n"},
	} {
		w := httptest.NewRecorder()
		s, err := web.Get(w, request("GET", cookies...))
		if err != nil || !s.ID.IsZero() || w.Header()["Set-Cookie"] != nil || p.calls() != before {
			t.Errorf("%s: Get = %v, %v, sets %q, %d store calls; want a guest and nothing", name, s.ID, err, w.Header()["Set-Cookie"], p.calls()-before)
		}
	}
	for name, cookies := range map[string][]string{
		"alone":          {"__Host-roam=" + good},
		"among others":   {"a=b; __Host-roam=" + good + "; c=\"d\""},
		"own line":       {"a=b", "__Host-roam=" + good},
		"tabs":           {"a=b;\t__Host-roam=" + good + "\t; c"},
		"many others":    {many + "__Host-roam=" + good},
		"prefix of name": {"__Host-roa=x; __Host-roamer=y; __Host-roam=" + good},
	} {
		if s, err := web.Get(httptest.NewRecorder(), request("GET", cookies...)); err != nil || s.User != "ann" {
			t.Errorf("%s: Get = %q, %v; want ann", name, s.User, err)
		}
	}
}

//
func TestTheTokenIsReadFromItsCookieAlone(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	good := login(t, m, roam.Token{}, "ann").Token.Reveal()
	r := httptest.NewRequest("POST", "https://example.com/?__Host-roam="+good+"&token="+good, strings.NewReader("__Host-roam="+good))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+good)
	r.Header.Set("X-Session", good)
	r.Header.Set("__Host-roam", good)
	if s, err := web.Get(httptest.NewRecorder(), r); err != nil || s.User != "" {
		t.Errorf("Get = %q, %v; want a guest", s.User, err)
	}
}

func TestSeveralSessionCookiesAreRefusedByVerbsThatSetOne(t *testing.T) {
	p := newProbe()
	web := website(t, manager(t, p, nil), nil)
	r := request("POST", "__Host-roam=a; __Host-roam=b")
	w := httptest.NewRecorder()
	_, updateErr := web.Update(w, r, put("x"))
	_, loginErr := web.Login(w, r, roam.Login{User: "ann"}, nil)
	for name, err := range map[string]error{"Update": updateErr, "Login": loginErr, "Logout": web.Logout(w, r)} {
		if !errors.Is(err, roam.ErrRequest) || !strings.Contains(err.Error(), "2 cookies named __Host-roam") {
			t.Errorf("%s: %v, want ErrRequest that says why", name, err)
		}
	}
	if w.Header()["Set-Cookie"] != nil || p.calls() != 0 {
		t.Errorf("set %q, %d store calls; want nothing", w.Header()["Set-Cookie"], p.calls())
	}
}

//
func TestPlainHTTPCarriesNoSession(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	s := login(t, m, roam.Token{}, "ann")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for name, c := range map[string]struct {
		opts  *roam.WebOptions
		peer  string
		proto []string
		ok    bool
	}{
		"plain":                      {nil, "192.0.2.1:99", nil, false},
		"spoofed":                    {nil, "192.0.2.1:99", []string{"https"}, false},
		"spoofed, not the proxy":     {&roam.WebOptions{TrustedProxies: trusted}, "192.0.2.1:99", []string{"https"}, false},
		"proxy says https":           {&roam.WebOptions{TrustedProxies: trusted}, "10.1.2.3:99", []string{"https"}, true},
		"proxy says https, v6":       {&roam.WebOptions{TrustedProxies: trusted}, "[::1]:99", []string{"HTTPS"}, true},
		"proxy on a Unix socket":     {&roam.WebOptions{TrustedProxies: trusted}, "@", []string{"https"}, true},
		"Unix socket, no proxies":    {nil, "@", []string{"https"}, false},
		"proxy, v4 mapped":           {&roam.WebOptions{TrustedProxies: trusted}, "[::ffff:10.1.2.3]:99", []string{"https"}, true},
		"proxy says http":            {&roam.WebOptions{TrustedProxies: trusted}, "10.1.2.3:99", []string{"http"}, false},
		"proxy appended http":        {&roam.WebOptions{TrustedProxies: trusted}, "10.1.2.3:99", []string{"https", "http"}, false},
		"proxy appended http, comma": {&roam.WebOptions{TrustedProxies: trusted}, "10.1.2.3:99", []string{"https, http"}, false},
		"proxy says nothing":         {&roam.WebOptions{TrustedProxies: trusted}, "10.1.2.3:99", nil, false},
		"insecure by option":         {&roam.WebOptions{InsecureHTTP: true}, "192.0.2.1:99", nil, true},
	} {
		web := website(t, m, c.opts)
		r := httptest.NewRequest("POST", "http://example.com/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-Proto"] = c.proto
		before := p.calls()
		w := httptest.NewRecorder()
		_, err := web.Login(w, r, roam.Login{User: "ann"}, nil)
		if c.ok != (err == nil) || c.ok != (w.Header()["Set-Cookie"] != nil) {
			t.Errorf("%s: Login: %v, sets %q; want ok=%v", name, err, w.Header()["Set-Cookie"], c.ok)
		}
		if !c.ok && (!errors.Is(err, roam.ErrRequest) || !strings.Contains(err.Error(), "TrustedProxies") || p.calls() != before) {
			t.Errorf("%s: %v with %d store calls, want ErrRequest with advice", name, err, p.calls()-before)
		}
		addCookies(r, web.RevealCookies(s))
		got, err := web.Get(httptest.NewRecorder(), r)
		if err != nil || (got.User == "ann") != c.ok {
			t.Errorf("%s: Get = %q, %v; want accepted=%v", name, got.User, err, c.ok)
		}
	}
}

func TestTheClientIsLookedForBehindTrustedProxiesOnly(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	trusted := website(t, m, &roam.WebOptions{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, c := range []struct {
		web  *roam.Web[Cart]
		peer string
		xff  []string
		want string
	}{
		{website(t, m, nil), "192.0.2.1:9", []string{"198.51.100.7"}, "192.0.2.1"},
		{trusted, "192.0.2.1:9", []string{"198.51.100.7"}, "192.0.2.1"},
		{trusted, "10.0.0.1:9", []string{"198.51.100.7"}, "198.51.100.7"},
		{trusted, "10.0.0.1:9", []string{"6.6.6.6, 198.51.100.7"}, "198.51.100.7"},
		{trusted, "10.0.0.1:9", []string{"6.6.6.6", "198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{trusted, "10.0.0.1:9", []string{"garbage"}, "10.0.0.1"},
		{trusted, "10.0.0.1:9", []string{"198.51.100.7, garbage"}, "10.0.0.1"},
		{trusted, "10.0.0.1:9", nil, "10.0.0.1"},
		{trusted, "10.0.0.1:9", []string{"2001:db8::1"}, "2001:db8::1"},
		{trusted, "10.0.0.1:9", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{trusted, "10.0.0.1:9", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{trusted, "@", []string{"198.51.100.7"}, "198.51.100.7"},
	} {
		r := request("GET")
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.xff
		r.Header.Set("User-Agent", strings.Repeat("ü", 200))
		got := c.web.Client(r)
		if got.Addr != netip.MustParseAddr(c.want) || got.Agent != strings.Repeat("ü", 128) {
			t.Errorf("from %s with %q: %v, %d bytes of agent; want %s, 256", c.peer, c.xff, got.Addr, len(got.Agent), c.want)
		}
	}
	own := roam.Client{Agent: "the application knows better"}
	if s, err := trusted.Login(httptest.NewRecorder(), request("POST"), roam.Login{User: "ann", From: own}, nil); err != nil || s.From != own {
		t.Errorf("Login from %+v, %v", s.From, err)
	}
	w := httptest.NewRecorder()
	r := request("POST")
	r.Header.Set("User-Agent", "test")
	s, err := trusted.Login(w, r, roam.Login{User: "ann"}, nil)
	if err != nil || s.From != (roam.Client{Addr: netip.MustParseAddr("192.0.2.1"), Agent: "test"}) {
		t.Errorf("Login from %+v, %v", s.From, err)
	}
}

func TestUpdateStartsAnewOnlyWhereNobodyEndedTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, roam.NewMemStore(), &roam.Options{IdleTimeout: time.Hour, Lifetime: 90 * time.Minute, Retain: time.Minute})
		web := website(t, m, nil)
		idle := start(t, m, "old")
		busy := start(t, m, "old")
		pruned := start(t, m, "old")
		out, revoked, rotated := login(t, m, roam.Token{}, "ann"), login(t, m, roam.Token{}, "ann"), start(t, m, "old")
		m.Logout(t.Context(), out.Token)
		m.Revoke(t.Context(), revoked.ID, roam.Revoked)
		login(t, m, rotated.Token, "bob")
		for _, c := range []struct {
			name string
			s    roam.Session[Cart]
			want roam.Reason
		}{{"logged out", out, roam.LoggedOut}, {"revoked", revoked, roam.Revoked}, {"rotated", rotated, roam.Rotated}} {
			w := httptest.NewRecorder()
			_, err := web.Update(w, with(web, c.s), put("new"))
			wantReason(t, c.name, err, c.want)
			if w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: sets %q", c.name, w.Header()["Set-Cookie"])
			}
		}
		time.Sleep(40 * time.Minute)
		m.Get(t.Context(), visitor(t, busy))
		time.Sleep(50 * time.Minute)
		for _, s := range []roam.Session[Cart]{idle, busy, pruned} {
			w := httptest.NewRecorder()
			got, err := web.Update(w, with(web, s), put("new"))
			if err != nil || got.ID == s.ID || !slices.Equal(got.Data.Items, []string{"new"}) || cookieFrom(t, w).Value != got.Token.Reveal() {
				t.Errorf("Update = %+v, %v; want a new session with a new cookie", got, err)
			}
		}
	})
}

func TestLogoutDeletesTheCookieOnlyWhenItIsDone(t *testing.T) {
	p := newProbe()
	m := manager(t, p, nil)
	web := website(t, m, nil)
	s := login(t, m, roam.Token{}, "ann")
	p.hooks(func(string) error { return errLost }, nil)
	w := httptest.NewRecorder()
	if err := web.Logout(w, with(web, s)); !errors.Is(err, roam.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("store down: %v, sets %q; want ErrUnavailable and the cookie untouched", err, w.Header()["Set-Cookie"])
	}
	p.hooks(nil, nil)
	w = httptest.NewRecorder()
	if err := web.Logout(w, with(web, s)); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Set-Cookie"); got != "__Host-roam=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("sets %s", got)
	}
	_, err := web.Get(httptest.NewRecorder(), with(web, s))
	wantReason(t, "Get", err, roam.LoggedOut)
}

// Two verbs of one handler speak of the same session.
func TestVerbsOfOneHandlerSeeEachOther(t *testing.T) {
	store := roam.NewMemStore()
	m := manager(t, store, nil)
	web := website(t, m, nil)
	w, r := httptest.NewRecorder(), request("POST")
	first, err1 := web.Update(w, r, put("tea"))
	second, err2 := web.Update(w, r, put("milk"))
	ann, err3 := web.Login(w, r, roam.Login{User: "ann"}, nil)
	got, err4 := web.Get(w, r)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if second.ID != first.ID || ann.ID != first.ID || got.User != "ann" || len(got.Data.Items) != 2 || len(records(t, store)) != 1 {
		t.Errorf("%v, %v, %v, %+v; want one session", first.ID, second.ID, ann.ID, got)
	}
	if cookieFrom(t, w).Value != ann.Token.Reveal() {
		t.Error("the cookie is not the login's")
	}
	addCookies(r, web.RevealCookies(ann))
	if err := web.Logout(w, r); err != nil {
		t.Fatal(err)
	}
	if s, err := web.Get(w, r); err != nil || s.User != "" || cookieFrom(t, w).Value != "" {
		t.Errorf("after Logout: %v, %v, cookie %v", s.User, err, cookieFrom(t, w))
	}
}

// An answer to an older request must not wipe out the cookie of a newer login.
func TestForgetLeavesANewerLoginsCookie(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&roam.EndedError{Reason: roam.LoggedOut}, true}, {&roam.EndedError{Reason: roam.Idle}, true},
		{fmt.Errorf("wrapped: %w", &roam.EndedError{Reason: roam.Revoked}), true},
		{&roam.EndedError{Reason: roam.Rotated}, false}, {&roam.EndedError{Reason: roam.Forged}, false},
		{roam.ErrUnavailable, false}, {nil, false},
	} {
		w := httptest.NewRecorder()
		web.Forget(w, c.err)
		if got := w.Header()["Set-Cookie"] != nil; got != c.want {
			t.Errorf("Forget after %v: deletes the cookie: %v, want %v", c.err, got, c.want)
		}
	}
}

// A response that was slow cannot put a dead token back.
func TestASlowResponseCarriesNoToken(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	guest := start(t, m, "a")
	w := httptest.NewRecorder()
	_, err := web.Update(w, with(web, guest), func(c *Cart) error {
		if len(c.Items) == 1 {
			web.Login(httptest.NewRecorder(), with(web, guest), roam.Login{User: "ann"}, put("b"))
		}
		return put("late")(c)
	})
	wantReason(t, "the slow update", err, roam.Rotated)
	if w.Header()["Set-Cookie"] != nil {
		t.Errorf("it sets %q", w.Header()["Set-Cookie"])
	}
}

func TestHandlersNeedNoWrapper(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := web.Update(w, r, put("x")); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if _, ok := w.(http.Hijacker); !ok {
			t.Error("no Hijacker")
		}
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("no ReaderFrom")
		}
	}))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(resp.Cookies()) != 2 {
		t.Errorf("%d cookies arrived, want token and mark", len(resp.Cookies()))
	}
	srv.Client().CloseIdleConnections()
}

func BenchmarkPageWithoutSession(b *testing.B) {
	m := roam.Must(roam.New[Cart](roam.NewMemStore(), nil))
	web := roam.Must(roam.NewWeb(m, nil))
	s, err := m.Login(b.Context(), roam.Token{}, roam.Login{User: "ann"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	page := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	bare := http.NewServeMux()
	bare.HandleFunc("GET /", page)
	site := http.NewServeMux()
	site.HandleFunc("GET /", page)
	site.HandleFunc("GET /cart", func(w http.ResponseWriter, r *http.Request) {
		s, _ := web.Get(w, r)
		fmt.Fprint(w, s.User)
	})
	for _, c := range []struct {
		name string
		h    http.Handler
	}{{"bare", bare}, {"roam", site}} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			addCookies(r, web.RevealCookies(s))
			w := &discard{make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				c.h.ServeHTTP(w, r)
			}
		})
	}
}

// The same as a law, because allocations can be counted without a clock.
func TestAPageThatDoesNotCallAllocatesNothingMore(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	web := website(t, m, nil)
	s := login(t, m, roam.Token{}, "ann")
	page := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	allocs := func(register func(mux *http.ServeMux)) float64 {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /", page)
		register(mux)
		req := with(web, s)
		w := &discard{make(http.Header)}
		return testing.AllocsPerRun(1000, func() { mux.ServeHTTP(w, req) })
	}
	bare := allocs(func(*http.ServeMux) {})
	roamed := allocs(func(mux *http.ServeMux) {
		mux.HandleFunc("GET /cart", func(w http.ResponseWriter, r *http.Request) { web.Get(w, r) })
	})
	if roamed != bare {
		t.Errorf("%v allocations, bare %v", roamed, bare)
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header               { return d.h }
func (d *discard) Write(b []byte) (int, error)       { return len(b), nil }
func (d *discard) WriteString(s string) (int, error) { return len(s), nil }
func (d *discard) WriteHeader(int)                   {}

func addCookies(r *http.Request, cookies []*http.Cookie) {
	for _, c := range cookies {
		r.AddCookie(c)
	}
}

// A login that the next request does not know of would be no login.
func TestNoSessionIsStartedWithoutAKeyToSealWith(t *testing.T) {
	p := newProbe()
	web := website(t, manager(t, p, nil), &roam.WebOptions{Sealer: keyless{}})
	for what, start := range map[string]func(http.ResponseWriter) error{
		"Login": func(w http.ResponseWriter) error {
			_, err := web.Login(w, request("POST"), roam.Login{User: "ann"}, nil)
			return err
		},
		"Update": func(w http.ResponseWriter) error { _, err := web.Update(w, request("POST"), put("a")); return err },
	} {
		w := httptest.NewRecorder()
		if err := start(w); !errors.Is(err, roam.ErrUnavailable) || len(w.Result().Cookies()) != 0 || p.calls() != 0 {
			t.Errorf("%s: %v, cookies %v, %d calls; want unavailable and nothing done", what, err, w.Result().Cookies(), p.calls())
		}
	}
}

type keyless struct{}

func (keyless) Seal(dst, plaintext, aad []byte) []byte       { return nil }
func (keyless) Open(dst, sealed, aad []byte) ([]byte, error) { return nil, errLost }
