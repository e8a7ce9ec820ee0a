package balancer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Nothing that a client says about where it comes from reaches a server, in
// either spelling, and no client can take our own word away.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	backend(t, b, "web1", func(w http.ResponseWriter, r *http.Request) {
		var lines []string
		for key, values := range r.Header {
			for _, v := range values {
				lines = append(lines, key+": "+v)
			}
		}
		slices.Sort(lines)
		fmt.Fprintf(w, "Host: %s\nURI: %s\n%s", r.Host, r.RequestURI, strings.Join(lines, "\n"))
	})
	ans := newClient(t, address).do(200, "GET", "//a/../b%2fc?x=1;y=%zz", "",
		"X-Forwarded-For: 6.6.6.6",
		"x-forwarded-for: 6.6.6.7",
		"X_Forwarded_For: 6.6.6.8",
		"X-Forwarded-Host: evil.test",
		"X-Forwarded-Proto: https",
		"X-Forwarded-Port: 666",
		"X-Real-IP: 6.6.6.9",
		"Forwarded: for=6.6.6.6",
		"Connection: X-Forwarded-For, X-Forwarded-Host, close",
		"X-Other: kept",
	)
	want := "Host: site.test\nURI: //a/../b%2fc?x=1;y=%zz\n" +
		"X-Forwarded-For: 127.0.0.1\nX-Forwarded-Host: site.test\nX-Forwarded-Proto: http\nX-Other: kept"
	if ans.body != want {
		t.Errorf("the server saw\n%s\nwant\n%s", ans.body, want)
	}
}

// Events arrive when they are sent, and upgraded connections go both ways; both
// are requests in flight for as long as they last.
func TestStreams(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	leave := make(chan struct{})
	backend(t, b, "web1", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			http.NewResponseController(w).Flush()
			<-leave
			return
		}
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, brw)
	})

	events := newClient(t, address)
	if err := events.dial(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(events.conn, "GET /events HTTP/1.1\r\nHost: site.test\r\n\r\n")
	for {
		line, err := events.br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "data: 1\n" {
			break // it is here, and the handler has not returned
		}
	}
	ws := newClient(t, address)
	if err := ws.dial(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(ws.conn, "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	res, err := http.ReadResponse(ws.br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, error %v", res, err)
	}
	for range 3 {
		io.WriteString(ws.conn, "hello\n")
		if line, err := ws.br.ReadString('\n'); line != "hello\n" {
			t.Fatalf("echo %q, error %v", line, err)
		}
	}
	if s := statusOf(t, b, "web1"); s.InFlight != 2 || s.BytesOut == 0 {
		t.Errorf("while both are open: %+v", s)
	}
	close(leave)
	ws.close()
	drainAndWait(t, b, "web1")
	if s := statusOf(t, b, "web1"); s.Failed != 0 {
		t.Errorf("an end was taken for a failure: %+v", s)
	}
}

// A server may refuse a body before the client has sent it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	backend(t, b, "web1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(413)
			return
		}
		io.Copy(w, r.Body)
	})
	const head = "POST %s HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	c := newClient(t, address)
	c.dial()
	fmt.Fprintf(c.conn, head, "/accept")
	if ans, err := c.read("POST"); err != nil || ans.status != 100 {
		t.Fatalf("%+v, error %v", ans, err)
	}
	io.WriteString(c.conn, "hello")
	// The server's 100 is passed on, and reading the body may have sent one
	// before; RFC 9110 section 15.2 lets a client expect any number.
	final := func() (ans reply, err error) {
		for ans.status = 100; ans.status == 100 && err == nil; {
			ans, err = c.read("POST")
		}
		return ans, err
	}
	if ans, err := final(); err != nil || ans.status != 200 || ans.body != "hello" {
		t.Fatalf("%+v, error %v", ans, err)
	}
	c = newClient(t, address)
	c.dial()
	fmt.Fprintf(c.conn, head, "/refuse")
	if ans, err := final(); err != nil || ans.status != 413 {
		t.Fatalf("%+v, error %v", ans, err)
	}
}

// A server that is to stop must not be kept by connections of ours, used or not.
func TestNoConnectionsLeft(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]func(*Balancer) error{
		"Drain":  func(b *Balancer) error { return b.Drain("web1") },
		"Remove": func(b *Balancer) error { return b.Remove("web1") },
	} {
		b, address := startUnchecked(t, nil)
		var open atomic.Int64
		inside, finish := make(chan bool), make(chan bool)
		web1 := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				inside <- true
				<-finish
			}
		}))
		web1.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		}
		web1.Start()
		t.Cleanup(web1.Close)
		set(t, b, "web1", web1.Listener.Addr().String())
		newClient(t, address).do(200, "GET", "/", "")
		answered := make(chan error)
		go func() {
			_, err := newClient(t, address).try("GET", "/slow", "")
			answered <- err
		}()
		<-inside
		newClient(t, address).do(200, "GET", "/", "")
		if err := leave(b); err != nil {
			t.Fatal(err)
		}
		finish <- true
		if err := <-answered; err != nil {
			t.Error(err)
		}
		soon := time.Now().Add(10 * time.Second) // an idle connection lives for 30
		for open.Load() > 0 && time.Now().Before(soon) {
			time.Sleep(time.Millisecond)
		}
		if n := open.Load(); n > 0 {
			t.Errorf("%d connections left after %s", n, what)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	for _, bad := range [][2]string{
		{"", "127.0.0.1:1"}, {"web 1", "127.0.0.1:1"}, {"web;1", "127.0.0.1:1"},
		{"web1", ""}, {"web1", "127.0.0.1"}, {"web1", "127.0.0.1:"}, {"web1", "http://127.0.0.1:1"},
	} {
		if err := b.Set(bad[0], bad[1]); err == nil {
			t.Errorf("Set(%q, %q) was accepted", bad[0], bad[1])
		}
	}
	c := newClient(t, address)
	backend(t, b, "web1", named("old"))
	if ans := c.do(200, "GET", "/", ""); ans.body != "old" {
		t.Errorf("answered by %s", ans.body)
	}
	backend(t, b, "web1", named("new"))
	if ans := c.do(200, "GET", "/", ""); ans.body != "new" {
		t.Errorf("answered by %s", ans.body)
	}
	if s := statusOf(t, b, "web1"); s.Requests != 2 {
		t.Errorf("the counters did not survive: %+v", s)
	}
	if err := b.Remove("web1"); err != nil {
		t.Fatal(err)
	}
	c.do(503, "GET", "/", "")
}

func TestStatusJSON(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	rawBackend(t, b, "web1", func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		return true
	})
	newClient(t, address).do(200, "GET", "/", "")
	drainAndWait(t, b, "web1")
	text, err := json.Marshal(b.Status())
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"name": "web1", "state": "draining", "ready": true, "in_flight": 0.0, "in_flight_unsafe": 0.0,
		"requests": 1.0, "failed": 0.0, "retried_away": 0.0, "bytes_out": 43.0, "last_error": nil,
	} {
		if got := list[0][key]; got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	if text, _ := json.Marshal(New(nil).Status()); string(text) != "[]" {
		t.Errorf("no servers: %s", text)
	}
}
