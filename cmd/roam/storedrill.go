package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/report"
	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// The scenarios of this file break the store of the sessions. Each has three
// parts: a quiet time, from which the rate before is known; the outage; and
// ten seconds after it, in which all must be as before.
//
// They scale with --seconds, of which 6 is the default.
func (e *event) part(of time.Duration) time.Duration {
	return min(of, time.Duration(float64(of)*e.lasts.Seconds()/6))
}

func (e *event) before() time.Duration { return e.part(4 * time.Second) }
func (e *event) away() time.Duration   { return e.part(4 * time.Second) }
func (e *event) after() time.Duration  { return e.part(10500 * time.Millisecond) }

// An outage is one fault of the store.
type outage struct {
	shoppers.Outage
	why   string // one word, for the chart
	where string // "store" if empty

	// dark says that between fault and mend no server can reach the store.
	dark bool

	fault, mend func(ctx context.Context) error
	lasts       time.Duration // between the two

	then func(ctx context.Context) error // right after it, nil for nothing
}

// suffer lets the outage happen and measures what it does to the servers.
func (e *event) suffer(ctx context.Context, o outage) (err error) {
	watch := e.watch()
	defer func() { e.run.Strain = watch.stop() }()
	if err := wait(ctx, e.before()); err != nil {
		return err
	}
	if o.where == "" {
		o.where = "store"
	}
	e.say(o.where + " is " + o.why)
	band := report.Outage{Server: o.where, Why: o.why, From: e.stage.Clock()}
	watch.begin()
	e.stage.Trouble(o.Outage)
	mended := false
	defer func() {
		if !mended { // nothing stays frozen or cut off because something else failed
			err = errors.Join(err, o.mend(context.WithoutCancel(ctx)))
		}
	}()
	if err := o.fault(ctx); err != nil {
		return err
	}
	if o.dark {
		e.stage.Dark()
	}
	if err := wait(ctx, o.lasts); err != nil {
		return err
	}
	if o.dark {
		e.stage.Light()
	}
	mended = true
	if err := o.mend(ctx); err != nil {
		return err
	}
	e.stage.Over()
	watch.end()
	band.To = e.stage.Clock()
	e.run.Outages = append(e.run.Outages, band)
	e.say(o.where + " is back")
	if o.then != nil {
		if err := o.then(ctx); err != nil {
			return err
		}
	}
	return wait(ctx, e.after())
}

// storeRestart is what an upgrade of the database does.
func storeRestart(ctx context.Context, e *event) error {
	pg := e.ground.pg
	return e.suffer(ctx, outage{
		why: "restarted", lasts: e.away() / 2, dark: true,
		fault: pg.Primary.Shutdown, mend: pg.Primary.Start,
	})
}

func storeKill(ctx context.Context, e *event) error {
	pg := e.ground.pg
	return e.suffer(ctx, outage{
		why: "killed", lasts: e.away(), dark: true,
		fault: func(context.Context) error { return pg.Primary.Kill() }, mend: pg.Primary.Start,
	})
}

// storeFreeze stops all processes of the database, which then holds on to its
// connections and says nothing: the worst kind of dead. With SQLite, another
// process holds the lock for writing; reading goes on.
func storeFreeze(ctx context.Context, e *event) error {
	if pg := e.ground.pg; pg != nil {
		return e.suffer(ctx, outage{
			why: "frozen", lasts: e.away(), dark: true,
			fault: func(context.Context) error { return pg.Primary.Freeze() },
			mend:  func(context.Context) error { return pg.Primary.Thaw() },
		})
	}
	release := func() error { return nil }
	return e.suffer(ctx, outage{
		Outage: shoppers.Outage{Reads: true}, why: "locked", lasts: e.part(7 * time.Second),
		fault: func(context.Context) (err error) {
			r, err := e.ground.hold()
			if err == nil {
				release = r
			}
			return err
		},
		mend: func(context.Context) error {
			r := release
			release = func() error { return nil }
			return r()
		},
	})
}

// storeFailover freezes the primary and promotes the standby, which lags behind
// if it is asynchronous: on one machine it never would by itself, and then
// nothing would be lost and nothing proved. In the end the old primary wakes up
// and still thinks that it is one.
func storeFailover(ctx context.Context, e *event) error {
	pg := e.ground.pg
	lossy := e.scenario.lossy
	waking := make(chan error, 1)
	waking <- nil
	err := e.suffer(ctx, outage{
		Outage: shoppers.Outage{Lossy: lossy}, why: "failed over", lasts: e.away() / 2, dark: !lossy,
		fault: func(ctx context.Context) error {
			if lossy {
				if err := pg.Lag(ctx, true); err != nil {
					return err
				}
				if err := wait(ctx, e.part(time.Second)); err != nil {
					return err
				}
			}
			return pg.Primary.Freeze()
		},
		mend: func(ctx context.Context) error {
			if err := pg.Standby.Promote(ctx); err != nil {
				return err
			}
			<-waking
			go func() {
				err := wait(ctx, e.after()/2)
				if err == nil {
					e.say("the old primary wakes up")
					err = pg.Primary.Thaw()
				}
				waking <- err
			}()
			return nil
		},
	})
	return errors.Join(err, <-waking)
}

