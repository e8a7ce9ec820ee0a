package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// newBare is the site without sessions: what the other sites' pages would cost
// if sessions cost nothing. It believes whatever the cookie says.
func newBare(context.Context, *env) (*site, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /untouched", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "hello") })
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) { sayUser(w, userOf(r)) })
	count := func(w http.ResponseWriter, r *http.Request) { sayCount(w, 1) }
	mux.HandleFunc("GET /cart", count)
	mux.HandleFunc("GET /fresh", count)
	mux.HandleFunc("POST /add", count)
	loginAs(mux)
	return &site{handler: mux, forge: func(string) string { return "raw=" }}, nil
}

// userOf believes the cookie.
func userOf(r *http.Request) string {
	_, user, _ := strings.Cut(r.Header.Get("Cookie"), "raw=")
	return user
}

// loginAs lets the cookie say who it is, and no more.
func loginAs(mux *http.ServeMux) {
	mux.HandleFunc("POST /login/{user}", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"raw=" + r.PathValue("user")}
		sayUser(w, r.PathValue("user"))
	})
}

// The raw sites ask the driver for one row and do nothing else: no library on
// that driver that asks the store once a page can be faster. They have the
// pages cold and update only.

func newRawPostgres(ctx context.Context, e *env) (*site, error) {
	// As many connections as roam has, which are what counts when the store is far.
	pool, err := e.pool(ctx, 16)
	if err != nil {
		return nil, err
	}
	if err := execAll(ctx, pool,
		`CREATE TABLE IF NOT EXISTS raw (id text PRIMARY KEY, version bigint NOT NULL, data bytea NOT NULL)`,
		`INSERT INTO raw SELECT 'u' || n, 1, convert_to('`+cart+`', 'UTF8') FROM generate_series(0, 999) n ON CONFLICT DO NOTHING`,
	); err != nil {
		return nil, err
	}
	return rawSite(
		func(ctx context.Context, user string) error {
			var version int64
			var data []byte
			return pool.QueryRow(ctx, `SELECT version, data FROM raw WHERE id = $1`, user).Scan(&version, &data)
		},
		func(ctx context.Context, user string) error {
			var version int64
			return pool.QueryRow(ctx, `UPDATE raw SET version = version + 1, data = $2 WHERE id = $1 RETURNING version`, user, []byte(cart)).Scan(&version)
		}, pool.Close), nil
}

func newRawRedis(ctx context.Context, e *env) (*site, error) {
	client, err := e.redis()
	if err != nil {
		return nil, err
	}
	return rawSite(
		func(ctx context.Context, user string) error {
			err := client.Get(ctx, "raw:"+user).Err()
			if err == redis.Nil {
				err = client.Set(ctx, "raw:"+user, cart, 0).Err()
			}
			return err
		},
		func(ctx context.Context, user string) error { return client.Set(ctx, "raw:"+user, cart, 0).Err() },
		func() { client.Close() }), nil
}

func newRawSQLite(ctx context.Context, e *env) (*site, error) {
	db, err := e.sqlite("raw.db")
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS raw (id text PRIMARY KEY, version integer NOT NULL, data blob NOT NULL)`); err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 999)
		INSERT OR IGNORE INTO raw SELECT 'u' || i, 1, ? FROM n`, []byte(cart)); err != nil {
		return nil, err
	}
	return rawSite(
		func(ctx context.Context, user string) error {
			e.calls.Add(1)
			var version int64
			var data []byte
			return db.QueryRowContext(ctx, `SELECT version, data FROM raw WHERE id = ?`, user).Scan(&version, &data)
		},
		func(ctx context.Context, user string) error {
			e.calls.Add(1)
			_, err := db.ExecContext(ctx, `UPDATE raw SET version = version + 1, data = ? WHERE id = ?`, []byte(cart), user)
			return err
		}, func() { db.Close() }), nil
}

func rawSite(read, write func(context.Context, string) error, end func()) *site {
	page := func(do func(context.Context, string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), userOf(r)); err != nil {
				say(w, http.StatusServiceUnavailable, err.Error())
				return
			}
			sayCount(w, 1)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fresh", page(read))
	mux.HandleFunc("POST /add", page(write))
	loginAs(mux)
	return &site{handler: mux, close: end}
}

func execAll(ctx context.Context, pool *pgxpool.Pool, statements ...string) error {
	for _, sql := range statements {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
