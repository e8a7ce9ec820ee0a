package shop_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

var publicPages = map[string]string{"/": "home", "/product/oolong": "product", "/about": "about", "/live": "live"}

func TestPublicPagesNeverCallRoam(t *testing.T) {
	f := newFarm(t, 1)
	guest, member := f.browser(t), f.browser(t)
	member.login("ann")
	before := f.store.calls.Load()
	for path, name := range publicPages {
		for _, b := range []*browser{guest, member} {
			a := b.get(path)
			if a.status != http.StatusOK {
				t.Errorf("%s: status %d", path, a.status)
			}
			if got, _ := a.attr("data-page"); got != name {
				t.Errorf("%s: data-page is %q, want %q", path, got, name)
			}
			if user, there := a.attr("data-user"); there {
				t.Errorf("%s: knows the user %q, and did not ask", path, user)
			}
			if got := a.header["Set-Cookie"]; got != nil {
				t.Errorf("%s: sets %q", path, got)
			}
			if got := a.header["Vary"]; !slices.Equal(got, []string{"Cookie"}) { // for the language
				t.Errorf("%s: Vary is %q", path, got)
			}
			if got := a.header.Get("Cache-Control"); !strings.HasPrefix(got, "public") {
				t.Errorf("%s: Cache-Control is %q", path, got)
			}
		}
	}
	guest.get("/login")
	guest.get("/nothing")
	guest.must("/language", "lang", "de")
	if got := f.store.calls.Load() - before; got != 0 {
		t.Errorf("the store was called %d times, want 0", got)
	}
}

func TestCartStartsASessionOnlyWhenFilled(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.get("/cart")
	b.get("/api/whoami")
	b.must("/cart/set", "product", "oolong", "qty", "0")
	for _, bad := range []answer{
		b.post("/cart/add", "product", "gin"),
		b.post("/cart/add", "product", "oolong", "qty", "0"),
		b.post("/cart/add", "product", "oolong", "qty", "-1"),
		b.post("/cart/add", "product", "oolong", "qty", "many"),
		b.post("/cart/add", "product", "oolong", "qty", "100000"),
	} {
		if bad.status < 400 || bad.status > 499 {
			t.Errorf("a form that makes no sense: status %d, want 4xx", bad.status)
		}
	}
	if n, c := f.store.records(t), b.cookie(sessionCookie); n != 0 || c != "" {
		t.Fatalf("nothing was put into the cart: %d records and cookie %q, want none", n, c)
	}
	if to := b.must("/cart/add", "product", "oolong"); to != "/cart" {
		t.Errorf("adding leads to %q, want /cart", to)
	}
	if n, c := f.store.records(t), b.cookie(sessionCookie); n != 1 || c == "" {
		t.Fatalf("with something in the cart: %d records and cookie %q, want one and one", n, c)
	}
	b.must("/cart/add", "product", "oolong", "qty", "2")
	b.must("/cart/set", "product", "teapot", "qty", "2")
	b.must("/cart/set", "product", "teapot", "qty", "1")
	if got, want := b.get("/cart").lines(), (map[string]int{"oolong": 3, "teapot": 1}); !maps.Equal(got, want) {
		t.Errorf("cart is %v, want %v", got, want)
	}
	b.must("/cart/set", "product", "teapot", "qty", "0")
	if got, want := b.whoami(), (map[string]int{"oolong": 3}); !maps.Equal(got.Cart, want) || got.Count != 3 {
		t.Errorf("cart is %v of %d, want %v of 3", got.Cart, got.Count, want)
	}
}

func TestATabThatIsFasterLosesNothing(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.must("/cart/add", "product", "oolong")
	for i, post := range []struct {
		path, qty string
		mint      int // then
	}{{"/cart/add", "1", 1}, {"/cart/set", "5", 5}, {"/api/cart/add", "1", 6}, {"/api/cart/set", "2", 2}} {
		faster := func() error { return b.add("teapot") }
		f.store.beforeUpdate.Store(&faster)
		if a := b.post(post.path, "product", "mint-tea", "qty", post.qty); a.status >= 400 {
			t.Errorf("POST %s: status %d", post.path, a.status)
		}
		want := map[string]int{"oolong": 1, "teapot": i + 1, "mint-tea": post.mint}
		if got := b.whoami().Cart; !maps.Equal(got, want) {
			t.Errorf("after POST %s and a faster tab: cart is %v, want %v", post.path, got, want)
		}
	}
}

