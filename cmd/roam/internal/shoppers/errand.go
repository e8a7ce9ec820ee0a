package shoppers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// due gives the shopper something to do and returns how many requests that is.
// Most of the time one tab does one thing; now and then several tabs put
// something into the cart at the same moment, or open the page whose small
// calls alone need the session.
func (s *shopper) due(rng *rand.Rand, at time.Time) int {
	give := func(do func(ctx context.Context, t *tab, at time.Time)) {
		s.next++
		for range s.tabs { // all of them may be away
			if !s.tabs[s.next%len(s.tabs)].away.Load() {
				break
			}
			s.next++
		}
		s.tabs[s.next%len(s.tabs)].jobs.push(job{at, do})
	}
	opens := func(path string) func(context.Context, *tab, time.Time) {
		return func(ctx context.Context, t *tab, at time.Time) { t.open(ctx, at, path) }
	}
	adds := func(api bool) func(context.Context, *tab, time.Time) {
		return func(ctx context.Context, t *tab, at time.Time) { t.add(ctx, at, api, nil) }
	}
	if s.c.opts.Parallel && rng.Float64() < burstChance {
		give(func(ctx context.Context, t *tab, at time.Time) { t.burst(ctx, at) })
		return burstCalls
	}
	switch x := rng.Float64(); {
	case x < 0.05:
		give(adds(true))
		give(adds(false))
		give(adds(false))
		return 3
	case x < 0.09:
		give(opens("/live"))
		give(opens("/api/whoami"))
		give(opens("/api/cart"))
		give(adds(true))
		return 4
	}
	give(func(ctx context.Context, t *tab, at time.Time) { t.stroll(ctx, at) })
	return 1
}

// stroll does what one tab does next.
func (t *tab) stroll(ctx context.Context, at time.Time) {
	if path := t.next; path != "" { // where the last form led to
		t.next = ""
		t.open(ctx, at, path)
		return
	}
	switch t.s.intend(t.rng) {
	case toLogin:
		t.login(ctx, at)
	case toLeave:
		t.leave(ctx, at)
	case toPay:
		t.pay(ctx, at)
	case toFind:
		t.receipts(ctx, at)
	default:
		switch x := t.rng.Float64(); {
		case x < 0.40:
			t.browse(ctx, at)
		case x < 0.60:
			t.open(ctx, at, "/cart")
		case x < 0.70:
			t.open(ctx, at, "/account")
		case x < 0.75:
			t.open(ctx, at, "/devices")
		case x < 0.80:
			t.open(ctx, at, "/api/whoami")
		case x < 0.85:
			t.open(ctx, at, "/api/cart")
		default:
			t.add(ctx, at, t.rng.IntN(2) == 0, nil)
		}
	}
}

// An intention is what a shopper does with one tab only, and not twice at once.
type intention int

const (
	toStroll intention = iota
	toLogin
	toLeave
	toPay
	toFind // the orders, after a checkout whose answer did not come
)

// intend decides whether it is time for something that begins or ends a
// session, or turns its cart into an order, and if so reserves it.
func (s *shopper) intend(rng *rand.Rand) intention {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moving || s.starting {
		return toStroll
	}
	often := 0.03
	if s.c.opts.Leave {
		often = 0.2
	}
	want := toStroll
	switch x := rng.Float64(); {
	case s.user == "" && s.ticket && x < 0.3:
		s.ticket = false
		want = toLogin
	case s.user == "" && !s.ticket && (s.lost || x < 0.1):
		if s.c.logins.take() {
			want = toLogin
		}
	case s.user == "" || s.unsure:
	case s.dirty:
		want = toFind
	case x < often:
		if s.c.returns.take() {
			s.ticket = true
			want = toLeave
		}
	case x < often+0.05 && s.cart.least.sum() > s.cart.ordered.sum():
		want = toPay
	}
	if want != toStroll {
		s.moving = true
		s.turn++
	}
	return want
}

// moved ends what intend has begun. The shopper is locked.
func (s *shopper) moved() {
	s.moving = false
	s.turn++
}

