package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/store/sqlitestore"
)

// storeManual is the part of a command's manual that explains --store.
const storeManual = `
A store URL says where the sessions are:
  sqlite:sessions.db          a file, relative to the current folder
  sqlite:///srv/sessions.db   a file, by its absolute path
  memory:                     in each server's own memory: the design that loses
                              sessions, to see it do so
What follows "sqlite:" is the file's name as it is; nothing in it is escaped.`

// A closingStore is a store and the end of its use.
type closingStore interface {
	roam.Store
	io.Closer
}

// scheme is a kind of store.
type scheme struct {
	name  string
	later bool // planned, not built in yet
}

var schemes = []scheme{
	{name: "sqlite"}, {name: "memory"},
	{"postgres", true}, {"postgresql", true}, {"mysql", true}, {"mariadb", true}, {"redis", true}, {"valkey", true},
}

// parseStore returns the scheme of a store URL and what follows it, for sqlite
// a file name in the system's form.
func parseStore(url string) (name, rest string, err error) {
	name, rest, ok := strings.Cut(url, ":")
	if !ok || strings.ContainsAny(name, `/\.`) || len(name) == 1 { // one letter is a drive
		return "", "", misuse("did you mean %q?", "sqlite:"+url)("the store %q has no scheme", url)
	}
	var names []string
	for _, s := range schemes {
		names = append(names, s.name)
		switch {
		case s.name != name:
		case s.later:
			return "", "", misuse("this version has sqlite:, for all servers on one machine")("%s: is not built in yet", name)
		case name == "sqlite":
			rest, err = sqliteFile(url, rest)
			return name, rest, err
		case rest != "":
			return "", "", misuse("write \"memory:\", with nothing after it")("the store %q has more than its scheme", url)
		default:
			return name, "", nil
		}
	}
	if near := nearest(name, names); near != "" {
		return "", "", misuse("did you mean %q?", near+":"+rest)("there is no store scheme %q", name)
	}
	return "", "", misuse("this version knows sqlite: and memory:")("there is no store scheme %q", name)
}

func sqliteFile(url, rest string) (string, error) {
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", misuse("write \"sqlite:%s\" for a file in this folder, \"sqlite:///%s\" for an absolute path", path, path)(
				"the store %q has a host name, and sqlite has no hosts", url)
		}
		rest = path
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		return "", misuse("write \"sqlite:%s\"; all servers of a file must use the same settings, so roam chooses them", rest[:i])(
			"the store %q has parameters", url)
	}
	if rest == "" || strings.HasSuffix(rest, "/") {
		return "", misuse("write for instance \"sqlite:sessions.db\"")("the store %q names no file", url)
	}
	return filepath.FromSlash(rest), nil
}

// absolute returns the store URL as other processes in other folders can use it.
func absolute(url string) (string, error) {
	name, path, err := parseStore(url)
	if err != nil || name != "sqlite" {
		return url, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // a drive
		path = "/" + path
	}
	return "sqlite://" + path, nil
}

// openStore opens a store, and makes one that is not there.
func openStore(url string) (closingStore, error) {
	name, path, err := parseStore(url)
	if err != nil {
		return nil, err
	}
	if name == "memory" {
		return memory{roam.NewMemStore()}, nil
	}
	return sqlitestore.Open(path, nil)
}

type memory struct{ *roam.MemStore }

func (memory) Close() error { return nil }

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
	name, path, err := parseStore(url)
	if err != nil {
		return nil, err
	}
	if name == "memory" {
		return nil, hinted(errors.New("the sessions are in each server's own memory, where nobody else can see them"),
			"that is the price of this design; \"%s up\" without --store keeps them in a database", self())
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, hinted(fmt.Errorf("there is no store at %s", path), "the store is made when the first server starts; is the name right?")
	}
	return openStore(url)
}

// farmStore returns the store of the farm in dir, also of one that is not
// running now.
func farmStore(ctx context.Context, dir string) (string, error) {
	c, err := farm.Dial(ctx, dir)
	if err == nil {
		info, err := c.Info(ctx)
		return info.Store, err
	}
	if !errors.Is(err, farm.ErrNotRunning) {
		return "", err
	}
	url := farm.DefaultStore(dir)
	if _, path, err := parseStore(url); err == nil {
		if _, err := os.Stat(path); err == nil {
			return url, nil
		}
	}
	return "", hinted(fmt.Errorf("no store was named, and %w", err),
		"give --store, for instance --store sqlite:sessions.db, or run \"%s up\" in another terminal", self())
}
