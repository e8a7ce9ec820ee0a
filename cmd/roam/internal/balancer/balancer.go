// Package balancer spreads HTTP requests over the web servers of one farm.
//
// It is the balancer inside "roam up": for development, tests, demonstrations
// and small farms on one machine. A public site is better served by HAProxy,
// nginx, Caddy or Apache, which have hardened edges and people who watch them.
//
// Start with [New], name the servers with [Balancer.Set], serve the [Balancer]
// as an [net/http.Handler], and keep [Balancer.Run] going beside it for the
// health checks:
//
//	b := balancer.New(nil)
//	b.Set("web1", "127.0.0.1:9001")
//	b.Set("web2", "127.0.0.1:9002")
//	go b.Run(ctx)
//	http.ListenAndServe(":8080", b)
//
// What it promises:
//
//   - A server that dies costs no GET, HEAD or OPTIONS request anything: such a
//     request goes to another server as long as the client has seen no part of
//     an answer.
//   - Any other request is sent to a second server only if the first provably
//     got nothing of it: the connection was refused, or the kernel took not one
//     byte. A POST that was in flight on a killed server is answered with 502,
//     counted, and never run twice. Only the application can do better, with a
//     key that makes the request safe to repeat.
//   - If no server is ready, because something that all of them need has failed,
//     the requests go to those that answer their check at all: a page that
//     needs nothing is shown as long as one server lives.
//   - After [Balancer.Drain] returns, no request is given to that server; those
//     it already has finish, and [Balancer.Empty] waits for them.
//
// What it refuses: it queues nothing, speaks only plain HTTP/1.1 to servers,
// trusts no forwarding header of a client because it takes itself to be the
// edge, and breaks off no request that a server is working on, however slow,
// other than by [Options.ResponseHeaderTimeout].
package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// ErrUnknownServer is returned by the methods that take a server's name when
// no server of that name has been set.
var ErrUnknownServer = errors.New("balancer: unknown server")

// Options configure a [Balancer]. The zero value and nil mean the defaults.
type Options struct {
	// Policy chooses the server of a request. Nil means [RoundRobin].
	// A Policy keeps state and belongs to one Balancer.
	Policy Policy

	// Logger gets changes of state and failures, never a cookie, a header or
	// a URL. Nil discards them.
	Logger *slog.Logger

	// CheckPath is what health checks GET; any 2xx answer means ready, and any
	// other that the server lives. Empty means "/readyz".
	CheckPath string

	// CheckInterval is the time between two checks of a server. Zero means
	// 200 milliseconds. One failed check takes a server down and one good
	// check brings it back: on one machine, checks do not get lost.
	CheckInterval time.Duration

	// CheckTimeout is how long a check may take. Zero means one second.
	CheckTimeout time.Duration

	// DialTimeout is how long connecting to a server may take. Zero means one
	// second, which is long on one machine, where a dead server refuses.
	DialTimeout time.Duration

	// ResponseHeaderTimeout is how long a server may take from the end of the
	// request to the first byte of its answer, and how long it may stop
	// reading a request's body. It must exceed the slowest honest page. A GET
	// then goes to another server; anything else is answered with 504. Zero
	// means 30 seconds, negative means no limit.
	ResponseHeaderTimeout time.Duration

	// BodyBuffer is how many bytes of a request's body are remembered while
	// they are sent, so that they can be sent again to another server when
	// the first took none of them. A longer body is passed on all the same;
	// it only cannot be sent twice. Zero means 1 MiB, negative means none.
	BodyBuffer int
}

// withDefaults is the one place that knows the defaults.
func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Policy == nil {
		opts.Policy = new(RoundRobin)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.CheckPath == "" {
		opts.CheckPath = "/readyz"
	}
	if opts.CheckInterval <= 0 {
		opts.CheckInterval = 200 * time.Millisecond
	}
	if opts.CheckTimeout <= 0 {
		opts.CheckTimeout = time.Second
	}
	if opts.DialTimeout <= 0 {
		opts.DialTimeout = time.Second
	}
	if opts.ResponseHeaderTimeout == 0 {
		opts.ResponseHeaderTimeout = 30 * time.Second
	}
	if opts.BodyBuffer == 0 {
		opts.BodyBuffer = 1 << 20
	}
	return opts
}

