package farm

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/roam-web/roam/cmd/roam/internal/balancer"
)

// Kill ends a server with SIGKILL, as a crash or an empty host memory would,
// and returns when it is dead. It returns how many requests other than GET,
// HEAD and OPTIONS it was given that it may have died over: those in flight at
// the moment of the kill, and those that came until the kernel had closed its
// sockets. No balancer can save these, because nobody knows whether they
// took effect; so no more than these may fail.
//
// The balancer is not told. It finds out as it would with any other crash.
func (f *Farm) Kill(name string) (inFlightUnsafe int, err error) {
	s, err := f.find(name)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	p := s.proc
	if p == nil {
		f.mu.Unlock()
		return 0, fmt.Errorf("%s is %w", name, ErrNotRunning)
	}
	p.told = true
	f.mu.Unlock()

	// The order makes the result an upper bound: a request that comes between
	// the two readings counts twice, and none counts not at all.
	before := f.granted.unsafe(name)
	inFlightUnsafe = f.balancer.UnsafeInFlight(name)
	if err := p.cmd.Process.Kill(); err != nil {
		return 0, fmt.Errorf("%s is %w: %w", name, ErrNotRunning, err)
	}
	<-p.done
	return inFlightUnsafe + f.granted.unsafe(name) - before, nil
}

// Grants counts the requests that each server was given and that are not safe
// to repeat.
type grants struct {
	mu sync.Mutex
	n  map[string]int
}

func newGrants() *grants { return &grants{n: make(map[string]int)} }

func (g *grants) unsafe(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n[name]
}

// counting returns a policy that chooses as p does and counts.
func (g *grants) counting(p balancer.Policy) balancer.Policy {
	counted := countingPolicy{p, g}
	if m, ok := p.(balancer.Marker); ok {
		return struct {
			countingPolicy
			balancer.Marker
		}{counted, m}
	}
	return counted
}

type countingPolicy struct {
	balancer.Policy
	grants *grants
}

// Pick implements [balancer.Policy].
func (c countingPolicy) Pick(r *http.Request, from []balancer.Candidate) int {
	i := c.Policy.Pick(r, from)
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		c.grants.mu.Lock()
		c.grants.n[from[i].Name]++
		c.grants.mu.Unlock()
	}
	return i
}
