//go:build unix

package graceful

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is a number of strict clients that POST as fast as they are answered,
// each on a kept-alive connection that it leaves only when told to.
type load struct {
	answered, lost, refused atomic.Int64
	fault                   atomic.Pointer[string] // the last
	stop                    context.CancelFunc
	clients                 sync.WaitGroup
}

func startLoad(addr string, clients int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	for i := range clients {
		l.clients.Go(func() { l.client(ctx, addr, i) })
	}
	return l
}

func (l *load) client(ctx context.Context, addr string, number int) {
	var c *strictClient
	for n := 0; ctx.Err() == nil; n++ {
		if c == nil {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				l.note(&l.refused, err)
				continue
			}
			// Not a judgement on time: it keeps a hung connection from hanging the test.
			conn.SetDeadline(time.Now().Add(time.Minute))
			c = strict(conn)
		}
		id := fmt.Sprintf("%d-%d", number, n)
		a, err := c.do("POST", "/", id)
		switch {
		case err != nil:
			l.note(&l.lost, err)
		case a.status != http.StatusOK || a.body != id:
			l.note(&l.lost, fmt.Errorf("%s was answered with %d %q", id, a.status, a.body))
		default:
			l.answered.Add(1)
		}
		if err != nil || a.close {
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

func (l *load) note(counter *atomic.Int64, err error) {
	counter.Add(1)
	text := err.Error()
	l.fault.Store(&text)
}

// await returns when n more requests have been answered or have failed.
func (l *load) await(n int64) {
	for before := l.total(); l.total() < before+n; {
		time.Sleep(time.Millisecond)
	}
}

func (l *load) total() int64 { return l.answered.Load() + l.lost.Load() + l.refused.Load() }

func (l *load) finish() {
	l.stop()
	l.clients.Wait()
}

func (l *load) check(t *testing.T) {
	t.Helper()
	if l.lost.Load() > 0 || l.refused.Load() > 0 {
		t.Errorf("%d requests answered, %d lost, %d connections refused; the last: %s",
			l.answered.Load(), l.lost.Load(), l.refused.Load(), *l.fault.Load())
	}
	t.Logf("%d requests answered", l.answered.Load())
}

// A socket is what a parent holds: each server gets a duplicate.
type socket struct{ net.Listener }

func newSocket(tb testing.TB) socket {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return socket{ln}
}

func (s socket) share(tb testing.TB) net.Listener {
	f, err := duplicate(s.Listener)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		tb.Fatal(err)
	}
	return ln
}

// Linger is long and no stop may need it: each ends when its last connection
// has been told to close. So nothing here depends on how fast the machine is.
func TestSwapsLoseNothing(t *testing.T) {
	const swaps = 40
	sock := newSocket(t)
	var served atomic.Int64
	serve := func() (stop func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		s := New(&http.Server{Handler: echo(&served)}, &Options{Linger: 10 * time.Second})
		ln := sock.share(t)
		go func() { end <- s.Run(ctx, ln) }()
		return func() error { cancel(); return <-end }
	}

	stop := serve()
	l := startLoad(sock.Addr().String(), 16)
	for range swaps {
		l.await(100)
		next := serve()
		if err := stop(); err != nil {
			t.Error(err)
		}
		stop = next
		if t.Failed() || l.lost.Load() > 0 {
			break
		}
	}
	l.finish()
	if err := stop(); err != nil {
		t.Error(err)
	}
	l.check(t)
	if l.answered.Load() != served.Load() {
		t.Errorf("%d requests served, %d answered", served.Load(), l.answered.Load())
	}
}

// BenchmarkSwap replaces a server under load, once an iteration, by this
// package and by [http.Server.Shutdown], and reports what that loses.
func BenchmarkSwap(b *testing.B) {
	var served atomic.Int64
	ways := map[string]func(net.Listener) (stop func()){
		"graceful": func(ln net.Listener) func() {
			ctx, cancel := context.WithCancel(b.Context())
			end := make(chan error, 1)
			go func() { end <- New(&http.Server{Handler: echo(&served)}, nil).Run(ctx, ln) }()
			return func() { cancel(); <-end }
		},
		"shutdown": func(ln net.Listener) func() {
			srv := &http.Server{Handler: echo(&served)}
			end := make(chan error, 1)
			go func() { end <- srv.Serve(ln) }()
			return func() { srv.Shutdown(context.Background()); <-end }
		},
	}
	for name, serve := range ways {
		b.Run(name, func(b *testing.B) {
			sock := newSocket(b)
			stop := serve(sock.share(b))
			l := startLoad(sock.Addr().String(), 16)
			for b.Loop() {
				l.await(100)
				next := serve(sock.share(b))
				stop()
				stop = next
			}
			l.finish()
			stop()
			b.ReportMetric(float64(l.lost.Load())/float64(b.N), "lost/swap")
		})
	}
}
