package members_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/members"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/sealed"
)

// keys are those of a farm.
func keys(t *testing.T) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.New(t.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		return []sealed.Key{sealed.NewKey(time.Now().Add(-time.Hour))}, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// server is one web server of a farm.
func server(t *testing.T, name string, keys *sealed.Keyring) http.Handler {
	t.Helper()
	site, err := members.New(members.Config{Server: name, Sealer: keys.Sealer("__Host-roam-ticket", "test", "ticket")})
	if err != nil {
		t.Fatal(err)
	}
	return site.Handler()
}

// A visitor is somebody with a browser.
type visitor struct {
	t   *testing.T
	jar map[string]string
}

// visit sends a request, and keeps the cookies that come back.
func (v *visitor) visit(h http.Handler, method, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	r := httptest.NewRequest(method, "https://club.example"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for name, value := range v.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if v.jar[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.jar, c.Name)
		}
	}
	return w
}

// wants checks the status, and a text that is in the page or in Location.
func (v *visitor) wants(w *httptest.ResponseRecorder, status int, text string) {
	v.t.Helper()
	if got := w.Header().Get("Location") + w.Body.String(); w.Code != status || !strings.Contains(got, text) {
		v.t.Errorf("got %d, want %d with %q:\n%s", w.Code, status, text, got)
	}
}

var ann = url.Values{"user": {"ann"}, "password": {shop.Password}}

func TestALoginAtOneServerIsKnownToAll(t *testing.T) {
	ring := keys(t)
	here, there := server(t, "web1", ring), server(t, "web2", ring)
	v := &visitor{t, map[string]string{}}
	v.wants(v.visit(here, "GET", "/members", nil), 303, "/login?next=%2Fmembers")
	v.wants(v.visit(here, "POST", "/login", url.Values{"user": {"ann"}, "password": {"coffee"}}), 422, "do not fit")
	v.wants(v.visit(here, "POST", "/login", ann), 303, "/members")
	for _, h := range []http.Handler{here, there, server(t, "web3", ring)} {
		w := v.visit(h, "GET", "/members", nil)
		v.wants(w, 200, "Hello, ann")
		if w.Header().Get("Set-Cookie") != "" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Vary") != "Cookie" {
			t.Errorf("a page that looked: %v", w.Header())
		}
	}
	v.wants(v.visit(server(t, "web1", keys(t)), "GET", "/members", nil), 303, "/login") // of another farm
	v.wants(v.visit(there, "POST", "/logout", nil), 303, "/")
	v.wants(v.visit(here, "GET", "/members", nil), 303, "/login")
}

func TestThePublicPageAsksNothing(t *testing.T) {
	h := server(t, "web1", keys(t))
	v := &visitor{t, map[string]string{}}
	v.visit(h, "POST", "/login", ann)
	w := v.visit(h, "GET", "/", nil)
	v.wants(w, 200, "did not ask who you are")
	if w.Header().Get("Vary") != "" || !strings.HasPrefix(w.Header().Get("Cache-Control"), "public") {
		t.Errorf("a page for everyone: %v", w.Header())
	}
}

func TestTheHutNeedsARecentPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := server(t, "web1", keys(t))
		v := &visitor{t, map[string]string{}}
		v.wants(v.visit(h, "GET", "/hut", nil), 303, "/login?next=%2Fhut")
		v.visit(h, "POST", "/login", ann)
		v.wants(v.visit(h, "GET", "/hut", nil), 200, "The code is")
		time.Sleep(5*time.Minute + time.Second)
		w := v.visit(h, "GET", "/hut", nil)
		v.wants(w, 303, "/login?again=yes&next=%2Fhut")
		v.wants(v.visit(h, "GET", w.Header().Get("Location"), nil), 200, "Is it still you?")
		v.wants(v.visit(h, "GET", "/members", nil), 200, "Hello, ann")
		v.wants(v.visit(h, "POST", "/login", url.Values{"user": {"ann"}, "password": {shop.Password}, "again": {"yes"}, "next": {"/hut"}}), 303, "/hut")
		v.wants(v.visit(h, "GET", "/hut", nil), 200, "The code is")
		time.Sleep(12 * time.Hour)
		v.wants(v.visit(h, "GET", "/members", nil), 303, "/login")
		remembered := url.Values{"user": {"ann"}, "password": {shop.Password}, "remember": {"yes"}}
		v.visit(h, "POST", "/login", remembered)
		time.Sleep(shop.Remember - time.Second)
		v.wants(v.visit(h, "GET", "/members", nil), 200, "Hello, ann")
		time.Sleep(time.Second)
		v.wants(v.visit(h, "GET", "/members", nil), 303, "/login")
	})
}

func TestWhatNeedsAStoreIsNotHere(t *testing.T) {
	h := server(t, "web1", keys(t))
	v := &visitor{t, map[string]string{}}
	for _, path := range []string{"/cart", "/orders", "/devices", "/account", "/static/none.css"} {
		v.wants(v.visit(h, "GET", path, nil), 404, "no carts, no orders and no list of your devices")
	}
	v.wants(v.visit(h, "POST", "/checkout", nil), 404, "no carts")
}

func TestOtherSitesFormsAndLinksLeadNowhere(t *testing.T) {
	h := server(t, "web1", keys(t))
	v := &visitor{t, map[string]string{}}
	v.wants(v.visit(h, "POST", "/login", ann, "Sec-Fetch-Site", "cross-site"), 403, "Nothing has changed")
	if len(v.jar) != 0 {
		t.Error("another site has logged somebody in")
	}
	for _, next := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"} {
		w := v.visit(h, "POST", "/login", url.Values{"user": {"ann"}, "password": {shop.Password}, "next": {next}})
		if got := w.Header().Get("Location"); got != "/members" {
			t.Errorf("next %q leads to %q", next, got)
		}
	}
}

func TestWhatASiteCannotDoWithoutIsAsked(t *testing.T) {
	for _, cfg := range []members.Config{{}, {Server: "web1"}, {Sealer: keys(t).Sealer("a", "b", "c")}} {
		if _, err := members.New(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}
