package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// until waits for what must happen by itself. How long that takes is told, and
// decides nothing.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > 30*time.Second {
			tb.Fatalf("waited 30 seconds for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	tb.Logf("%v until %s", time.Since(began).Round(time.Millisecond), what)
}

// quick are options with the timeout that people use.
func quick(tb testing.TB) *Options {
	opts := fresh(tb)
	opts.Timeout = time.Second
	return opts
}

// works reports whether the store can be written and read.
func works(s *Store, n uint32) bool {
	rec, err := s.Insert(background, record(n, "ada"))
	if err != nil && !errors.Is(err, roam.ErrConflict) {
		return false
	}
	_, err = s.Load(background, rec.ID, roam.Want{})
	return err == nil || errors.Is(err, roam.ErrNotFound)
}

// fails waits until the store has noticed that there is no server, and checks
// that calls fail at once then.
func fails(t *testing.T, s *Store) {
	t.Helper()
	until(t, "the outage is noticed", func() bool { return s.primary.Load() == nil })
	began := time.Now()
	const calls = 1000
	for range calls {
		_, err := s.Load(background, record(1, "").ID, roam.Want{})
		if !errors.Is(err, roam.ErrUnavailable) {
			t.Fatalf("got error %v while the server is down, want ErrUnavailable", err)
		}
	}
	t.Logf("a call while the server is down: %v", time.Since(began)/calls)
	_, err := s.Insert(background, record(99, ""))
	refusedBy(t, err, "insert", "no server")
	for _, err := range s.List(background, "ada") {
		refusedBy(t, err, "list")
	}
	_, err = s.Ends(background, "")
	refusedBy(t, err, "ends")
	_, err = s.Prune(background, 0, 1)
	refusedBy(t, err, "prune")
	refusedBy(t, s.Touch(background, nil), "touch")
}

func TestKilledServerIsUsedAgainWhenItIsBack(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{})
	s := openAt(t, pg.Primary.URL(), quick(t))
	rec := insert(t, s, record(1, "ada"))
	for name, stop := range map[string]func() error{
		"kill -9":  pg.Primary.Kill,
		"shutdown": func() error { return pg.Primary.Shutdown(background) },
	} {
		t.Log(name)
		must(t, stop())
		fails(t, s)
		must(t, pg.Primary.Start(background))
		until(t, "the first success", func() bool { return works(s, 2) })
		got, err := s.Load(background, rec.ID, roam.Want{})
		must(t, err)
		if got.Epoch != rec.Epoch {
			t.Errorf("%s: got epoch %d, want %d as before: nothing was lost", name, got.Epoch, rec.Epoch)
		}
	}
}

func TestFrozenServerIsNoticedAndUsedAgain(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{})
	s := openAt(t, pg.Primary.URL(), quick(t))
	before := runtime.NumGoroutine()
	must(t, pg.Primary.Freeze())
	// Callers come faster than they are answered.
	var calls sync.WaitGroup
	var most atomic.Int64
	for i := range 500 {
		calls.Go(func() {
			_, err := s.Load(background, record(uint32(i), "").ID, roam.Want{})
			if !errors.Is(err, roam.ErrUnavailable) {
				t.Errorf("got error %v, want ErrUnavailable", err)
			}
		})
		most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
	}
	calls.Wait()
	fails(t, s)
	until(t, "the calls' goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+16 })
	must(t, pg.Primary.Thaw())
	until(t, "the first success", func() bool { return works(s, 2) })
}

