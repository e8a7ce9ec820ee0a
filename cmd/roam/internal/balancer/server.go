package balancer

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A server is what the balancer knows about one web server.
type server struct {
	name      string
	transport *http.Transport // its own, so that its connections can be closed alone
	bytesOut  atomic.Int64

	// The rest is guarded by Balancer.mu.
	address  string
	ready    bool
	life     life // when it is not ready, what the last check said besides
	draining bool
	removed  bool
	checking bool // a health check is under way

	// epoch counts the changes of ready and address. Evidence about the server,
	// a check or a broken connection, is valid only in the epoch in which it
	// was begun: a request that breaks because the old process was killed
	// says nothing about the new process.
	epoch uint64

	inFlight    int
	unsafe      int // those in flight that are not safe to repeat
	requests    uint64
	failed      uint64
	retriedAway uint64
	lastError   string
	since       time.Time
	emptied     []chan struct{} // closed when inFlight becomes zero
}

// maxIdle is how many connections to a server are kept.
const maxIdle = 256

func newServer(name string, opts *Options) *server {
	s := &server{name: name, since: time.Now()}
	dialer := net.Dialer{Timeout: opts.DialTimeout}
	s.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := &conn{Conn: nc, bytesOut: &s.bytesOut}
			c.stall.Store(int64(max(opts.ResponseHeaderTimeout, 0)))
			return c, nil
		},
		DisableCompression:    true, // what the client and the server agree on is theirs
		MaxIdleConnsPerHost:   maxIdle,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: max(opts.ResponseHeaderTimeout, 0),
		ExpectContinueTimeout: time.Second,
	}
	return s
}

// state is what operators see. The caller holds Balancer.mu.
func (s *server) state() State {
	switch {
	case s.draining:
		return Draining
	case s.ready:
		return Up
	}
	return Down
}

// setReady begins a new epoch. The caller holds Balancer.mu.
func (s *server) setReady(ready bool) {
	s.epoch++
	if s.ready != ready && !s.draining {
		s.since = time.Now()
	}
	s.ready, s.life = ready, gone
}

// A life is what can be hoped of a server that is not ready, from bad to good.
type life int

const (
	gone     life = iota // it refused or broke a connection
	silent               // it did not answer the check in time, as when the machine is too busy
	answered             // it said that it is not ready
	ready                // it is
)

// hope is the server's, or gone if the operator has taken it out. The caller
// holds Balancer.mu.
func (s *server) hope() life {
	switch {
	case s.draining:
		return gone
	case s.ready:
		return ready
	}
	return s.life
}

// setDraining reports whether it changed anything. The caller holds Balancer.mu.
func (s *server) setDraining(draining bool) bool {
	if s.draining == draining {
		return false
	}
	s.draining = draining
	s.since = time.Now()
	return true
}

// closeIdle closes kept connections when the server is about to stop, since it
// may wait for them: an http.Server waits five seconds for one that was dialled
// to spare and never used. It does nothing while a request is in flight, for a
// Transport gives a connection back before it hands over an answer without a
// body, and closing it in between would lose the answer. The caller holds
// Balancer.mu, so that no request begins meanwhile.
func (s *server) closeIdle() {
	if s.inFlight == 0 {
		s.transport.CloseIdleConnections()
	}
}

// A grant is the right to send one request to a server. It has been counted.
type grant struct {
	server  *server
	address string
	epoch   uint64
}

// choose lets the policy choose among the servers that are up, not draining
// and not tried, and counts the request in. The caller holds mu.
//
// If no server is ready, those that live will do, and if none is known to live,
// those that may. Something that they all need, such as their database, has
// failed all of them at once, and then a server that can show a part of its
// pages is better than a balancer that shows none. (Envoy calls it panic mode,
// and begins it earlier.)
func (b *Balancer) choose(ex *exchange, tried []*server) *grant {
	best := gone
	for _, s := range b.servers {
		best = max(best, s.hope())
	}
	b.open, b.from = b.open[:0], b.from[:0]
next:
	for _, s := range b.servers {
		if h := s.hope(); h == gone || h < best {
			continue
		}
		for _, t := range tried {
			if s == t {
				continue next
			}
		}
		b.open = append(b.open, s)
		b.from = append(b.from, Candidate{s.name, s.inFlight, s.bytesOut.Load()})
	}
	if len(b.open) == 0 {
		return nil
	}
	s := b.open[b.opts.Policy.Pick(ex.in, b.from)]
	s.requests++
	s.inFlight++
	if !ex.safe {
		s.unsafe++
	}
	return &grant{s, s.address, s.epoch}
}

// release counts the request out. The caller holds mu.
func (b *Balancer) release(ex *exchange, s *server) {
	s.inFlight--
	if !ex.safe {
		s.unsafe--
	}
	if s.inFlight > 0 {
		return
	}
	for _, ch := range s.emptied {
		close(ch)
	}
	s.emptied = nil
	if s.draining || s.removed {
		s.closeIdle()
	}
}
