package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/cmd/roam/internal/members"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/sealed"
)

// serve is one web server of a farm: the shop, on the socket that the farm
// passes, with its sessions where the farm says.
func serve(ctx context.Context, std *stdio, args []string) (err error) {
	fs := newFlags(std, "serve --name NAME", `
Runs one web server of a farm. You never need this: "roam up" starts one for
each server, and passes it a listening socket, the store URL or "none" in
ROAM_STORE, the file of the orders in ROAM_ORDERS and that of the keys in
ROAM_KEYS, which may be empty; ROAM_SEAL is "allow" to let sessions in whose mark
is not sealed. It stops on SIGTERM, without losing a request, and when its
standard input ends. A few times a second it writes what it has to say of itself
to its standard output, as a line of JSON.

GET /livez is answered with 200 as long as the process can answer, and
GET /readyz with 503 while it stops, while it lacks the key that ROAM_KEY names (an
id and a check as of "roam key list"), and while its store has not answered it for
a second: another server may have more luck. If none has, each of them
still serves the pages that need no session, so a balancer should fall back on
the servers that live when none is ready, as the one of "roam up" does.`)
	name := fs.String("name", "", "`NAME`: of the server, shown on each page")
	if _, err := fs.parse(args); err != nil {
		return err
	}
	url, orders := os.Getenv(farm.EnvStore), os.Getenv(farm.EnvOrders)
	if *name == "" || url == "" || orders == "" {
		return misuse("\"%s up\" starts the servers of a farm", self())("serve needs --name, %s and %s", farm.EnvStore, farm.EnvOrders)
	}
	// One thing at a time goes wrong at the start; all of it ends in the log.
	logger := slog.New(slog.NewTextHandler(std.Err, nil)).With("server", *name)

	version := 1
	if v := os.Getenv(envVersion); v != "" {
		if version, err = strconv.Atoi(v); err != nil {
			return misuse("want 1 or 2")("%s is %q", envVersion, v)
		}
	}
	if url == farm.NoStore {
		return serveMembers(ctx, std, *name, logger)
	}
	store, err := openStore(ctx, url, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	keys, err := openKeys(ctx, logger)
	if err != nil {
		return err
	}
	var sealer roam.Sealer // nil, and not a nil *sealed.Sealer
	if keys != nil {
		sealer = keys.Sealer(markName, audience, "mark")
	}
	site, err := shop.New(shop.Config{
		Server:   *name,
		Sessions: store,
		// Sessions that are in this server's memory already need no copy there.
		NearCache:      url != farm.MemoryStore,
		Sealer:         sealer,
		AllowUnsealed:  os.Getenv(farm.EnvSeal) == farm.SealAllow,
		Orders:         orders,
		TrustedProxies: thisMachine,
		Version:        version,
		Stopping:       ctx.Done(),
		Logger:         logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()

	// The background work goes on until the last request has been answered, so
	// that what these leave to it is done too.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	within := newReach(store, logger)
	var watching sync.WaitGroup
	watching.Go(func() { within.watch(background) })
	if keys != nil {
		watching.Go(func() { keys.Run(background) }) // without it this server would not learn of a dropped key
	}
	done := make(chan error, 1)
	go func() { done <- site.Run(background) }()
	err = farm.Serve(ctx, std.In, farm.Site{
		Handler: site.Handler(), Logger: logger, Ready: sameKeys(keys, logger, within.ready), Report: std.Out,
		Vitals: func() farm.Vitals {
			return farm.Vitals{StoreDown: within.down(), StoreConns: connections(store), LostWrites: site.Lost()}
		},
	})
	stop()
	watching.Wait()
	return errors.Join(err, <-done)
}

// serveMembers is serve without a store: another site, which keeps nothing but
// who is it. A server of it is ready as soon as it has the keys, and stays so.
func serveMembers(ctx context.Context, std *stdio, name string, logger *slog.Logger) error {
	keys, err := openKeys(ctx, logger)
	if err != nil {
		return err
	}
	if keys == nil {
		return misuse("\"%s up --store none\" starts such servers", self())("serve without a store needs %s", farm.EnvKeys)
	}
	site, err := members.New(members.Config{
		Server:         name,
		Sealer:         keys.Sealer(ticketName, "roam sample club, development", "ticket"),
		TrustedProxies: thisMachine,
		Logger:         logger,
	})
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- keys.Run(background) }() // without it this server would not learn of a dropped key
	err = farm.Serve(ctx, std.In, farm.Site{
		Handler: site.Handler(), Logger: logger, Ready: sameKeys(keys, logger, nil), Report: std.Out,
		Vitals: func() farm.Vitals { return farm.Vitals{} },
	})
	stop()
	return errors.Join(err, <-done)
}

// The balancer is on this machine. So is everybody else who can reach the
// socket of a server, and could name an address that is not theirs.
var thisMachine = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// A sealed mark is opened only where it was meant to be: under its own name, and by
// the servers of one site in one environment. Somebody who runs this shop for
// real, or twice, has another audience.
const (
	markName   = "__Host-roam-mark"
	ticketName = "__Host-roam-ticket"
	audience   = "roam sample shop, development"
)

// openKeys returns the keys of the farm, nil if it has none.
func openKeys(ctx context.Context, log *slog.Logger) (*sealed.Keyring, error) {
	file := os.Getenv(farm.EnvKeys)
	if file == "" {
		return nil, nil
	}
	return sealed.New(ctx, sealed.FromFile(file), &sealed.Options{Lifetime: shop.Remember, Logger: log})
}

// envVersion chooses the version of the shop, for the drill.
const envVersion = "ROAM_SHOP_VERSION"
