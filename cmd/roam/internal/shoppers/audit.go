package shoppers

import (
	"context"
	"sync"
	"time"
)

// auditors is how many accounts are settled at once.
const auditors = 4

// audit settles every shopper's account, now that nothing is on its way any
// more: what was acknowledged must be there.
func (c *crowd) audit(ctx context.Context) {
	var all sync.WaitGroup
	slots := make(chan struct{}, auditors)
	for _, s := range c.people {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if !s.audit(ctx) {
				c.tally.note(func(r *Result, _ *Bucket) { r.Unaudited++ })
			}
			s.exhume(ctx)
		})
	}
	all.Wait()
}

// audit reports whether the account could be settled. Orders come first, as a
// checkout that was cut off is finished by looking at them.
func (s *shopper) audit(ctx context.Context) bool {
	t := s.tabs[0]
	s.mu.Lock()
	member := s.user != "" && !s.unsure
	s.mu.Unlock()
	if member {
		if _, err := s.fileOrders(ctx); err != nil {
			return false
		}
	}

	s.mu.Lock()
	s.catchUp(t.rng)
	b := s.before()
	// A page may be older than what the store has. Something more in the cart
	// is answered with all that is in it.
	r := get("/api/cart")
	var e entry
	if s.marked && s.hasSession() {
		e = s.cart.send(s.c.opts.Products[0], 1)
		r = post("/api/cart/add", "product", e.product, "qty", "1")
		r.puts = &e
	}
	s.mu.Unlock()
	a := t.ask(ctx, time.Now(), r)
	p, err := a.page(r.path)
	if r.puts != nil {
		s.mu.Lock()
		switch {
		case a.failed() || err != nil:
			s.cart.doubt(e)
		case a.takes(r):
			s.cart.confirm(e)
		default:
			s.cart.refuse(e)
		}
		s.mu.Unlock()
	}
	if a.failed() {
		return false
	}
	if err != nil {
		s.c.tally.wrong("%s %s: %v", r.method, r.path, err)
		return false
	}
	forgotten := false // the site has, for a reason that is known
	if s.excused {
		s.mu.Lock()
		s.compare(b.glance, a, p.cart)
		s.mu.Unlock()
	} else {
		s.see(b, r.method == "GET", a, p)
		forgotten = s.c.trouble.loses(s.since) && s.user == ""
	}
	lost := s.cart.lost(p.cart)
	if member && p.user != s.own && !forgotten { // an acknowledged login does not stand
		lost++
	}
	if lost > 0 {
		s.c.tally.note(func(r *Result, _ *Bucket) { r.AckedWritesLost += lost })
	}
	return member && p.user == s.own || s.auditOrders(ctx)
}

// auditOrders logs in to look at orders that the shopper has not seen since
// the load ended, if there are any.
func (s *shopper) auditOrders(ctx context.Context) bool {
	if len(s.orders)+len(s.ordered) == 0 {
		return true
	}
	t := s.tabs[0]
	s.mu.Lock()
	s.moving = true
	s.mu.Unlock()
	t.login(ctx, time.Now())
	// Where each server knows only its own sessions, the right one has to be
	// met by chance.
	for range 2 * max(1, len(s.c.opts.Servers)) {
		if seen, err := s.fileOrders(ctx); seen || err != nil {
			return seen
		}
	}
	return false
}

// fileOrders looks at the orders and files them, if the site knows somebody to
// show them to.
func (s *shopper) fileOrders(ctx context.Context) (seen bool, err error) {
	orders, as, err := s.tabs[0].orders(ctx, time.Now())
	if err != nil || as == "" {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file(orders)
	return true, nil
}
