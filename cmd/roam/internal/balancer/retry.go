package balancer

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync/atomic"
)

// An exchange is one request of a client, over all its tries.
type exchange struct {
	in   *http.Request
	safe bool
	held *grant // the server that is working on it, or nil

	// hinted is set when the client was sent a 1xx answer. From then on it
	// has heard from that server, and no other may answer.
	hinted atomic.Bool
}

type exchangeKey struct{}

// done counts the request out after the last byte of its answer.
func (b *Balancer) done(ex *exchange) {
	if ex.held == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.release(ex, ex.held.server)
}

// sender is the transport of the ReverseProxy: it chooses a server, sends the
// request, and takes it to another server when that is safe.
//
// Beneath it, each server's http.Transport repeats some requests by itself, on
// the same server, when a connection that it had kept turns out to be dead:
// one of which nothing was written, if it has no body; and a GET, HEAD,
// OPTIONS or TRACE without a body of which no answer was seen. It takes an
// Idempotency-Key header for a permission too, which rewrite prevents. It never
// repeats a request with a body here, as that needs Request.GetBody, nor any
// request on a new connection. So all that it repeats is safe by the rule of
// this package.
type sender struct{ b *Balancer }

// RoundTrip implements [http.RoundTripper].
func (t sender) RoundTrip(out *http.Request) (*http.Response, error) {
	b := t.b
	ex := out.Context().Value(exchangeKey{}).(*exchange)
	body := newReplay(out.Body, b.opts.BodyBuffer)

	b.mu.Lock()
	ex.held = b.choose(ex, nil)
	b.mu.Unlock()

	var (
		tried []*server
		stale int
		heard error // the last failure of a server that got something of the request
	)
	for ex.held != nil {
		try := &try{ex: ex}
		res, err := try.send(out, body)
		if err == nil {
			return res, nil
		}
		f := failure{
			err:     err,
			reached: try.reached(),
			client:  out.Context().Err() != nil || body.broken(),
		}
		f.again = !f.client && (!f.reached || ex.safe && !ex.hinted.Load()) && body.rewindable()
		if f.again && !f.reached && try.reused && stale < maxIdle {
			// The server closed a connection that was kept, as it may at any
			// time. That says nothing about the server, so it is asked again,
			// until a connection is alive or new.
			stale++
			continue
		}
		tried = append(tried, ex.held.server)
		b.failed(ex, f, tried)
		switch {
		case body.broken():
			return nil, errBadBody
		case !f.again && f.reached, f.client:
			return nil, err
		case f.reached:
			heard = err
		}
	}
	return nil, cmp.Or(heard, errNoServer)
}

// A failure is how one try ended.
type failure struct {
	err     error
	reached bool // the server may have got something of the request
	client  bool // the client went away, or its body could not be read
	again   bool // the request may be sent to another server
}

// failed counts the request out of the server that failed it and, if it may be
// sent again, into another one, which ex then holds.
func (b *Balancer) failed(ex *exchange, f failure, tried []*server) {
	g := ex.held
	s := g.server
	b.mu.Lock()
	b.release(ex, s)
	ex.held = nil
	if f.client {
		b.mu.Unlock()
		return
	}
	s.lastError = describe(f.err)
	// A slow answer is not a broken connection: it is for the checks to find
	// out whether the server hangs or the page is slow.
	down := (!f.reached || !isTimeout(f.err)) && b.suspect(g, !f.reached)
	if f.again {
		ex.held = b.choose(ex, tried)
	}
	if ex.held != nil {
		s.retriedAway++
	} else {
		s.failed++
	}
	b.mu.Unlock()

	log := b.opts.Logger.With("server", s.name, "method", ex.in.Method, "error", describe(f.err))
	if down {
		log.Warn("server down")
	}
	if ex.held != nil {
		log.Debug("request retried", "on", ex.held.server.name)
	} else {
		log.Warn("request failed")
	}
}

// A try is one request sent to one server.
type try struct {
	ex     *exchange
	conn   *conn // nil while there is no connection
	start  int64 // conn.written before the request
	reused bool
	before bool // an earlier connection of this try took bytes
}

// send sends the request to the server that the exchange holds.
func (t *try) send(out *http.Request, body *replay) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			// More than once if the Transport repeats the request.
			t.before = t.reached()
			t.conn = info.Conn.(*conn)
			t.start = t.conn.written.Load()
			t.reused = info.Reused
			t.conn.first.Store(true)
		},
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			t.ex.hinted.Store(true)
			return nil
		},
	}
	req := out.WithContext(httptrace.WithClientTrace(out.Context(), trace))
	req.URL = new(url.URL)
	*req.URL = *out.URL
	req.URL.Host = t.ex.held.address
	if body != nil {
		req.Body = body.reader()
	}
	res, err := t.ex.held.server.transport.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		t.conn.upgraded()
	}
	return res, err
}

// reached reports whether the server may have got something of the request:
// whether the kernel took a byte of it. What httptrace calls written may still
// be in a buffer, and a request would be given up that nobody has seen. The
// Transport returns an error only after it has stopped writing.
func (t *try) reached() bool {
	return t.before || t.conn != nil && t.conn.written.Load() != t.start
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// describe makes an error fit for logs and Status. Errors about a malformed
// answer quote it, and with it perhaps a cookie, so only known ones are shown.
func describe(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op.Error()
	case isTimeout(err):
		return "no answer in time"
	}
	return "connection broke before the answer was complete"
}
