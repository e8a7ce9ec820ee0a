package sqlitestore

import (
	"context"
	"sync"
)

// A pool keeps connections for reading.
type pool struct {
	open   func() (*conn, error)
	tokens chan struct{} // one for each connection in use or to be opened
	closed chan struct{}

	mu   sync.Mutex
	idle []*conn // the last one used on top, whose cache is warm
}

func newPool(size int, open func() (*conn, error)) *pool {
	p := &pool{open: open, tokens: make(chan struct{}, size), closed: make(chan struct{})}
	for range size {
		p.tokens <- struct{}{}
	}
	return p
}

func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case <-p.closed:
		return nil, errClosed
	default:
	}
	select {
	case <-p.tokens:
	default:
		select {
		case <-p.tokens:
		case <-p.closed:
			return nil, errClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	var c *conn
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	if c == nil {
		var err error
		if c, err = p.open(); err != nil {
			p.tokens <- struct{}{}
			return nil, err
		}
	}
	return c, nil
}

// put gives a connection back; broken ones are closed.
func (p *pool) put(c *conn, broken bool) {
	if broken {
		c.close()
	} else {
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	}
	p.tokens <- struct{}{}
}

// close waits until all connections are back.
func (p *pool) close() {
	close(p.closed)
	for range cap(p.tokens) {
		<-p.tokens
	}
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}
