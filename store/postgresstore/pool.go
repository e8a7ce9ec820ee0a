package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	maxAge  = 30 * time.Minute // of a connection; what a backend remembers grows
	maxIdle = 5 * time.Minute
	respite = 100 * time.Millisecond // after a connection that could not be opened
)

// A pool keeps connections to one host. It differs from pgxpool in what happens
// when a server stops answering: there, whoever gave up waiting for an answer
// left a place taken for up to 15 seconds, or, once that was over, a backend on
// the server that nobody counts any more. Here a place stays taken until the
// server has hung up or the host is given up, and then at once; and writes
// never take all the places, so that a standby that is missing, for which every
// write waits, does not stop reading.
type pool struct {
	dial   func(context.Context) (*conn, error)
	max    int
	writes chan struct{} // one for each write that may have a place

	ctx    context.Context // of opening connections
	cancel context.CancelFunc

	mu      sync.Mutex
	idle    []*conn            // the last one used on top, so that the others grow old
	open    map[*conn]struct{} // all that are connected
	opening int
	stuck   int // writes without an answer
	waiting []chan handed
	failed  time.Time // when opening failed last
	err     error     // then
	stale   time.Time // connections from before may be dead
	closed  error     // why, if it is

	done sync.WaitGroup // what runs in the background
}

// handed is what somebody who waits gets.
type handed struct {
	c   *conn
	err error
}

