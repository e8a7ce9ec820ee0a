package main

import (
	"context"
	"fmt"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// kill does to a server what a crash does.
func kill(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "kill NAME", `
Ends a server with SIGKILL: no warning, no clean-up, as in a crash. The balancer
is not told; it finds out. Whoever is logged in stays so. What is lost is at
most what the server was just being sent: the command tells how many such
requests (other than GET, HEAD and OPTIONS, which are repeated elsewhere) it had.
"roam start NAME" starts the server again.`)
	return operate(ctx, std, fs, args, func(c *farm.Client, name string) error {
		n, err := c.Kill(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s is dead; requests that may have been lost with it: %d\n", name, n)
		return nil
	})
}
