// Package roamtest helps to test programs that use roam. It has no mocks: a
// test runs the real manager on a [roam.MemStore].
//
// What a program does with its sessions is tested without HTTP:
//
//	sessions := roamtest.New[Cart](t)
//	ann := roamtest.Login(t, sessions, "ann", func(c *Cart) error { return c.Add("tea") })
//
// and a handler with a request that carries a logged-in session:
//
//	r := roamtest.Request(t, web, ann, "POST", "/checkout", nil)
//	resp := roamtest.Serve(t, handler, r)
//
// Serve also reports the mistake that costs a visitor the session: a cookie
// set after the header of the response was sent.
package roamtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/roam-web/roam"
)

// New returns a manager with default options on a store of its own.
func New[T any](t testing.TB) *roam.Manager[T] {
	t.Helper()
	m, err := roam.New[T](roam.NewMemStore(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Login returns a session in which user is logged in and fn has changed the
// data. fn may be nil.
func Login[T any](t testing.TB, m *roam.Manager[T], user string, fn func(*T) error) roam.Session[T] {
	t.Helper()
	s, err := m.Login(t.Context(), roam.Token{}, roam.Login{User: user}, fn)
	if err != nil {
		t.Fatalf("roamtest: logging in %q: %v", user, err)
	}
	return s
}

// Request returns an HTTPS request of the browser that has the session, which
// must come straight from Login or Update: only they know the secret. The zero
// Session makes the request of a first visit.
func Request[T any](t testing.TB, web *roam.Web[T], s roam.Session[T], method, path string, body io.Reader) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "https://example.com"+path, body)
	if !s.ID.IsZero() {
		cookies := web.RevealCookies(s)
		if cookies == nil {
			t.Fatalf("roamtest: the secret of session %v is not known here; pass the Session that Login or Update returned", s.ID)
		}
		for _, c := range cookies {
			r.AddCookie(c)
		}
	}
	return r
}

// Serve runs the handler and returns its response. It fails the test if the
// handler set a cookie when the header had already been sent, where a browser
// would never have seen it, or made a response with a cookie public.
func Serve(t testing.TB, h http.Handler, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	for _, late := range w.Header()["Set-Cookie"] {
		if !slices.Contains(resp.Header["Set-Cookie"], late) {
			c, err := http.ParseSetCookie(late)
			if err != nil {
				t.Fatalf("roamtest: %s %s: a malformed cookie was set: %v", r.Method, r.URL.Path, err)
			}
			t.Errorf("roamtest: %s %s: cookie %s was set after the response's header was sent: the browser never gets it; call roam before the first byte of the response", r.Method, r.URL.Path, c.Name)
		}
	}
	if cc := resp.Header.Get("Cache-Control"); len(resp.Header["Set-Cookie"]) > 0 && strings.Contains(cc, "public") {
		t.Errorf("roamtest: %s %s: the response sets a cookie and has Cache-Control %q: a shared cache may give the cookie to others", r.Method, r.URL.Path, cc)
	}
	return resp
}
