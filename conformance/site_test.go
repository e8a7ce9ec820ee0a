package conformance

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
	"github.com/roam-web/roam/store/postgresstore"
)

const (
	webServers = 4
	conns      = 8 // of each web server, to each database server
)

// A site is a farm on a PostgreSQL of its own, to which each web server has a
// network of its own.
type site struct {
	*farm
	t       *testing.T
	name    string
	pg      *servers.Postgres
	table   string
	proxies [webServers][]*servers.Proxy // to the primary and to the standby
	stores  []*postgresstore.Store

	managers []*roam.Manager[ledger]
	log      logbook

	hit, back time.Time // when the fault began, and when the store was there again
	circumstances
}

// A logbook keeps what was logged, for a test that fails.
type logbook struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// tail returns the end of it.
func (l *logbook) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.String()
	return s[max(0, len(s)-8000):]
}

// openSite starts the servers.
func openSite(t *testing.T, name string, o servers.PostgresOptions) *site {
	t.Helper()
	o.NoFsync = true // nobody cuts the power, and what a process has written outlives its kill -9
	pg, err := servers.StartPostgres(t.Context(), &o)
	pg = need(t, pg, err)
	t.Cleanup(pg.Stop)
	s := &site{t: t, name: name, pg: pg}
	_, s.table = tables(t, pg.Primary.URL())
	if pg.Standby != nil {
		if err := pg.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.proxies {
		for _, n := range []*servers.Node{pg.Primary, pg.Standby} {
			if n == nil {
				continue
			}
			p, err := servers.StartProxy(n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			s.proxies[i] = append(s.proxies[i], p)
		}
	}
	return s
}

// networks calls do with the network of each web server.
func (s *site) networks(do func(p *servers.Proxy)) {
	for i := range s.proxies {
		s.network(i, do)
	}
}

func (s *site) network(i int, do func(p *servers.Proxy)) {
	for _, p := range s.proxies[i] {
		do(p)
	}
}

func (s *site) restore(p *servers.Proxy) { s.must(p.Restore()) }

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open opens a store and a manager for each web server and has them run until
// the function it returns is called.
func (s *site) open() (close func()) {
	s.t.Helper()
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	quiet := slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var managers []*roam.Manager[ledger]
	for i := range webServers {
		var addrs []string
		for _, p := range s.proxies[i] {
			addrs = append(addrs, p.Addr())
		}
		store, err := postgresstore.Open(ctx, s.pg.DSN(addrs...), &postgresstore.Options{
			Table: s.table, MaxConns: conns, Logger: logger.With("server", i),
		})
		s.must(err)
		s.stores = append(s.stores, store)
		// With a minute of idle time each session in use is touched every three seconds.
		m, err := roam.New[ledger](store, &roam.Options{IdleTimeout: time.Minute, MaxData: 1 << 20, Logger: quiet.With("server", i)})
		s.must(err)
		managers = append(managers, m)
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				s.t.Errorf("Run: %v", err)
			}
		})
	}
	s.managers = managers
	return func() {
		cancel()
		running.Wait()
		for _, store := range s.stores {
			if err := store.Close(); err != nil {
				s.t.Errorf("Close: %v", err)
			}
		}
	}
}

// begin and end of the fault.
func (s *site) hits()    { s.hit = time.Now() }
func (s *site) returns() { s.back = time.Now() }

// promote has the standby take over, and keeps what it knows of, which is all
// that is left. The primary writes nothing any more.
func (s *site) promote() {
	s.t.Helper()
	ctx := s.t.Context()
	// It replays all that it has, but for what it has only the beginning of.
	for at, since := "", time.Now(); time.Since(since) < 300*time.Millisecond; {
		replayed, err := s.pg.Standby.Query(ctx, "SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()")
		s.must(err)
		if strings.HasSuffix(replayed, "|t") {
			break
		}
		if replayed != at {
			at, since = replayed, time.Now()
		}
	}
	rows, err := s.pg.Standby.Query(ctx, `SELECT id, version FROM "`+s.table+`"`)
	s.must(err)
	survived := make(map[roam.ID]int)
	for row := range strings.Lines(rows) {
		text, version, _ := strings.Cut(strings.TrimSpace(row), "|")
		id, err := roam.ParseID(text)
		s.must(err)
		survived[id], err = strconv.Atoi(version)
		s.must(err)
	}
	s.survived, s.promoted = survived, time.Now()
	s.must(s.pg.Standby.Promote(ctx))
	s.returns()
}

