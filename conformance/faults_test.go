package conformance

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// A fault is something that happens to a database while a site is in use.
type fault struct {
	name string
	o    servers.PostgresOptions

	// lossy says that acknowledged writes are lost, because a standby takes
	// over that had not heard of them. No others may be.
	lossy bool

	// strike makes it happen, and all well again. It says so by hits and
	// returns, or promote.
	strike func(s *site)

	// writesOnly says that reads may see what is lost then, because an
	// operator made it visible before it was durable. Writes may not.
	writesOnly bool

	// then checks what this fault has of its own.
	then func(s *site, fg *figures)
}

// scale stretches the load before, during and after each fault:
// CONFORMANCE_SCALE=10 takes ten times as long.
var scale = func() time.Duration {
	var n time.Duration
	if _, err := fmt.Sscan(os.Getenv("CONFORMANCE_SCALE"), &n); err != nil || n < 1 {
		return 1
	}
	return n
}()

// pass lets the load go on for some time.
func pass(d time.Duration) { time.Sleep(d * scale) }

var (
	asynchronous = servers.PostgresOptions{Standby: true}
	synchronous  = servers.PostgresOptions{Sync: true}
)

var faults = []fault{
	{name: "planned restart", strike: func(s *site) {
		s.hits()
		s.must(s.pg.Primary.Restart(s.t.Context()))
		s.returns()
	}},

	{name: "kill -9 and start", strike: func(s *site) {
		s.hits()
		s.must(s.pg.Primary.Kill())
		pass(300 * time.Millisecond)
		s.must(s.pg.Primary.Start(s.t.Context()))
		s.returns()
	}},

	// PostgreSQL then ends all others too, and recovers.
	{name: "kill -9 of one backend", strike: func(s *site) {
		pid, err := s.pg.Primary.Query(s.t.Context(), "SELECT pid FROM pg_stat_activity WHERE usename = 'roam' LIMIT 1")
		s.must(err)
		var n int
		if _, err := fmt.Sscan(pid, &n); err != nil || n <= 1 {
			s.t.Fatalf("the pid of a backend is %q", pid)
		}
		s.hits()
		s.must(syscall.Kill(n, syscall.SIGKILL))
		for down := false; ; {
			_, err := s.pg.Primary.Query(s.t.Context(), "SELECT 1")
			if down = down || err != nil; err == nil && (down || time.Since(s.hit) > time.Second) {
				break
			}
		}
		s.returns()
	}},

	{name: "all backends terminated", strike: func(s *site) {
		s.hits()
		s.must(s.pg.Primary.Exec(s.t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'roam'"))
		s.returns()
	}},

	{name: "frozen for 3 s", strike: func(s *site) {
		s.hits()
		s.must(s.pg.Primary.Freeze())
		pass(3 * time.Second)
		s.must(s.pg.Primary.Thaw())
		s.returns()
	}},

	{name: "sync: standby behind, frozen, promoted", o: synchronous, strike: func(s *site) {
		s.hits()
		s.must(s.pg.Lag(s.t.Context(), true))
		pass(400 * time.Millisecond)
		s.must(s.pg.Primary.Freeze())
		pass(300 * time.Millisecond)
		s.promote()
	}},

	{name: "async: standby behind, frozen, promoted", o: asynchronous, lossy: true, strike: func(s *site) {
		s.must(s.pg.Lag(s.t.Context(), true))
		pass(500 * time.Millisecond)
		s.hits()
		s.must(s.pg.Primary.Freeze())
		pass(300 * time.Millisecond)
		s.promote()
	}},

	{name: "async: standby behind, kill -9, promoted", o: asynchronous, lossy: true, strike: func(s *site) {
		s.must(s.pg.Lag(s.t.Context(), true))
		pass(500 * time.Millisecond)
		s.hits()
		s.must(s.pg.Primary.Kill())
		pass(300 * time.Millisecond)
		s.promote()
	}},

	{name: "async: the old primary wakes up", o: asynchronous, lossy: true, strike: func(s *site) {
		s.must(s.pg.Lag(s.t.Context(), true))
		pass(300 * time.Millisecond)
		s.hits()
		s.must(s.pg.Primary.Freeze())
		s.promote()
		pass(1500 * time.Millisecond)
		s.must(s.pg.Primary.Thaw())
		pass(300 * time.Millisecond) // until what it had been told before it froze is done
		before := s.written(s.pg.Primary)
		pass(1500 * time.Millisecond)
		if after := s.written(s.pg.Primary); after != before {
			s.t.Errorf("the old primary was written to: %s, and before %s", after, before)
		}
	}},

	{name: "sync: the wait for the standby cancelled, kill -9, promoted", o: synchronous, writesOnly: true, strike: func(s *site) {
		s.hits()
		s.must(s.pg.Lag(s.t.Context(), true))
		cancelled := 0
		for time.Since(s.hit) < 700*time.Millisecond*scale {
			n, err := s.pg.Primary.Query(s.t.Context(), "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			s.must(err)
			var k int
			fmt.Sscan(n, &k)
			cancelled += k
		}
		s.must(s.pg.Primary.Kill())
		s.promote()
		if s.t.Logf("%d commits were kept from waiting for the standby", cancelled); cancelled == 0 {
			s.t.Error("no commit waited for the standby: this proves nothing")
		}
	}},

	{name: "sync: the standby is gone", o: synchronous, strike: func(s *site) {
		s.must(s.pg.Standby.Kill())
		s.hits()
		pass(2500 * time.Millisecond)
		s.must(s.pg.Standby.Start(s.t.Context()))
		s.returns()
	}, then: func(s *site, fg *figures) {
		acknowledged, reads, failed := 0, 0, 0
		from, until := s.hit, s.hit.Add(2500*time.Millisecond*scale)
		for _, n := range s.notes {
			for _, w := range n.writes {
				if w.outcome == acked && w.begin.After(from) && w.at.Before(until) {
					acknowledged++
				}
			}
			for _, c := range n.calls {
				switch {
				case c.write || c.begin.Before(from) || c.end.After(until):
				case c.ok:
					reads++
				default:
					failed++
				}
			}
		}
		if acknowledged > 0 {
			s.t.Errorf("%d writes were acknowledged without the standby", acknowledged)
		}
		if s.t.Logf("without the standby: %d reads answered, %d not", reads, failed); reads == 0 {
			s.t.Error("no read was answered while only the standby was gone")
		}
	}},

	{name: "network of one server cut", strike: func(s *site) {
		s.hits()
		s.network(0, (*servers.Proxy).Cut)
		pass(2500 * time.Millisecond)
		s.network(0, s.restore)
		s.returns()
	}, then: func(s *site, fg *figures) {
		var fine [webServers]int
		for _, n := range s.notes {
			for _, c := range n.calls {
				if c.ok && c.begin.After(s.hit) && c.end.Before(s.back) {
					fine[c.server]++
				}
			}
		}
		if s.t.Logf("answered while the first was cut off: %v", fine); fine[1] == 0 || fine[2] == 0 || fine[3] == 0 {
			s.t.Errorf("with the first server's network cut the servers answered %v calls", fine)
		}
	}},

	{name: "network of all cut", strike: func(s *site) {
		s.hits()
		s.networks((*servers.Proxy).Cut)
		pass(2500 * time.Millisecond)
		s.networks(s.restore)
		s.returns()
	}},

	slow(50 * time.Millisecond), slow(500 * time.Millisecond), slow(5 * time.Second),

	{name: "answers lost", strike: func(s *site) {
		s.hits()
		for i := range 6 {
			s.networks((*servers.Proxy).DropAnswers)
			pass(150 * time.Millisecond)
			if i%2 == 0 {
				s.networks((*servers.Proxy).Reset)
			}
			s.networks(s.restore)
			pass(200 * time.Millisecond)
		}
		s.returns()
	}},
}

func slow(d time.Duration) fault {
	return fault{name: fmt.Sprintf("answers %v late", d), strike: func(s *site) {
		s.hits()
		s.networks(func(p *servers.Proxy) { p.Slow(d) })
		pass(3 * time.Second)
		s.networks(s.restore)
		s.returns()
	}}
}

// written sums up what has been written to a server.
func (s *site) written(n *servers.Node) string {
	s.t.Helper()
	got, err := n.Query(s.t.Context(), `SELECT count(*), sum(version) FROM "`+s.table+`"`)
	s.must(err)
	return got
}

// Whatever happens to the database: nothing that was acknowledged is lost,
// unless a replica takes over that did not have it, and then it is counted;
// nobody is logged out; nobody who was logged out is back; nothing is done
// twice; and when it is over the site works as before, with nothing left over.
func TestFaults(t *testing.T) {
	var mu sync.Mutex
	rows := make([]figures, len(faults))
	t.Run("PostgreSQL", func(t *testing.T) {
		for i, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				fg := f.run(t)
				mu.Lock()
				defer mu.Unlock()
				rows[i] = fg
			})
		}
	})
	if table := tell(rows); table != "" {
		t.Logf("\n%s", table)
	}
}

