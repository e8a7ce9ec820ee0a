package balancer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// vanish reads a request and breaks the connection, as a killed process does.
func vanish(seen *atomic.Int64) func(net.Conn, *http.Request, *bufio.Reader) bool {
	return func(_ net.Conn, req *http.Request, _ *bufio.Reader) bool {
		io.Copy(io.Discard, req.Body)
		seen.Add(1)
		return false
	}
}

// What is safe goes from server to server; what is not is seen by one.
func TestBrokenServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, body string
		seen         int64
	}{
		{"GET", "", 3},
		{"HEAD", "", 3},
		{"OPTIONS", "", 3},
		{"POST", "x", 1},
		{"POST", "", 1},
		{"PUT", "x", 1},
		{"DELETE", "", 1},
		{"PATCH", "x", 1},
	} {
		t.Run(test.method+test.body, func(t *testing.T) {
			t.Parallel()
			b, address := startUnchecked(t, nil)
			var seen atomic.Int64
			for i := range 3 {
				rawBackend(t, b, fmt.Sprintf("web%d", i), vanish(&seen))
			}
			ans := newClient(t, address).do(502, test.method, "/", test.body)
			if n := seen.Load(); n != test.seen {
				t.Errorf("%d servers saw the request, want %d", n, test.seen)
			}
			if cc := ans.header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("Cache-Control: %q", cc)
			}
			var failed, away uint64
			for _, s := range b.Status() {
				failed += s.Failed
				away += s.RetriedAway
			}
			if failed != 1 || away != uint64(test.seen-1) {
				t.Errorf("failed %d, retried away %d, want 1 and %d", failed, away, test.seen-1)
			}
		})
	}
}

// The header promises nothing about the application, though http.Transport
// believes it: on a kept connection it would send the request again by itself.
func TestIdempotencyKeyIsNoPermission(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Idempotency-Key: 1", "X-Idempotency-Key: 1"} {
		b, address := startUnchecked(t, nil)
		var executed atomic.Int64
		rawBackend(t, b, "web1", func(c net.Conn, req *http.Request, _ *bufio.Reader) bool {
			if req.Method == "GET" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return true
			}
			name, want, _ := strings.Cut(header, ": ")
			if got := req.Header.Get(name); got != want {
				t.Errorf("%s: %q arrived, want %q", name, got, want)
			}
			executed.Add(1)
			return false
		})
		c := newClient(t, address)
		c.do(200, "GET", "/", "") // makes the connection a kept one
		c.do(502, "POST", "/", "", header)
		if n := executed.Load(); n != 1 {
			t.Errorf("executed %d times", n)
		}
	}
}

// A refused connection took nothing, so the request goes on whatever it is.
// Nothing was read from the client either, so it may be of any size.
func TestRefused(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	set(t, b, "web1", closedAddress(t))
	set(t, b, "web2", closedAddress(t))
	backend(t, b, "web3", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})
	for _, size := range []int{0, 1, 100_000, 2 << 20} {
		body := strings.Repeat("roam", size/4)
		want := fmt.Sprintf("%d %x %v", len(body), sha256.Sum256([]byte(body)), nil)
		for range 3 { // each server has its turn to be first
			if ans := newClient(t, address).do(200, "POST", "/", body); ans.body != want {
				t.Errorf("arrived: %s, want %s", ans.body, want)
			}
		}
	}
	if s := statusOf(t, b, "web1"); s.RetriedAway == 0 || s.Failed != 0 || !strings.Contains(s.LastError, "refused") {
		t.Errorf("status of a dead server: %+v", s)
	}
}

// A server may close a kept connection at any time. A POST that finds it closed
// goes to the same server by a new one, once.
func TestKeptConnectionClosed(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	var executed atomic.Int64
	closed := make(chan bool, 1)
	rawBackend(t, b, "web1", func(c net.Conn, req *http.Request, _ *bufio.Reader) bool {
		n, _ := io.Copy(io.Discard, req.Body)
		executed.Add(1)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		c.Close()
		closed <- true
		return false
	})
	c := newClient(t, address)
	const posts = 50
	for range posts {
		if ans := c.do(200, "POST", "/", "12345"); ans.body != "5" {
			t.Errorf("the server read %s bytes, want 5", ans.body)
		}
		<-closed
	}
	if n := executed.Load(); n != posts {
		t.Errorf("%d requests executed, want %d", n, posts)
	}
	if s := statusOf(t, b, "web1"); s.Failed != 0 || s.Requests != posts {
		t.Errorf("status: %+v", s)
	}
}

// Once the client has heard from a server, no other server may answer.
func TestNoRetryAfterAnEarlyHint(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	var seen atomic.Int64
	for _, name := range []string{"web1", "web2"} {
		rawBackend(t, b, name, func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
			seen.Add(1)
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
			return false
		})
	}
	c := newClient(t, address)
	c.do(103, "GET", "/", "")
	if ans, err := c.read("GET"); err != nil || ans.status != 502 {
		t.Errorf("after the hint: %v, error %v", ans, err)
	}
	if n := seen.Load(); n != 1 {
		t.Errorf("%d servers saw the request", n)
	}
}