func TestMoreThanTheMostIsRefusedNotCut(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	b.must("/cart/add", "product", "oolong", "qty", "9999")
	if a := b.post("/cart/add", "product", "oolong"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("one too many: status %d, want 422", a.status)
	}
	if got := b.whoami().Count; got != 9999 {
		t.Errorf("cart has %d, want 9999", got)
	}
}

func TestCartSurvivesLogin(t *testing.T) {
	f := newFarm(t, 3)
	b := f.browser(t)
	b.must("/cart/add", "product", "green-tea", "qty", "3")
	guest := b.cookie(sessionCookie)
	if to := b.must("/login", "user", "ann", "password", shop.Password, "next", "/cart"); to != "/cart" {
		t.Errorf("login leads to %q, want /cart", to)
	}
	a := b.get("/cart")
	if user, _ := a.attr("data-user"); user != "ann" {
		t.Errorf("data-user is %q, want ann", user)
	}
	if got := a.lines(); got["green-tea"] != 3 {
		t.Errorf("cart after login is %v, want 3 green-tea", got)
	}
	if b.cookie(sessionCookie) == guest {
		t.Error("the token is the one from before the login")
	}
	b.login("bob")
	if got := b.whoami(); got.User != "bob" || got.Count != 0 {
		t.Errorf("after another user's login: %q with %d in the cart, want bob with 0", got.User, got.Count)
	}
}

func TestRememberMeOutlivesTheBrowser(t *testing.T) {
	f := newFarm(t, 1)
	for remember, want := range map[string]string{"": "", "yes": "; Max-Age=2592000"} {
		a := f.browser(t).post("/login", "user", "ann", "password", shop.Password, "remember", remember)
		if got := regexp.MustCompile(`; Max-Age=\d+`).FindString(a.header.Get("Set-Cookie")); got != want {
			t.Errorf("remember %q: %q, want %q", remember, got, want)
		}
	}
}