// browse looks at a page that needs no session.
func (t *tab) browse(ctx context.Context, at time.Time) {
	path := "/"
	switch t.rng.IntN(5) {
	case 0:
	case 1:
		path = "/about"
	default:
		path = "/product/" + t.product()
	}
	t.open(ctx, at, path)
}

func (t *tab) product() string {
	all := t.s.c.opts.Products
	return all[t.rng.IntN(len(all))]
}

// open looks at a page, or asks one of the small calls.
func (t *tab) open(ctx context.Context, at time.Time, path string) {
	s := t.s
	r := get(path)
	s.mu.Lock()
	if s.quiet && !r.public() {
		r = get("/")
	}
	b := s.before()
	s.asking++
	s.mu.Unlock()
	defer s.answered()
	t.judge(b, r, t.ask(ctx, at, r))
}

// judge looks at an answer as the shopper does.
func (t *tab) judge(b before, r request, a answer) {
	if a.failed() {
		return
	}
	if a.turnedAway() {
		t.next = a.leads()
	}
	p, err := a.page(r.path)
	if err != nil {
		t.s.c.tally.wrong("%s %s: %v", r.method, r.path, err)
		return
	}
	t.s.see(b, r.method == http.MethodGet, a, p)
}

// add puts something into the cart, with a form or with a small call. The
// first thing that a guest puts in starts the session, so the other tabs wait
// for its cookie: requests that bring none are separate visitors.
func (t *tab) add(ctx context.Context, at time.Time, api bool, hold *hold) {
	s := t.s
	s.mu.Lock()
	starter := !s.hasSession()
	if s.quiet && hold == nil || starter && (s.starting || s.moving) {
		s.mu.Unlock()
		hold.reached()
		t.browse(ctx, at)
		return
	}
	s.starting = s.starting || starter
	b := s.before()
	s.asking++
	defer s.answered()
	product, qty := t.product(), 1+t.rng.IntN(2)
	e := s.cart.send(product, qty)
	s.mu.Unlock()

	r := post("/cart/add", "product", product, "qty", fmt.Sprint(qty))
	if api {
		r.path = "/api/cart/add"
	}
	r.hold, r.puts = hold, &e
	a := t.ask(ctx, at, r)

	taken := a.takes(r)
	s.mu.Lock()
	if starter {
		s.starting = false
	}
	switch {
	case a.nothing():
		s.cart.refuse(e)
	case a.failed():
		s.cart.doubt(e)
	case taken:
		s.cart.confirm(e)
	default:
		s.cart.refuse(e)
	}
	s.mu.Unlock()
	switch {
	case taken && !api:
		t.next = a.leads()
	case taken, a.status == http.StatusConflict:
		t.judge(b, r, a)
	case !a.failed():
		s.c.tally.wrong("POST %s: status %d", r.path, a.status)
	}
	if hold != nil && api && a.status == http.StatusOK {
		t.revived(a)
	}
}

// login logs in. What the other tabs do meanwhile goes on.
func (t *tab) login(ctx context.Context, at time.Time) {
	s := t.s
	a := t.ask(ctx, at, s.credentials(t.rng))
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.moved()
	switch {
	case a.nothing():
	case a.failed(): // it may have happened, and then the key that the jar has is the old one
		s.unsure, s.excused = true, true
	case a.leads() != "" && !a.turnedAway():
		s.user, s.lost, s.unsure, s.parting, s.since = s.own, false, false, false, a.at
		s.ended, s.remote = time.Time{}, false
		s.catchUp(t.rng)
		s.c.tally.note(func(r *Result, _ *Bucket) { r.Logins++ })
		t.next = a.leads()
	default:
		s.c.tally.wrong("POST /login as %s: status %d", s.own, a.status)
	}
}

func (s *shopper) credentials(rng *rand.Rand) request {
	r := post("/login", "user", s.own, "password", s.c.opts.Password)
	if rng.IntN(3) == 0 {
		r.form.Set("remember", "1")
	}
	return r
}

