package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// status shows the running farm.
func status(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "status [flags]", `
Shows what runs where and what it did since the farm was started.

  STATE     up: gets requests. draining: gets no new ones and has some in flight;
            drained: has none. down: has no process, until "roam start" starts
            one. unready: has one, which fails the balancer's checks; it gets
            requests only if no server is up.
  RESTARTS  how often its process was replaced
  NOW       requests that it is working on
  SERVED    requests that it was given since the farm was started
  MOVED     of those, answered by another server because this one was gone
  FAILED    of those, an error for the client: what was in flight when it died`)
	dir := dirFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON, for programs")
	wait := fs.Bool("wait", false, "wait until there is a farm, for scripts that have just started it")
	if _, err := fs.parse(args); err != nil {
		return err
	}
	c, err := dial(ctx, *dir)
	for *wait && errors.Is(err, farm.ErrNotRunning) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
			c, err = dial(ctx, *dir)
		}
	}
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(std.Out, info)
	}
	where := "sessions in " + info.Store
	if info.Store == farm.NoStore {
		where = "no store"
	}
	fmt.Fprintf(std.Out, "%s, %s, %s\n\n", info.URL, info.Policy, where)
	printServers(std.Out, info.Servers, time.Now())
	return nil
}

func printServers(out io.Writer, servers []farm.Server, now time.Time) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tSTATE\tFOR\tPID\tADDRESS\tRESTARTS\tNOW\tSERVED\tMOVED\tFAILED")
	for _, s := range servers {
		pid := "-"
		if s.PID != 0 {
			pid = fmt.Sprint(s.PID)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", s.Name, s.State, short(now.Sub(s.Since)),
			pid, s.Address, s.Restarts, s.InFlight, s.Requests, s.RetriedAway, s.Failed)
	}
	t.Flush()
	gap := "\n"
	for _, s := range servers {
		if s.Vitals != nil && s.Vitals.StoreDown {
			fmt.Fprintf(out, "%s%s does not reach the store of the sessions: it can show only what needs none\n", gap, s.Name)
			gap = ""
		}
		if s.Vitals != nil && s.Vitals.LostWrites > 0 {
			fmt.Fprintf(out, "%s%s has acknowledged changes of sessions that the store has lost: %d\n", gap, s.Name, s.Vitals.LostWrites)
			gap = ""
		}
		if s.State == farm.Down && s.Exit != "" {
			fmt.Fprintf(out, "%s%s is down (%s); \"%s start %s\" starts it again\n", gap, s.Name, s.Exit, self(), s.Name)
			gap = ""
		}
	}
}

// short is a duration in its largest unit, rounded down: what a person would say.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
