package main

import (
	"context"
	"fmt"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// drain takes a server out of rotation.
func drain(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "drain NAME", `
Gives a server no new requests, at once, and returns when those it has are
answered: then it can be stopped and nobody notices. The sessions stay where
they are, in the database, and other servers serve them. If you interrupt the
waiting, the server goes on draining. "roam undrain NAME" undoes it.`)
	return operate(ctx, std, fs, args, func(c *farm.Client, name string) error {
		if err := c.Drain(ctx, name); err != nil {
			if ctx.Err() != nil {
				return hinted(err, "%s goes on draining; \"%s status\" shows when it is empty", name, self())
			}
			return err
		}
		fmt.Fprintf(std.Out, "%s is drained: no requests in flight, and it gets no new ones\n", name)
		return nil
	})
}

// undrain puts it back.
func undrain(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "undrain NAME", `
Gives a server that was drained requests again.`)
	return operate(ctx, std, fs, args, func(c *farm.Client, name string) error {
		if err := c.Undrain(ctx, name); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s gets requests again\n", name)
		return nil
	})
}
