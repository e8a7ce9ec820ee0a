package graceful

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how a [Server] stops. The zero value is ready to use.
type Options struct {
	// Notice is how long Readyz answers 503 while all else is served as before.
	// It should exceed the time in which the balancer notices: the period of
	// its probes times the failures that it wants to see. Zero is right without
	// a balancer that polls Readyz.
	Notice time.Duration

	// Linger is how long a connection must have been idle, after the listener
	// was closed, before the server closes it. A stop ends sooner when no
	// connection is left. Zero means one second, with which restarts behind
	// Caddy, HAProxy and nginx were measured to lose nothing.
	Linger time.Duration

	// Timeout is the hard limit of the whole stop, Notice and Linger included.
	// It should be shorter than the patience of whoever sent the signal, which
	// is 30 seconds by default in Kubernetes (terminationGracePeriodSeconds)
	// and 10 in Docker. Zero means 25 seconds.
	Timeout time.Duration

	// Check, if set, makes Readyz answer 503 when it returns an error. See
	// Readyz for what belongs in it. It is called once a probe, from many
	// goroutines at once, and its context ends when the prober hangs up.
	Check func(context.Context) error
}

func (o *Options) resolved() (Options, error) {
	if o == nil {
		o = new(Options)
	}
	out := *o
	out.Linger = cmp.Or(out.Linger, time.Second)
	out.Timeout = cmp.Or(out.Timeout, 25*time.Second)
	switch {
	case out.Notice < 0 || out.Linger < 0 || out.Timeout < 0:
		return out, fmt.Errorf("graceful: Notice %v, Linger %v, Timeout %v: none may be negative",
			out.Notice, out.Linger, out.Timeout)
	case out.Timeout <= out.Notice+out.Linger:
		return out, fmt.Errorf("graceful: Timeout %v must exceed Notice %v plus Linger %v, which are part of it",
			out.Timeout, out.Notice, out.Linger)
	}
	return out, nil
}

// A CutError says that the time limit ended a stop while requests were still
// in flight, and that these got no full answer.
type CutError struct {
	Requests int           // how many requests were cut off, hijacked connections included
	Limit    time.Duration // the limit that ended them
}

func (e *CutError) Error() string {
	return fmt.Sprintf("graceful: requests cut off: %d, still unfinished at the limit of %v", e.Requests, e.Limit)
}

// A Server runs one [http.Server] and stops it without losing a request. Make
// it with [New].
type Server struct {
	http *http.Server
	opts *Options

	ran      atomic.Bool
	leaving  atomic.Bool   // Readyz says no
	draining chan struct{} // closed when the listener is
	inFlight atomic.Int64
	changed  chan struct{} // holds one token after a change that may end the stop

	mu      sync.Mutex
	conns   map[net.Conn]conn
	drained time.Time // when draining began
}

type conn struct {
	state http.ConnState
	since time.Time
}

// New returns a Server for srv, whose fields may be set until [Server.Run] is
// called and belong to it from then on. Nil opts are ready to use.
func New(srv *http.Server, opts *Options) *Server {
	return &Server{
		http:     srv,
		opts:     opts,
		draining: make(chan struct{}),
		changed:  make(chan struct{}, 1),
		conns:    make(map[net.Conn]conn),
	}
}

// Run serves on ln until ctx is done and then stops in the order that the
// package comment gives. It closes ln in every case, returns when the stop is
// complete, and may be called once. Requests do not inherit ctx: its end begins
// the stop and cancels nothing. Handlers that the limit has cut off may still
// be running when Run returns; their connections are closed.
//
// Functions given to [http.Server.RegisterOnShutdown] are called when no
// request is in flight any more. For an earlier signal see [Server.Draining].
//
// The error is nil after a clean stop, a [*CutError] if the limit ended it,
// that of [http.Server.Serve] if it gave up on its own (what it had accepted
// is still answered), or says which options contradict each other.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	return s.run(ctx, ln, s.http.Serve)
}

// RunTLS is [Server.Run] over TLS, as [http.Server.ServeTLS] is to Serve. The
// file names may be empty if the server's TLSConfig has a certificate.
func (s *Server) RunTLS(ctx context.Context, ln net.Listener, certFile, keyFile string) error {
	return s.run(ctx, ln, func(ln net.Listener) error { return s.http.ServeTLS(ln, certFile, keyFile) })
}

