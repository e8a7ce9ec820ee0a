// Package shoppers plays the people in front of a web site: they log in,
// browse, fill their carts from several tabs at once, pay, log out and come
// back. They know what they must see, so they notice when a site loses
// something, and they hide nothing: what fails for them counts.
//
// [Run] sends them to a site and returns a [Result]. Read on in this order:
//
//	ledger.go    what a shopper can know about its cart
//	proof.go     and what of it the site must know, by the cookies it gets
//	shopper.go   what a shopper knows about itself, and how it judges an answer
//	errand.go    what shoppers do
//	leave.go     logging out while other tabs are busy, and trying the old key
//	burst.go     many calls at once, whose answers arrive in any order
//	herd.go      many visitors who do nothing but be there
//	witness.go   how soon the end of a session is known to each server
//	audit.go     the account that is settled when everything is quiet
//	schedule.go  who does when what: at a constant rate, whatever the site does
//	trouble.go   what shoppers make of an outage that was announced
//	line.go      a connection that sends each request once
//	page.go      what a shopper makes out of an answer
//	tally.go     what is counted
//
// Load is open-loop: requests have their times before the first one is sent,
// and an answer's latency counts from that time, not from when the request got
// its turn. A site that stands still for a second is seen by all who came in
// that second, not only by those who were first in line (no coordinated
// omission, in Gil Tene's words).
//
// What shoppers cannot tell apart is left out rather than guessed. A request
// that was in flight when its session began or ended may be answered either
// way; one that was never answered may have taken effect or not.
package shoppers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// Options say where the shoppers go, and how many requests they make. URL,
// Rate, Duration, Accounts and Products are required.
type Options struct {
	URL     string         // of the site, https
	RootCAs *x509.CertPool // nil means those of the system
	Servers []string       // names of the web servers, as the site's X-Server says them

	Rate     int           // requests per second, on average
	Duration time.Duration // how long, at least; see During

	Accounts []string // one shopper for each; nobody else may use them meanwhile
	Password string   // of every account
	Products []string // ids of what can be put into a cart

	// Leave has shoppers log out all the time, each time while requests of
	// the same session are in flight.
	Leave bool

	// Parallel has shoppers make many small calls at once from three tabs, and
	// learn from the answers in random order, from some only after they have
	// logged out and in again.
	Parallel bool

	// Bound is how long a server may go on to show pages to a session that was
	// ended elsewhere. 0 means not at all. It is no excuse for a change, nor for
	// the browser that has logged out itself.
	Bound time.Duration

	// During is called beside the load when it begins. It is where servers are
	// killed, and where the store is broken. The load goes on for Duration and
	// until During has returned.
	During func(ctx context.Context, s *Stage) error

	// Progress is called about ten times a second with the time since the
	// load began. nil means not at all.
	Progress func(elapsed time.Duration)

	Seed uint64 // of all choices that shoppers make; the order of events still varies
}

const (
	tabs           = 4  // of each shopper; more if the rate needs them
	ratePerTab     = 10 // requests per second that a tab is asked for at most
	loginRate      = 3  // logins per second of guests
	calmReturns    = 1  // and of those who come back after a logout
	busyReturns    = 5  // the same if people leave all the time
	loginsAtOnce   = 2
	cookieName     = "__Host-roam"
	markName       = cookieName + "-mark"
	afterDuring    = time.Minute // how long the load waits for During
	agent          = "roam-shopper/1"
	membersAtStart = 0.75 // the others begin as guests
)

func (o *Options) check() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("shoppers: Options.URL: %w", err)
	case u.Scheme != "https" || u.Port() == "":
		return nil, fmt.Errorf("shoppers: Options.URL is %q: want https://HOST:PORT", o.URL)
	case o.Rate < 1 || o.Duration <= 0:
		return nil, fmt.Errorf("shoppers: Options.Rate %d for %v: want both positive", o.Rate, o.Duration)
	case len(o.Accounts) == 0 || len(o.Products) == 0:
		return nil, errors.New("shoppers: Options.Accounts and Options.Products must not be empty")
	}
	return u, nil
}

// Run sends shoppers to the site and counts what happens to them. An error
// says that the run could not be made, or that ctx ended; that the site failed
// is no error but the result.
func Run(ctx context.Context, opts Options) (*Result, error) {
	u, err := opts.check()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := newCrowd(ctx, opts, u)
	defer c.close()
	defer cancel(nil)
	if err := c.arrive(ctx); err != nil {
		return nil, err
	}
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	select { // what was in doubt has arrived by then or never will
	case <-time.After(c.trouble.wait()):
	case <-ctx.Done():
	}
	c.audit(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c.tally.result(&c.trouble), nil
}

// A crowd is all the shoppers of one run.
type crowd struct {
	opts    Options
	site    *url.URL
	tls     *tls.Config
	people  []*shopper
	tally   *tally
	trouble trouble
	extra   extra
	work    sync.WaitGroup // the tabs

	// Checking a password is made to be slow, so logins are rationed. Who
	// logs out has a login in hand.
	logins, returns budget
}

func newCrowd(ctx context.Context, opts Options, site *url.URL) *crowd {
	c := &crowd{
		opts: opts, site: site,
		tls: &tls.Config{
			RootCAs: opts.RootCAs, ServerName: site.Hostname(), NextProtos: []string{"http/1.1"},
			MinVersion: tls.VersionTLS12,
		},
		tally: newTally(opts.Servers),
	}
	c.logins.rate, c.returns.rate = loginRate, calmReturns
	if opts.Leave {
		c.returns.rate = busyReturns
	}
	least := tabs
	if opts.Parallel {
		least = burstTabs
	}
	each := max(least, (opts.Rate+ratePerTab*len(opts.Accounts)-1)/(ratePerTab*len(opts.Accounts)))
	for i, user := range opts.Accounts {
		s := newShopper(c, user, i, each)
		c.people = append(c.people, s)
		for _, t := range s.tabs {
			c.work.Go(func() { t.run(ctx) })
		}
	}
	return c
}

// close ends the tabs. They are idle by then, or soon will be because the
// context has ended; a tab that ended while another waited for it would keep
// that one waiting for ever.
func (c *crowd) close() {
	for !c.idle() {
		time.Sleep(time.Millisecond)
	}
	for _, s := range c.people {
		for _, t := range s.tabs {
			t.jobs.close()
		}
	}
	c.work.Wait()
}

// arrive has every tab connect and most shoppers log in, before anything is
// measured. Connections are made beforehand because the cost of a handshake
// says nothing about sessions.
func (c *crowd) arrive(ctx context.Context) error {
	var (
		all   sync.WaitGroup
		slots = make(chan struct{}, loginsAtOnce)
		mu    sync.Mutex
		errs  []error
	)
	for i, s := range c.people {
		member := float64(i) < membersAtStart*float64(len(c.people))
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := s.arrive(ctx, member)
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(errs) > 0 { // the others will say the same
		return fmt.Errorf("before the load began, %w", errs[0])
	}
	return ctx.Err()
}
