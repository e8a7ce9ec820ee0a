package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/store/sqlitestore"
)

// A closingStore is a store and the end of its use.
type closingStore interface {
	roam.Store
	io.Closer
}

// openStore opens a store, and makes an SQLite file that is not there. Tables
// in PostgreSQL are made by makeStore alone: a web server is best not allowed to.
func openStore(ctx context.Context, url string, log *slog.Logger) (closingStore, error) {
	u, err := parseStore(url)
	if err != nil {
		return nil, err
	}
	switch u.scheme {
	case farm.NoStore:
		return nil, errNoStore()
	case "memory":
		return memory{roam.NewMemStore()}, nil
	case "postgres":
		return openPostgres(ctx, u, log)
	}
	return sqlitestore.Open(u.file, nil)
}

// errNoStore is for commands that look into a store, where there is none.
func errNoStore() error {
	return hinted(errors.New("this farm has no store: who is logged in is sealed into each browser's own cookie, and nobody can list or end that"),
		"\"%s key drop FILE ID\" logs everybody out; a site that must log out one of them needs a store: \"%s up\" without --store none", self(), self())
}

type memory struct{ *roam.MemStore }

func (memory) Close() error { return nil }

// connections returns how many connections a store has, -1 if it does not tell.
func connections(store closingStore) int {
	if s, ok := store.(interface{ Connections() int }); ok {
		return s.Connections()
	}
	return -1
}

// openExisting opens the store that an operator wants to look into, which is
// never a new one: a misspelt name is not an empty store.
func openExisting(ctx context.Context, url, dir string) (closingStore, error) {
	if url == "" {
		url = os.Getenv(farm.EnvStore)
	}
	if url == "" {
		var err error
		if url, err = farmStore(ctx, dir); err != nil {
			return nil, err
		}
	}
	u, err := parseStore(url)
	if err != nil {
		return nil, err
	}
	switch u.scheme {
	case farm.NoStore:
		return nil, errNoStore()
	case "memory":
		return nil, hinted(errors.New("the sessions are in each server's own memory, where nobody else can see them"),
			"that is the price of this design; \"%s up\" without --store keeps them in a database", self())
	case "sqlite":
		if _, err := os.Stat(u.file); errors.Is(err, fs.ErrNotExist) {
			return nil, hinted(fmt.Errorf("there is no store at %s", u.file), "the store is made when the first server starts; is the name right?")
		}
	}
	s, err := openStore(ctx, url, silent)
	if err == nil && u.scheme == "postgres" { // it may be open and out of reach; say so, and why
		if err = u.explain(reachable(ctx, s)); err != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return s, err
}

// farmStore returns the store of the farm in dir, also of one that is not
// running now.
func farmStore(ctx context.Context, dir string) (string, error) {
	c, err := farm.Dial(ctx, dir)
	if err == nil {
		return c.Store(ctx)
	}
	if !errors.Is(err, farm.ErrNotRunning) {
		return "", err
	}
	url := farm.DefaultStore(dir)
	if u, err := parseStore(url); err == nil {
		if _, err := os.Stat(u.file); err == nil {
			return url, nil
		}
	}
	return "", hinted(fmt.Errorf("no store was named, and %w", err),
		"give --store, for instance --store sqlite:sessions.db, or run \"%s up\" in another terminal", self())
}