func (s *Server) run(ctx context.Context, ln net.Listener, serve func(net.Listener) error) error {
	defer ln.Close()
	opts, err := s.opts.resolved()
	if err != nil {
		return err
	}
	if s.ran.Swap(true) {
		return errors.New("graceful: Run was called before; an http.Server cannot be served again")
	}
	s.install()

	served := make(chan error, 1)
	go func() { served <- serve(ln) }()
	select {
	case <-ctx.Done():
	case err = <-served:
	}

	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), opts.Timeout)
	defer cancel()
	s.leaving.Store(true)
	if err == nil {
		select {
		case <-time.After(opts.Notice):
		case err = <-served:
		}
	}
	ln.Close()
	if err == nil {
		// Wait until Serve has handed over all that it accepted: from here on
		// the connections in s.conns are all there are. Its error tells only
		// that the listener was closed.
		<-served
	}
	s.drain()
	s.wait(limit, opts.Linger)
	return errors.Join(err, s.finish(limit, opts.Timeout))
}

// InFlight returns the number of requests whose handlers are running, hijacked
// connections included.
func (s *Server) InFlight() int { return int(s.inFlight.Load()) }

// Draining returns a channel that is closed when the server has stopped to
// accept connections. A handler that lives long should return soon after that,
// telling its client to come back: the new connection reaches another server.
// (During the Notice it could come back here, so that does not count.)
//
// Server-sent events: end the response; EventSource reconnects by itself.
// WebSockets: send close code 1001, "going away" (RFC 6455, section 7.4.1).
// The stop waits for the handler of a hijacked connection as for any other, and
// closes the connection at the limit. A connection that outlives the handler
// which hijacked it is unknown to this package, as it is to net/http.
func (s *Server) Draining() <-chan struct{} { return s.draining }

// install puts the server's hooks in front of the caller's.
func (s *Server) install() {
	handler, connState, connContext := s.http.Handler, s.http.ConnState, s.http.ConnContext
	if handler == nil {
		handler = http.DefaultServeMux
	}
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.inFlight.Add(1)
		defer s.done(r)
		select {
		case <-s.draining:
			// A request to upgrade needs the Connection header for itself.
			if r.Header.Get("Upgrade") == "" {
				w.Header().Set("Connection", "close")
			}
		default:
		}
		handler.ServeHTTP(w, r)
	})
	s.http.ConnState = func(c net.Conn, state http.ConnState) {
		s.track(c, state)
		if connState != nil {
			connState(c, state)
		}
	}
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return context.WithValue(ctx, connKey{}, c)
	}
}

type connKey struct{}

// track notes the state of a connection. The handlers in flight are not enough
// to know when all is said: net/http writes the end of an answer after its
// handler has returned, and only then moves the connection out of StateActive.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	if state == http.StateClosed {
		delete(s.conns, c)
	} else {
		s.conns[c] = conn{state, time.Now()}
	}
	s.mu.Unlock()
	s.wake()
}

// done counts a request as finished. net/http never tells when a hijacked
// connection is closed, so it is forgotten here.
func (s *Server) done(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.mu.Lock()
		if s.conns[c].state == http.StateHijacked {
			delete(s.conns, c)
		}
		s.mu.Unlock()
	}
	s.inFlight.Add(-1)
	s.wake()
}

func (s *Server) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Server) drain() {
	s.mu.Lock()
	s.drained = time.Now()
	s.mu.Unlock()
	close(s.draining)
}

// wait returns when nothing is left to lose, or at the limit.
func (s *Server) wait(limit context.Context, linger time.Duration) {
	for {
		left := s.left(linger)
		if left <= 0 {
			return
		}
		select {
		case <-limit.Done():
			return
		case <-s.changed:
		case <-time.After(left):
		}
	}
}

// left returns how long to wait if nothing changes until then. Idle time counts
// from the last answer, not from the beginning of the stop: an answer that was
// begun before it does not say "Connection: close", so its client may use the
// connection again however late it came.
func (s *Server) left(linger time.Duration) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight.Load() > 0 {
		return math.MaxInt64
	}
	for _, c := range s.conns {
		switch c.state {
		case http.StateActive:
			return math.MaxInt64
		case http.StateNew, http.StateIdle:
			since := c.since
			if since.Before(s.drained) {
				since = s.drained
			}
			left = max(left, linger-time.Since(since))
		}
	}
	return left
}

// finish closes what is left. Connections that never carried a request are
// closed here, because Shutdown would wait for them. The rest is for Shutdown,
// which by now has only idle connections to close, and which sends a GOAWAY and
// waits until it can have been read; Close does not.
func (s *Server) finish(limit context.Context, timeout time.Duration) error {
	closeAll(s.in(http.StateNew))
	err := s.http.Shutdown(limit)
	if limit.Err() == nil {
		return err
	}
	cut := max(s.InFlight(), len(s.in(http.StateActive)))
	s.http.Close()
	closeAll(s.in(http.StateHijacked))
	if cut > 0 {
		return &CutError{Requests: cut, Limit: timeout}
	}
	return nil
}

func (s *Server) in(state http.ConnState) (in []net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, at := range s.conns {
		if at.state == state {
			in = append(in, c)
		}
	}
	return in
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}