func newPool(max int, dial func(context.Context) (*conn, error)) *pool {
	p := &pool{dial: dial, max: max, open: make(map[*conn]struct{})}
	p.writes = make(chan struct{}, max-max/4)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// get returns a connection, which must be given back by put, drop or leave. An
// error says that there is none to be had in time.
func (p *pool) get(ctx context.Context, deadline time.Time, write bool) (*conn, error) {
	if write {
		select {
		case p.writes <- struct{}{}:
		default:
			if err := p.turn(ctx, deadline); err != nil {
				return nil, err
			}
		}
	}
	c, err := p.take(ctx, deadline, write)
	switch {
	case c != nil:
		c.writes = write
	case write:
		<-p.writes
	}
	return c, err
}

// turn waits until there may be one more write.
func (p *pool) turn(ctx context.Context, deadline time.Time) error {
	p.mu.Lock()
	closed, stuck := p.closed, p.stuck
	p.mu.Unlock()
	switch {
	case closed != nil:
		return closed
	case stuck == cap(p.writes):
		return fmt.Errorf("%w: %d of %d connections", errStuck, stuck, p.max)
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case p.writes <- struct{}{}:
		return nil
	case <-p.ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stuck > 0 {
			return fmt.Errorf("%w: %d of %d connections", errStuck, p.stuck, p.max)
		}
		return fmt.Errorf("%w while waiting behind other writes", context.DeadlineExceeded)
	}
}

// returned says that a connection is no longer a write's.
func (p *pool) returned(c *conn) {
	if c.writes {
		c.writes = false
		<-p.writes
	}
}

func (p *pool) take(ctx context.Context, deadline time.Time, write bool) (*conn, error) {
	p.mu.Lock()
	if p.closed != nil {
		p.mu.Unlock()
		return nil, p.closed
	}
	if stuck := p.stuck; write && stuck > 0 && stuck >= cap(p.writes)/2 {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %d of %d connections", errStuck, stuck, p.max)
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if !p.old(c) {
			p.mu.Unlock()
			return c, nil
		}
		p.remove(c)
		p.background(c.quit)
	}
	w := make(chan handed, 1)
	p.waiting = append(p.waiting, w)
	p.enough()
	p.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case h := <-w:
		return h.c, h.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = context.DeadlineExceeded
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	total, failed, stuck := len(p.open)+p.opening, p.err, p.stuck
	p.mu.Unlock()
	if i < 0 { // it came after all
		if h := <-w; h.c != nil {
			return h.c, nil
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w while waiting for one of %d connections", err, total)
		if stuck > 0 {
			err = fmt.Errorf("%w, %d of which wait for an answer since long", err, stuck)
		}
	}
	if failed != nil {
		err = fmt.Errorf("%w (the last one to be opened failed: %w)", err, failed)
	}
	return nil, err
}

// enough opens connections for those who wait, as many as are allowed.
func (p *pool) enough() {
	if p.closed != nil || time.Since(p.failed) < respite && len(p.open) > 0 {
		return
	}
	for p.opening < len(p.waiting) && len(p.open)+p.opening < p.max {
		p.opening++
		p.done.Go(p.more)
	}
}

// more opens one connection. It goes on when the caller it is for gives up: on
// a slow network nobody would ever have one otherwise.
func (p *pool) more() {
	c, err := p.dial(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	if p.err = err; err != nil {
		p.failed = time.Now()
		if len(p.open)+p.opening == 0 { // nobody else will have one to hand on
			for _, w := range p.waiting {
				w <- handed{err: err}
			}
			p.waiting = nil
		}
		return
	}
	if p.closed != nil {
		c.close()
		return
	}
	p.open[c] = struct{}{}
	p.give(c)
}

// give hands a connection to who waits longest, or keeps it.
func (p *pool) give(c *conn) {
	if len(p.waiting) == 0 {
		p.idle = append(p.idle, c)
		return
	}
	p.waiting[0] <- handed{c: c}
	p.waiting = slices.Delete(p.waiting, 0, 1)
}

// put gives a connection back that can be used again.
func (p *pool) put(c *conn) {
	c.used = time.Now()
	p.returned(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed != nil:
		delete(p.open, c)
		c.close()
	case p.old(c):
		p.remove(c)
		p.background(c.quit)
	default:
		p.give(c)
	}
}

// old reports whether a connection is not to be used again.
func (p *pool) old(c *conn) bool { return time.Since(c.born) > maxAge || c.born.Before(p.stale) }

// remove forgets a connection, and opens another one if somebody waits.
func (p *pool) remove(c *conn) {
	delete(p.open, c)
	p.enough()
}

// drop gives a connection back that is of no use.
func (p *pool) drop(c *conn) {
	c.close()
	p.returned(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(c)
}

// leave gives a connection back on which the server still has something to
// answer. Its place is free when the server has hung up.
func (p *pool) leave(c *conn) {
	write := c.writes
	s := c.sock.Load()
	s.left.Store(true)
	s.Conn.SetDeadline(time.Time{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		c.close()
		p.returned(c)
		return
	}
	if write {
		p.stuck++
	}
	p.background(func() {
		<-c.pg.CleanupDone()
		c.close()
		p.returned(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		if write {
			p.stuck--
		}
		p.remove(c)
	})
}

// background runs what nobody should wait for. The pool is locked and open.
func (p *pool) background(do func()) { p.done.Go(do) }

// refresh is called when a connection broke: something has happened to the
// server or to the network, and the others of its age are as dead.
func (p *pool) refresh(broken *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if broken.born.Before(p.stale) {
		return
	}
	p.stale = time.Now()
	for _, c := range p.idle {
		delete(p.open, c)
		c.close()
	}
	p.idle = nil
	p.enough()
}

// trim closes connections that were not used for long.
func (p *pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].used) > maxIdle {
		delete(p.open, p.idle[n])
		p.background(p.idle[n].quit)
		n++
	}
	p.idle = slices.Delete(p.idle, 0, n)
}

// close ends the use of the host. Whoever waits gets why; calls that are under
// way end at once, because their connections are closed under them.
func (p *pool) close(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return
	}
	p.closed = why
	p.cancel()
	for _, w := range p.waiting {
		w <- handed{err: why}
	}
	p.waiting = nil
	for c := range p.open {
		c.close()
	}
	p.idle = nil
}

// drain lets nobody in any more and waits for calls that are under way, until
// the deadline.
func (p *pool) drain(why error, deadline time.Time) {
	for {
		p.mu.Lock()
		busy := len(p.open) - len(p.idle) - p.stuck
		waits := len(p.waiting)
		p.mu.Unlock()
		if busy+waits <= 0 || !time.Now().Before(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	for _, c := range idle {
		delete(p.open, c)
		c.quit()
	}
	p.mu.Unlock()
	p.close(why)
	p.done.Wait()
}