func TestWrongPasswordLogsNobodyIn(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	for _, login := range [][2]string{{"ann", "coffee"}, {"ann", ""}, {"nobody", shop.Password}, {"", shop.Password}, {`"><i>`, "x"}} {
		a := b.post("/login", "user", login[0], "password", login[1], "next", "/cart")
		if a.status != http.StatusUnprocessableEntity || a.header["Set-Cookie"] != nil {
			t.Errorf("login of %q with %q: status %d and cookies %q, want 422 and none", login[0], login[1], a.status, a.header["Set-Cookie"])
		}
		if !strings.Contains(a.body, `name="next" value="/cart"`) {
			t.Errorf("login of %q with %q: the form forgot which page was wanted", login[0], login[1])
		}
		if strings.Contains(a.body, `"><i>`) {
			t.Error("the name is shown unescaped")
		}
	}
	if got := f.store.calls.Load(); got != 0 {
		t.Errorf("the store was called %d times, want 0", got)
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	f := newFarm(t, 1)
	for next, want := range map[string]string{"": "/account", "/orders": "/orders", "//evil.example/": "/account"} {
		if got := f.browser(t).must("/login", "user", "ann", "password", shop.Password, "next", next); got != want {
			t.Errorf("login with next %q leads to %q, want %q", next, got, want)
		}
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	login := url.Values{"user": {"ann"}, "password": {shop.Password}}
	add := url.Values{"product": {"oolong"}}
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		for path, form := range map[string]url.Values{"/login": login, "/cart/add": add, "/api/cart/add": add, "/language": {"lang": {"de"}}, "/logout": {}} {
			a := b.do("POST", path, form, header...)
			if a.status != http.StatusForbidden || a.header["Set-Cookie"] != nil {
				t.Errorf("POST %s with %q: status %d and cookies %q, want 403 and none", path, header, a.status, a.header["Set-Cookie"])
			}
		}
	}
	if got := f.store.calls.Load(); got != 0 {
		t.Errorf("the store was called %d times, want 0", got)
	}
	if a := b.do("POST", "/login", login, "Sec-Fetch-Site", "same-origin"); a.status != http.StatusSeeOther {
		t.Errorf("our own form: status %d, want 303", a.status)
	}
}

func TestAccountSaysHowYouLoggedIn(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.login("ann")
	a := b.get("/account")
	want := "Logged in a moment ago from 127.0.0.1 with Firefox on Linux."
	if !strings.Contains(a.body, want) {
		t.Errorf("the page does not say %q:\n%s", want, a.body)
	}
}

func TestOnlyATrustedBalancerSaysWhereYouAre(t *testing.T) {
	for _, proxies := range [][]netip.Prefix{nil, {netip.MustParsePrefix("127.0.0.0/8")}} {
		s, err := shop.New(shop.Config{Server: "web1", Sessions: roam.NewMemStore(), Orders: filepath.Join(t.TempDir(), "o.db"), TrustedProxies: proxies})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		plain := httptest.NewServer(s.Handler()) // as behind a balancer
		defer plain.Close()
		send := func(method, path, form, cookie string) (int, string, string) {
			r, err := http.NewRequestWithContext(t.Context(), method, plain.URL+path, strings.NewReader(form))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("X-Forwarded-For", "203.0.113.9")
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("Cookie", cookie)
			w, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			b, err := io.ReadAll(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			set, _, _ := strings.Cut(w.Header.Get("Set-Cookie"), ";")
			return w.StatusCode, set, string(b)
		}
		status, cookie, _ := send("POST", "/login", "user=ann&password="+shop.Password, "")
		if proxies == nil {
			if status != http.StatusBadRequest || cookie != "" {
				t.Errorf("plain HTTP from nobody we know: status %d and cookie %q, want 400 and none", status, cookie)
			}
			continue
		}
		if _, _, body := send("GET", "/account", "", cookie); !strings.Contains(body, "from 203.0.113.9") {
			t.Errorf("behind a trusted balancer the account does not say 203.0.113.9:\n%s", body)
		}
	}
}

func TestGuestsAreAskedToLogIn(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	b.must("/cart/add", "product", "oolong")
	for path, want := range map[string]string{"/account": "/login?next=%2Faccount", "/devices": "/login?next=%2Fdevices", "/orders": "/login?next=%2Forders", "/orders/X": "/login?next=%2Forders%2FX"} {
		if a := b.get(path); a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Errorf("GET %s: status %d to %q, want 303 to %q", path, a.status, a.header.Get("Location"), want)
		}
	}
	for _, path := range []string{"/checkout", "/devices/logout", "/devices/logout-others"} {
		if to := b.must(path); to != "/login?next=%2Fcart" {
			t.Errorf("POST %s leads to %q, want the login and then the cart", path, to)
		}
	}
	if a := b.get("/api/orders"); a.status != http.StatusUnauthorized {
		t.Errorf("GET /api/orders: status %d, want 401", a.status)
	}
}

func TestLogoutEndsTheSessionOnAllServers(t *testing.T) {
	f := newFarm(t, 3)
	b := f.browser(t)
	b.login("ann")
	thief := f.browser(t)
	stolen := sessionCookie + "=" + b.cookie(sessionCookie)
	if to := b.must("/logout"); to != "/" {
		t.Errorf("logout leads to %q, want /", to)
	}
	if c := b.cookie(sessionCookie); c != "" {
		t.Errorf("the cookie is still there: %q", c)
	}
	for range f.servers {
		a := thief.do("GET", "/account", nil, "Cookie", stolen)
		if ended, _ := a.attr("data-ended"); ended != "logged out" {
			t.Errorf("with the cookie from before: data-ended is %q, want %q", ended, "logged out")
		}
	}
}

var deviceID = regexp.MustCompile(`name="id" value="([0-9a-f-]{36})"`)

func TestDevicesShowsAllAndEndsOne(t *testing.T) {
	f := newFarm(t, 3)
	here, phone, bob := f.browser(t), f.browser(t), f.browser(t)
	phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1 Version/19.0 Mobile/15E148 Safari/604.1"
	here.login("ann")
	phone.login("ann")
	bob.login("bob")
	a := here.get("/devices")
	if !strings.Contains(a.body, "Firefox on Linux</b> <span class=\"badge\">this one") || !strings.Contains(a.body, "Safari on iPhone</b>\n") {
		t.Errorf("the page shows not both devices, or marks the wrong one:\n%s", a.body)
	}
	ids := deviceID.FindAllStringSubmatch(a.body, -1)
	if len(ids) != 1 {
		t.Fatalf("the page offers to log out %d other devices, want 1", len(ids))
	}
	id := ids[0][1]

	if a := bob.post("/devices/logout", "id", id); a.status != http.StatusNotFound {
		t.Errorf("bob logs out ann's phone: status %d, want 404", a.status)
	}
	if got := phone.whoami().User; got != "ann" {
		t.Fatalf("the phone is logged in as %q after bob's try, want ann", got)
	}
	if a := here.post("/devices/logout", "id", "phone"); a.status != http.StatusNotFound {
		t.Errorf("an ID that is none: status %d, want 404", a.status)
	}

	if to := here.must("/devices/logout", "id", id); to != "/devices" {
		t.Errorf("logging a device out leads to %q, want /devices", to)
	}
	if got := phone.whoami(); got.User != "" || got.Ended != "revoked" {
		t.Errorf("the phone is %q, ended %q; want a guest whose session was revoked", got.User, got.Ended)
	}
	if got := here.whoami().User; got != "ann" {
		t.Errorf("this device is logged in as %q, want ann", got)
	}
}

func TestLogoutOthersSparesThisOneAndOtherUsers(t *testing.T) {
	f := newFarm(t, 3)
	here, bob := f.browser(t), f.browser(t)
	here.login("ann")
	bob.login("bob")
	var others []*browser
	for range 3 {
		b := f.browser(t)
		b.login("ann")
		others = append(others, b)
	}
	if to := here.must("/devices/logout-others"); to != "/devices" {
		t.Errorf("it leads to %q, want /devices", to)
	}
	for _, b := range others {
		if got := b.whoami(); got.User != "" || got.Ended != "revoked" {
			t.Errorf("another device is %q, ended %q; want revoked", got.User, got.Ended)
		}
	}
	if a, b := here.whoami().User, bob.whoami().User; a != "ann" || b != "bob" {
		t.Errorf("this device is %q and bob is %q, want ann and bob", a, b)
	}
}

func TestAnEndedSessionSaysWhyAndGoesOnAsAGuest(t *testing.T) {
	f := newFarm(t, 2)
	end := func() *browser {
		here, other := f.browser(t), f.browser(t)
		here.login("ann")
		here.must("/cart/add", "product", "oolong")
		other.login("ann")
		other.must("/devices/logout-others")
		return here
	}

	b := end()
	a := b.get("/cart")
	if a.status != http.StatusOK || !strings.Contains(a.body, "logged out from another device") {
		t.Errorf("status %d, want 200 and the reason in words:\n%s", a.status, a.body)
	}
	if ended, _ := a.attr("data-ended"); ended != "revoked" {
		t.Errorf("data-ended is %q, want revoked", ended)
	}
	if user, there := a.attr("data-user"); !there || user != "" {
		t.Errorf("data-user is %q, %v; want it there and empty", user, there)
	}
	a = b.get("/cart")
	if ended, there := a.attr("data-ended"); there || a.status != http.StatusOK {
		t.Errorf("the next page: status %d, ended %q; want a guest", a.status, ended)
	}
	b.must("/cart/add", "product", "oolong")

	b = end()
	a = b.post("/cart/add", "product", "oolong")
	if ended, _ := a.attr("data-ended"); a.status != http.StatusConflict || ended != "revoked" {
		t.Errorf("adding to a session that is over: status %d, ended %q; want 409, revoked", a.status, ended)
	}
	b.must("/cart/add", "product", "oolong")
	if got := b.whoami(); got.User != "" || got.Count != 1 {
		t.Errorf("then %q has %d in the cart, want a guest with 1", got.User, got.Count)
	}

	b = end()
	for range 2 { // calls of a script leave the cookie to the next page
		if got := b.whoami(); got.User != "" || got.Ended != "revoked" || got.Count != 0 {
			t.Errorf("whoami is %+v, want nobody, revoked", got)
		}
		a := b.post("/api/cart/add", "product", "oolong")
		if a.status != http.StatusConflict || !strings.Contains(a.body, `"ended":"revoked"`) {
			t.Errorf("POST /api/cart/add: status %d, %s; want 409, revoked", a.status, a.body)
		}
	}
	b.login("ann")
	if got := b.whoami(); got.User != "ann" || got.Ended != "" {
		t.Errorf("after a new login: %+v, want ann", got)
	}
}

// The browser may hold the newer token already when the answer to an older
// request comes in.
func TestARotatedTokenLeavesTheCookieAlone(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.must("/cart/add", "product", "oolong")
	old := sessionCookie + "=" + b.cookie(sessionCookie)
	b.login("ann")
	late := f.browser(t)
	for _, a := range []answer{
		late.do("GET", "/cart", nil, "Cookie", old),
		late.do("POST", "/cart/add", url.Values{"product": {"oolong"}}, "Cookie", old),
		late.do("POST", "/logout", url.Values{}, "Cookie", old),
		late.do("GET", "/api/whoami", nil, "Cookie", old),
	} {
		if !strings.Contains(a.body, "replaced by a newer login") || a.header["Set-Cookie"] != nil {
			t.Errorf("status %d and cookies %q, want to be told and no cookie", a.status, a.header["Set-Cookie"])
		}
	}
	if got := b.whoami(); got.User != "ann" || got.Count != 1 {
		t.Errorf("whoami is %+v, want ann with 1", got)
	}
}

func TestAnOutageLogsNobodyOut(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.must("/cart/add", "product", "oolong")
	b.login("ann")
	other := f.browser(t)
	other.login("ann")
	id := deviceID.FindStringSubmatch(b.get("/devices").body)[1]
	token := b.cookie(sessionCookie)
	f.store.down.Store(true)
	for _, a := range []answer{
		b.get("/cart"), b.get("/account"), b.get("/devices"), b.get("/orders"), b.get("/api/whoami"), b.get("/api/cart"), b.get("/api/live"), b.get("/api/orders"),
		b.post("/cart/add", "product", "oolong"), b.post("/api/cart/add", "product", "oolong"), b.post("/checkout"),
		b.post("/login", "user", "ann", "password", shop.Password), b.post("/logout"),
		b.post("/devices/logout", "id", id), b.post("/devices/logout-others"),
	} {
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("status %d and Retry-After %q, want 503 and some seconds", a.status, a.header.Get("Retry-After"))
		}
		if a.header["Set-Cookie"] != nil {
			t.Errorf("an outage sets %q", a.header["Set-Cookie"])
		}
		if user, there := a.attr("data-user"); there || strings.Contains(a.body, `"user"`) {
			t.Errorf("nobody knows who it is, but the page says %q", user)
		}
	}
	if a := b.get("/"); a.status != http.StatusOK {
		t.Errorf("a public page: status %d, want 200", a.status)
	}
	// A change that was denied was not made; an end that was not confirmed may
	// have come all the same, and is not said to be nothing.
	if got, _ := b.post("/cart/add", "product", "oolong").attr("data-outcome"); got != "none" {
		t.Errorf("the outcome of an add is %q, want none", got)
	}
	if a := b.post("/api/cart/add", "product", "oolong"); !strings.Contains(a.body, `"outcome":"none"`) {
		t.Errorf("the outcome of an add is not none: %s", a.body)
	}
	if a := b.post("/logout"); !strings.Contains(a.body, "You may still be logged in") || !strings.Contains(a.body, `data-outcome="unknown"`) {
		t.Errorf("a logout in an outage says: %s", a.body)
	}
	f.store.down.Store(false)
	if got := b.whoami(); got.User != "ann" || got.Count != 1 || b.cookie(sessionCookie) != token {
		t.Errorf("after the outage: %+v, want ann with 1 and the same cookie", got)
	}
}

