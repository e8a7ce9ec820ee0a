package shoppers

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Where a session has its key, and how often it is tried again after its end.
const (
	calmReplays = 1
	busyReplays = 6
)

// leave logs out. With Options.Leave it does so under the worst conditions:
// other tabs have changes of the same session in flight at a web server, and
// hold them there until the logout has been answered; more come beside it; and
// a third of the time it is not this browser that ends the session but another
// device, which logs out all others. Then the old key is tried again, on all
// tabs. None of this may be answered as that user, and no late change may
// bring the session back to life.
func (t *tab) leave(ctx context.Context, at time.Time) {
	s := t.s
	t.away.Store(true)
	defer t.away.Store(false)
	key := s.jar.Cookies(s.c.site)
	var phone []*http.Cookie
	if s.c.opts.Leave && t.rng.IntN(3) == 0 {
		phone = t.pickUpPhone(ctx)
		at = time.Now()
	}
	var others sync.WaitGroup
	var holds []*hold
	if s.c.opts.Leave {
		for i, o := range s.others(t) {
			if i < 2 {
				h := newHold()
				holds = append(holds, h)
				s.errand(o, &others, func(ctx context.Context, o *tab, at time.Time) {
					// A page that learns of the end deletes the key, so it is not
					// held back; a call does not.
					o.defers = s.c.opts.Parallel && i == 0
					o.add(ctx, at, i == 0, h)
					s.mu.Lock()
					s.late = append(s.late, o.arrived...)
					o.defers, o.arrived = false, nil
					s.mu.Unlock()
				})
				continue
			}
			s.errand(o, &others, func(ctx context.Context, o *tab, at time.Time) { o.open(ctx, at, "/api/whoami") })
			s.errand(o, &others, func(ctx context.Context, o *tab, at time.Time) { o.add(ctx, at, true, nil) })
		}
		for _, h := range holds {
			<-h.sent
		}
		at = time.Now()
	}
	var ended answer
	want := "/"
	if phone == nil {
		ended = t.ask(ctx, at, post("/logout"))
	} else {
		want = "/devices"
		ended = t.ask(ctx, at, request{method: "POST", path: "/devices/logout-others", key: phone})
	}
	over := ended.leads() == want
	s.mu.Lock()
	s.quiet = true // until this session is history, lest its last answers get mixed up with the next one
	switch {
	case over:
		s.user = ""
		s.ended, s.remote = ended.at, phone != nil
		s.cart.clear()
		s.c.tally.note(func(r *Result, _ *Bucket) { r.Logouts++ })
		s.bury(key, ended.at, s.c.trouble.dark(ended.sent, ended.at))
	case ended.failed(): // if the session goes on, so does its cart
		s.unsure, s.parting = true, true
	case phone != nil && (ended.turnedAway() || ended.status == http.StatusConflict): // the site has forgotten the phone; this browser is still logged in
	default:
		s.c.tally.wrong("the end of a session was answered with status %d to %q", ended.status, ended.leads())
	}
	s.mu.Unlock()
	for _, h := range holds {
		close(h.free)
	}
	others.Wait()
	s.mu.Lock()
	for s.asking > 0 {
		s.calm.Wait()
	}
	s.mu.Unlock()

	if over {
		t.replay(ctx, key, ended.at)
	}
	if phone != nil {
		s.c.extra.n.Add(1)
		t.ask(ctx, time.Now(), request{method: "POST", path: "/logout", key: phone})
		if over { // this browser gets to know, and forgets the old key
			s.c.extra.n.Add(1)
			t.ask(ctx, time.Now(), get("/cart"))
		}
	}
	s.mu.Lock()
	s.quiet = false
	s.moved()
	s.mu.Unlock()
}

// A deadKey is that of a session whose end was acknowledged.
type deadKey struct {
	key     []*http.Cookie
	ended   time.Time
	claimed bool // it has been counted as a logout that was none
}

// maxDead is how many dead keys a shopper keeps, to try them when all is over.
const maxDead = 100

// bury keeps the key of a session whose end was acknowledged. If that was in
// the dark nobody can have known. The shopper is locked.
func (s *shopper) bury(key []*http.Cookie, ended time.Time, dark bool) {
	if dark {
		s.c.tally.note(func(r *Result, _ *Bucket) { r.LogoutsClaimed++ })
	}
	if bare := own(key); len(bare) > 0 && len(s.dead) < maxDead {
		s.dead = append(s.dead, deadKey{bare, ended, dark})
	}
}

