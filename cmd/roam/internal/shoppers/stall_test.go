package shoppers

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A stall is the smallest site that shoppers can shop at, right unless told
// otherwise. It is the proof that the shoppers notice what is wrong.
type stall struct {
	servers func(n int) string // which server says that it answered the nth request

	loseUpdate  bool // carts are read, and written back later: the last write wins
	forget      int  // every nth page with a session has forgotten the login, and with it the session
	forgetCarts int  // every nth page with a session has emptied the cart
	keepKeys    bool // logout deletes the cookie in the browser and nothing else
	upsert      bool // an add that was in flight during a logout brings the session back
	twice       int  // every nth add is done twice
	dropGets    int  // every nth GET is not answered
	dropPosts   int  // every nth add is done and not answered
	loseOrders  int  // every nth order is acknowledged and not stored
	changeOrder int  // every nth look at the orders shows one item less
	stranger    int  // every nth page with a session greets somebody else

	marks    bool // each change is answered with a mark of how new it is
	goesBack int  // every nth look ignores the mark and shows the cart as it was before the last change
	obeys    int  // every nth look that brings an older mark shows the cart as old as that
	logsOut  bool // a call that comes too late deletes the cookie, which may be a newer one by then

	// In an outage of the store all that needs a session is answered with 503.
	// These are the faults that a site can have then.
	dark      bool
	mute      bool // without Retry-After
	publicToo bool // public pages, too
	clears    bool // with the cookie deleted
	claims    bool // a logout is answered as done
	late      bool // the change is made all the same, which the answer says
	lies      bool // the same, and the answer denies it
	amnesia   bool // a login is forgotten

	mu       sync.Mutex
	n        map[string]int
	sessions map[string]*visit
	orders   map[string][]order
}

type visit struct {
	user  string
	cart  map[string]int
	ended string
	past  []map[string]int // the cart after each change, if there are marks
}

func (s *stall) nth(what string, every int) bool {
	if every == 0 {
		return false
	}
	s.n[what]++
	return s.n[what]%every == 0
}

func (s *stall) start(t *testing.T) Options {
	t.Helper()
	s.n, s.sessions, s.orders = map[string]int{}, map[string]*visit{}, map[string][]order{}
	if s.servers == nil {
		s.servers = func(n int) string { return fmt.Sprintf("web%d", 1+n%3) }
	}
	site := httptest.NewUnstartedServer(s)
	site.StartTLS()
	t.Cleanup(site.Close)
	return Options{
		URL: site.URL, RootCAs: site.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
		Servers: []string{"web1", "web2", "web3"}, Rate: 400, Duration: 1500 * time.Millisecond,
		Accounts: []string{"ann", "bob", "carl", "dora", "emil", "fay", "gus", "hana"}, Password: "tea",
		Products: []string{"green-tea", "mug", "pot"}, Seed: 1,
	}
}