func TestTwoSessionCookiesAreRefused(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	b.login("ann")
	cookie := sessionCookie + "=" + b.cookie(sessionCookie)
	a := f.browser(t).do("POST", "/cart/add", url.Values{"product": {"oolong"}}, "Cookie", cookie, "Cookie", cookie)
	if a.status != http.StatusBadRequest || a.header["Set-Cookie"] != nil {
		t.Errorf("status %d and cookies %q, want 400 and none", a.status, a.header["Set-Cookie"])
	}
}

func TestCheckoutEmptiesTheCart(t *testing.T) {
	f := newFarm(t, 3)
	b := f.browser(t)
	b.must("/cart/add", "product", "green-tea", "qty", "3")
	b.login("ann")
	b.must("/cart/add", "product", "teapot")
	to := b.must("/checkout")
	want := map[string]int{"green-tea": 3, "teapot": 1}
	a := b.get(to)
	if got := a.lines(); a.status != http.StatusOK || !maps.Equal(got, want) {
		t.Errorf("%s: status %d and lines %v, want 200 and %v", to, a.status, got, want)
	}
	id := strings.TrimPrefix(to, "/orders/")
	if !strings.Contains(b.get("/orders").body, `data-order="`+id+`"`) {
		t.Errorf("the orders page does not show order %s", id)
	}
	if got := b.orders(); len(got) != 1 || got[0].ID != id || !maps.Equal(got[0].Lines, want) {
		t.Errorf("orders are %v, want %s with %v", got, id, want)
	}
	if got := b.whoami().Count; got != 0 {
		t.Errorf("the cart has %d, want 0", got)
	}
	if to := b.must("/checkout"); to != "/orders" {
		t.Errorf("ordering an empty cart leads to %q, want /orders", to)
	}
	bob := f.browser(t)
	bob.login("bob")
	if a := bob.get(to); a.status != http.StatusNotFound || len(a.lines()) != 0 {
		t.Errorf("bob looks at ann's order: status %d and lines %v, want 404", a.status, a.lines())
	}
}

