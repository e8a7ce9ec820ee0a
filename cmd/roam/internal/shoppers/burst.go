package shoppers

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Pages that are programs ask many things at once, and their answers arrive in
// any order, some of them when nobody waits for them any more.
const (
	burstCalls   = 20
	burstTabs    = 3
	burstChance  = 0.1 // of what a shopper does next
	burstAdds    = 0.4 // of the calls; the others look
	burstHeldOut = 4   // every so many-th of a burst's changes is answered late
)

// An arrival is what the browser has yet to learn from an answer.
type arrival struct {
	cookies []*http.Cookie
	turn    int // of the shopper when it was asked for
}

// burst makes 20 calls at once on connections of their own. The browser learns
// from their answers in random order, and from some only after the next login:
// what they bring is then about a session that is over, or about a key that is
// not the present one, and must do no harm.
func (t *tab) burst(ctx context.Context, at time.Time) {
	s := t.s
	s.mu.Lock()
	busy := s.bursting || !s.hasSession() || s.moving || s.quiet
	s.bursting = s.bursting || !busy
	s.mu.Unlock()
	if busy {
		s.c.extra.n.Add(1 - burstCalls) // which have been counted in advance
		t.stroll(ctx, at)
		return
	}
	for len(s.crew) < burstCalls {
		n := len(s.tabs) + len(s.crew)
		s.crew = append(s.crew, &tab{
			s: s, n: n, defers: true, line: line{addr: s.c.site.Host, config: s.c.tls},
			rng: rand.New(rand.NewPCG(s.c.opts.Seed, uint64(2+n)<<32|t.rng.Uint64N(1<<32))),
		})
	}
	var all sync.WaitGroup
	for _, o := range s.crew {
		add := t.rng.Float64() < burstAdds
		all.Go(func() {
			if add {
				o.add(ctx, at, true, nil)
			} else {
				o.open(ctx, at, "/api/cart")
			}
		})
	}
	all.Wait()
	var arrived []arrival
	for _, o := range s.crew {
		arrived = append(arrived, o.arrived...)
		o.arrived = nil
	}
	t.rng.Shuffle(len(arrived), func(i, j int) { arrived[i], arrived[j] = arrived[j], arrived[i] })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bursting = false
	late := len(arrived) / burstHeldOut
	s.late = append(s.late, arrived[:late]...)
	for _, a := range arrived[late:] {
		s.jar.SetCookies(s.c.site, a.cookies)
	}
	s.c.tally.note(func(r *Result, _ *Bucket) { r.Bursts++ })
}

// catchUp has the browser learn from the answers that were held back, in random
// order. The shopper is locked.
func (s *shopper) catchUp(rng *rand.Rand) {
	late := s.late
	s.late = nil
	rng.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
	past := 0
	for _, a := range late {
		s.jar.SetCookies(s.c.site, a.cookies)
		if a.turn != s.turn {
			past++
		}
	}
	s.c.tally.note(func(r *Result, _ *Bucket) { r.LateAnswers += past })
}

// puts lays aside what the browser would learn from an answer, if this tab
// learns late, and reports whether it does.
func (t *tab) puts(a answer) bool {
	if !t.defers {
		return false
	}
	if cookies := a.cookies(); len(cookies) > 0 {
		t.s.mu.Lock()
		t.arrived = append(t.arrived, arrival{slices.Clone(cookies), t.s.turn})
		t.s.mu.Unlock()
	}
	return true
}
