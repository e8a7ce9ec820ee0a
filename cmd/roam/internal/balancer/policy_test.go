package balancer

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Under normal load round robin is exact, also with many clients at once.
func TestRoundRobinIsEven(t *testing.T) {
	t.Parallel()
	b, address := start(t, patient())
	for i := range 3 {
		backend(t, b, fmt.Sprintf("web%d", i), func(http.ResponseWriter, *http.Request) {})
	}
	var clients sync.WaitGroup
	for range 10 {
		c := newClient(t, address)
		clients.Go(func() {
			for range 30 {
				if ans, err := c.try("GET", "/", ""); err != nil || ans.status != 200 {
					t.Errorf("%+v, error %v", ans, err)
				}
			}
		})
	}
	clients.Wait()
	for _, s := range b.Status() {
		if s.Requests != 100 {
			t.Errorf("%s had %d of 300 requests, want 100", s.Name, s.Requests)
		}
	}
}

// named returns a handler that answers with a name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "app=1")
		fmt.Fprint(w, name)
	}
}

// cookieOf returns the balancer's cookie of an answer, or "".
func cookieOf(t *testing.T, ans reply) string {
	t.Helper()
	found := ""
	for _, line := range ans.header.Values("Set-Cookie") {
		if strings.HasPrefix(line, "roam-server=") {
			if found != "" {
				t.Errorf("two cookies: %s and %s", found, line)
			}
			found = line
		}
	}
	return found
}

func TestStickyCookie(t *testing.T) {
	t.Parallel()
	opts := rareChecks()
	opts.Policy = new(StickyCookie)
	b, address := start(t, opts)
	// Two dead servers: an answer of the third must carry one cookie, its own.
	set(t, b, "dead1", closedAddress(t))
	set(t, b, "dead2", closedAddress(t))
	web1 := backend(t, b, "web1", named("web1"))
	c := newClient(t, address)
	ans := c.do(200, "GET", "/", "")
	if got := cookieOf(t, ans); got != "roam-server=web1; Path=/; HttpOnly; SameSite=Lax" {
		t.Errorf("cookie: %q", got)
	}
	if n := len(ans.header.Values("Set-Cookie")); n != 2 {
		t.Errorf("%d cookies, want the application's and ours", n)
	}

	backend(t, b, "web2", named("web2"))
	stays := func(name string) {
		t.Helper()
		for range 10 {
			ans := c.do(200, "POST", "/", "", "Cookie: other=1; roam-server="+name)
			if ans.body != name || cookieOf(t, ans) != "" {
				t.Errorf("a client of %s was answered by %s with cookie %q", name, ans.body, cookieOf(t, ans))
			}
		}
	}
	moves := func(from, to string) {
		t.Helper()
		ans := c.do(200, "POST", "/", "", "Cookie: roam-server="+from)
		if ans.body != to || !strings.HasPrefix(cookieOf(t, ans), "roam-server="+to+";") {
			t.Errorf("a client of %s was answered by %s with cookie %q, want %s", from, ans.body, cookieOf(t, ans), to)
		}
	}
	stays("web1")
	stays("web2")
	b.Drain("web1")
	moves("web1", "web2")
	b.Undrain("web1")
	stays("web1")
	web1.Close()
	moves("web1", "web2")
	stays("web2")
	moves("nobody", "web2")
}

// An answer that is no success, whoever gave it, binds nobody.
func TestStickyCookieOnlyOnSuccess(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, &Options{Policy: new(StickyCookie)})
	c := newClient(t, address)
	if got := cookieOf(t, c.do(503, "GET", "/", "")); got != "" {
		t.Errorf("cookie with no server: %q", got)
	}
	var status atomic.Int64
	backend(t, b, "web1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	for _, test := range []struct {
		status int
		cookie bool
	}{{200, true}, {303, true}, {404, true}, {500, false}, {503, false}} {
		status.Store(int64(test.status))
		if got := cookieOf(t, c.do(test.status, "GET", "/", "")); (got != "") != test.cookie {
			t.Errorf("status %d: cookie %q", test.status, got)
		}
	}
}

func TestStickyCookieAttributes(t *testing.T) {
	r, _ := http.NewRequest("GET", "/", nil)
	r.TLS = new(tls.ConnectionState)
	h := make(http.Header)
	(&StickyCookie{Cookie: "srv"}).Mark(r, "web1", h)
	if got, want := h.Get("Set-Cookie"), "srv=web1; Path=/; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNewPolicy(t *testing.T) {
	for _, name := range []string{"round-robin", "sticky-cookie"} {
		if p, err := NewPolicy(name); p == nil || err != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := NewPolicy("random"); p != nil || err == nil {
		t.Errorf("random: %v, %v", p, err)
	}
}
