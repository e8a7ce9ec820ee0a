package graceful

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain is also the child process of the handover tests, and fails the
// package if a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	switch os.Getenv("GRACEFUL_TEST_CHILD") {
	case "serve":
		os.Exit(childServe())
	case "look":
		// Tell the parent whether it leaked this descriptor.
		if ln, err := fromFD(os.Getenv("GRACEFUL_TEST_FD")); err == nil {
			fmt.Println("inherited", ln.Addr())
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left behind: %d\n", runtime.NumGoroutine()-before)
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			code = 1
			break
		}
	}
	os.Exit(code)
}

// A strictClient speaks HTTP/1.1 on one connection and never tries twice.
// Clients that resend a request on a dead connection, as browsers and net/http
// do for GET, hide what a server loses.
type strictClient struct {
	net.Conn
	r *bufio.Reader
}

func strict(c net.Conn) *strictClient { return &strictClient{c, bufio.NewReader(c)} }

type answer struct {
	status int
	close  bool // it says "Connection: close"
	header http.Header
	body   string
}

func (c *strictClient) send(method, path, body string) error {
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	return err
}

func (c *strictClient) receive() (answer, error) {
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Close, res.Header, string(body)}, err
}

func (c *strictClient) do(method, path, body string) (answer, error) {
	if err := c.send(method, path, body); err != nil {
		return answer{}, err
	}
	return c.receive()
}

func (c *strictClient) get(t *testing.T, path string) answer {
	t.Helper()
	a, err := c.do("GET", path, "")
	if err != nil {
		t.Fatalf("GET %s was lost: %v", path, err)
	}
	return a
}

// A memListener is a network in memory, for tests in which time is fake.
type memListener struct {
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func listenMem() *memListener {
	return &memListener{queue: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

var errRefused = errors.New("connection refused")

func (l *memListener) dial() (*strictClient, error) {
	ours, theirs := net.Pipe()
	select {
	case l.queue <- theirs:
		return strict(ours), nil
	case <-l.closed:
		return nil, errRefused
	}
}

// A run is a server under test with its stop and its end.
type run struct {
	*Server
	t    *testing.T
	ln   *memListener
	stop context.CancelFunc
	end  chan error
}

func start(t *testing.T, opts *Options, handler http.HandlerFunc) *run {
	return startServer(t, opts, &http.Server{Handler: handler})
}

func startServer(t *testing.T, opts *Options, srv *http.Server) *run {
	ctx, stop := context.WithCancel(t.Context())
	r := &run{New(srv, opts), t, listenMem(), stop, make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("/livez", Livez())
	mux.Handle("/readyz", r.Readyz())
	mux.Handle("/", srv.Handler)
	srv.Handler = mux
	go func() { r.end <- r.Run(ctx, r.ln) }()
	return r
}

func (r *run) dial() *strictClient {
	r.t.Helper()
	c, err := r.ln.dial()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// over tells whether the stop is complete.
func (r *run) over() bool { return len(r.end) > 0 }

func (r *run) wantEnd(after, slack time.Duration, since time.Time, contains string) error {
	r.t.Helper()
	err := <-r.end
	took := time.Since(since)
	if took < after || took > after+slack {
		r.t.Errorf("the stop took %v, want %v", took, after)
	}
	if contains == "" && err != nil || contains != "" && (err == nil || !strings.Contains(err.Error(), contains)) {
		r.t.Errorf("Run returned %v, want %q", err, contains)
	}
	return err
}

// childServe is a server process: it takes its socket from its parent and
// serves until its standard input ends.
func childServe() int {
	ln, err := Listener("127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(ln.Addr(), os.Getenv(EnvListenFD))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var served atomic.Int64
	if err := New(&http.Server{Handler: echo(&served)}, &Options{Linger: 10 * time.Second}).Run(ctx, ln); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// echo takes a moment, so that some requests are in flight whenever a server stops.
func echo(served *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		time.Sleep(time.Millisecond)
		io.Copy(w, r.Body)
	}
}