// records reads what is there at the end, as a web server would that has just
// been started.
func (s *site) records() map[roam.ID]roam.Record {
	s.t.Helper()
	n := s.pg.Primary
	if s.survived != nil {
		n = s.pg.Standby
	}
	store, err := postgresstore.Open(s.t.Context(), n.URL(), &postgresstore.Options{Table: s.table, Timeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	s.must(err)
	defer store.Close()
	records := make(map[roam.ID]roam.Record)
	for rec, err := range store.All(s.t.Context()) {
		s.must(err)
		records[rec.ID] = rec
	}
	return records
}

// lost is what the managers say is lost, together.
func (s *site) lost() (n int) {
	for _, m := range s.managers {
		n += int(m.Lost())
	}
	return n
}

// label marks the goroutines of a site and all that they start, so that those
// of tests beside it are not counted.
const label = "site"

// goroutines counts those with the site's label.
func (s *site) goroutines() (n int, stacks string) {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	for group := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(group, fmt.Sprintf("%q:%q", label, s.name)) {
			first, _, _ := strings.Cut(strings.TrimLeft(group, "\n"), " ")
			k, _ := strconv.Atoi(first)
			n += k
			stacks += group + "\n\n"
		}
	}
	return n, stacks
}

// connections counts those of the web servers, by the ports of their networks.
func (s *site) connections() (n int) {
	ports := make(map[uint16]bool)
	s.networks(func(p *servers.Proxy) {
		_, port, _ := net.SplitHostPort(p.Addr())
		k, _ := strconv.Atoi(port)
		ports[uint16(k)] = true
	})
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line) // the third is the other end, the fourth the state: 01 is established
		if len(fields) < 4 || fields[3] != "01" {
			continue
		}
		_, hex, _ := strings.Cut(fields[2], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil && ports[uint16(port)] {
			n++
		}
	}
	return n
}

// A gauge is how many of something there were before the fault, at most while
// the load went on, and at its end.
type gauge struct{ before, most, after int }

func (g gauge) String() string { return fmt.Sprintf("%d/%d/%d", g.before, g.most, g.after) }

// figures are what is told of a fault, besides the verdict.
type figures struct {
	name              string
	v                 verdict
	counted           int           // by the managers, as lost
	gap               time.Duration // the longest without an acknowledged write
	first             time.Duration // from the store's return to the last web server's first acknowledged write
	slowest           time.Duration // call
	rate              float64       // in the best moment after, of what it was just before
	goroutines, conns gauge
}

// measure makes figures of the calls.
func (s *site) measure(from time.Time, fg *figures) {
	var calls []call
	for _, n := range s.notes {
		calls = append(calls, n.calls...)
	}
	slices.SortFunc(calls, func(a, b call) int { return a.end.Compare(b.end) })
	before, most := 0, 0
	last := from
	firsts := make(map[int]bool)
	var answered []time.Time // since the store's return
	for _, c := range calls {
		if c.ok && c.end.Before(s.hit) && s.hit.Sub(c.end) < rateWindow {
			before++
		}
		if c.end.Before(from) {
			continue
		}
		fg.slowest = max(fg.slowest, c.end.Sub(c.begin))
		if !c.ok {
			continue
		}
		if c.write {
			fg.gap, last = max(fg.gap, c.end.Sub(last)), c.end
			if since := c.end.Sub(s.back); since >= 0 && !firsts[c.server] {
				firsts[c.server], fg.first = true, max(fg.first, since)
			}
		}
		if !c.end.Before(s.back) {
			answered = append(answered, c.end)
		}
	}
	for i, k := 0, 0; k < len(answered); k++ {
		for answered[k].Sub(answered[i]) > rateWindow {
			i++
		}
		most = max(most, k-i+1)
	}
	fg.rate = float64(most) / float64(max(before, 1))
	s.settled = s.back.Add(fg.first)
}

const rateWindow = 1200 * time.Millisecond

// recovered reports whether every web server has written since the store's return.
func (s *site) recovered() bool {
	for i := range s.managers {
		if s.wrote[i].Load() < s.back.UnixNano() {
			return false
		}
	}
	return true
}
