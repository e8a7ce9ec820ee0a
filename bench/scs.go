package main

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/sqlite3store"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
)

// No store of scs cleans up here: nothing expires while it is measured, and to
// stop one that does is a data race with its start.

func newSCSMemory(_ context.Context, e *env) (*site, error) {
	return newSCS(e, memstore.NewWithCleanupInterval(0), nil), nil
}

func newSCSPostgres(ctx context.Context, e *env) (*site, error) {
	pool, err := e.pool(ctx, peerConns)
	if err != nil {
		return nil, err
	}
	if err := execAll(ctx, pool,
		`CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, data BYTEA NOT NULL, expiry TIMESTAMPTZ NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry)`,
	); err != nil {
		return nil, err
	}
	return newSCS(e, pgxstore.NewWithCleanupInterval(pool, 0), pool.Close), nil
}

// newSCSWrapped is the site of somebody who knows which pages need no session.
func newSCSWrapped(ctx context.Context, e *env) (*site, error) {
	s, err := newSCSPostgres(ctx, e)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", s.handler)
	mux.HandleFunc("GET /untouched", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "hello") })
	s.handler = mux
	return s, nil
}

func newSCSRedis(_ context.Context, e *env) (*site, error) {
	client, err := e.redis()
	if err != nil {
		return nil, err
	}
	return newSCS(e, goredisstore.New(client), func() { client.Close() }), nil
}

func newSCSSQLite(ctx context.Context, e *env) (*site, error) {
	db, err := e.sqlite("scs.db")
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		`CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, data BLOB NOT NULL, expiry REAL NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions(expiry)`,
	} {
		if _, err := db.ExecContext(ctx, sql); err != nil {
			return nil, err
		}
	}
	return newSCS(e, countedSCS{sqlite3store.NewWithCleanupInterval(db, 0), e}, func() { db.Close() }), nil
}

// newSCS is the site on alexedwards/scs as its README has it: one manager, and
// LoadAndSave around the whole site.
func newSCS(e *env, store scs.Store, end func()) *site {
	m := scs.New()
	m.Store = store
	m.Cookie.Secure = true
	if e.Lifetime != 0 {
		m.Lifetime = e.Lifetime
	}
	if e.Idle {
		m.IdleTimeout = time.Hour
	}
	read := func(hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if m.GetString(r.Context(), "user") == "" {
				say(w, 200, "guest")
				return
			}
			hold.pass()
			sayCount(w, m.GetInt(r.Context(), "count"))
		}
	}
	add := func(hold *gate) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n := m.GetInt(r.Context(), "count") + 1
			hold.pass()
			m.Put(r.Context(), "count", n)
			sayCount(w, n)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /untouched", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "hello") })
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) { sayUser(w, m.GetString(r.Context(), "user")) })
	mux.HandleFunc("GET /cart", read(nil))
	mux.HandleFunc("GET /fresh", read(nil))
	mux.HandleFunc("GET "+slowRead, read(e.gate))
	mux.HandleFunc("POST /add", add(nil))
	mux.HandleFunc("POST "+slowAdd, add(e.gate))
	mux.HandleFunc("POST /login/{user}", func(w http.ResponseWriter, r *http.Request) {
		if err := m.RenewToken(r.Context()); err != nil {
			say(w, http.StatusInternalServerError, "no new token")
			return
		}
		m.Put(r.Context(), "user", r.PathValue("user"))
		m.Put(r.Context(), "cart", cart)
		sayUser(w, r.PathValue("user"))
	})
	mux.HandleFunc("POST "+logout, func(w http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			say(w, http.StatusInternalServerError, "not logged out")
			return
		}
		say(w, 200, "bye")
	})
	return &site{handler: m.LoadAndSave(mux), close: end, forge: func(string) string {
		return m.Cookie.Name + "=" + base64.RawURLEncoding.EncodeToString(random(32))
	}}
}

// countedSCS counts what is asked of a store that has no wire to count on.
type countedSCS struct {
	*sqlite3store.SQLite3Store
	env *env
}

func (c countedSCS) Find(token string) ([]byte, bool, error) {
	c.env.calls.Add(1)
	return c.SQLite3Store.Find(token)
}

func (c countedSCS) Commit(token string, b []byte, expiry time.Time) error {
	c.env.calls.Add(1)
	return c.SQLite3Store.Commit(token, b, expiry)
}

func (c countedSCS) Delete(token string) error {
	c.env.calls.Add(1)
	return c.SQLite3Store.Delete(token)
}