func (s *stall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n["request"]++
	server := s.servers(s.n["request"])
	w.Header().Set("X-Server", server)
	if r.Method == "GET" && s.nth("get", s.dropGets) {
		panic(http.ErrAbortHandler)
	}

	key, v := "", (*visit)(nil)
	if c, err := r.Cookie(cookieName); err == nil {
		key = c.Value
		v = s.sessions[key]
	}
	if s.upsert && v != nil {
		kept := *v
		if kept.ended == "" {
			v = &kept
		}
	}
	s.mu.Unlock()
	r.ParseForm() // where a request that is held back waits
	s.mu.Lock()
	if !s.upsert && key != "" {
		v = s.sessions[key]
	}

	mark := func(v *visit) {
		if s.marks {
			v.past = append(v.past, maps.Clone(v.cart))
			http.SetCookie(w, &http.Cookie{Name: markName, Value: fmt.Sprintf("%s.%d", key, len(v.past)), Path: "/", Secure: true, HttpOnly: true})
		}
	}

	begin := func(user string) *visit {
		next := &visit{user: user, cart: map[string]int{}}
		if v != nil && v.ended == "" {
			next.cart = v.cart
			s.sessions[key] = &visit{ended: "replaced by a newer login"}
		}
		key = rand.Text()
		s.sessions[key] = next
		mark(next)
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: key, Path: "/", Secure: true, HttpOnly: true})
		return next
	}
	leads := func(path string) {
		w.Header().Set("Location", path)
		w.WriteHeader(http.StatusSeeOther)
	}
	shows := func(page string, more string, status int) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<!doctype html><body data-server=%q data-page=%q %s</body>", server, page, more)
	}
	api := strings.HasPrefix(r.URL.Path, "/api/")
	var user, ended string
	cart := map[string]int{}
	var shown map[string]int
	look := func() {
		user, ended, cart = "", "", map[string]int{}
		if v != nil {
			if s.nth("session", s.forget) {
				delete(s.sessions, key)
				v = nil
				return
			}
			if s.marks && r.Method == "GET" {
				cart := v.cart
				if n := len(v.past); n > 1 && s.nth("back", s.goesBack) {
					cart = v.past[n-2]
				}
				if c, err := r.Cookie(markName); err == nil && s.nth("obeys", s.obeys) {
					of, version, _ := strings.Cut(c.Value, ".")
					if n, _ := strconv.Atoi(version); of == key && n > 0 && n <= len(v.past) {
						cart = v.past[n-1]
					}
				}
				user, ended = v.user, v.ended
				if ended == "" {
					shown = cart
				}
			}
			if s.nth("carts", s.forgetCarts) {
				v.cart = map[string]int{}
			}
			user, ended, cart = v.user, v.ended, v.cart
			if ended != "" {
				user, cart = "", map[string]int{}
			}
			if shown != nil && ended == "" {
				cart = shown
			}
			if user != "" && s.nth("stranger", s.stranger) {
				user = "mallory"
			}
		}
	}
	answers := func(status int) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"server": server, "user": user, "ended": ended, "cart": cart})
	}
	private := func(page, lines string, status int) {
		shows(page, fmt.Sprintf("data-user=%q data-ended=%q>%s", user, ended, lines), status)
	}

	public := r.Method == "GET" && (r.URL.Path == "/" || r.URL.Path == "/about" || r.URL.Path == "/live" ||
		strings.HasPrefix(r.URL.Path, "/product/") || r.URL.Path == "/login")
	if s.dark && (!public || s.publicToo) && !(s.claims && r.URL.Path == "/logout") {
		if !s.mute {
			w.Header().Set("Retry-After", "1")
		}
		if s.clears {
			http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true})
		}
		outcome := "none"
		if (s.late || s.lies) && strings.HasSuffix(r.URL.Path, "/cart/add") && v != nil && v.ended == "" {
			qty := 1
			fmt.Sscan(r.PostFormValue("qty"), &qty)
			v.cart[r.PostFormValue("product")] += qty
			if s.late {
				outcome = "unknown"
			}
		}
		if s.late && r.URL.Path == "/logout" && v != nil {
			s.sessions[key] = &visit{ended: "logged out"}
			outcome = "unknown"
		}
		shows("problem", fmt.Sprintf("data-outcome=%q>", outcome), http.StatusServiceUnavailable)
		return
	}
	if s.dark && s.claims && r.URL.Path == "/logout" {
		http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true})
		leads("/")
		return
	}
	switch path := r.URL.Path; {
	case path == "/", path == "/about", path == "/live", strings.HasPrefix(path, "/product/"), path == "/login" && r.Method == "GET":
		shows("public", ">", http.StatusOK)
	case path == "/login":
		s.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		s.mu.Lock()
		begin(r.PostFormValue("user"))
		leads("/account")
	case path == "/logout":
		if v != nil && !s.keepKeys {
			s.sessions[key] = &visit{ended: "logged out"}
		}
		http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true})
		leads("/")
	case path == "/devices/logout-others":
		look()
		for k, o := range s.sessions {
			if k != key && o.user == user && !s.keepKeys {
				s.sessions[k] = &visit{ended: "revoked"}
			}
		}
		leads("/devices")
	case strings.HasSuffix(path, "/cart/add"):
		if v != nil && v.ended != "" {
			look()
			if api {
				if s.logsOut {
					http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true})
				}
				answers(http.StatusConflict)
			} else {
				private("ended", "", http.StatusConflict)
			}
			return
		}
		if v == nil {
			v = begin("")
		}
		product, qty := r.PostFormValue("product"), 1
		fmt.Sscan(r.PostFormValue("qty"), &qty)
		if s.nth("add", s.twice) {
			qty *= 2
		}
		switch {
		case s.loseUpdate:
			n := v.cart[product]
			s.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
			s.mu.Lock()
			v.cart[product] = n + qty
		default:
			v.cart[product] += qty
		}
		if s.upsert {
			s.sessions[key] = v
		}
		mark(v)
		if s.nth("post", s.dropPosts) {
			panic(http.ErrAbortHandler)
		}
		if api {
			look()
			answers(http.StatusOK)
		} else {
			leads("/cart")
		}
	case path == "/api/whoami", path == "/api/cart":
		look()
		answers(http.StatusOK)
	case path == "/cart":
		look()
		var lines strings.Builder
		for p, n := range cart {
			fmt.Fprintf(&lines, "<li data-product=%q data-qty=\"%d\">", p, n)
		}
		page := "cart"
		if ended != "" {
			page = "ended"
		}
		private(page, lines.String(), http.StatusOK)
	default:
		look()
		switch {
		case ended != "" && api:
			answers(http.StatusOK)
		case ended != "":
			private("ended", "", http.StatusOK)
		case user == "" && api:
			w.WriteHeader(http.StatusUnauthorized)
		case user == "":
			leads("/login?next=x")
		case path == "/checkout" && len(v.cart) == 0:
			leads("/orders")
		case path == "/checkout":
			o := order{ID: rand.Text(), Lines: v.cart}
			v.cart = map[string]int{}
			mark(v)
			if !s.nth("order", s.loseOrders) {
				s.orders[user] = append(s.orders[user], o)
			}
			leads("/orders/" + o.ID)
		case path == "/api/orders":
			list := []map[string]any{}
			for _, o := range s.orders[user] {
				lines := map[string]int{}
				for p, n := range o.Lines {
					if s.nth("line", s.changeOrder) {
						n--
					}
					lines[p] = n
				}
				list = append(list, map[string]any{"id": o.ID, "lines": lines})
			}
			json.NewEncoder(w).Encode(list)
		default:
			private("private", "", http.StatusOK)
		}
	}
}
