package graceful

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The tests in this file run in fake time, so what they say about the order
// and the length of a stop is exact. Shutdown looks every few milliseconds
// whether it is done, hence:
const slack = 100 * time.Millisecond

func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }

func TestStopKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Options{Notice: 5 * time.Second}, hello)
		busy, idle := r.dial(), r.dial()
		idle.get(t, "/")
		if a := busy.get(t, "/readyz"); a.status != 200 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("readyz before the stop: %+v", a)
		}

		began := time.Now()
		r.stop()
		synctest.Wait()
		if a := busy.get(t, "/readyz"); a.status != 503 || a.close {
			t.Errorf("readyz during the notice: %+v, want 503 on a connection that stays", a)
		}
		if a := r.dial().get(t, "/"); a.status != 200 || a.close {
			t.Errorf("a new connection during the notice: %+v, want to be served as before", a)
		}
		if a := busy.get(t, "/livez"); a.status != 200 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("livez during the notice: %+v", a)
		}
		select {
		case <-r.Draining():
			t.Error("Draining during the notice: clients told to reconnect would come back here")
		default:
		}

		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, err := r.ln.dial(); err != errRefused {
			t.Errorf("a new connection after the notice: %v, want refused", err)
		}
		<-r.Draining()
		if a := busy.get(t, "/"); a.status != 200 || !a.close {
			t.Errorf("a kept-alive connection while draining: %+v, want 200 and Connection: close", a)
		}
		if _, err := busy.receive(); err != io.ErrUnexpectedEOF && err != io.EOF {
			t.Errorf("after Connection: close: %v, want the end", err)
		}
		if r.over() {
			t.Error("the stop did not linger for the idle connection")
		}
		r.wantEnd(6*time.Second, slack, began, "")
		if _, err := idle.receive(); err == nil {
			t.Error("the idle connection is still open after the stop")
		}
	})
}

func TestStopWithoutConnectionsIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, hello)
		synctest.Wait()
		began := time.Now()
		r.stop()
		r.wantEnd(0, 0, began, "")
	})
}

// A balancer's spare connection has carried nothing: net/http calls it StateNew
// and Shutdown waits until it is five seconds old.
func TestUnusedConnectionDoesNotHoldTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, hello)
		r.dial()
		synctest.Wait()
		began := time.Now()
		r.stop()
		r.wantEnd(time.Second, slack, began, "")
	})
}

// Accept and Close may cross: Serve then gets a connection although the
// listener is closed, and it is as good as any.
func TestConnectionAcceptedDuringCloseIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ln := &crossingListener{memListener: listenMem(), last: theirs}
		ctx, stop := context.WithCancel(t.Context())
		end := make(chan error, 1)
		s := New(&http.Server{Handler: http.HandlerFunc(hello)}, nil)
		go func() { end <- s.Run(ctx, ln) }()
		stop()
		<-s.Draining()
		if a := strict(ours).get(t, "/"); a.status != 200 || !a.close {
			t.Errorf("got %+v, want 200 and Connection: close", a)
		}
		if err := <-end; err != nil {
			t.Error(err)
		}
	})
}

type crossingListener struct {
	*memListener
	last net.Conn
}

func (l *crossingListener) Accept() (net.Conn, error) {
	if l.last == nil {
		return l.memListener.Accept()
	}
	<-l.closed
	time.Sleep(time.Millisecond)
	c := l.last
	l.last = nil
	return c, nil
}

// A connection that was accepted just before the stop, and whose request is
// slower than that, is served like any other.
func TestUnusedConnectionIsServedWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, hello)
		c := r.dial()
		r.stop()
		time.Sleep(900 * time.Millisecond)
		if a := c.get(t, "/"); a.status != 200 || !a.close {
			t.Errorf("got %+v, want 200 and Connection: close", a)
		}
		<-r.end
	})
}

func TestRequestInFlightFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			hello(w, r)
		})
		c := r.dial()
		began := time.Now()
		if err := c.send("POST", "/", "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := r.InFlight(); n != 1 {
			t.Errorf("InFlight is %d, want 1", n)
		}
		r.stop()
		if a, err := c.receive(); err != nil || a.body != "hello" {
			t.Errorf("the request in flight got %+v, %v", a, err)
		}
		c.Close()
		r.wantEnd(10*time.Second, slack, began, "")
		if n := r.InFlight(); n != 0 {
			t.Errorf("InFlight is %d, want 0", n)
		}
	})
}

// An answer whose handler began before the stop does not say Connection: close,
// so its client may use the connection once more, however late the answer came.
func TestLateAnswerLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				time.Sleep(10 * time.Second)
			}
			hello(w, r)
		})
		c := r.dial()
		if err := c.send("POST", "/slow", "x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.stop()
		if a, err := c.receive(); err != nil || a.close {
			t.Fatalf("the slow answer: %+v, %v", a, err)
		}
		time.Sleep(500 * time.Millisecond) // less than Linger
		if a := c.get(t, "/"); a.status != 200 || !a.close {
			t.Errorf("the next request: %+v, want 200 and Connection: close", a)
		}
		if err := <-r.end; err != nil {
			t.Error(err)
		}
	})
}

