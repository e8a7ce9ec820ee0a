package servers

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// A Server is one server, of whatever kind: a process that listens on an
// address of its own, with all that it forks. Its methods may be called from any
// goroutine.
type Server struct {
	name  string // for errors: "PostgreSQL primary"
	addr  string // "127.0.0.1:15432", for as long as it exists
	group *supervisor
	spec  spec
	leave syscall.Signal // the planned stop

	ready   func(ctx context.Context, pid int) bool // whether pid, and no other, takes connections
	cleared func()                                  // after Kill; nil is nothing to do

	mu      sync.Mutex
	process *process // the last one started
}

// Addr returns the host and port that the server listens on. It stays the same
// over Kill, Shutdown and Start.
func (s *Server) Addr() string { return s.addr }

// String returns what the server is and where.
func (s *Server) String() string { return s.name + " at " + s.addr }

// alive returns the running process.
func (s *Server) alive() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil, fmt.Errorf("%v is not running; start it first", s)
	}
	return s.process, nil
}

// Start starts a server that was killed or shut down and waits until it takes
// connections. If it fails to, the error has the end of its log.
func (s *Server) Start(ctx context.Context) error {
	p, err := s.launch()
	if err != nil {
		return err
	}
	// A question is not worth waiting for when there is nobody left to answer it.
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-asking.Done():
		}
	}()
	for !s.ready(asking, p.pid) {
		select {
		case <-p.done:
			return fmt.Errorf("starting %v: %s; the end of its log:\n%s", s, p.status, lastLines(s.spec.Log))
		case <-ctx.Done():
			kill(p.pid)
			<-p.done
			return fmt.Errorf("starting %v: %w; the end of its log:\n%s", s, ctx.Err(), lastLines(s.spec.Log))
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// launch starts the process, of which there is one at a time.
func (s *Server) launch() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return nil, fmt.Errorf("%v is running already; shut it down or kill it first", s)
	}
	p, err := s.group.start(s.spec)
	if err != nil {
		return nil, fmt.Errorf("starting %v: %w", s, err)
	}
	s.process = p
	return p, nil
}

// running tells whether the process runs; s.mu is held.
func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.done:
		return false
	default:
		return true
	}
}

// Kill is kill -9 of the server and everything it has forked, at one stroke,
// and returns when nothing of it runs. A frozen server can be killed too. What the
// server has written is in the hands of the kernel and survives; what it has
// not is lost, as in a crash.
func (s *Server) Kill() error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	kill(p.pid)
	<-p.done
	if s.cleared != nil {
		s.cleared()
	}
	return nil
}

// Freeze stops the server and everything it has forked with SIGSTOP, and returns
// when nothing of it runs. Its connections stay open and the kernel still accepts
// new ones for it, so that nobody gets an error and nobody an answer: a virtual
// machine that hangs, a disk that does not answer.
func (s *Server) Freeze() error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	freeze(p.pid)
	return nil
}

// Thaw lets a frozen server go on as if nothing had been.
func (s *Server) Thaw() error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	thaw(p.pid)
	return nil
}

// Shutdown stops the server in good order and returns when it has ended. Open
// connections are closed. A frozen server ends only after Thaw; if ctx ends
// first, the order stands and Shutdown returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	if err := signalProcess(p.pid, s.leave); err != nil {
		return fmt.Errorf("shutting down %v: %w", s, err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shutting down %v: %w; the end of its log:\n%s", s, ctx.Err(), lastLines(s.spec.Log))
	}
}

// Restart is a planned restart: Shutdown and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Shutdown(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Log returns the end of the server's log, for the message of a test that failed.
func (s *Server) Log() string { return lastLines(s.spec.Log) }
