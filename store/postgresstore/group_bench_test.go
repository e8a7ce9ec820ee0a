package postgresstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// A way is one of several that a benchmark compares.
type way struct {
	name string
	do   func(i int) error
	took []time.Duration // of each call
	wall time.Duration
	cpu  time.Duration // of the server

	groups, served *atomic.Int64 // see counted; nil where nothing is grouped
}

// postmaster is the pid of the parent of a server's processes.
func postmaster(b *testing.B, pg *servers.Postgres) int {
	out, err := pg.Primary.Query(background, "SELECT pg_read_file('postmaster.pid', 0, 20)")
	must(b, err)
	first, _, _ := strings.Cut(out, "\n")
	return must2(strconv.Atoi(first))
}

// spent is how long the server's processes have been running on a processor.
// What a process spends that begins or ends in between is not in a difference.
func spent(parent int) (all map[string]time.Duration) {
	all = make(map[string]time.Duration)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		_, after, ok := strings.Cut(string(stat), ") ")
		f := strings.Fields(after)
		if err != nil || !ok || len(f) < 2 || f[1] != strconv.Itoa(parent) {
			continue
		}
		sched, err := os.ReadFile(filepath.Join(filepath.Dir(name), "schedstat"))
		if f := strings.Fields(string(sched)); err == nil && len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			all[name] = time.Duration(ns)
		}
	}
	return all
}

func since(before, after map[string]time.Duration) (d time.Duration) {
	for name, then := range before {
		if now, ok := after[name]; ok {
			d += now - then
		}
	}
	return d
}

