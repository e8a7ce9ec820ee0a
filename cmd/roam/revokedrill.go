package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/report"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// The scenarios of this file are about what servers remember of sessions: how
// soon they forget those that were ended elsewhere, and what all of them cost
// the store when nobody remembers anything.

// servedBound is how long a server may serve a session that was ended through
// another one, if it hears nothing of it.
const servedBound = 5 * time.Second

const (
	idleVisitors = 2000 // beside the shoppers, when all servers start at once
	endsWith     = 16   // sessions to end while all servers hear of it
	endsWithout  = 8    // and while one does not
	endsEvery    = 100 * time.Millisecond
)

// witnesses is how many accounts are kept from the shoppers: the last of all.
const witnesses = 1

// feedCut measures how soon each server knows of an end: first while all of
// them hear of it, then while one is cut off from the database.
//
// A server reads the log of ends over the same connections as everything else,
// so no proxy can tell the two apart, and the cut takes both. It is the harder
// trial: the server has nobody to ask instead. What it then may answer is what
// it remembers, for the bound and not longer; after that it is all 503.
// SQLite has nothing to cut, so there it is the first part alone.
func feedCut(ctx context.Context, e *event) (err error) {
	all := shop.Accounts()
	w := &shoppers.Witness{
		Servers: map[string]string{}, Account: all[len(all)-1], Password: shop.Password, Product: shop.Products()[0],
	}
	var names []string
	for _, s := range e.farm.Status() {
		w.Servers[s.Name] = s.Address
		if names = append(names, s.Name); s.Name == victim && e.ground.network != nil {
			names = names[:len(names)-1] // a logout there would wait for the database
		}
	}
	e.say("sessions are made")
	with, err := w.LoggedIn(ctx, endsWith)
	if err != nil {
		return err
	}
	e.say("sessions end, and every server hears of it")
	if err := endAll(ctx, with, func(ctx context.Context, i int) error {
		return w.End(ctx, with[i], names[i%len(names)], 2*servedBound)
	}); err != nil {
		return err
	}
	e.run.Heard = w.Endings(servedBound)
	c := e.ground.network[victim]
	if c == nil {
		return nil
	}

	e.say("more sessions are made")
	without, err := w.LoggedIn(ctx, endsWithout)
	if err != nil {
		return err
	}
	lasts := servedBound + 3*time.Second
	ended := make(chan error, 1)
	ended <- nil
	err = e.suffer(ctx, outage{
		Outage: shoppers.Outage{Server: victim}, where: victim, why: "cut off", lasts: lasts,
		fault: func(context.Context) error {
			c.cut()
			<-ended
			go func() {
				ended <- endAll(ctx, without, func(ctx context.Context, i int) error {
					return w.End(ctx, without[i], names[i%len(names)], lasts+servedBound)
				})
			}()
			return nil
		},
		mend: func(context.Context) error { return c.restore() },
	})
	err = errors.Join(err, <-ended)
	e.run.Unheard = w.Endings(servedBound)
	return err
}

// endAll ends sessions one after the other, and waits for what comes of it.
func endAll(ctx context.Context, sessions [][]*http.Cookie, end func(ctx context.Context, i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(sessions))
	for i := range sessions {
		all.Go(func() { errs[i] = end(ctx, i) })
		if err := wait(ctx, endsEvery); err != nil {
			break
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// coldStart kills all servers at once, while many sessions live, and starts
// them at once: nobody remembers anything, and everybody comes.
func coldStart(ctx context.Context, e *event) error {
	e.say(fmt.Sprintf("%d more visitors come", idleVisitors))
	herd, err := e.stage.Gather(ctx, idleVisitors)
	if err != nil {
		return err
	}
	load, err := e.ground.loadOf(ctx)
	if err != nil {
		return err
	}
	defer func() { e.run.Queries = load.stop() }()
	var names []string
	for _, s := range e.farm.Status() {
		names = append(names, s.Name)
	}
	each := func(do func(name string) error) error {
		var all sync.WaitGroup
		errs := make([]error, len(names))
		for i, name := range names {
			all.Go(func() { errs[i] = do(name) })
		}
		all.Wait()
		return errors.Join(errs...)
	}
	return e.suffer(ctx, outage{
		Outage: shoppers.Outage{All: true}, where: "servers", why: "killed", lasts: e.away() / 8,
		fault: func(context.Context) error {
			load.begin()
			var mu sync.Mutex
			return each(func(name string) error {
				n, err := e.farm.Kill(name)
				mu.Lock()
				defer mu.Unlock()
				e.run.InFlightPosts += n
				return err
			})
		},
		mend: func(ctx context.Context) error {
			return each(func(name string) error { return e.farm.StartServer(ctx, name) })
		},
		then: func(ctx context.Context) error {
			e.say("all visitors look into their carts")
			return herd.Count(ctx)
		},
	})
}

// shoppersOnly returns the accounts without those of the witness.
func shoppersOnly(people, all []string) []string {
	return slices.DeleteFunc(slices.Clone(people), func(name string) bool { return slices.Contains(all[len(all)-witnesses:], name) })
}

// A storeLoad counts the store's transactions, second by second: PostgreSQL's
// own statistics are no finer. SQLite, which is in each server, has none; there
// it counts nothing.
type storeLoad struct {
	phase chan bool
	done  chan struct{}
	gone  chan struct{}
	found *report.Queries // nil if nobody can tell
}

func (g *ground) loadOf(ctx context.Context) (*storeLoad, error) {
	l := &storeLoad{phase: make(chan bool), done: make(chan struct{}), gone: make(chan struct{})}
	if g.pg == nil {
		close(l.gone)
		return l, nil
	}
	count := func() (n int, err error) {
		text, err := g.pg.Primary.Query(ctx, "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database WHERE datname = current_database()")
		if err == nil {
			n, err = strconv.Atoi(text)
		}
		return n, err
	}
	last, err := count()
	if err != nil {
		return nil, fmt.Errorf("the statistics of the database: %w", err)
	}
	l.found = &report.Queries{}
	go func() {
		defer close(l.gone)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		peak := &l.found.Before
		for at := time.Now(); ; {
			select {
			case <-l.phase:
				peak = &l.found.Peak
			case <-tick.C:
				n, err := count()
				now := time.Now()
				if err == nil {
					*peak = max(*peak, int(float64(n-last)/now.Sub(at).Seconds()))
					last, at = n, now
				}
			case <-l.done:
				return
			}
		}
	}()
	return l, nil
}

// begin says that it gets interesting.
func (l *storeLoad) begin() {
	if l.found != nil {
		l.phase <- true
	}
}

func (l *storeLoad) stop() *report.Queries {
	close(l.done)
	<-l.gone
	return l.found
}
