package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
	"github.com/roam-web/roam/sealed"
	"github.com/roam-web/roam/store/postgresstore"
	"github.com/roam-web/roam/store/sqlitestore"
)

func newRoamMemory(ctx context.Context, e *env) (*site, error) {
	return newRoam(ctx, e, roam.NewMemStore(), false)
}

func newRoamSQLite(ctx context.Context, e *env) (*site, error) {
	store, err := sqlitestore.Open(filepath.Join(e.Dir, "roam.db"), &sqlitestore.Options{BusyWait: e.wait()})
	if err != nil {
		return nil, err
	}
	return newRoam(ctx, e, counted{store, e}, true, store)
}

func newRoamPostgres(ctx context.Context, e *env) (*site, error) {
	quiet := slog.New(slog.DiscardHandler)
	opts := &postgresstore.Options{Logger: quiet}
	if err := postgresstore.Init(ctx, e.Postgres, opts); err != nil {
		return nil, err
	}
	store, err := postgresstore.Open(ctx, e.Postgres, opts)
	if err != nil {
		return nil, err
	}
	return newRoam(ctx, e, touched{store, e}, true, store)
}

// newRoam is the site on roam, as the sample shop of "roam up" has it: sealed
// marks, and a near cache if the sessions are not in memory anyway. A session
// of roam's always has an idle timeout; the default is an hour.
func newRoam(ctx context.Context, e *env, store roam.Store, near bool, closers ...io.Closer) (*site, error) {
	keys, err := sealed.New(ctx, sealed.FromFile(filepath.Join(e.Dir, "keys.json")), nil)
	if err != nil {
		return nil, err
	}
	if near {
		if store, err = nearcache.New(store, nil); err != nil {
			return nil, err
		}
	}
	opts := &roam.Options{Lifetime: e.Lifetime}
	if e.Idle {
		opts.IdleTimeout = 10 * time.Second
	}
	sessions, err := roam.New[visit](store, opts)
	if err != nil {
		return nil, err
	}
	web, err := roam.NewWeb(sessions, &roam.WebOptions{
		Sealer:         keys.Sealer("__Host-roam-mark", "bench", "mark"),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		return nil, err
	}
	// What an application does with errors: who is out is a guest, and a store
	// that does not answer is a 503.
	guest := func(w http.ResponseWriter, err error) bool {
		switch {
		case err == nil:
			return false
		case errors.Is(err, roam.ErrEnded):
			web.Forget(w, err)
			say(w, http.StatusOK, "guest")
		default:
			say(w, http.StatusServiceUnavailable, "try again")
		}
		return true
	}
	read := func(get func(http.ResponseWriter, *http.Request) (roam.Session[visit], error), hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s, err := get(w, r)
			hold.pass()
			if !guest(w, err) {
				sayCount(w, s.Data.Count)
			}
		}
	}
	add := func(hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			first := true
			s, err := web.Update(w, r, func(v *visit) error {
				if first {
					first = false
					hold.pass()
				}
				v.Count++
				return nil
			})
			if !guest(w, err) {
				sayCount(w, s.Data.Count)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /untouched", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "hello") })
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		who, err := web.Identify(w, r)
		if !guest(w, err) {
			sayUser(w, who.User)
		}
	})
	mux.HandleFunc("GET /cart", read(web.Get, nil))
	mux.HandleFunc("GET /fresh", read(web.Fresh, nil))
	mux.HandleFunc("GET "+slowRead, read(web.Get, e.gate))
	mux.HandleFunc("POST /add", add(nil))
	mux.HandleFunc("POST "+slowAdd, add(e.gate))
	mux.HandleFunc("POST /login/{user}", func(w http.ResponseWriter, r *http.Request) {
		s, err := web.Login(w, r, roam.Login{User: r.PathValue("user")}, func(v *visit) error {
			v.Cart = cart
			return nil
		})
		if !guest(w, err) {
			sayUser(w, s.User)
		}
	})
	mux.HandleFunc("POST "+logout, func(w http.ResponseWriter, r *http.Request) {
		if err := web.Logout(w, r); !guest(w, err) {
			say(w, 200, "bye")
		}
	})
	background, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); sessions.Run(background) }()
	return &site{handler: mux, forge: forgeRoam, close: func() {
		stop()
		<-done
		for _, c := range closers {
			c.Close()
		}
	}}, nil
}

// forgeRoam makes the cookies of a token and of a mark that nobody gave out,
// as long as real ones.
func forgeRoam(real string) string {
	token := random(48)
	token[6], token[8] = token[6]&0x0f|0x40, token[8]&0x3f|0x80 // the ID is a random UUID
	c := parseJar(real)
	for i := range c {
		switch c[i].name {
		case "__Host-roam":
			c[i].value = base64.RawURLEncoding.EncodeToString(token)
		case "__Host-roam-mark":
			c[i].value = c[i].value[:16] + base64.RawURLEncoding.EncodeToString(random(1 + len(c[i].value)*3/4))[:len(c[i].value)-16]
		}
	}
	return c.header()
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// touched counts touches, which come in batches.
type touched struct {
	roam.Store
	env *env
}

func (t touched) Touch(ctx context.Context, seen []roam.Touch) error {
	t.env.touches.Add(int64(len(seen)))
	return t.Store.Touch(ctx, seen)
}

// counted counts what is asked of a store that has no wire to count on.
type counted struct {
	roam.Store
	env *env
}

func (c counted) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	c.env.calls.Add(1)
	return c.Store.Load(ctx, id, want)
}

func (c counted) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	c.env.calls.Add(1)
	return c.Store.Insert(ctx, rec)
}

func (c counted) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	c.env.calls.Add(1)
	return c.Store.Update(ctx, rec)
}

func (c counted) Touch(ctx context.Context, seen []roam.Touch) error {
	c.env.calls.Add(1)
	return c.Store.Touch(ctx, seen)
}

func (c counted) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	c.env.calls.Add(1)
	return c.Store.End(ctx, id, why)
}

func (c counted) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	c.env.calls.Add(1)
	return c.Store.Ends(ctx, after)
}

func (c counted) Prune(ctx context.Context, keep time.Duration, max int) (int, error) {
	c.env.calls.Add(1)
	return c.Store.Prune(ctx, keep, max)
}