// tally adds up what is in the user's orders and in the cart.
func (b *browser) tally() map[string]int {
	b.t.Helper()
	sum := make(map[string]int)
	seen := make(map[string]bool)
	for _, o := range b.orders() {
		if seen[o.ID] {
			b.t.Errorf("order %s is there twice", o.ID)
		}
		seen[o.ID] = true
		for p, n := range o.Lines {
			sum[p] += n
		}
	}
	for p, n := range b.whoami().Cart {
		sum[p] += n
	}
	return sum
}

func TestTenSubmitsMakeOneOrder(t *testing.T) {
	f := newFarm(t, 3)
	b := f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "green-tea", "qty", "5")
	id := regexp.MustCompile(`name="cart" value="(\w+)"`).FindStringSubmatch(b.get("/cart").body)[1]
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if a := b.post("/checkout", "cart", id); a.status != http.StatusSeeOther {
				t.Errorf("status %d, want 303", a.status)
			}
		})
	}
	wg.Wait()
	if got := b.orders(); len(got) != 1 || got[0].Lines["green-tea"] != 5 {
		t.Errorf("orders are %v, want one of 5 green-tea", got)
	}
	b.must("/cart/add", "product", "oolong")
	b.must("/checkout", "cart", id) // the tab that shows the old cart
	if got := b.orders(); len(got) != 1 {
		t.Errorf("a submit of the old cart ordered the new one: %v", got)
	}
}

