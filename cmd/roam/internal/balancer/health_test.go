package balancer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server whose check fails gets nothing, and is used again when it is ready.
func TestActiveCheck(t *testing.T) {
	t.Parallel()
	b, address := start(t, patient())
	var broken atomic.Bool
	var arrived atomic.Int64
	backend(t, b, "web1", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/readyz":
			arrived.Add(1)
		case broken.Load():
			w.WriteHeader(503)
		}
	})
	backend(t, b, "web2", func(http.ResponseWriter, *http.Request) {})
	c := newClient(t, address)
	for range 3 {
		broken.Store(true)
		eventually(t, "web1 down", func() bool { return statusOf(t, b, "web1").State == Down })
		if s := statusOf(t, b, "web1"); s.LastError != "check: answered 503" {
			t.Errorf("last error: %q", s.LastError)
		}
		before := arrived.Load()
		for range 10 {
			c.do(200, "GET", "/", "")
		}
		if n := arrived.Load() - before; n != 0 {
			t.Errorf("%d requests reached a server that is down", n)
		}
		broken.Store(false)
		eventually(t, "web1 up", func() bool { return statusOf(t, b, "web1").State == Up })
		for range 2 {
			c.do(200, "GET", "/", "")
		}
		if n := arrived.Load() - before; n != 1 {
			t.Errorf("%d of 2 requests reached a server that is up again", n)
		}
	}
}

// rareChecks makes checks happen only when something asks for them.
func rareChecks() *Options {
	return &Options{CheckInterval: time.Hour, CheckTimeout: 20 * time.Second}
}

// The first refused connection takes a server down, before any check.
func TestPassiveCheck(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	b.running = true // so the test says, and makes no checks
	web1 := backend(t, b, "web1", func(http.ResponseWriter, *http.Request) {})
	backend(t, b, "web2", func(http.ResponseWriter, *http.Request) {})
	c := newClient(t, address)
	for range 4 {
		c.do(200, "POST", "/", "x")
	}
	web1.Close()
	for range 4 {
		c.do(200, "POST", "/", "x")
	}
	s := statusOf(t, b, "web1")
	if s.State != Down || s.RetriedAway != 1 {
		t.Errorf("after a refused connection: %+v", s)
	}
}

// A handler that panics breaks its connection as a dying process does. The same
// bad page, tried everywhere, must not take the farm down.
func TestBadPage(t *testing.T) {
	t.Parallel()
	b, address := start(t, rareChecks())
	for _, name := range []string{"web1", "web2", "web3"} {
		backend(t, b, name, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad" {
				panic(http.ErrAbortHandler)
			}
		})
	}
	c := newClient(t, address)
	for range 20 {
		c.do(502, "GET", "/bad", "")
		c.do(200, "POST", "/good", "x")
	}
	for _, name := range []string{"web1", "web2", "web3"} {
		eventually(t, name+" checked at once and up", func() bool { return statusOf(t, b, name).State == Up })
	}
}

// A check that began before a server was marked down, or before it moved, does
// not decide about the time after.
func TestLateEvidence(t *testing.T) {
	t.Parallel()
	b := New(nil)
	b.running = true
	set(t, b, "web1", closedAddress(t))
	take := func() grant {
		list := b.unchecked()
		if len(list) != 1 {
			t.Fatalf("%d checks begun, want 1", len(list))
		}
		return list[0]
	}
	suspect := func(g grant) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.suspect(&g, true)
	}

	early := take()
	suspect(early)
	b.checked(t.Context(), early, finding{life: ready})
	if s := statusOf(t, b, "web1").State; s != Down {
		t.Errorf("%s by a check from before, want down", s)
	}
	b.checked(t.Context(), take(), finding{life: ready})
	if s := statusOf(t, b, "web1").State; s != Up {
		t.Errorf("%s after a good check, want up", s)
	}
	suspect(early)
	if s := statusOf(t, b, "web1").State; s != Up {
		t.Errorf("%s by a connection from before, want up", s)
	}
	early = take()
	set(t, b, "web1", closedAddress(t))
	b.checked(t.Context(), early, finding{"the old process is gone", gone})
	if s := statusOf(t, b, "web1").State; s != Up {
		t.Errorf("%s by a check of the old address, want up", s)
	}
}

