package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// up runs a farm until it is interrupted.
func up(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "up [flags]", `
Runs a farm on this machine until ^C: several web servers, each a process of
its own, behind a balancer with TLS. They serve a small shop, whose sessions are
in a database that all of them share, so that you can kill, drain and replace
servers and stay logged in. A second ^C stops at once and may lose requests.

The certificate is from an authority that is made for this farm, kept in its
folder, and never put into a trust store. A server that dies stays down until
you start it. The balancer is for development, tests and small farms; it listens
on this machine only unless --listen says otherwise.

The servers seal the mark, the cookie by which they know a visitor without
asking the database, with the keys in keys.json in the farm's folder. It is made if
it is missing, because here one operator runs all servers on one machine; on
several machines you would hand out one file, see "roam help key". To switch a farm
that has sessions from --seal off to on, run it with --seal allow until the
sessions from before are over: then nobody is logged out.

With --store none there is no database. The servers then serve another site, a
club's, which keeps nothing but who is logged in, sealed into the cookie with the
same keys. Kill what you like: nobody is logged out. What that gives up is on its
pages: nobody can be logged out from elsewhere, and a stolen cookie is good until
its deadline.

In PostgreSQL the tables of the sessions are made if they are missing. If the
URL has a password, rather put it into $ROAM_STORE than on the command line,
which every user of this machine can read.
`+storeManual)
	o := farm.Options{}
	fs.IntVar(&o.Servers, "servers", 3, "`N`: how many web servers, 1 to 20")
	fs.StringVar(&o.Store, "store", "", "`URL`: where the sessions are, or none; by default $ROAM_STORE, else sqlite in --dir")
	fs.StringVar(&o.Policy, "policy", "round-robin", "`POLICY`: of the balancer; or sticky-cookie")
	fs.StringVar(&o.Seal, "seal", farm.SealOn, "`MODE`: of the marks: on, off, or allow for both kinds")
	fs.StringVar(&o.Listen, "listen", "127.0.0.1:8443", "`ADDRESS`: of the balancer; port 0 is a free one")
	dir := dirFlag(fs)
	if _, err := fs.parse(args); err != nil {
		return err
	}
	if o.Servers < 1 || o.Servers > 20 {
		return misuse("want 1 to 20")("--servers is %d", o.Servers)
	}
	if policies := []string{"round-robin", "sticky-cookie"}; o.Policy != policies[0] && o.Policy != policies[1] {
		hint := "want round-robin or sticky-cookie"
		if near := nearest(o.Policy, policies); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		return misuse("%s", hint)("there is no policy %q", o.Policy)
	}
	if modes := []string{farm.SealOn, farm.SealAllow, farm.SealOff}; !slices.Contains(modes, o.Seal) {
		return misuse("want on, allow or off")("--seal is %q", o.Seal)
	}
	var err error
	if !fs.given("store") {
		o.Store = os.Getenv(farm.EnvStore)
	}
	if fs.given("store") || o.Store != "" {
		if o.Store, err = absolute(o.Store); err != nil {
			return err
		}
	}
	if o.Store == farm.NoStore && o.Seal != farm.SealOn {
		return misuse("leave --seal away")("--seal is %q, and without a store there is nothing but what is sealed", o.Seal)
	}
	if o.Dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if o.Store != "" {
		u, err := parseStore(o.Store)
		if err != nil {
			return err
		}
		made, err := makeStore(ctx, u)
		if err != nil {
			return err
		}
		if made {
			fmt.Fprintf(std.Out, "made the tables of the sessions in %s\n", farm.Redact(o.Store))
		}
	}
	log := newConsole(std.Err)
	o.Logger = slog.New(log)
	fmt.Fprintf(std.Out, "starting %d web servers …\n", o.Servers)
	f, err := farm.Start(ctx, o)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(err, "another program uses %s; --listen 127.0.0.1:0 takes a free port", o.Listen)
	case errors.Is(err, farm.ErrRunning):
		return hinted(err, "\"%s status\" shows it; a second farm needs a folder of its own: --dir FOLDER", self())
	case err != nil:
		return err
	}
	defer f.Close()
	where := ""
	if o.Dir != defaultDir() {
		where = " --dir " + quote(o.Dir)
	}
	welcome(std.Out, f.Info(), where)
	log.level.Set(slog.LevelInfo) // from here on it tells what others do to the farm
	<-ctx.Done()
	log.level.Set(slog.LevelWarn)
	fmt.Fprintln(std.Out, "\nstopping: requests in flight are finished first; ^C again stops at once")
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintln(std.Out, kept(f.Info(), o.Dir))
	return nil
}