// Tabs add to the cart while others order it, on all servers. What was
// acknowledged is in an order or in the cart, and in one of them only.
func TestAddsDuringCheckoutAreInTheCartOrInOneOrder(t *testing.T) {
	f := newFarm(t, 3)
	b := f.browser(t)
	b.login("ann")
	products := shop.Products()[:6]
	acked := make([]int, len(products))
	var adders, submitters sync.WaitGroup
	done := make(chan struct{})
	for i, p := range products {
		adders.Go(func() {
			for n := range 20 {
				path, want := "/cart/add", http.StatusSeeOther
				if n%2 == 0 {
					path, want = "/api/cart/add", http.StatusOK
				}
				if a := b.post(path, "product", p); a.status == want {
					acked[i]++
				} else {
					t.Errorf("POST %s: status %d, want %d", path, a.status, want)
				}
			}
		})
	}
	for range 4 {
		submitters.Go(func() {
			for {
				if a := b.post("/checkout"); a.status != http.StatusSeeOther {
					t.Errorf("POST /checkout: status %d, want 303", a.status)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	adders.Wait()
	close(done)
	submitters.Wait()
	want := make(map[string]int)
	for i, p := range products {
		want[p] = acked[i]
	}
	if got := b.tally(); !maps.Equal(got, want) {
		t.Errorf("orders and cart have\n%v, acknowledged were\n%v", got, want)
	}
}

// The same, at the worst moment: between the insert of the order and the
// change of the cart.
func TestAnAddAfterTheOrderStaysInTheCart(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "green-tea", "qty", "2")
	add := func() error { return errors.Join(b.add("green-tea"), b.add("teapot")) }
	f.store.beforeUpdate.Store(&add)
	b.must("/checkout")
	if got := b.orders(); len(got) != 1 || !maps.Equal(got[0].Lines, map[string]int{"green-tea": 2}) {
		t.Errorf("orders are %v, want one of 2 green-tea", got)
	}
	if got, want := b.whoami().Cart, (map[string]int{"green-tea": 1, "teapot": 1}); !maps.Equal(got, want) {
		t.Errorf("the cart has %v, want %v", got, want)
	}
	b.must("/checkout")
	if got := b.orders(); len(got) != 2 {
		t.Errorf("%d orders, want 2", len(got))
	}
}

func TestACheckoutThatWasCutOffIsOneOrder(t *testing.T) {
	for name, heal := range map[string]func(*browser){
		"by ordering again":        func(b *browser) { b.must("/checkout") },
		"by looking at the orders": func(b *browser) { b.get("/orders") },
		"by asking the API":        func(b *browser) { b.orders() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, 2)
			b := f.browser(t)
			b.login("ann")
			b.must("/cart/add", "product", "green-tea", "qty", "2")
			cut := func() error { f.store.down.Store(true); return errors.New("cut off") }
			f.store.beforeUpdate.Store(&cut)
			if a := b.post("/checkout"); a.status != http.StatusServiceUnavailable {
				t.Fatalf("cut off: status %d, want 503", a.status)
			}
			f.store.down.Store(false)
			if got := b.whoami().Count; got != 2 {
				t.Fatalf("the cart has %d before it is settled, want 2", got)
			}
			heal(b)
			if got, want := b.tally(), (map[string]int{"green-tea": 2}); !maps.Equal(got, want) || len(b.orders()) != 1 {
				t.Errorf("orders and cart have %v in %d orders, want %v in one", got, len(b.orders()), want)
			}
			if got := b.whoami().Count; got != 0 {
				t.Errorf("the cart has %d, want 0", got)
			}
		})
	}
}

func TestEveryPageKeepsTheContract(t *testing.T) {
	f := newFarm(t, 1)
	guest, b := f.browser(t), f.browser(t)
	b.login("ann")
	b.must("/cart/add", "product", "oolong", "qty", "2")
	order := b.must("/checkout")
	b.must("/cart/add", "product", "teapot")
	for _, want := range []struct {
		a              answer
		page           string
		status         int
		asked          bool
		user           string
		product, qtyOf string
	}{
		{guest.get("/"), "home", 200, false, "", "", ""},
		{guest.get("/product/teapot"), "product", 200, false, "", "", ""},
		{guest.get("/about"), "about", 200, false, "", "", ""},
		{guest.get("/live"), "live", 200, false, "", "", ""},
		{guest.get("/login"), "login", 200, false, "", "", ""},
		{guest.get("/cart"), "cart", 200, true, "", "", ""},
		{guest.get("/nothing"), "problem", 404, false, "", "", ""},
		{guest.get("/product/gin"), "problem", 404, false, "", "", ""},
		{guest.get("/checkout"), "problem", 405, false, "", "", ""},
		{b.get("/cart"), "cart", 200, true, "ann", "teapot", "1"},
		{b.get("/account"), "account", 200, true, "ann", "", ""},
		{b.get("/devices"), "devices", 200, true, "ann", "", ""},
		{b.get("/orders"), "orders", 200, true, "ann", "oolong", "2"},
		{b.get(order), "order", 200, true, "ann", "oolong", "2"},
		{b.get("/orders/NONE"), "problem", 404, false, "", "", ""},
	} {
		page, _ := want.a.attr("data-page")
		server, _ := want.a.attr("data-server")
		user, asked := want.a.attr("data-user")
		if want.a.status != want.status || page != want.page || server != "web1" || user != want.user || asked != want.asked {
			t.Errorf("page %s: status %d, data-page %q, data-server %q, data-user %q (%v); want %+v", want.page, want.a.status, page, server, user, asked, want)
		}
		if want.product != "" && !strings.Contains(want.a.body, `data-product="`+want.product+`" data-qty="`+want.qtyOf+`"`) {
			t.Errorf("page %s: no line with %s %s", want.page, want.qtyOf, want.product)
		}
		if got := want.a.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("page %s: Content-Type %q", want.page, got)
		}
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(b.get("/api/whoami").body), &got); err != nil {
		t.Fatal(err)
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"ended", "server", "user"}) {
		t.Errorf("whoami has the fields %q", keys)
	}
	if err := json.Unmarshal([]byte(b.get("/api/cart").body), &got); err != nil {
		t.Fatal(err)
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"cart", "count", "ended", "server", "user"}) {
		t.Errorf("the cart has the fields %q", keys)
	}
}