// pay turns the cart into an order, and looks it up. Adds of other tabs may
// make it into the order or not; none may be lost between the two.
func (t *tab) pay(ctx context.Context, at time.Time) {
	s := t.s
	a := t.ask(ctx, at, post("/checkout"))
	id, placed := strings.CutPrefix(a.leads(), "/orders/")
	s.mu.Lock()
	switch {
	case a.failed():
		s.dirty = true
	case placed:
		s.dirty = true
		s.ordered[id] = true
		s.c.tally.note(func(r *Result, _ *Bucket) { r.Orders++ })
	case a.leads() == "/orders": // the cart was empty, it says; the next look at the cart will judge that
	case a.turnedAway(), a.status == http.StatusConflict:
		s.recognised("", false, a.sent)
	default:
		s.c.tally.wrong("POST /checkout: status %d", a.status)
	}
	look := s.dirty
	if !look {
		s.moved()
	}
	s.mu.Unlock()
	if look {
		s.c.extra.n.Add(1)
		t.receipts(ctx, time.Now())
	}
}

// receipts looks at all the orders. It is called while moving, and ends that.
func (t *tab) receipts(ctx context.Context, at time.Time) {
	s := t.s
	sent := time.Now()
	orders, as, err := t.orders(ctx, at)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.moved()
	switch {
	case err != nil: // it has been counted, and is asked again
	case as == "":
		s.recognised("", false, sent)
	default:
		s.file(orders)
	}
}

var errNoAnswer = errors.New("no answer")

// orders asks for the orders of the shopper; as is "" if the site takes the
// shopper for a guest, who has none.
func (t *tab) orders(ctx context.Context, at time.Time) (orders []order, as string, err error) {
	const path = "/api/orders"
	a := t.ask(ctx, at, get(path))
	if a.failed() {
		return nil, "", errNoAnswer
	}
	if a.status == http.StatusOK {
		if orders, err = parseOrders(a.body); err == nil {
			return orders, t.s.own, nil
		}
	}
	p, err := a.page(path)
	if err != nil || p.user != "" {
		t.s.c.tally.wrong("GET %s: %v in status %d", path, err, a.status)
		return nil, "", errNoAnswer
	}
	return nil, "", nil
}

// file compares the orders with those that the shopper knows. An order that
// was acknowledged, or seen once, stays as it is for good. The shopper is
// locked.
func (s *shopper) file(orders []order) {
	lost := 0
	found := map[string]bool{}
	for _, o := range orders {
		found[o.ID] = true
		if known, ok := s.orders[o.ID]; !ok {
			s.orders[o.ID] = o.Lines
			s.cart.ordered.add(o.Lines)
		} else if !maps.Equal(known, o.Lines) {
			lost++
			s.orders[o.ID] = o.Lines
		}
		delete(s.ordered, o.ID)
	}
	for id := range s.orders {
		if !found[id] {
			lost++
			delete(s.orders, id)
		}
	}
	lost += len(s.ordered)
	clear(s.ordered)
	s.dirty = false
	if lost > 0 {
		s.c.tally.note(func(r *Result, _ *Bucket) { r.AckedWritesLost += lost })
	}
}

// arrive connects every tab and, for a member, logs in. No failure is forgiven
// here: nothing has been done to the site yet.
func (s *shopper) arrive(ctx context.Context, member bool) error {
	for _, t := range s.tabs {
		if a := t.ask(ctx, time.Now(), get("/")); a.err != nil {
			return fmt.Errorf("GET / had no answer: %w", a.err)
		} else if a.status != http.StatusOK {
			return fmt.Errorf("GET / was answered with status %d", a.status)
		}
	}
	if !member {
		return nil
	}
	s.mu.Lock()
	s.moving = true
	s.mu.Unlock()
	s.tabs[0].login(ctx, time.Now())
	if s.user == "" {
		return fmt.Errorf("%s could not log in", s.own)
	}
	return nil
}