// What fails all servers at once, such as their database, leaves them as they
// were: better than nobody. One that is ready is better still, and one that does
// not answer is none.
func TestNoServerIsReadyAndSomeLive(t *testing.T) {
	t.Parallel()
	b, address := start(t, patient())
	var sick [3]atomic.Bool
	var arrived [3]atomic.Int64
	names := []string{"web1", "web2", "web3"}
	for i, name := range names {
		backend(t, b, name, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/readyz":
				arrived[i].Add(1)
			case sick[i].Load():
				w.WriteHeader(503)
			}
		})
	}
	set(t, b, "dead", closedAddress(t))
	eventually(t, "the dead one is down", func() bool { return statusOf(t, b, "dead").State == Down })
	c := newClient(t, address)
	visit := func(want ...int64) {
		t.Helper()
		var before [3]int64
		for i := range arrived {
			before[i] = arrived[i].Load()
		}
		for range 6 {
			c.do(200, "POST", "/", "x")
		}
		for i := range arrived {
			if got := arrived[i].Load() - before[i]; got != want[i] {
				t.Errorf("%s got %d of 6 requests, want %d", names[i], got, want[i])
			}
		}
	}
	for i, name := range names {
		sick[i].Store(true)
		eventually(t, name+" down", func() bool { return statusOf(t, b, name).State == Down })
	}
	visit(2, 2, 2)
	sick[1].Store(false)
	eventually(t, "web2 up", func() bool { return statusOf(t, b, "web2").State == Up })
	visit(0, 6, 0)
	sick[1].Store(true)
	eventually(t, "web2 down", func() bool { return statusOf(t, b, "web2").State == Down })
	if err := b.Drain("web1"); err != nil { // the operator's word counts even now
		t.Fatal(err)
	}
	visit(0, 3, 3)
}

// A machine that is too busy to answer the checks in time is too busy with
// what people ask of it; to turn them away would make a slow site an absent one.
func TestNoServerAnswersItsCheckInTime(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	b.running = true // so the test says, and makes the checks
	backend(t, b, "web1", func(http.ResponseWriter, *http.Request) {})
	backend(t, b, "web2", func(http.ResponseWriter, *http.Request) {})
	find := func(name string, f finding) {
		t.Helper()
		b.mu.Lock()
		s := b.find(name)
		g := grant{s, s.address, s.epoch}
		b.mu.Unlock()
		b.checked(t.Context(), g, f)
	}
	c := newClient(t, address)
	for _, second := range []life{silent, answered} {
		find("web1", finding{"no answer in time", silent})
		find("web2", finding{"no answer in time", second})
		before := statusOf(t, b, "web1").Requests
		for range 4 {
			c.do(200, "GET", "/", "")
		}
		if got, want := statusOf(t, b, "web1").Requests-before, map[int]uint64{int(silent): 2, int(answered): 0}[int(second)]; got != want {
			t.Errorf("web1 got %d of 4 requests, want %d: the other one's life is %d", got, want, second)
		}
	}
	find("web1", finding{"gone", gone})
	find("web2", finding{"gone", gone})
	c.do(503, "GET", "/", "")
}

func TestRun(t *testing.T) {
	t.Parallel()
	b := New(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	eventually(t, "running", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.running })
	if err := b.Run(ctx); err == nil {
		t.Error("a second Run was allowed")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// What a server sends never gets into the log or the status, also when it is
// malformed and errors quote it; nor does what a client sends.
func TestLogsHoldNoCookies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	})
	logger := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for i, answer := range []string{
		"Set-Cookie: s3cret\r\n\r\n",
		"HTTP/1.1 200 OK\r\ns3cret\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ns3cret\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\ns3cret\r\n\r\n",
	} {
		b, address := startUnchecked(t, &Options{Logger: logger})
		name := fmt.Sprintf("web%d", i)
		rawBackend(t, b, name, func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
			io.WriteString(c, answer)
			return false
		})
		for _, method := range []string{"GET", "POST"} {
			newClient(t, address).try(method, "/?t=s3cret", "", "Cookie: session=s3cret")
		}
		eventually(t, "both failures counted", func() bool { return statusOf(t, b, name).Failed == 2 })
		if s := statusOf(t, b, name); strings.Contains(s.LastError, "s3cret") {
			t.Errorf("the status has a secret: %s", s.LastError)
		}
	}
	logged := func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	eventually(t, "all failures logged", func() bool {
		return strings.Count(logged(), "request failed") == 4 && strings.Count(logged(), "answer cut off") == 4
	})
	if strings.Contains(logged(), "s3cret") {
		t.Errorf("the log has a secret:\n%s", logged())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
