package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// defaultDir is the data folder of a farm that was given none. Sessions, orders
// and the authority are state: they are to survive a restart of the machine,
// they belong to this machine, and nobody edits them. On Unix that is
// $XDG_STATE_HOME (XDG Base Directory Specification 0.8). It is not the cache
// folder, from which a cleaner may remove anything at any time: people would
// be logged out by a tidy disk.
func defaultDir() string {
	switch runtime.GOOS {
	case "darwin", "ios", "windows", "plan9":
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, "roam")
		}
	default:
		if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // others are to be ignored, says the specification
			return filepath.Join(dir, "roam")
		}
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "state", "roam")
		}
	}
	return "roam-data" // no home: in the current folder
}

// dirFlag is the flag of all commands that speak of a farm.
func dirFlag(fs *flagSet) *string {
	return fs.String("dir", defaultDir(), "`FOLDER`: where the farm keeps its data")
}

// dial connects to the running farm.
func dial(ctx context.Context, dir string) (*farm.Client, error) {
	c, err := farm.Dial(ctx, dir)
	if errors.Is(err, farm.ErrNotRunning) {
		hint := fmt.Sprintf("start one with \"%s up\" in another terminal", self())
		if dir == defaultDir() {
			hint += "; if it has a folder of its own, name it with --dir"
		}
		return nil, hinted(err, "%s", hint)
	}
	return c, err
}

// operate parses the flags of a command on one server and runs it.
func operate(ctx context.Context, std *stdio, fs *flagSet, args []string, verb func(c *farm.Client, name string) error) error {
	dir := dirFlag(fs)
	names, err := fs.parse(args, "NAME")
	if err != nil {
		return err
	}
	c, err := dial(ctx, *dir)
	if err != nil {
		return err
	}
	err = verb(c, names[0])
	if errors.Is(err, farm.ErrUnknownServer) {
		return hinted(err, "\"%s status\" shows the servers", self())
	}
	return err
}
