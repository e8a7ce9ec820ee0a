package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"
)

func drainAndWait(t *testing.T, b *Balancer, name string) {
	t.Helper()
	if err := b.Drain(name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Empty(ctx, name); err != nil {
		t.Fatal(err)
	}
}

// Forty drains under load lose nothing, and a server that is drained and empty
// sees no request, also none of clients that were kept on it.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"round-robin", "sticky-cookie"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			opts := patient()
			opts.Policy, _ = NewPolicy(policy)
			b, address := start(t, opts)
			names := []string{"web1", "web2", "web3"}
			arrived := make(map[string]*atomic.Int64)
			for _, name := range names {
				n := new(atomic.Int64)
				arrived[name] = n
				backend(t, b, name, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/readyz" {
						n.Add(1)
						time.Sleep(time.Millisecond)
					}
				})
			}
			l := startLoad(t, address, 6, "GET", "POST")
			for i := range 40 {
				name := names[i%len(names)]
				drainAndWait(t, b, name)
				before := arrived[name].Load()
				l.more(t, 20)
				if after := arrived[name].Load(); after != before {
					t.Errorf("%d requests reached %s while it was drained and empty", after-before, name)
				}
				if err := b.Undrain(name); err != nil {
					t.Fatal(err)
				}
				if s := statusOf(t, b, name); s.State != Up {
					t.Errorf("%s is %s after Undrain", name, s.State)
				}
			}
			noneFailed(t, l.wait())
		})
	}
}

// A Transport gives a connection back before it hands over an answer without a
// body, and loses the answer if its idle connections are closed in between. So
// whatever happens to a server in that moment must not close them.
func TestAnswerInHandover(t *testing.T) {
	t.Parallel()
	for what, happens := range map[string]func(b *Balancer, s *server){
		"Drain":  func(b *Balancer, _ *server) { b.Drain("web1") },
		"Remove": func(b *Balancer, _ *server) { b.Remove("web1") },
		"Set":    func(b *Balancer, s *server) { b.Set("web1", s.address) },
		"check": func(b *Balancer, s *server) {
			b.checked(t.Context(), grant{s, s.address, s.epoch}, finding{"sick", answered})
		},
		"broken": func(b *Balancer, s *server) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.running = true
			b.suspect(&grant{s, s.address, s.epoch}, true)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := New(nil)
			trace := &httptrace.ClientTrace{PutIdleConn: func(error) {
				happens(b, b.servers[0])
				time.Sleep(50 * time.Millisecond) // for the damage to be noticed
			}}
			front := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b.ServeHTTP(w, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
			}))
			t.Cleanup(func() { front.Close(); removeAll(b) })
			backend(t, b, "web1", func(http.ResponseWriter, *http.Request) {})
			newClient(t, front.Listener.Addr().String()).do(200, "POST", "/", "")
		})
	}
}

// slowPolicy makes the moment between choosing and counting as long as a test
// needs it to be.
type slowPolicy struct {
	chosen  chan struct{}
	drained chan struct{}
}

func (p slowPolicy) Pick(*http.Request, []Candidate) int {
	close(p.chosen)
	select {
	case <-p.drained:
	case <-time.After(300 * time.Millisecond): // Drain waits for us, as it should
	}
	return 0
}

// A request for which a server was chosen when Drain is called is either seen
// by Empty or not sent.
func TestDrainWhileChoosing(t *testing.T) {
	t.Parallel()
	p := slowPolicy{make(chan struct{}), make(chan struct{})}
	b, address := startUnchecked(t, &Options{Policy: p})
	var empty atomic.Bool
	backend(t, b, "web1", func(http.ResponseWriter, *http.Request) {
		if empty.Load() {
			t.Error("a request reached a server that was drained and empty")
		}
	})
	answered := make(chan error)
	go func() {
		_, err := newClient(t, address).try("GET", "/", "")
		answered <- err
	}()
	<-p.chosen
	drainAndWait(t, b, "web1")
	empty.Store(true)
	close(p.drained)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestEmptyWaits(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	backend(t, b, "web1", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "a")
		http.NewResponseController(w).Flush()
		close(inside)
		<-leave
		io.WriteString(w, "b")
	})
	answered := make(chan error)
	go func() {
		ans, err := newClient(t, address).try("POST", "/", "")
		if err == nil && ans.body != "ab" {
			err = errors.New("the answer was cut off: " + ans.body)
		}
		answered <- err
	}()
	<-inside
	b.Drain("web1")
	if n := b.UnsafeInFlight("web1"); n != 1 {
		t.Errorf("UnsafeInFlight = %d, want 1", n)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.Empty(ctx, "web1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Empty of a busy server: %v", err)
	}
	emptied := make(chan error)
	go func() { emptied <- b.Empty(t.Context(), "web1") }()
	select {
	case <-emptied:
		t.Error("Empty returned while a request was in flight")
	case <-time.After(20 * time.Millisecond):
	}
	newClient(t, address).do(503, "GET", "/", "") // the only server is draining
	close(leave)
	if err := <-emptied; err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestUnknownServer(t *testing.T) {
	b := New(nil)
	for what, err := range map[string]error{
		"Drain":   b.Drain("web9"),
		"Undrain": b.Undrain("web9"),
		"Empty":   b.Empty(t.Context(), "web9"),
		"Remove":  b.Remove("web9"),
	} {
		if !errors.Is(err, ErrUnknownServer) {
			t.Errorf("%s: %v, want ErrUnknownServer", what, err)
		}
	}
	if n := b.UnsafeInFlight("web9"); n != 0 {
		t.Errorf("UnsafeInFlight = %d", n)
	}
}