// compare runs all ways with n callers, in turns of a few milliseconds each, so
// that all have the same weather, and reports of each its rate, how long the
// median call and the slowest of a hundred took, and what the server spent. The
// ratios are of the first way to each of the others.
func compare(b *testing.B, server, n int, ways ...*way) {
	b.Helper()
	block := 64 * max(n, 8)
	run := func(w *way) {
		took := make([]time.Duration, block)
		before, start := spent(server), time.Now()
		if err := spread(n, block, func(i int) error {
			start := time.Now()
			err := w.do(i)
			took[i-1] = time.Since(start)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		w.wall += time.Since(start)
		w.cpu += since(before, spent(server))
		w.took = append(w.took, took...)
	}
	for _, w := range ways { // connections, plans, caches
		for range 4 {
			run(w)
		}
		if w.took, w.wall, w.cpu = nil, 0, 0; w.groups != nil {
			w.groups.Store(0)
			w.served.Store(0)
		}
	}
	for turn := 0; b.Loop(); turn++ {
		for i := range ways {
			run(ways[(turn+i)%len(ways)])
		}
	}
	at := func(w *way, p float64) float64 { return float64(w.took[int(p*float64(len(w.took)-1))].Microseconds()) }
	for i, w := range ways {
		slices.Sort(w.took)
		calls := float64(len(w.took))
		b.ReportMetric(calls/w.wall.Seconds(), w.name+"/s")
		b.ReportMetric(at(w, .5), w.name+"-p50-µs")
		b.ReportMetric(at(w, .99), w.name+"-p99-µs")
		b.ReportMetric(float64(w.cpu.Nanoseconds())/calls/1000, w.name+"-server-µs")
		if w.groups != nil {
			b.ReportMetric((calls-float64(w.served.Load()-w.groups.Load()))/calls, w.name+"-trips")
		}
		if i > 0 {
			b.ReportMetric(w.wall.Seconds()/ways[0].wall.Seconds(), "rate/"+w.name)
			b.ReportMetric(float64(ways[0].cpu)/float64(w.cpu), "cpu/"+w.name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// alone is another store on the same tables, in which nobody shares a trip.
func alone(b *testing.B, url string, s *Store) *Store {
	opts := s.opts
	other := reopen(b, url, &opts)
	other.lookups.off, other.changes.off = true, true
	return other
}

// BenchmarkLookups compares lookups that share round trips with the same that
// do not, and with pgx as its documentation shows it.
func BenchmarkLookups(b *testing.B) {
	s, pg, ids := filled(b, benchRecords)
	server := postmaster(b, pg)
	proxy := need2(b)(servers.StartProxy(pg.Primary.Addr()))
	b.Cleanup(proxy.Stop)
	far := func(url string) string { return strings.Replace(url, pg.Primary.Addr(), proxy.Addr(), 1) }
	lookups := func(b *testing.B, n int, s, single *Store, pool *pgxpool.Pool) {
		sql := s.statements[loadRecord].sql
		id := func(i int) roam.ID { return ids[rand.IntN(len(ids))] }
		load := func(s *Store) func(int) error {
			return func(i int) error { _, err := s.Load(background, id(i), roam.Want{}); return err }
		}
		groups, served := counted(&s.lookups)
		compare(b, server, n, &way{name: "grouped", do: load(s), groups: groups, served: served}, &way{name: "single", do: load(single)},
			&way{name: "raw", do: func(i int) error { return scanAll(pool.QueryRow(background, sql, id(i))) }})
	}
	url := pg.Primary.URL()
	single, pool := alone(b, url, s), rawPool(b, url)
	for _, n := range []int{1, 8, 16, 32, 64, 256} {
		b.Run(fmt.Sprintf("near-%d", n), func(b *testing.B) { lookups(b, n, s, single, pool) })
	}
	proxy.Slow(2400 * time.Microsecond)
	opts := s.opts
	s, single, pool = reopen(b, far(url), &opts), alone(b, far(url), s), rawPool(b, far(url))
	for _, n := range []int{1, 8, 16, 32, 64, 256} {
		b.Run(fmt.Sprintf("far-%d", n), func(b *testing.B) { lookups(b, n, s, single, pool) })
	}
}

// BenchmarkUpdates compares updates that share round trips and commits with the
// same that do not, and with just the compare-and-swap in pgx.
func BenchmarkUpdates(b *testing.B) {
	s, pg, _ := filled(b, benchRecords)
	server := postmaster(b, pg)
	single, pool := alone(b, pg.Primary.URL(), s), rawPool(b, pg.Primary.URL())
	type slot struct {
		sync.Mutex
		rec roam.Record
	}
	slots := make([]slot, 2000)
	for i := range slots {
		slots[i].rec = must2(s.Load(background, benchID(i), roam.Want{}))
	}
	update := func(s *Store) func(int) error {
		return func(i int) error {
			at := &slots[i%len(slots)]
			at.Lock()
			defer at.Unlock()
			rec, err := s.Update(background, at.rec)
			if errors.Is(err, roam.ErrConflict) {
				return fmt.Errorf("%w of version %d", err, at.rec.Version)
			}
			at.rec = rec
			return err
		}
	}
	sql := s.names.in("UPDATE {session} SET version = version + 1, seen = now(), data = $2 WHERE id = $1 AND version > 0")
	data := string(benchRecord(0).Data)
	raw := func(i int) error {
		_, err := pool.Exec(background, sql, benchID(5000+i%1000), data)
		return err
	}
	for _, n := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			groups, served := counted(&s.changes)
			compare(b, server, n, &way{name: "grouped", do: update(s), groups: groups, served: served}, &way{name: "single", do: update(single)}, &way{name: "raw", do: raw})
		})
	}
}

// BenchmarkTouches compares what the server spends on 5,000 touches a second,
// once as Touch gets them, those of a tenth of a second at once, and once as an
// UPDATE each.
func BenchmarkTouches(b *testing.B) {
	s, pg, ids := filled(b, benchRecords)
	server := postmaster(b, pg)
	pool := rawPool(b, pg.Primary.URL())
	sql := s.names.in("UPDATE {session} SET seen = greatest(seen, now()) WHERE id = $1 AND ended IS NULL")
	const batch, every = 500, 100 * time.Millisecond
	touches := make([]roam.Touch, batch)
	ways := []func() error{
		func() error {
			from, at := rand.IntN(len(ids)-batch), time.Now()
			for i := range touches {
				touches[i] = roam.Touch{ID: ids[from+i], At: at}
			}
			return s.Touch(background, touches)
		},
		func() error {
			from := rand.IntN(len(ids) - batch)
			return spread(16, batch, func(i int) error {
				_, err := pool.Exec(background, sql, ids[from+i-1])
				return err
			})
		},
	}
	var cpu [2]time.Duration
	for _, do := range ways {
		must(b, do())
	}
	for b.Loop() {
		for i, do := range ways {
			before := spent(server)
			tick := time.NewTicker(every)
			for range 10 {
				must(b, do())
				<-tick.C
			}
			tick.Stop()
			cpu[i] += since(before, spent(server))
		}
	}
	touched := float64(b.N * 10 * batch)
	b.ReportMetric(float64(cpu[0].Nanoseconds())/touched/1000, "batched-server-µs")
	b.ReportMetric(float64(cpu[1].Nanoseconds())/touched/1000, "single-server-µs")
	b.ReportMetric(float64(cpu[0])/float64(cpu[1]), "cpu/single")
	b.ReportMetric(0, "ns/op")
}