// exhume tries all the dead keys once more, now that no server has an excuse.
func (s *shopper) exhume(ctx context.Context) {
	t := s.tabs[0]
	for _, d := range s.dead {
		s.c.tally.note(func(r *Result, _ *Bucket) { r.Replays++ })
		r := request{method: http.MethodGet, path: "/api/whoami", key: d.key}
		if t.intrude(r, t.ask(ctx, time.Now(), r), d.ended) && !d.claimed {
			s.c.tally.note(func(r *Result, _ *Bucket) { r.LogoutsClaimed++ })
		}
	}
}

// pickUpPhone logs in as the same user with another browser and returns its
// cookies, or nil if that failed.
func (t *tab) pickUpPhone(ctx context.Context) []*http.Cookie {
	r := t.s.credentials(t.rng)
	r.key = []*http.Cookie{}
	t.s.c.extra.n.Add(1)
	a := t.ask(ctx, time.Now(), r)
	if a.failed() || a.leads() == "" {
		return nil
	}
	return a.cookies()
}

func (s *shopper) others(t *tab) (others []*tab) {
	for _, o := range s.tabs {
		if o != t {
			others = append(others, o)
		}
	}
	return others
}

// errand sends another tab to do something now.
func (s *shopper) errand(o *tab, done *sync.WaitGroup, do func(context.Context, *tab, time.Time)) {
	s.c.extra.n.Add(1)
	done.Add(1)
	o.away.Store(true)
	o.jobs.push(job{time.Now(), func(ctx context.Context, o *tab, at time.Time) {
		defer done.Done()
		defer o.away.Store(false)
		do(ctx, o, at)
	}})
}

// replay tries the key of a session that is over, as somebody would who has
// copied the cookie. The balancer's own cookie comes along half of the time:
// without it the other servers get to see the key too.
func (t *tab) replay(ctx context.Context, key []*http.Cookie, ended time.Time) {
	s := t.s
	n := calmReplays
	if s.c.opts.Leave {
		n = busyReplays
	}
	requests := []request{
		get("/account"), get("/api/whoami"),
		post("/api/cart/add", "product", t.product(), "qty", "1"),
		get("/devices"), get("/cart"), get("/api/whoami"),
	}
	bare := own(key)
	if len(bare) == 0 {
		return
	}
	first := t.rng.IntN(len(requests))
	var done sync.WaitGroup
	for i := range n {
		r := requests[(first+i)%len(requests)]
		r.key = key
		if i%2 == 1 {
			r.key = bare
		}
		try := func(ctx context.Context, o *tab, at time.Time) {
			s.c.tally.note(func(r *Result, _ *Bucket) { r.Replays++ })
			o.intrude(r, o.ask(ctx, at, r), ended)
		}
		if o := s.tabs[i%len(s.tabs)]; o != t {
			s.errand(o, &done, try)
		} else {
			s.c.extra.n.Add(1)
			try(ctx, t, time.Now())
		}
	}
	done.Wait()
}

// intrude judges the answer to a request with the key of a session that ended
// then, and reports whether it opened anything that it must not.
func (t *tab) intrude(r request, a answer, ended time.Time) bool {
	if a.failed() {
		return false
	}
	p, err := a.page(r.path)
	switch {
	case err != nil:
		t.s.c.tally.wrong("%s %s with the key of an ended session: %v", r.method, r.path, err)
	case p.user == "":
	case r.method == http.MethodGet && t.s.c.outlives(ended, a.sent):
	default:
		t.s.mu.Lock()
		t.s.intruded("%s %s with the key of a session, sent %v after its end,", r.method, r.path, a.sent.Sub(ended).Round(time.Millisecond))
		if product := r.form.Get("product"); product != "" {
			t.s.cart.most[product]++ // what the intruder has put in
		}
		t.s.mu.Unlock()
		return true
	}
	return false
}

// revived judges the answer to a change that was in flight during a logout,
// and whose last byte was sent after the logout had been answered.
func (t *tab) revived(a answer) {
	t.s.mu.Lock()
	ended := t.s.user == ""
	t.s.mu.Unlock()
	if p, err := parseState(a.body); err == nil && ended && p.user != "" {
		t.s.c.tally.note(func(r *Result, _ *Bucket) { r.WrittenAfterEnd++ })
	}
}
