package main

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/boj/redistore"
	"github.com/gorilla/sessions"
)

// The keys of the gorilla sites: 64 bytes to authenticate and 32 to encrypt,
// as the documentation of securecookie recommends. All servers of a farm have
// the same ones, and there is no secret in a benchmark.
var (
	hashKey  = []byte("bench bench bench bench bench bench bench bench bench bench benc")
	blockKey = []byte("bench bench bench bench bench be")
)

func newGorillaCookie(_ context.Context, e *env) (*site, error) {
	store := sessions.NewCookieStore(hashKey, blockKey)
	if e.Lifetime != 0 {
		store.MaxAge(int(e.Lifetime.Seconds()))
	}
	return newGorilla(e, store, store.Options, nil), nil
}

func newGorillaRedis(_ context.Context, e *env) (*site, error) {
	// The pool keeps as many idle connections as there are clients: with fewer
	// it dials anew all the time.
	store, err := redistore.NewRediStore(256, "tcp", e.Redis.Addr, "", e.Redis.Password, hashKey)
	if err != nil {
		return nil, err
	}
	if e.Lifetime != 0 {
		store.SetMaxAge(int(e.Lifetime.Seconds()))
	}
	return newGorilla(e, store, store.Options, func() { store.Close() }), nil
}

// newGorilla is the site on gorilla/sessions. Its README ignores the error of
// Get for cookies that cannot be decoded; redistore's stops at it, which for a
// store that can be down is the better advice. So a cookie that does not decode
// is a guest, and everything else is a 503.
func newGorilla(e *env, store sessions.Store, opts *sessions.Options, end func()) *site {
	const name = "session"
	opts.HttpOnly, opts.Secure, opts.SameSite = true, true, http.SameSiteLaxMode
	get := func(w http.ResponseWriter, r *http.Request) *sessions.Session {
		s, err := store.Get(r, name)
		if err != nil && !undecodable(err) {
			say(w, http.StatusServiceUnavailable, "try again")
			return nil
		}
		return s
	}
	save := func(w http.ResponseWriter, r *http.Request, s *sessions.Session) bool {
		if err := s.Save(r, w); err != nil {
			say(w, http.StatusInternalServerError, "not saved")
			return false
		}
		return true
	}
	read := func(hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s := get(w, r)
			if s == nil {
				return
			}
			hold.pass()
			if user, _ := s.Values["user"].(string); user == "" {
				say(w, 200, "guest")
				return
			}
			n, _ := s.Values["count"].(int)
			sayCount(w, n)
		}
	}
	add := func(hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s := get(w, r)
			if s == nil {
				return
			}
			n, _ := s.Values["count"].(int)
			hold.pass()
			s.Values["count"] = n + 1
			if save(w, r, s) {
				sayCount(w, n+1)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /untouched", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "hello") })
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		if s := get(w, r); s != nil {
			user, _ := s.Values["user"].(string)
			sayUser(w, user)
		}
	})
	mux.HandleFunc("GET /cart", read(nil))
	mux.HandleFunc("GET /fresh", read(nil))
	mux.HandleFunc("GET "+slowRead, read(e.gate))
	mux.HandleFunc("POST /add", add(nil))
	mux.HandleFunc("POST "+slowAdd, add(e.gate))
	mux.HandleFunc("POST /login/{user}", func(w http.ResponseWriter, r *http.Request) {
		s := get(w, r)
		if s == nil {
			return
		}
		s.Values["user"], s.Values["cart"] = r.PathValue("user"), cart
		if save(w, r, s) {
			sayUser(w, r.PathValue("user"))
		}
	})
	mux.HandleFunc("POST "+logout, func(w http.ResponseWriter, r *http.Request) {
		s := get(w, r)
		if s == nil {
			return
		}
		s.Options.MaxAge = -1
		if save(w, r, s) {
			say(w, 200, "bye")
		}
	})
	return &site{handler: mux, close: end, forge: func(real string) string {
		c := parseJar(real)
		for i := range c {
			c[i].value = base64.URLEncoding.EncodeToString(random(len(c[i].value) * 3 / 4))
		}
		return c.header()
	}}
}

// undecodable tells a cookie that was not made here from a store that does not
// answer.
func undecodable(err error) bool {
	e, ok := err.(interface{ IsDecode() bool })
	return ok && e.IsDecode()
}
