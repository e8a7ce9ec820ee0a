// Command roam shows, runs and looks after web sessions that no server owns.
//
//	roam drill            kill and replace servers under load and count what got lost
//	roam up               run a farm of web servers behind a balancer on this machine
//	roam status           what runs where, and what it did so far
//	roam sessions list    who is logged in
//
// "roam help" lists all commands and "roam help COMMAND" explains one. Each
// command is a file of this package and a row of the table below; the scripts
// in testdata run every command and read as its manual.
//
// The exit status is 0 if the command did what it was asked, 1 if it failed,
// and 2 if it was asked wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A stdio is what a command reads and writes, so that a test can run it
// without a process.
type stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// A command is one row of the table of commands.
type command struct {
	group   string // under which heading "roam help" lists it; "" hides it
	name    string
	summary string // one line
	run     func(ctx context.Context, std *stdio, args []string) error
}

const (
	groupSee     = "See it work"
	groupFarm    = "Operate the farm that \"roam up\" runs"
	groupSession = "Look after sessions"
)

// commands is a function because help, which is one of them, prints them.
func commands() []command {
	return []command{
		{groupSee, "drill", "kill and replace servers under load and count what got lost", drill},
		{groupSee, "up", "run a farm of web servers behind a balancer on this machine", up},
		{groupFarm, "status", "what runs where, and what it did so far", status},
		{groupFarm, "drain", "give a server no new requests and wait until it is empty", drain},
		{groupFarm, "undrain", "give a drained server requests again", undrain},
		{groupFarm, "kill", "kill -9 a server, as a crash would", kill},
		{groupFarm, "start", "start a server that was killed or has crashed", start},
		{groupFarm, "roll", "patch and reboot each server in turn, losing nothing", roll},
		{groupSession, "schema", "print the SQL of a store's tables", schema},
		{groupSession, "sessions", "list, show, revoke, prune; tell the store it was restored", sessions},
		{groupSession, "key", "make, rotate, list and drop the keys that seal who is it", key},
		{"", "serve", "one web server of the farm; \"roam up\" starts these", serve},
		{"", "help", "list the commands, or explain one", help},
	}
}

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		cancel(fmt.Errorf("stopped by a signal: %v", <-signals))
		// A command may take its time to stop in good order. A second signal
		// forces it: web servers die with it, and nothing acknowledged is lost.
		<-signals
		fmt.Fprintln(os.Stderr, "error: stopped at once by a second signal")
		os.Exit(1)
	}()
	os.Exit(run(ctx, &stdio{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

// run runs the command that args name and returns the exit status.
func run(ctx context.Context, std *stdio, args []string) int {
	err := dispatch(ctx, std, args)
	var f *failure
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = context.Cause(ctx)
	}
	fmt.Fprintf(std.Err, "error: %v\n", err)
	if errors.As(err, &f) {
		if f.hint != "" {
			fmt.Fprintf(std.Err, "hint: %s\n", f.hint)
		}
		if f.usage {
			return 2
		}
	}
	return 1
}

func dispatch(ctx context.Context, std *stdio, args []string) error {
	if len(args) == 0 {
		return help(ctx, std, nil)
	}
	name, rest := args[0], args[1:]
	if name == "-h" || name == "-help" || name == "--help" {
		name = "help"
	}
	c, err := find(name)
	if err != nil {
		return err
	}
	return c.run(ctx, std, rest)
}

func find(name string) (command, error) {
	var names []string
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
		if c.group != "" {
			names = append(names, c.name)
		}
	}
	if near := nearest(name, names); near != "" {
		return command{}, misuse("did you mean \"%s %s\"?", self(), near)("there is no command %q", name)
	}
	return command{}, misuse("\"%s help\" lists the commands", self())("there is no command %q", name)
}

// below runs one of the commands below another one, as in "roam key list".
// Without one it prints the manual, which lists them.
func below(ctx context.Context, std *stdio, name, manual string, all []command, args []string) error {
	fs := newFlags(std, name+" COMMAND [flags]", manual)
	if len(args) == 0 || strings.HasPrefix(args[0], "-") && args[0] != "-" {
		if _, err := fs.parse(args); err != nil {
			return err
		}
		fs.print(std.Out)
		return flag.ErrHelp
	}
	var names []string
	for _, c := range all {
		if c.name == args[0] {
			return c.run(ctx, std, args[1:])
		}
		names = append(names, c.name)
	}
	if near := nearest(args[0], names); near != "" {
		return misuse("did you mean \"%s %s %s\"?", self(), name, near)("there is no command \"%s %s\"", name, args[0])
	}
	return misuse("\"%s help %s\" lists the commands", self(), name)("there is no command \"%s %s\"", name, args[0])
}

// help explains one command by its own -h, so that there is one text of it.
func help(ctx context.Context, std *stdio, args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		c, err := find(args[0])
		if err != nil {
			return err
		}
		return c.run(ctx, std, append(args[1:len(args):len(args)], "-h"))
	}
	fmt.Fprintf(std.Out, "roam keeps web sessions that no server owns.\n\nUsage: roam COMMAND [flags]\n")
	group := ""
	for _, c := range commands() {
		if c.group == "" {
			continue
		}
		if c.group != group {
			group = c.group
			fmt.Fprintf(std.Out, "\n%s:\n", group)
		}
		fmt.Fprintf(std.Out, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(std.Out, "\n\"roam help COMMAND\" explains one. New here? Start with \"roam drill\" or \"roam up\".\n")
	return nil
}
