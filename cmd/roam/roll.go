package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// roll replaces all servers.
func roll(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "roll [--json]", `
Replaces the process of every server, one after the other, as one does to patch
and reboot each machine: drain, wait until it is empty, stop, start, wait until
it is ready, undrain. No request is lost and nobody is logged out. Each step is
shown when it begins.

The servers are of the version of roam that is installed now, so this is also
how a farm gets a new one. A roll stops at the first server that does not come back.
If you interrupt it, it completes the server that it is at.`)
	dir := dirFlag(fs)
	asJSON := fs.Bool("json", false, "print each step as a line of JSON, for programs")
	if _, err := fs.parse(args); err != nil {
		return err
	}
	c, err := dial(ctx, *dir)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(std.Out)
	err = c.Roll(ctx, func(step string) {
		if *asJSON {
			lines.Encode(map[string]string{"step": step})
		} else {
			fmt.Fprintln(std.Out, step)
		}
	})
	if err != nil {
		return hinted(err, "\"%s status\" shows where it is; \"%s roll\" starts again from the first server", self(), self())
	}
	if *asJSON {
		return lines.Encode(map[string]bool{"done": true})
	}
	fmt.Fprintln(std.Out, "all servers are replaced")
	return nil
}