// welcome tells what runs where, and what to try. where is the flag that
// the commands need to find this farm.
func welcome(out io.Writer, info farm.Info, where string) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n  balancer\t%s\tpid %d\t%s\n", strings.TrimPrefix(info.URL, "https://"), info.PID, info.Policy)
	for _, s := range info.Servers {
		fmt.Fprintf(t, "  %s\t%s\tpid %d\t%s\n", s.Name, s.Address, s.PID, s.State)
	}
	t.Flush()
	none := info.Store == farm.NoStore
	sessions := info.Store
	if none {
		sessions = "in each browser, sealed; there is no store"
	}
	fmt.Fprintf(out, "  sessions  %s\n  logs      %s\n", sessions, filepath.Join(info.Dir, "logs"))
	if info.Seal != farm.SealOff {
		fmt.Fprintf(out, "  keys      %s\n", farm.KeyFile(info.Dir))
	}
	site, todo := "shop", "fill a cart"
	if none {
		site, todo = "club", "look at the members' pages"
	}
	fmt.Fprintf(out, "\nThe %s is at %s\n", site, info.URL)
	fmt.Fprintf(out, "  Your browser will warn you: the certificate is from this farm's own authority.\n")
	fmt.Fprintf(out, "  For curl:  curl --cacert %s %s\n", quote(info.RootCert), info.URL)
	second := info.Servers[min(1, len(info.Servers)-1)].Name
	first := info.Servers[0].Name
	fmt.Fprintf(out, "\nLog in as %s with the password %s, %s, and then try in another terminal:\n",
		shop.Accounts()[0], shop.Password, todo)
	t = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	rows := [][2]string{
		{"status", "what runs where"},
		{"drain " + second, "no new requests for " + second + "; \"undrain " + second + "\" undoes it"},
		{"kill " + first, "kill -9, as a crash would"},
		{"start " + first, "start it again"},
		{"roll", "replace every server, one after the other"},
		{"sessions list", "who is logged in, on whichever server"},
	}
	if none {
		rows = rows[:len(rows)-1]
	}
	for _, row := range rows {
		fmt.Fprintf(t, "  %s %s%s\t%s\n", self(), row[0], where, row[1])
	}
	t.Flush()
	if none {
		fmt.Fprintf(out, "To log everybody out drop the key in use, which is listed by\n  %s key list %s\n", self(), quote(farm.KeyFile(info.Dir)))
	}
	fmt.Fprintf(out, "\nA server that dies stays down until you start it. ^C stops the farm.\n")
}

// quote makes a path safe to paste into a shell.
func quote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// self is how to call this program again, for hints that can be pasted.
func self() string {
	if strings.Contains(os.Args[0], "/go-build") { // go run removes the program when it ends
		return "go run ./cmd/roam"
	}
	return quote(os.Args[0])
}

// kept says where things are that outlive the farm.
func kept(info farm.Info, dir string) string {
	data := filepath.Join(dir, "data")
	if strings.HasPrefix(info.Store, "sqlite:") && strings.HasPrefix(info.Store, farm.DefaultStore(dir)) {
		return "stopped; sessions and orders are kept in " + data
	}
	if info.Store == farm.NoStore {
		return "stopped; the keys are kept in " + farm.KeyFile(dir) + ", and with them everybody's login"
	}
	if info.Store == farm.MemoryStore {
		return "stopped; the sessions are gone, orders are kept in " + data
	}
	return fmt.Sprintf("stopped; sessions are in %s, orders are kept in %s", info.Store, data)
}