func TestEveryResponseIsHardened(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	css := regexp.MustCompile(`/static/shop\.[0-9a-f]{16}\.css`).FindString(b.get("/").body)
	for path, a := range map[string]answer{
		"/": b.get("/"), "/cart": b.get("/cart"), "/nothing": b.get("/nothing"), css: b.get(css), "/api/whoami": b.get("/api/whoami"),
		"POST /cart/add": b.post("/cart/add", "product", "oolong"), "POST /": b.post("/"),
	} {
		for name, want := range map[string]string{
			"X-Server": "web1", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		csp := a.header.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy is %q", path, csp)
		}
		if regexp.MustCompile(`(?i)<style|<script>|<[^>]* (style|on[a-z]+)=`).MatchString(a.body) {
			t.Errorf("%s: the page has inline style or script, which its policy forbids", path)
		}
	}
	if a := b.post("/"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: status %d and Allow %q, want 405 and GET, HEAD", a.status, a.header.Get("Allow"))
	}
	for _, path := range []string{"/cart", "/login", "/api/whoami"} {
		if got := b.get(path).header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q, want no-store", path, got)
		}
	}
}

func TestStaticFilesAreKeptForEver(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	page := b.get("/live").body
	paths := regexp.MustCompile(`"(/static/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(paths) != 3 {
		t.Fatalf("the page names %d static files, want style, script and icon", len(paths))
	}
	for _, m := range paths {
		a := b.get(m[1])
		if a.status != http.StatusOK || a.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: status %d and Cache-Control %q", m[1], a.status, a.header.Get("Cache-Control"))
		}
		if a := b.do("GET", m[1], nil, "If-None-Match", a.header.Get("ETag")); a.status != http.StatusNotModified {
			t.Errorf("%s: status %d with its ETag, want 304", m[1], a.status)
		}
	}
	other := b.get("/static/shop.0123456789abcdef.css") // another version's name for it
	if other.status != http.StatusOK || other.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("under another hash: status %d and Cache-Control %q, want 200 and no-cache", other.status, other.header.Get("Cache-Control"))
	}
	for _, path := range []string{"/static/nothing.css", "/static/", "/static/..%2fshop.go", "/static/shop.go"} {
		if a := b.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, a.status)
		}
	}
}

func TestLanguageIsAPlainCookie(t *testing.T) {
	f := newFarm(t, 2)
	b := f.browser(t)
	if a := b.get("/"); !strings.Contains(a.body, `<html lang="en">`) || !strings.Contains(a.body, "€8.90") {
		t.Error("the page is not English at first")
	}
	if to := b.must("/language", "lang", "de", "next", "/product/green-tea"); to != "/product/green-tea" {
		t.Errorf("choosing leads to %q, want back", to)
	}
	if a := b.get("/product/green-tea"); !strings.Contains(a.body, `<html lang="de">`) || !strings.Contains(a.body, "Grüner Tee") || !strings.Contains(a.body, "8,90\u00a0€") {
		t.Errorf("the page is not German:\n%s", a.body)
	}
	if to := b.must("/language", "lang", `<b>`, "next", "//evil.example"); to != "/" {
		t.Errorf("choosing leads to %q, want /", to)
	}
	if got := b.cookie("lang"); got != "en" {
		t.Errorf("an unknown language is kept as %q, want en", got)
	}
}

func TestNoSecretReachesTheLog(t *testing.T) {
	f := newFarm(t, 1)
	b := f.browser(t)
	var secrets []string
	b.must("/cart/add", "product", "oolong")
	secrets = append(secrets, b.cookie(sessionCookie))
	b.login("ann")
	secrets = append(secrets, b.cookie(sessionCookie))
	b.post("/login", "user", "ann", "password", "secret-of-ann")
	f.store.down.Store(true)
	b.get("/account")
	b.post("/login?password=secret-of-ann", "user", "ann", "password", shop.Password)
	f.store.down.Store(false)
	b.must("/logout")
	log := f.log.String()
	if !strings.Contains(log, "logged in") || !strings.Contains(log, "request failed") {
		t.Fatalf("the log lacks what it should have:\n%s", log)
	}
	for _, secret := range append(secrets, "secret-of-ann", "password=") {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "o.db")
	for name, cfg := range map[string]shop.Config{
		"no server": {Sessions: roam.NewMemStore(), Orders: file},
		"no store":  {Server: "web1", Orders: file},
		"no orders": {Server: "web1", Sessions: roam.NewMemStore()},
		"no folder": {Server: "web1", Sessions: roam.NewMemStore(), Orders: filepath.Join(file, "o.db")},
	} {
		if s, err := shop.New(cfg); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