// net/http writes the end of an answer after the handler has returned, so the
// handlers in flight alone do not tell when a connection may be closed.
func TestAnswerIsWrittenBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, hello)
		c := r.dial()
		if err := c.send("GET", "/", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the handler has returned, and the pipe waits for a reader
		if n := r.InFlight(); n != 0 {
			t.Fatalf("InFlight is %d, want 0", n)
		}
		r.stop()
		time.Sleep(10 * time.Second)
		if a, err := c.receive(); err != nil || a.body != "hello" {
			t.Errorf("the answer was cut off: %+v, %v", a, err)
		}
		if err := <-r.end; err != nil {
			t.Error(err)
		}
	})
}

func TestLimitCutsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := start(t, &Options{Timeout: 3 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			<-release
		})
		a, b, idle := r.dial(), r.dial(), r.dial()
		idle.get(t, "/livez")
		a.send("POST", "/", "x")
		b.send("POST", "/", "x")
		synctest.Wait()
		began := time.Now()
		r.stop()
		err := r.wantEnd(3*time.Second, slack, began, "requests cut off: 2, still unfinished at the limit of 3s")
		var cut *CutError
		if !errors.As(err, &cut) || cut.Requests != 2 || cut.Limit != 3*time.Second {
			t.Errorf("got %#v, want a CutError of 2 requests", err)
		}
		if _, err := a.receive(); err == nil {
			t.Error("the connection is open after the limit")
		}
		close(release)
	})
}

func TestHijackedConnectionEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hijacker(t, nil, func(r *run, c net.Conn) {
			<-r.Draining()
			time.Sleep(2 * time.Second)
			io.WriteString(c, "goodbye")
			c.Close()
		})
		c := r.dial()
		c.send("GET", "/", "")
		synctest.Wait()
		began := time.Now()
		r.stop()
		if got, err := io.ReadAll(c); err != nil || string(got) != "goodbye" {
			t.Errorf("the hijacked connection got %q, %v", got, err)
		}
		r.wantEnd(2*time.Second, slack, began, "")
		if len(r.conns) != 0 {
			t.Errorf("connections still known: %v", r.conns)
		}
	})
}

func TestHijackedConnectionIsCutAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hijacker(t, &Options{Timeout: 3 * time.Second}, func(_ *run, c net.Conn) {
			io.Copy(io.Discard, c) // deaf to Draining
		})
		c := r.dial()
		c.send("GET", "/", "")
		synctest.Wait()
		began := time.Now()
		r.stop()
		r.wantEnd(3*time.Second, slack, began, "requests cut off: 1,")
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the hijacked connection after the limit: %v, want EOF", err)
		}
	})
}

func hijacker(t *testing.T, opts *Options, talk func(*run, net.Conn)) *run {
	var r *run
	ready := make(chan struct{})
	r = start(t, opts, func(w http.ResponseWriter, _ *http.Request) {
		<-ready
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		talk(r, c)
	})
	close(ready)
	return r
}

// A WebSocket handshake needs the Connection header to say "Upgrade".
func TestUpgradeKeepsItsConnectionHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
		})
		c := r.dial()
		r.stop()
		<-r.Draining()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(res.Header["Connection"], ", "); got != "Upgrade" {
			t.Errorf("Connection: %s, want Upgrade", got)
		}
		c.Close()
		<-r.end
	})
}

func TestServeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			hello(w, r)
		})
		c := r.dial()
		c.send("GET", "/", "")
		synctest.Wait()
		r.ln.Close() // not by us: Accept has failed for good
		if a, err := c.receive(); err != nil || a.body != "hello" {
			t.Errorf("the request in flight got %+v, %v", a, err)
		}
		if err := <-r.end; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run returned %v, want the listener's error", err)
		}
	})
}

func TestNothingIsWrappedOrReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		states := make(chan http.ConnState, 10)
		r := startServer(t, nil, &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, flusher := w.(http.Flusher)
				_, hijacker := w.(http.Hijacker)
				_, readerFrom := w.(io.ReaderFrom)
				if !flusher || !hijacker || !readerFrom {
					t.Errorf("%T: Flusher %t, Hijacker %t, ReaderFrom %t", w, flusher, hijacker, readerFrom)
				}
				if r.Context().Value(key{}) != "mine" {
					t.Error("the caller's ConnContext was replaced")
				}
				if r.Context().Err() != nil {
					t.Error("the end of Run's context ended the request's")
				}
			}),
			ConnState: func(_ net.Conn, s http.ConnState) { states <- s },
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, key{}, "mine")
			},
		})
		c := r.dial()
		r.stop()
		c.get(t, "/")
		<-r.end
		if s := <-states; s != http.StateNew {
			t.Errorf("the caller's ConnState saw %v first, want new", s)
		}
	})
}

