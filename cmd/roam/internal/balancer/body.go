package balancer

import (
	"errors"
	"io"
	"sync"
)

// A replay is the body of a client's request that can be sent more than once.
// It reads from the client only what a server is being sent, and remembers that
// up to a limit: a body of which no server took a byte is still there to be
// sent to the next. A body above the limit streams through, once.
type replay struct {
	src   io.Reader
	limit int

	mu      sync.Mutex
	kept    []byte
	over    bool  // more was read than kept
	err     error // the client's, io.EOF included
	open    *replayReader
	reading bool // a Read from the client is going on
}

// newReplay returns nil for a request without a body.
func newReplay(body io.ReadCloser, limit int) *replay {
	if body == nil {
		return nil
	}
	return &replay{src: body, limit: max(limit, 0)}
}

// reader returns the body from its start, for one try.
func (p *replay) reader() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = &replayReader{p: p}
	return p.open
}

// rewindable reports whether the body can be sent from its start again. It
// cannot while a Transport has not let go of it, which a Transport may do later
// than it returns an error, though not when it wrote nothing.
func (p *replay) rewindable() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open == nil && !p.reading && !p.over
}

// broken reports whether the client's body could not be read.
func (p *replay) broken() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil && p.err != io.EOF
}

// A replayReader is the body as one try sees it.
type replayReader struct {
	p   *replay
	off int
}

var errBodyClosed = errors.New("balancer: body is closed")

func (r *replayReader) Read(b []byte) (int, error) {
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != r {
		return 0, errBodyClosed
	}
	if r.off < len(p.kept) {
		n := copy(b, p.kept[r.off:])
		r.off += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	p.reading = true
	p.mu.Unlock()
	n, err := p.src.Read(b) // may wait for the client
	p.mu.Lock()
	p.reading = false
	p.err = err
	r.off += n
	if p.over = p.over || len(p.kept)+n > p.limit; p.over {
		p.kept = nil
	} else {
		p.kept = append(p.kept, b[:n]...)
	}
	return n, err
}

func (r *replayReader) Close() error {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.p.open == r {
		r.p.open = nil
	}
	return nil
}
