//go:build unix

package farm

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the program of the web servers that the tests start, and of
// a farm that is killed, and fails the package if a test leaves a goroutine
// behind.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			os.Exit(serve(os.Args[2:]))
		case "hold":
			os.Exit(hold(os.Args[2]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each race-checked child takes a second to end
	before := runtime.NumGoroutine()
	code := m.Run()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines left behind: %d\n", runtime.NumGoroutine()-before)
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			code = 1
			break
		}
	}
	os.Exit(code)
}

// badEnv names a file; while it exists, no web server starts.
const badEnv = "FARM_TEST_BAD"

// serve is a web server: it says who it is, and takes as long for a POST as
// the client takes to send the body.
func serve(args []string) int {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	name := fs.String("name", "", "")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if _, err := os.Stat(os.Getenv(badEnv)); err == nil {
		fmt.Fprintln(os.Stderr, "the new version is bad")
		return 7
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, *name)
	})
	var posts atomic.Int64
	mux.HandleFunc("GET /posts", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, posts.Load())
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		defer posts.Add(-1)
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, *name)
	})
	mux.HandleFunc("GET /store", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, os.Getenv(EnvStore))
	})
	mux.HandleFunc("POST /crash", func(w http.ResponseWriter, r *http.Request) { os.Exit(3) })
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, os.Stdin, Site{Handler: mux, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Vitals: func() Vitals { return Vitals{StoreConns: 7} }, Report: os.Stdout}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hold runs a farm until it is killed.
func hold(dir string) int {
	f, err := Start(context.Background(), Options{Dir: dir, Servers: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(f.Info())
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// A site is a farm under test and somebody who visits it.
type site struct {
	*Farm
	t      *testing.T
	client *http.Client
	log    *record
}

func open(t *testing.T, o Options) *site {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	log := &record{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	f, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{f, t, visitor(f), log}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		f.Close()
		if t.Failed() {
			for _, name := range []string{"balancer", "web1", "web2", "web3"} {
				t.Logf("the end of %s.log:\n%s", name, tail(f.logFile(name), 20))
			}
			t.Logf("the farm's log:\n%s", log)
		}
	})
	return s
}

// visitor is a browser with a cookie jar.
func visitor(f *Farm) *http.Client {
	jar, _ := cookiejar.New(nil)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = f.authority.config()
	t.TLSClientConfig.RootCAs = f.RootCAs()
	return &http.Client{Transport: t, Jar: jar}
}

// get returns the answer to GET, which must be a 200.
func (s *site) get(path string) string { s.t.Helper(); return s.do(http.MethodGet, path, nil) }

func (s *site) do(method, path string, body io.Reader) string {
	s.t.Helper()
	status, text, err := s.try(method, path, body)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s %s: got %d %q, %v; want 200", method, path, status, text, err)
	}
	return text
}

func (s *site) try(method, path string, body io.Reader) (int, string, error) {
	req, err := http.NewRequest(method, s.URL()+path, body)
	if err != nil {
		return 0, "", err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// A slow request is in flight until it is finished.
type slow struct {
	body *io.PipeWriter
	done chan struct{}
	on   string // the server that answered
	code int
	err  error
}

// post begins a slow POST and returns when some server is at it. That the
// balancer has counted it is not enough: as long as the server has got nothing
// of it, it may still go elsewhere.
func (s *site) post() *slow {
	s.t.Helper()
	before := s.posts()
	read, write := io.Pipe()
	r := &slow{body: write, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.code, r.on, r.err = s.try(http.MethodPost, "/", read)
	}()
	s.until("the POST has arrived", func() bool {
		select {
		case <-r.done:
			s.t.Fatalf("the POST was answered too soon: %d, %v", r.code, r.err)
		default:
		}
		return s.posts() > before
	})
	return r
}

// posts asks the servers themselves how many POSTs they are at.
func (s *site) posts() (n int) {
	s.t.Helper()
	direct := &http.Transport{DisableKeepAlives: true}
	for _, v := range s.Status() {
		if v.PID == 0 {
			continue
		}
		req, _ := http.NewRequest(http.MethodGet, "http://"+v.Address+"/posts", nil)
		res, err := direct.RoundTrip(req)
		if err != nil {
			s.t.Fatal(err)
		}
		k := 0
		fmt.Fscan(res.Body, &k)
		res.Body.Close()
		n += k
	}
	return n
}

func (r *slow) finish() {
	r.body.Close()
	<-r.done
}

// until waits for what must come, however slow the machine is.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	until(s.t, what, ok)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

func (s *site) server(name string) Server {
	s.t.Helper()
	for _, v := range s.Status() {
		if v.Name == name {
			return v
		}
	}
	s.t.Fatalf("no server %s", name)
	return Server{}
}

// wantStates wants the states of all servers, in order.
func (s *site) wantStates(want ...State) {
	s.t.Helper()
	var got []State
	for _, v := range s.Status() {
		got = append(got, v.State)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("states: got %v, want %v", got, want)
	}
}

// round returns which servers answer the next n requests.
func (s *site) round(n int) map[string]int {
	s.t.Helper()
	got := make(map[string]int)
	for range n {
		got[s.get("/")]++
	}
	return got
}

// A record is a log that a test reads.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// dead reports whether a process is gone, or waits to be buried by somebody
// who is not of these tests.
func dead(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