func TestTerminatedConnectionsAreNoOutage(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{})
	opts := quick(t)
	opts.Timeout = 10 * time.Second
	s := openAt(t, pg.Primary.URL(), opts)
	rec := insert(t, s, record(1, "ada"))
	ctx, stop := context.WithCancel(background)
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 64 { // alone and in groups
		readers.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Load(background, rec.ID, roam.Want{}); err != nil {
					t.Errorf("a read while connections are terminated: %v", err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for range 5 {
		was := reads.Load()
		until(t, "reads go on", func() bool { return reads.Load() > was+100 || t.Failed() })
		must(t, pg.Primary.Exec(background, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'roam'"))
	}
	stop()
	readers.Wait()
}

func TestReplicaThatTookOverIsUsed(t *testing.T) {
	t.Parallel()
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			t.Parallel()
			pg := private(t, &servers.PostgresOptions{Standby: true, Sync: sync})
			opts := quick(t)
			s := openAt(t, pg.DSN(), opts)
			old := insert(t, s, record(1, "ada"))
			must(t, pg.CatchUp(background))
			must(t, pg.Primary.Freeze())
			must(t, pg.Standby.Promote(background))
			until(t, "the first success on the replica", func() bool { return works(s, 2) })
			got, err := s.Load(background, old.ID, roam.Want{})
			must(t, err)
			if got.Epoch <= old.Epoch {
				t.Errorf("got epoch %d after a failover, want one above %d", got.Epoch, old.Epoch)
			}

			// The old primary wakes up. It does not know that it was
			// replaced, and would take what it is given.
			must(t, pg.Primary.Thaw())
			s.hosts[0].look()
			until(t, "the old primary is found to be one", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.hosts[0].fenced
			})
			for n := range uint32(300) {
				rec := insert(t, s, record(100+n, ""))
				if rec.Epoch != got.Epoch {
					t.Fatalf("got epoch %d, want %d", rec.Epoch, got.Epoch)
				}
			}
			count, err := pg.Standby.Query(background, s.names.in("SELECT count(*) FROM {session} WHERE username = ''"))
			must(t, err)
			if count != "300" {
				t.Errorf("the new primary has %s of 300 records that were acknowledged", count)
			}

			// A server that starts now, and knows nothing, chooses the same.
			other := reopen(t, pg.DSN(), opts)
			if rec := insert(t, other, record(1000, "")); rec.Epoch != got.Epoch {
				t.Errorf("a new Store: got epoch %d, want %d", rec.Epoch, got.Epoch)
			}
			// And the one that is down for good makes no difference.
			must(t, pg.Primary.Kill())
			insert(t, s, record(1001, ""))
		})
	}
}

func TestEpochIsOnePerHistory(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Standby: true})
	opts := quick(t)
	first := openAt(t, pg.DSN(), opts)
	all := []*Store{first, reopen(t, pg.DSN(), opts), reopen(t, pg.DSN(), opts)}
	rec := insert(t, first, record(1, "ada"))
	must(t, pg.CatchUp(background))
	must(t, pg.Primary.Kill())
	must(t, pg.Standby.Promote(background))
	var epochs []uint64
	for i, s := range all {
		until(t, "success", func() bool { return works(s, uint32(10+i)) })
		got, err := s.Load(background, rec.ID, roam.Want{})
		must(t, err)
		epochs = append(epochs, got.Epoch)
	}
	if epochs[0] <= rec.Epoch || epochs[1] != epochs[0] || epochs[2] != epochs[0] {
		t.Errorf("got epochs %v after %d, want one that is higher", epochs, rec.Epoch)
	}
}

// A failover behind one address, as of a pooler or a floating IP.
func TestTakeoverBehindOneAddressIsNoticed(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Standby: true})
	to := &switchboard{}
	to.target.Store(ptr(pg.Primary.Addr()))
	addr := to.listen(t)
	s := openAt(t, pg.DSN(addr), quick(t))
	rec := insert(t, s, record(1, "ada"))
	must(t, pg.CatchUp(background))
	must(t, pg.Standby.Promote(background))
	to.target.Store(ptr(pg.Standby.Addr()))
	to.hangUp()
	// No answer from the new server is ever given out as one of the old.
	for {
		got, err := s.Load(background, rec.ID, roam.Want{})
		if err != nil {
			if !errors.Is(err, roam.ErrUnavailable) {
				t.Fatal(err)
			}
			continue
		}
		if got.Epoch <= rec.Epoch {
			t.Fatalf("got epoch %d from the server that took over, want one above %d", got.Epoch, rec.Epoch)
		}
		break
	}
	// And back to the one that was replaced: never.
	to.target.Store(ptr(pg.Primary.Addr()))
	to.hangUp()
	until(t, "the old primary is refused", func() bool {
		_, err := s.Load(background, rec.ID, roam.Want{})
		return err != nil && strings.Contains(err.Error(), "fenced")
	})
	_, err := s.Insert(background, record(2, ""))
	refusedBy(t, err, "fenced")
}

func TestEarlierStateInPlaceBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	s := open(t, quick(t))
	rec := insert(t, s, record(1, "ada"))
	s.mu.Lock()
	s.known.lsn += 1 << 40 // as if there had been more
	s.mu.Unlock()
	until(t, "another epoch", func() bool {
		got, err := s.Load(background, rec.ID, roam.Want{})
		return err == nil && got.Epoch > rec.Epoch
	})
}

func TestCutNetworkIsAnOutageForItsTime(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	proxy := need2(t)(servers.StartProxy(pg.Primary.Addr()))
	t.Cleanup(proxy.Stop)
	s := openAt(t, pg.DSN(proxy.Addr()), quick(t))
	rec := insert(t, s, record(1, "ada"))
	for name, cut := range map[string]func(){"cut": proxy.Cut, "refused": proxy.Refuse} {
		t.Log(name)
		cut()
		fails(t, s)
		must(t, proxy.Restore())
		until(t, "the first success", func() bool { return works(s, 2) })
	}
	proxy.Reset()
	if _, err := s.Load(background, rec.ID, roam.Want{}); err != nil {
		t.Errorf("a read after a reset: %v, want it repeated", err)
	}
	// An answer that got lost leaves a write open.
	insert(t, s, record(4, ""))
	proxy.DropAnswers()
	_, err := s.Insert(background, record(3, ""))
	if err == nil || errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got error %v for a write whose answer was lost, want one that vouches for nothing", err)
	}
	proxy.Restore()
	until(t, "the first success", func() bool { return works(s, 2) })
	if _, err := s.Load(background, record(3, "").ID, roam.Want{}); err != nil {
		t.Errorf("the write whose answer was lost: %v, want it there", err)
	}
}

func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	proxy := need2(t)(servers.StartProxy(pg.Primary.Addr()))
	t.Cleanup(proxy.Stop)
	s := openAt(t, pg.DSN(proxy.Addr()), quick(t))
	insert(t, s, record(1, "ada"))
	proxy.Slow(500 * time.Millisecond)
	for n := range uint32(3) {
		insert(t, s, record(10+n, ""))
	}
	p := s.primary.Load()
	if p == nil {
		t.Fatal("a network that is slow by half a second counts as down")
	}
	var many sync.WaitGroup
	for range 64 { // more than there are connections, which must be opened first
		many.Go(func() { s.Load(background, record(1, "").ID, roam.Want{}) })
	}
	many.Wait()
	if got := s.primary.Load(); got != p {
		t.Error("the server was given up")
	}
	proxy.Slow(5 * time.Second)
	before := runtime.NumGoroutine()
	began := time.Now()
	for range 200 {
		many.Go(func() {
			if _, err := s.Load(background, record(1, "").ID, roam.Want{}); !errors.Is(err, roam.ErrUnavailable) {
				t.Errorf("got error %v, want ErrUnavailable", err)
			}
		})
	}
	many.Wait()
	t.Logf("200 calls with a timeout of %v took %v", s.opts.Timeout, time.Since(began).Round(time.Millisecond))
	fails(t, s)
	until(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+16 })
	proxy.Restore()
	until(t, "the first success", func() bool { return works(s, 2) })
}

func need2(tb testing.TB) func(*servers.Proxy, error) *servers.Proxy {
	return func(p *servers.Proxy, err error) *servers.Proxy { tb.Helper(); return need(tb, p, err) }
}

func ptr[T any](v T) *T { return &v }
