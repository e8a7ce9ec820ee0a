package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Run checks the health of the servers until ctx ends, and then returns nil.
// It returns an error at once if another Run is going on.
//
// Without Run all servers count as up: since nothing could bring a server
// back, nothing takes it away. A dead one then costs each request that meets it a
// refused connection before it goes on to the next.
func (b *Balancer) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("balancer: Run is running already")
	}
	b.running = true
	b.mu.Unlock()

	// Each check makes its own connection, because being able to connect is a
	// part of what it asks.
	transport := &http.Transport{DisableKeepAlives: true}
	var checks sync.WaitGroup
	defer func() {
		checks.Wait()
		b.mu.Lock()
		b.running = false
		for _, s := range b.servers {
			s.setReady(true)
			s.closeIdle()
		}
		b.mu.Unlock()
	}()
	tick := time.NewTicker(b.opts.CheckInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, g := range b.unchecked() {
			checks.Go(func() {
				b.checked(ctx, g, b.check(ctx, transport, g))
			})
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-b.wake:
		}
	}
	return nil
}

// checkSoon asks Run for a round of checks now.
func (b *Balancer) checkSoon() {
	select {
	case b.wake <- struct{}{}:
	default: // it has been asked already
	}
}

// unchecked returns the servers that have no check under way, and begins one.
func (b *Balancer) unchecked() []grant {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []grant
	for _, s := range b.servers {
		if !s.checking {
			s.checking = true
			list = append(list, grant{s, s.address, s.epoch})
		}
	}
	return list
}

// A finding is what a check has found out.
type finding struct {
	trouble string // why the server is not ready, "" if it is
	life    life
}

// check asks a server whether it is ready.
func (b *Balancer) check(ctx context.Context, transport *http.Transport, g grant) finding {
	ctx, cancel := context.WithTimeout(ctx, b.opts.CheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+b.opts.CheckPath, nil)
	if err != nil {
		return finding{err.Error(), gone}
	}
	req.Header.Set("User-Agent", "roam-balancer")
	res, err := transport.RoundTrip(req)
	if err != nil {
		found := finding{describe(err), gone}
		if isTimeout(err) {
			found.life = silent
		}
		return found
	}
	res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return finding{fmt.Sprintf("answered %d", res.StatusCode), answered}
	}
	return finding{life: ready}
}

// checked applies the outcome of a check.
func (b *Balancer) checked(ctx context.Context, g grant, found finding) {
	s := g.server
	b.mu.Lock()
	s.checking = false
	switch {
	case ctx.Err() != nil || s.removed:
		b.mu.Unlock()
		return
	case s.epoch != g.epoch: // of the address or of the process before
		b.mu.Unlock()
		b.checkSoon()
		return
	}
	up := found.life == ready
	changed := s.ready != up
	if changed {
		s.setReady(up)
	}
	s.life = found.life
	if !up {
		s.lastError = "check: " + found.trouble
	}
	state := s.state()
	b.mu.Unlock()

	switch {
	case changed && up:
		b.opts.Logger.Info("server ready", "server", s.name, "state", state)
	case changed:
		b.opts.Logger.Warn("server not ready", "server", s.name, "state", state, "error", found.trouble)
	}
}

// suspect draws the conclusion from a connection that was refused or broke:
// the server is down until a check says otherwise, and the check is made at
// once. It reports whether this took the server down. The caller holds mu.
//
// A handler that panics breaks its connection just as a killed process does.
// So that one bad page cannot go from server to server and take them all down,
// a connection that broke, unlike one that was refused, never takes the last
// server; that one is only checked.
func (b *Balancer) suspect(g *grant, refused bool) bool {
	s := g.server
	if b.running && refused && s.epoch == g.epoch {
		s.life = gone // nor is it one to fall back on
	}
	if !b.running || !s.ready || s.epoch != g.epoch {
		return false
	}
	b.checkSoon()
	if !refused {
		others := false
		for _, o := range b.servers {
			others = others || o != s && o.ready && !o.draining
		}
		if !others {
			return false
		}
	}
	s.setReady(false)
	return true
}
