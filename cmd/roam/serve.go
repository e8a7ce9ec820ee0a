package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// serve is one web server of a farm: the shop, on the socket that the farm
// passes, with its sessions where the farm says.
func serve(ctx context.Context, std *stdio, args []string) (err error) {
	fs := newFlags(std, "serve --name NAME", `
Runs one web server of a farm. You never need this: "roam up" starts one for
each server, and passes it a listening socket, the store URL in ROAM_STORE and
the file of the orders in ROAM_ORDERS. It stops on SIGTERM, without losing a
request, and when its standard input ends.`)
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

	store, err := openStore(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	site, err := shop.New(shop.Config{
		Server:   *name,
		Sessions: store,
		Orders:   orders,
		// The balancer is on this machine. So is everybody else who can
		// reach this socket, and could name an address that is not theirs.
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Logger:         logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()

	// The background work goes on until the last request has been answered, so
	// that what these leave to it is done too.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- site.Run(background) }()
	err = farm.Serve(ctx, std.In, site.Handler(), logger)
	stop()
	return errors.Join(err, <-done)
}