// A broken answer is passed on as broken: the client must not take it for whole.
func TestAnswerCutOff(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	var seen atomic.Int64
	for _, name := range []string{"web1", "web2"} {
		rawBackend(t, b, name, func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
			seen.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			return false
		})
	}
	if ans, err := newClient(t, address).try("GET", "/", ""); err == nil {
		t.Errorf("a truncated answer looks whole: %+v", ans)
	}
	if n := seen.Load(); n != 1 {
		t.Errorf("%d servers saw the request", n)
	}
	eventually(t, "counted", func() bool {
		return statusOf(t, b, "web1").Failed+statusOf(t, b, "web2").Failed == 1
	})
}

// A GET may have a body. It is sent again if it was kept, and not if not.
func TestSafeWithBody(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ buffer, status int }{{100, 200}, {99, 502}, {-1, 502}} {
		b, address := startUnchecked(t, &Options{BodyBuffer: test.buffer})
		var seen atomic.Int64
		rawBackend(t, b, "web1", vanish(&seen))
		body := strings.Repeat("b", 100)
		backend(t, b, "web2", func(w http.ResponseWriter, r *http.Request) {
			if got, err := io.ReadAll(r.Body); string(got) != body || err != nil {
				t.Errorf("body %q, error %v", got, err)
			}
		})
		newClient(t, address).do(test.status, "GET", "/", body)
		if n := seen.Load(); n != 1 {
			t.Errorf("seen %d times by the broken server", n)
		}
	}
}

// A client that breaks off its own request is no failure of the server.
func TestUnreadableBody(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"malformed": "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"truncated": "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100\r\n\r\nfirst",
		"in GET":    "GET / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100\r\n\r\nfirst",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, address := start(t, patient())
			for _, name := range []string{"web1", "web2"} {
				backend(t, b, name, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
			}
			c := newClient(t, address)
			if err := c.dial(); err != nil {
				t.Fatal(err)
			}
			io.WriteString(c.conn, request)
			c.conn.(*net.TCPConn).CloseWrite()
			if ans, err := c.read("POST"); err != nil || ans.status != 400 {
				t.Errorf("%+v, error %v", ans, err)
			}
			var requests uint64
			for _, s := range b.Status() {
				if s.State != Up || s.Failed != 0 || s.LastError != "" {
					t.Errorf("a bad client changed a server: %+v", s)
				}
				requests += s.Requests
			}
			if requests != 1 {
				t.Errorf("%d servers were asked", requests)
			}
		})
	}
}

// A client that goes away is no failure of the server, and is not retried.
func TestClientGone(t *testing.T) {
	t.Parallel()
	b, address := start(t, patient())
	inside := make(chan bool, 10)
	for _, name := range []string{"web1", "web2"} {
		backend(t, b, name, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				inside <- true
				<-r.Context().Done()
			}
		})
	}
	c := newClient(t, address)
	if err := c.dial(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	<-inside
	c.close()
	eventually(t, "counted out", func() bool {
		return statusOf(t, b, "web1").InFlight+statusOf(t, b, "web2").InFlight == 0
	})
	for _, s := range b.Status() {
		if s.State != Up || s.Failed != 0 || s.RetriedAway != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// A server that stops reading a long body is too slow, like one that does not answer.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, &Options{ResponseHeaderTimeout: 100 * time.Millisecond})
	release := make(chan struct{})
	rawBackend(t, b, "web1", func(net.Conn, *http.Request, *bufio.Reader) bool { <-release; return false })
	defer close(release)
	c := newClient(t, address)
	if err := c.dial(); err != nil {
		t.Fatal(err)
	}
	go func() { // more than all buffers on the way hold
		fmt.Fprintf(c.conn, "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: %d\r\n\r\n", 64<<20)
		io.Copy(c.conn, bytes.NewReader(make([]byte, 64<<20)))
	}()
	if ans, err := c.read("POST"); err != nil || ans.status != 504 {
		t.Errorf("%+v, error %v", ans, err)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	check := func(what string) {
		ans := newClient(t, address).do(503, "POST", "/", "x")
		if ans.header.Get("Retry-After") != "1" || ans.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: header %v", what, ans.header)
		}
	}
	check("without servers")
	set(t, b, "web1", closedAddress(t))
	check("with a dead one")
	newClient(t, address).do(405, "CONNECT", "example.com:443", "")
}

// A long body streams through and is not kept.
func TestReplayLimit(t *testing.T) {
	p := newReplay(io.NopCloser(strings.NewReader(strings.Repeat("x", 10_000))), 1000)
	r := p.reader()
	if n, err := io.Copy(io.Discard, r); n != 10_000 || err != nil {
		t.Errorf("%d bytes, error %v", n, err)
	}
	r.Close()
	if p.rewindable() || p.kept != nil {
		t.Error("a body above the limit was kept")
	}

	p = newReplay(io.NopCloser(strings.NewReader("hello")), 1000)
	for i := range 5 {
		r := p.reader()
		io.ReadFull(r, make([]byte, i))
		if p.rewindable() {
			t.Error("rewindable while in use")
		}
		r.Close()
		if !p.rewindable() {
			t.Error("not rewindable after Close")
		}
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("Read after Close")
		}
	}
	if got, err := io.ReadAll(p.reader()); string(got) != "hello" || err != nil {
		t.Errorf("%q, error %v", got, err)
	}
}
