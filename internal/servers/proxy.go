package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A Proxy is the network before a server: what connects to it is connected to
// the target, as long as it is told nothing else. It runs in this process and
// knows no protocol. Its methods may be called from any goroutine, and hold for
// everything that is sent after they have returned.
type Proxy struct {
	target, addr string

	mu      sync.Mutex
	ln      net.Listener // nil while connections are refused
	state   conditions
	changed chan struct{} // closed when they change
	links   map[*link]bool
	stopped bool

	wg sync.WaitGroup
}

// Conditions are what happens to what is sent.
type conditions struct {
	cut         bool          // nothing gets through
	dropAnswers bool          // answers are lost
	slow        time.Duration // answers are late
}

// StartProxy starts a proxy before the server at target, "127.0.0.1:5432" say,
// which need not be there yet.
func StartProxy(target string) (*Proxy, error) {
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, fmt.Errorf("a proxy to %q: the target has to be host:port: %w", target, err)
	}
	p := &Proxy{target: target, changed: make(chan struct{}), links: make(map[*link]bool)}
	err := onFreeAddress(func(addr string) error {
		p.addr = addr
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.listen()
	})
	if err != nil {
		return nil, fmt.Errorf("a proxy to %s: %w", target, err)
	}
	return p, nil
}

// Addr returns the host and port that the proxy listens on. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// String returns what stands where before what.
func (p *Proxy) String() string { return "proxy at " + p.addr + " before " + p.target }

// Cut lets nothing through in either direction. Connections stay open, what is
// sent into them waits, and new ones get no answer: a cable that was pulled out.
// Restore lets through what waits, as TCP would send it again.
func (p *Proxy) Cut() { p.set(conditions{cut: true}) }

// Slow delays everything that the target answers by d. It replaces what was set
// before; the connections stay.
func (p *Proxy) Slow(d time.Duration) { p.set(conditions{slow: d}) }

// DropAnswers lets requests through and loses the answers, so that a commit has
// happened and its client cannot know. A connection that has lost something
// never gets another byte; it stays open, until Reset or whatever is set next ends it.
func (p *Proxy) DropAnswers() { p.set(conditions{dropAnswers: true}) }

// Reset ends every connection with a TCP reset. New ones find what was set before.
func (p *Proxy) Reset() {
	for _, l := range p.open() {
		l.reset()
	}
}

// Refuse closes every connection and refuses new ones, like a machine that runs
// and a server on it that does not.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	ln := p.ln
	p.ln = nil
	p.mu.Unlock()
	if ln != nil {
		ln.Close()
	}
	for _, l := range p.open() {
		l.close()
	}
}

// Restore makes the network whole again. It fails only if, after Refuse, another
// process has taken the address.
func (p *Proxy) Restore() error {
	p.set(conditions{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		return nil
	}
	if p.stopped {
		return fmt.Errorf("the proxy at %s was stopped; start a new one", p.addr)
	}
	return p.listen()
}

// Stop closes everything and returns when nothing of the proxy runs. It may be
// called more than once.
func (p *Proxy) Stop() {
	p.mu.Lock()
	first := !p.stopped
	p.stopped = true
	p.mu.Unlock()
	p.Refuse()
	p.wg.Wait()
	if first {
		giveBack(p.addr)
	}
}

func (p *Proxy) set(c conditions) {
	p.mu.Lock()
	p.state = c
	close(p.changed)
	p.changed = make(chan struct{})
	var damaged []*link
	for l := range p.links {
		if l.damaged {
			damaged = append(damaged, l)
		}
	}
	p.mu.Unlock()
	for _, l := range damaged {
		l.close()
	}
}

// observe returns the conditions and a channel that is closed when they change. An
// answer that comes when answers are lost is noted under the same lock, so that
// whoever changes the conditions next finds the connection among the damaged.
func (p *Proxy) observe(l *link, answer bool) (c conditions, changed <-chan struct{}, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if answer && p.state.dropAnswers {
		l.damaged = true
	}
	return p.state, p.changed, answer && l.damaged
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// listen opens the address; p.mu is held.
func (p *Proxy) listen() error {
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.ln = ln
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(5 * time.Millisecond) // out of file descriptors, say
			continue
		}
		p.mu.Lock()
		if p.ln != ln { // refused in the meantime
			p.mu.Unlock()
			client.Close()
			return
		}
		l := &link{proxy: p, client: client}
		l.ctx, l.cancel = context.WithCancel(context.Background())
		p.links[l] = true
		p.wg.Go(l.run)
		p.mu.Unlock()
	}
}

// A link is one connection through the proxy.
type link struct {
	proxy   *Proxy
	client  net.Conn
	ctx     context.Context // ends with it
	cancel  context.CancelFunc
	damaged bool // it has lost an answer; guarded by proxy.mu

	mu     sync.Mutex
	server net.Conn // nil until connected
}

// A chunk is some bytes on their way, or with none the end of their direction.
type chunk struct {
	data []byte
	at   time.Time
}

func (l *link) run() {
	defer func() {
		l.close()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	if !l.pass(chunk{}, false) { // not connected, so the target does not learn of it
		return
	}
	var d net.Dialer
	server, err := d.DialContext(l.ctx, "tcp", l.proxy.target)
	if err != nil {
		return
	}
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	if l.ctx.Err() != nil { // closed in the meantime, and may not have seen server
		server.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.carry(server, l.client, false) })
	wg.Go(func() { l.carry(l.client, server, true) })
	wg.Wait()
}

// carry carries one direction to its end. Reading and writing are apart, so that
// what arrives together is late together and the delay costs no throughput.
func (l *link) carry(dst, src net.Conn, answers bool) {
	// As much as may be on its way; then, as with a full socket, the sender waits.
	way := make(chan chunk, 256)
	var broken bool // by a reset, say
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(way)
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case way <- chunk{append([]byte(nil), buf[:n]...), time.Now()}:
				case <-l.ctx.Done():
					return
				}
			}
			if err != nil {
				broken = err != io.EOF
				return
			}
		}
	})
	defer wg.Wait()
	for c := range way {
		if !l.pass(c, answers) {
			continue
		}
		if _, err := dst.Write(c.data); err != nil {
			l.close()
			return
		}
	}
	// The end of the sending waits its turn, like all that was sent.
	switch {
	case !l.pass(chunk{at: time.Now()}, answers):
	case broken:
		l.close()
	default:
		dst.(*net.TCPConn).CloseWrite()
	}
}

// pass waits until c may go on, and tells whether it does.
func (l *link) pass(c chunk, answer bool) bool {
	for {
		now, changed, lost := l.proxy.observe(l, answer)
		var late <-chan time.Time
		switch {
		case lost:
			return false
		case now.cut:
		case answer && time.Since(c.at) < now.slow:
			late = time.After(time.Until(c.at.Add(now.slow)))
		default:
			return l.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-late:
		case <-l.ctx.Done():
			return false
		}
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

// reset is close with a TCP reset instead of a goodbye.
func (l *link) reset() {
	l.mu.Lock()
	l.client.(*net.TCPConn).SetLinger(0)
	if l.server != nil {
		l.server.(*net.TCPConn).SetLinger(0)
	}
	l.mu.Unlock()
	l.close()
}
