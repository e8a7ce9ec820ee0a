package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// start starts a server that is down.
func start(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "start NAME", `
Starts a server that was killed or has crashed, at the address that it had, and
returns when it is ready and gets requests. It has no sessions to load: they are
where they were.`)
	return operate(ctx, std, fs, args, func(c *farm.Client, name string) error {
		if err := c.StartServer(ctx, name); errors.Is(err, farm.ErrRunning) {
			return hinted(err, "\"%s roll\" replaces running servers", self())
		} else if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s is up\n", name)
		return nil
	})
}