// run puts a site under load, lets the fault happen, and judges.
func (f fault) run(t *testing.T) (fg figures) {
	s := openSite(t, f.name, f.o)
	defer func() {
		if t.Failed() {
			t.Logf("the end of the log:\n%s", s.log.tail())
		}
	}()
	tr, users := traffic{hot: 10}, 300
	if f.lossy {
		tr.hot, users = 0, 600 // so that few sessions are written to eight times before their loss is looked for
	}
	fg.name = f.name
	var load sync.WaitGroup
	var closing func()
	pprof.Do(t.Context(), pprof.Labels(label, s.name), func(context.Context) {
		closing = s.open()
		s.farm = newFarm(s.managers, users, tr)
		// Visitors who never rest would keep the machine from all else, the
		// database's recovery too.
		s.pause, s.retryAfter = 4*time.Millisecond, 20*time.Millisecond
		for w := range workers {
			load.Go(func() { s.work(w, tr) })
		}
	})
	stop := sync.OnceFunc(func() {
		s.stop.Store(true)
		s.networks(func(p *servers.Proxy) { p.Restore() })
		load.Wait()
		closing()
	})
	defer stop()

	pass(1500 * time.Millisecond)
	begin := time.Now()
	fg.goroutines.before, _ = s.goroutines()
	fg.conns.before = s.connections()
	sampling := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		tick := time.NewTicker(400 * time.Millisecond)
		defer tick.Stop()
		for {
			n, _ := s.goroutines()
			fg.goroutines.most = max(fg.goroutines.most, n)
			fg.conns.most = max(fg.conns.most, s.connections())
			select {
			case <-tick.C:
			case <-sampling:
				return
			}
		}
	})
	func() {
		defer sampler.Wait()
		defer close(sampling)
		f.strike(s)
		pass(2 * time.Second)
		for !s.recovered() {
			if time.Since(s.back) > time.Minute {
				t.Error("not every web server writes again a minute after the store's return")
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	fg.goroutines.after, _ = s.goroutines()
	fg.conns.after = s.connections()
	s.stop.Store(true)
	load.Wait()

	s.measure(begin, &fg)
	ground := 0 // what was acknowledged and is not there when the standby takes over
	for _, n := range s.notes {
		for _, w := range n.writes {
			if w.outcome == acked && s.loses(w.id, w.n, w.at) {
				ground++
			}
		}
	}
	records := s.records()
	buried := 0 // of them, those that newer writes than a record remembers are above
	for _, n := range s.notes {
		for _, w := range n.writes {
			if w.outcome == acked && s.loses(w.id, w.n, w.at) && records[w.id].Version >= uint64(w.n+len(roam.Writes{})) {
				buried++
			}
		}
	}
	for begin := time.Now(); s.lost() < ground-buried && time.Since(begin) < 30*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	fg.counted = s.lost()
	if f.writesOnly {
		for _, n := range s.notes {
			n.history = slices.DeleteFunc(n.history, func(st step) bool { return st.item == 0 })
		}
	}
	if !f.lossy {
		s.survived = nil
		if ground > 0 {
			t.Errorf("%d acknowledged writes were not on the standby when it took over", ground)
		}
	}
	fg.v = s.judge(records, s.circumstances)
	fg.v.condemn(t)
	if f.lossy && ground == 0 {
		t.Error("no write was lost: the standby was not behind, and this proves nothing")
	}
	if fg.counted > ground || fg.counted < ground-buried {
		t.Errorf("the managers have counted %d lost writes, the new primary misses %d, %d of which are under so many newer ones that it cannot be told",
			fg.counted, ground, buried)
	}
	if f.then != nil {
		f.then(s, &fg)
	}

	// All that was started is gone.
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		n, stacks := s.goroutines()
		if n == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Errorf("%d goroutines are left:\n%s", n, stacks)
			break
		}
	}
	if most := fg.goroutines.before + 10*webServers*conns; fg.goroutines.most > most {
		t.Errorf("there were up to %d goroutines, want at most %d", fg.goroutines.most, most)
	}
	if most := fg.conns.before + 2*webServers*(conns+2); fg.conns.most > most {
		t.Errorf("there were up to %d connections, want at most %d", fg.conns.most, most)
	}
	t.Log("\n" + tell([]figures{fg}))
	return fg
}

// tell makes a table. Lost writes are those of living sessions; counted are
// all lost ones, by the managers. Excused are visitors who lost their login
// with the old primary. Late is how long after an end it was last answered as
// alive, within the bounds. Then the longest time without an acknowledged
// write; the time from the store's return to the last server's first
// acknowledged write; the longest call; the best rate afterwards; and numbers
// before, at most and after.
func tell(rows []figures) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tacked\tunknown\tlost\tcounted\tlogged out\texcused\tends\tserved after\tlate\tgap\tfirst\tslowest\trate\tgoroutines\tconnections\tsteps")
	n := 0
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	for _, r := range rows {
		if r.name == "" {
			continue
		}
		n++
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%v\t%v\t%v\t%.0f %%\t%v\t%v\t%d\n", r.name, r.v.acked, r.v.unknown, r.v.lost, r.counted,
			r.v.loggedOut, r.v.excused, r.v.ends, r.v.served, ms(r.v.late), ms(r.gap), ms(r.first), ms(r.slowest), 100*r.rate, r.goroutines, r.conns, r.v.checked)
	}
	w.Flush()
	if n == 0 {
		return ""
	}
	return b.String()
}