// A Balancer is an [http.Handler] that passes each request to one of its
// servers. All methods may be called at any time, concurrently.
type Balancer struct {
	opts  Options
	proxy *httputil.ReverseProxy
	wake  chan struct{} // asks Run for a round of checks now

	// mu guards everything below and the fields of every server that say so.
	// Choosing a server and counting the request in happen in one critical
	// section, and so does draining. That is what makes a drain exact: with
	// two steps, a request could be chosen before Drain and counted after
	// Empty had seen zero. The section is short and never waits for the network.
	mu      sync.Mutex
	servers []*server
	running bool // Run is checking, so that what is marked down can come back
	open    []*server
	from    []Candidate // parallel to open; both are scratch space of choose
}

// New returns a Balancer without servers. It starts nothing; see [Balancer.Run].
func New(opts *Options) *Balancer {
	b := &Balancer{
		opts: opts.withDefaults(),
		wake: make(chan struct{}, 1),
	}
	b.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      sender{b},
		ModifyResponse: b.answered,
		ErrorHandler:   answerError,
		// It would log errors that quote what a server sent; see describe.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return b
}

// Set adds a server, or changes the address ("host:port") of the one that has
// this name. The server is taken to be ready, as the caller is the one who
// knows, and Run checks it at once; a server that is draining stays so. Names
// consist of letters, digits, '.', '_' and '-', since a cookie may carry them.
func (b *Balancer) Set(name, address string) error {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return fmt.Errorf("balancer: server name %q: want letters, digits, '.', '_', '-'", name)
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return fmt.Errorf("balancer: address %q of server %s: want host:port", address, name)
	}
	b.mu.Lock()
	s := b.find(name)
	if s == nil {
		s = newServer(name, &b.opts)
		b.servers = append(b.servers, s)
	}
	s.address = address
	s.setReady(true)
	s.closeIdle() // they may lead to the old address
	b.mu.Unlock()

	b.checkSoon()
	b.opts.Logger.Info("server set", "server", name, "address", address)
	return nil
}

// Remove forgets a server. Its requests in flight finish, but nobody can wait
// for them any more: to lose none, call Drain and Empty before.
func (b *Balancer) Remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.servers {
		if s.name == name {
			b.servers = append(b.servers[:i:i], b.servers[i+1:]...)
			s.removed = true
			s.closeIdle()
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrUnknownServer, name)
}

// find returns the server of that name or nil. The caller holds mu.
func (b *Balancer) find(name string) *server {
	for _, s := range b.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

// ServeHTTP passes the request to a server and its answer back. With no server
// it answers 503 with Retry-After, for one that broke 502, for one that was
// too slow 504; see [Options.ResponseHeaderTimeout].
func (b *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		answer(w, http.StatusMethodNotAllowed, "This is a web site, not a proxy.\n")
		return
	}
	ex := &exchange{in: r, safe: isSafe(r.Method)}
	defer b.done(ex) // also when ReverseProxy panics because an answer was cut off
	b.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex)))
}

// isSafe reports whether a request may be sent again after a server has seen
// it, RFC 9110 section 9.2.1. TRACE is safe too, but nobody misses it here.
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// rewrite makes the request for a server out of the client's. The server's
// address comes later, see sender, because it differs from try to try.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme = "http"
	pr.Out.Host = pr.In.Host

	// ReverseProxy drops query parameters that Go cannot parse, against proxies
	// that decide by them. This one does not look at them.
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery

	for key := range pr.Out.Header {
		// CGI and its heirs read X_Forwarded_For as X-Forwarded-For.
		name := http.CanonicalHeaderKey(strings.ReplaceAll(key, "_", "-"))
		if name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			delete(pr.Out.Header, key)
		}
	}
	pr.SetXForwarded()

	// http.Transport takes these two headers for the permission to send a POST
	// without a body again by itself, also after the server has seen it. The
	// client's wish is not the application's promise. The Transport looks only
	// for the canonical spelling; to servers all spellings are the same.
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := pr.Out.Header[key]; ok {
			delete(pr.Out.Header, key)
			pr.Out.Header[strings.ToLower(key)] = v
		}
	}
}
