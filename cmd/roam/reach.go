package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/roam-web/roam"
)

// A reach watches whether a web server reaches its store, so that a balancer
// can give the requests to a server that does.
//
// This is readiness, with care: a store that is gone is gone for all servers at
// once. So the answer is about this server and nothing else, it changes after a
// second and not at the first hiccup, and the builtin balancer falls back on
// the servers that live when none is ready: then visitors still get every page
// that needs no session. Behind a balancer that has no such fallback, leave the
// store out of readyz, or name the same servers once more as its backup.
type reach struct {
	store roam.Store
	log   *slog.Logger
	last  atomic.Pointer[time.Time] // when the store last answered
}

const (
	askEvery = 250 * time.Millisecond
	askLimit = time.Second

	// outOfReach is how long a store may be silent before its server is no
	// longer ready. A failover of a store takes about as long.
	outOfReach = time.Second
)

func newReach(store roam.Store, log *slog.Logger) *reach {
	r := &reach{store: store, log: log}
	r.last.Store(new(time.Time))
	return r
}

var errOutOfReach = errors.New("the store has not answered this server for a second")

// ready is an [graceful.Options.Check].
func (r *reach) ready(context.Context) error {
	if r.down() {
		return errOutOfReach
	}
	return nil
}

func (r *reach) down() bool { return time.Since(*r.last.Load()) > outOfReach }

// watch asks the store until ctx ends. The question is for a session that there
// cannot be: it takes the way that a visitor's takes, to the same host, and is
// the cheapest there is.
func (r *reach) watch(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	reached := true
	for {
		call, cancel := context.WithTimeout(ctx, askLimit)
		_, err := r.store.Load(call, roam.ID{}, roam.Want{})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, roam.ErrNotFound) {
			now := time.Now()
			r.last.Store(&now)
			if !reached {
				r.log.Info("the store is within reach again")
			}
			reached = true
		} else if reached && r.down() {
			r.log.Warn("the store is out of reach; other servers are to be asked", "error", err)
			reached = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
