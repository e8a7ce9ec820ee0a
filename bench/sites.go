package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/mattn/go-sqlite3" // the driver that sqlite3store's README names
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"
)

// A site is the pages of pages.go, made with one library. It has handler, or
// fast and serve.
type site struct {
	handler http.Handler
	fast    fasthttp.RequestHandler
	serve   func(net.Listener) error

	forge func(real string) string // a Cookie header nobody gave out; nil if the site has no such page
	close func()                   // nil if there is nothing to close
}

// A candidate is one row of the tables.
type candidate struct {
	name  string
	store string // "memory", "SQLite", "PostgreSQL", "Redis", "cookie" or "none"
	idle  bool   // with an idle timeout where the library has the choice
	make  func(context.Context, *env) (*site, error)
	pages []string // nil means all
	extra bool     // only in parts that name it
	note  string
}

var raw = []string{"cold", "update"}

// The names of two that are in one part each.
const (
	touching = "roam PostgreSQL, touching"
	wrapped  = "scs PostgreSQL, some pages"
)

// candidates are in the order of the tables. The roam of a store comes before
// its peers there, and the raw driver last.
var candidates = []candidate{
	{name: "net/http", store: "none", make: newBare, note: "the same pages without sessions; believes the cookie"},
	{name: "roam memory", store: "memory", make: newRoamMemory, note: "MemStore, sealed marks, Manager.Run running; the idle timeout is never off"},
	{name: "scs memory", store: "memory", make: newSCSMemory, note: "memstore"},
	{name: "fiber memory", store: "memory", make: newFiberMemory, note: "session middleware, its own memory storage; on fasthttp; the idle timeout is never off"},
	{name: "gorilla cookie", store: "cookie", make: newGorillaCookie, note: "CookieStore, authenticated and encrypted; all data is in the cookie"},
	{name: "roam SQLite", store: "SQLite", make: newRoamSQLite, note: "sqlitestore (WAL, synchronous=FULL), near cache, sealed marks"},
	{name: "scs SQLite", store: "SQLite", make: newSCSSQLite, note: "sqlite3store on mattn/go-sqlite3, WAL, synchronous=FULL"},
	{name: "raw SQLite", store: "SQLite", make: newRawSQLite, pages: raw, note: "one statement on mattn/go-sqlite3, same settings"},
	{name: "roam PostgreSQL", store: "PostgreSQL", make: newRoamPostgres, note: "postgresstore, near cache, sealed marks"},
	{name: "scs PostgreSQL", store: "PostgreSQL", make: newSCSPostgres, note: "pgxstore"},
	{name: "scs PostgreSQL, idle", store: "PostgreSQL", idle: true, make: newSCSPostgres, note: "pgxstore, IdleTimeout of an hour"},
	{name: "raw PostgreSQL", store: "PostgreSQL", make: newRawPostgres, pages: raw, note: "one statement on pgx, 16 connections as roam has"},
	{name: touching, store: "PostgreSQL", idle: true, extra: true, make: newRoamPostgres, note: "with the shortest idle timeout there is, 10 seconds; only for what a touch costs"},
	{name: wrapped, store: "PostgreSQL", extra: true, make: newSCSWrapped, note: "pgxstore, LoadAndSave around the pages alone that need it; only in the shop"},
	{name: "scs Redis", store: "Redis", make: newSCSRedis, note: "goredisstore; not durable"},
	{name: "scs Redis, idle", store: "Redis", idle: true, make: newSCSRedis, note: "goredisstore, IdleTimeout of an hour; not durable"},
	{name: "gorilla Redis", store: "Redis", make: newGorillaRedis, note: "boj/redistore, 256 idle connections; not durable; its pool sends PING before each use"},
	{name: "fiber Redis", store: "Redis", make: newFiberRedis, note: "session middleware on gofiber/storage/redis; not durable; the idle timeout is never off"},
	{name: "raw Redis", store: "Redis", make: newRawRedis, pages: raw, note: "GET or SET on go-redis; not durable"},
}

func candidateNamed(name string) (candidate, error) {
	for _, c := range candidates {
		if c.name == name {
			return c, nil
		}
	}
	return candidate{}, fmt.Errorf("no site is named %q", name)
}

// has tells whether the candidate has the page.
func (c candidate) has(p page) bool {
	for _, name := range c.pages {
		if name == p.name {
			return true
		}
	}
	return c.pages == nil
}

// An env is what a site is made from. The parent writes it for its children.
type env struct {
	Dir      string // for SQLite's files and the keys of sealed marks
	Postgres string // URL
	Redis    struct{ Addr, Password, URL string }

	Store    string // address whose segments are counted, "" for none
	Idle     bool
	Lifetime time.Duration // 0 is the library's default, which is 12 hours or more
	Patience time.Duration // how long SQLite waits for a lock; 0 means 5 seconds

	gate    *gate
	calls   atomic.Int64 // of a store without a wire
	touches atomic.Int64 // that roam has handed to its store
}

// envSite names a child's site, and envSetup is its env as JSON.
const (
	envSite  = "ROAM_BENCH_SITE"
	envSetup = "ROAM_BENCH_SETUP"
)

func envFromSetup() (*env, error) {
	e := new(env)
	return e, json.Unmarshal([]byte(os.Getenv(envSetup)), e)
}

// peerConns is how many connections the pools of the others have: with the 4
// that pgxpool takes on two processors scs writes at a quarter of this speed,
// with 16, which is roam's default and what roam has here, at two thirds.
const peerConns = 40

func (e *env) wait() time.Duration {
	if e.Patience != 0 {
		return e.Patience
	}
	return 5 * time.Second
}

func (e *env) pool(ctx context.Context, conns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(e.Postgres)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = conns
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (e *env) redis() (*redis.Client, error) {
	opts, err := redis.ParseURL(e.Redis.URL)
	if err != nil {
		return nil, err
	}
	opts.PoolSize = peerConns
	return redis.NewClient(opts), nil
}

// sqlite opens a file as roam's store has it: a write-ahead log, and a commit
// that is on the disk when it returns. There is one connection, for which callers
// queue here: with more of them they wait in SQLite's own way, by looking again
// now and then, and write at a sixteenth of the speed.
func (e *env) sqlite(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", fmt.Sprintf("file:%s?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=%d",
		filepath.Join(e.Dir, file), e.wait().Milliseconds()))
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}
