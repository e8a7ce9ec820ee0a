package balancer

import (
	"context"
	"fmt"
)

// Drain stops giving requests to a server. It takes effect before it returns,
// also for clients that a policy keeps on that server; see [Policy]. Requests
// that the server already has finish: wait for them with [Balancer.Empty].
func (b *Balancer) Drain(name string) error { return b.setDraining(name, true) }

// Undrain gives requests to a server again, at once if it is ready.
func (b *Balancer) Undrain(name string) error { return b.setDraining(name, false) }

func (b *Balancer) setDraining(name string, draining bool) error {
	b.mu.Lock()
	s := b.find(name)
	if s == nil {
		b.mu.Unlock()
		return fmt.Errorf("%w: %s", ErrUnknownServer, name)
	}
	changed := s.setDraining(draining)
	if draining {
		s.closeIdle()
	}
	state := s.state()
	b.mu.Unlock()

	if !changed {
		return nil
	}
	b.checkSoon()
	b.opts.Logger.Info("server changed", "server", name, "state", state)
	return nil
}

// Empty waits until a server has no request in flight, or until ctx ends; the
// error then says how many are left. Event streams and WebSockets are requests
// in flight for as long as they are open. Call Drain before: a server that
// still gets requests may have the next one when Empty returns.
func (b *Balancer) Empty(ctx context.Context, name string) error {
	b.mu.Lock()
	s := b.find(name)
	if s == nil {
		b.mu.Unlock()
		return fmt.Errorf("%w: %s", ErrUnknownServer, name)
	}
	if s.inFlight == 0 {
		b.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	s.emptied = append(s.emptied, empty)
	b.mu.Unlock()

	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, ch := range s.emptied {
		if ch == empty {
			s.emptied = append(s.emptied[:i], s.emptied[i+1:]...)
			break
		}
	}
	return fmt.Errorf("balancer: server %s has %d requests in flight: %w", name, s.inFlight, context.Cause(ctx))
}