// storeCut cuts one server off; the others have no trouble.
func storeCut(ctx context.Context, e *event) error {
	c := e.ground.network[victim]
	return e.suffer(ctx, outage{
		Outage: shoppers.Outage{Server: victim}, where: victim, why: "cut off", lasts: e.away(),
		fault: func(context.Context) error { c.cut(); return nil },
		mend:  func(context.Context) error { return c.restore() },
	})
}

// storeCutAll cuts all of them off.
func storeCutAll(ctx context.Context, e *event) error {
	return e.suffer(ctx, outage{
		why: "cut off", lasts: e.away(), dark: true,
		fault: func(context.Context) error {
			for _, c := range e.ground.network {
				c.cut()
			}
			return nil
		},
		mend: func(context.Context) (err error) {
			for _, c := range e.ground.network {
				err = errors.Join(err, c.restore())
			}
			return err
		},
	})
}

// storeSlow makes the store answer late: first by so little that nobody needs
// to be told, then by more than anybody waits for.
func storeSlow(ctx context.Context, e *event) error {
	late := func(d time.Duration) {
		for _, c := range e.ground.network {
			for _, p := range c.proxies {
				p.Slow(d)
			}
		}
	}
	if err := wait(ctx, e.before()/2); err != nil {
		return err
	}
	slow := report.Outage{Server: "store", Why: "50 ms late", From: e.stage.Clock()}
	e.say("the store is 50 ms late")
	late(50 * time.Millisecond)
	err := wait(ctx, e.before())
	late(0)
	slow.To = e.stage.Clock()
	e.run.Outages = append(e.run.Outages, slow)
	if err != nil {
		return err
	}
	return e.suffer(ctx, outage{
		why: "5 s late", lasts: e.away(),
		fault: func(context.Context) error { late(5 * time.Second); return nil },
		mend:  func(context.Context) error { late(0); return nil },
	})
}

// upgradeAll rolls the farm to the second version of the shop, which stores
// sessions in another form, and back to the first.
func upgradeAll(ctx context.Context, e *event) error {
	for _, version := range []int{2, 1} {
		e.ground.setVersion(version)
		if err := e.roll(ctx, fmt.Sprintf("to v%d", version), e.lasts/12); err != nil {
			return err
		}
	}
	return nil
}

// A watch looks at what the web servers say of themselves.
type watch struct {
	e    *event
	done chan struct{}
	gone chan struct{}

	phase chan int
	s     report.Strain
}

func (e *event) watch() *watch {
	w := &watch{e: e, done: make(chan struct{}), gone: make(chan struct{}), phase: make(chan int)}
	w.s.ConnsBefore, w.s.ConnsMax = -1, -1
	go w.run()
	return w
}

const (
	calm = iota
	trouble
	recovery
)

func (w *watch) run() {
	defer close(w.gone)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	phase := calm
	for {
		w.look(phase)
		select {
		case phase = <-w.phase:
		case <-tick.C:
		case <-w.done:
			w.look(phase)
			return
		}
	}
}

func (w *watch) look(phase int) {
	goroutines := 0
	var lost uint64
	for _, s := range w.e.farm.Status() {
		v := s.Vitals
		if v == nil {
			continue
		}
		goroutines = max(goroutines, v.Goroutines)
		lost += v.LostWrites
		if w.s.ConnsMax = max(w.s.ConnsMax, v.StoreConns); phase == calm {
			w.s.ConnsBefore = max(w.s.ConnsBefore, v.StoreConns)
		}
	}
	w.s.LostWrites = max(w.s.LostWrites, lost)
	switch phase {
	case calm:
		w.s.GoroutinesBefore = max(w.s.GoroutinesBefore, goroutines)
	case trouble:
		w.s.GoroutinesMax = max(w.s.GoroutinesMax, goroutines)
	}
	w.s.GoroutinesAfter = goroutines
}

func (w *watch) begin() { w.phase <- trouble }
func (w *watch) end()   { w.phase <- recovery }

// stop returns what was seen.
func (w *watch) stop() *report.Strain {
	close(w.done)
	<-w.gone
	return &w.s
}