func TestRunRefuses(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, opts := range []Options{
		{Notice: -1}, {Linger: -1}, {Timeout: -1},
		{Notice: 24 * time.Second}, // with Linger as much as the Timeout
		{Timeout: time.Second},
	} {
		ln := listenMem()
		if err := New(&http.Server{}, &opts).Run(done, ln); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
		select {
		case <-ln.closed:
		default:
			t.Errorf("%+v: the listener was left open", opts)
		}
	}

	s := New(&http.Server{}, nil)
	if err := s.Run(done, listenMem()); err != nil {
		t.Error(err)
	}
	if err := s.Run(done, listenMem()); err == nil {
		t.Error("a second Run was accepted")
	}
}

func TestReadyzAsksCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick error
		r := start(t, &Options{Check: func(context.Context) error { return sick }}, hello)
		c := r.dial()
		if a := c.get(t, "/readyz"); a.status != 200 {
			t.Errorf("healthy: %+v", a)
		}
		sick = errors.New("secret address does not answer")
		if a := c.get(t, "/readyz"); a.status != 503 || strings.Contains(a.body, "secret") {
			t.Errorf("sick: %+v, want 503 without the reason", a)
		}
		if a := c.get(t, "/livez"); a.status != 200 {
			t.Errorf("livez while sick: %+v", a)
		}
		r.stop()
		c.Close()
		<-r.end
	})
}

const (
	preface         = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // with empty SETTINGS
	headers, goAway = 0x1, 0x7                                                                    // frame types, RFC 9113 section 6
)

// The frames are written by hand, because a client that understands GOAWAY
// would hide that it is missing.
func TestHTTP2GetsGoAway(t *testing.T) {
	// HEADERS on stream 1, END_STREAM and END_HEADERS, HPACK by static table:
	// GET, http, /, :authority t.
	request := "\x00\x00\x06\x01\x05\x00\x00\x00\x01" + "\x82\x86\x84\x41\x01t"
	for send, want := range map[string]time.Duration{
		"":      time.Second, // idle: when it has lingered
		request: 0,           // used: with the answer
	} {
		t.Run(want.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := &http.Server{Handler: http.HandlerFunc(hello), Protocols: new(http.Protocols)}
				srv.Protocols.SetUnencryptedHTTP2(true)
				r := startServer(t, nil, srv)
				c := r.dial()
				io.WriteString(c, preface)
				frames := make(chan frame, 100)
				go func() {
					defer close(frames)
					readFrames(c.r, frames)
				}()
				synctest.Wait()
				r.stop()
				<-r.Draining()
				drained := time.Now()
				io.WriteString(c, send)
				seen := map[byte]time.Duration{}
				for f := range frames { // until the end, which must come after the GOAWAY
					seen[f.kind] = f.at.Sub(drained)
				}
				at, ok := seen[goAway]
				if !ok || at > want {
					t.Errorf("frame types and times %v, want a GOAWAY (7) at %v", seen, want)
				}
				if _, ok := seen[headers]; send != "" && !ok {
					t.Errorf("frame types and times %v, want HEADERS (1): the request was lost", seen)
				}
				if err := <-r.end; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTLSStopsAlike(t *testing.T) {
	ts := httptest.NewTLSServer(nil) // for its certificate
	ts.Close()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		srv := &http.Server{Handler: http.HandlerFunc(hello), TLSConfig: &tls.Config{Certificates: ts.TLS.Certificates}}
		s, ln, end := New(srv, nil), listenMem(), make(chan error, 1)
		go func() { end <- s.RunTLS(ctx, ln, "", "") }()
		dial := func(proto string) *strictClient {
			c, err := ln.dial()
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
			if err := conn.Handshake(); err != nil || conn.ConnectionState().NegotiatedProtocol != proto {
				t.Fatalf("%s: %v, %+v", proto, err, conn.ConnectionState())
			}
			return strict(conn)
		}

		h1, h2, frames := dial("http/1.1"), dial("h2"), make(chan frame, 100)
		go func() {
			defer close(frames)
			readFrames(h2.r, frames)
		}()
		io.WriteString(h2, preface)
		h1.get(t, "/")
		stop()
		<-s.Draining()
		if a := h1.get(t, "/"); a.status != 200 || !a.close {
			t.Errorf("HTTP/1.1: %+v, want 200 and Connection: close", a)
		}
		h1.Close()
		last := byte(0)
		for f := range frames {
			last = f.kind
		}
		if last != goAway {
			t.Errorf("HTTP/2: the last frame has type %d, want GOAWAY (7)", last)
		}
		if err := <-end; err != nil {
			t.Error(err)
		}
	})
}

type frame struct {
	kind byte
	at   time.Time
}

func readFrames(r *bufio.Reader, frames chan<- frame) {
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		frames <- frame{head[3], time.Now()}
		if _, err := r.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
			return
		}
	}
}
