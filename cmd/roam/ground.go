package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/internal/servers"
)

// A ground is what the sessions of a run stand on, and what can be done to it.
type ground struct {
	url     string                // of the store, as all servers reach it
	file    string                // of SQLite
	pg      *servers.Postgres     // if it is private
	network map[string]*crossings // by server: between it and pg; nil if they need none

	mu      sync.Mutex
	version int // of the shop, for the servers that start from now on
}

// crossings are one server's ways to the nodes of a database.
type crossings struct {
	proxies []*servers.Proxy
}

func (c *crossings) cut() {
	for _, p := range c.proxies {
		p.Cut()
	}
}

func (c *crossings) restore() (err error) {
	for _, p := range c.proxies {
		err = errors.Join(err, p.Restore())
	}
	return err
}

// drillTable is where a drill keeps its sessions in a database that was given:
// not among those of people, whom a shopper of the same name would log out.
const drillTable = "roam_drill"

// prepare makes the ground of a run on a farm in dir.
func (d *practice) prepare(ctx context.Context, dir string, what scenario) (_ *ground, err error) {
	g := &ground{version: 1}
	switch {
	case d.store.scheme == "sqlite":
		g.url = farm.DefaultStore(dir)
		g.file = filepath.Join(dir, "data", "sessions.db")
		return g, nil
	case d.store.dsn != "":
		u := d.store
		if u.table == "" {
			u.table = drillTable
		}
		g.url = u.String()
		_, err := makeStore(ctx, u)
		return g, err
	}
	// A thousand commits a second wait for the disk in vain here: nobody pulls the
	// plug, and what a process has written survives its end.
	g.pg, err = servers.StartPostgres(ctx, &servers.PostgresOptions{Standby: true, Sync: !what.lossy, NoFsync: true})
	if errors.Is(err, servers.ErrMissing) {
		return nil, hinted(err, "on Debian and Ubuntu: apt-get install postgresql; or name a database, for the scenarios that break none: --store postgres://…")
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	g.url = g.pg.DSN()
	u, err := parseStore(g.url)
	if err != nil {
		return nil, err
	}
	if _, err := makeStore(ctx, u); err != nil {
		return nil, err
	}
	if !what.network {
		return g, nil
	}
	g.network = make(map[string]*crossings)
	for i := range d.servers {
		c := &crossings{}
		g.network[fmt.Sprintf("web%d", i+1)] = c
		for _, n := range []*servers.Node{g.pg.Primary, g.pg.Standby} {
			p, err := servers.StartProxy(n.Addr())
			if err != nil {
				return nil, err
			}
			c.proxies = append(c.proxies, p)
		}
	}
	return g, nil
}

// env is what a server's process gets to know.
func (g *ground) env(server string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	store := g.url
	if c := g.network[server]; c != nil {
		var addrs []string
		for _, p := range c.proxies {
			addrs = append(addrs, p.Addr())
		}
		store = g.pg.DSN(addrs...)
	}
	return []string{farm.EnvStore + "=" + store, fmt.Sprintf("%s=%d", envVersion, g.version)}
}

func (g *ground) setVersion(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version = n
}

func (g *ground) close() {
	for _, c := range g.network {
		for _, p := range c.proxies {
			p.Stop()
		}
	}
	if g.pg != nil {
		g.pg.Stop()
	}
}

// hold takes the write lock of the SQLite file, as another process does that
// has begun a transaction, and returns what gives it back.
func (g *ground) hold() (release func() error, err error) {
	c, err := sqlite3.OpenFlags((&url.URL{Scheme: "file", OmitHost: true, Path: g.file}).String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI)
	if err != nil {
		return nil, err
	}
	if err := c.Exec("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return func() error { return errors.Join(c.Exec("ROLLBACK"), c.Close()) }, nil
}

// String writes the URL with all that belongs to it, the password too.
func (u storeURL) String() string {
	switch u.scheme {
	case "sqlite":
		return "sqlite:" + filepath.ToSlash(u.file)
	case "memory":
		return farm.MemoryStore
	case farm.NoStore:
		return farm.NoStore
	}
	own := url.Values{}
	if u.schema != "" {
		own.Set("schema", u.schema)
	}
	if u.table != "" {
		own.Set("table", u.table)
	}
	if len(own) == 0 {
		return u.dsn
	}
	sep := "?"
	if strings.Contains(u.dsn, "?") {
		sep = "&"
	}
	return u.dsn + sep + own.Encode()
}
