package conformance

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
	"github.com/roam-web/roam/store/postgresstore"
)

// When all servers of a site start at once, with nothing in memory, and all
// visitors are there, the database sees no more connections than the servers
// may have. How many statements it sees, and how many at once, is told.
//
// ROAM_SCALE is how many sessions there are, 20000 by default.
func TestColdStartIsBounded(t *testing.T) {
	const poolSize = 8
	sessions, _ := strconv.Atoi(os.Getenv("ROAM_SCALE"))
	sessions = cmp.Or(sessions, 20_000)
	visitors := min(2000, sessions/10)

	pg, err := servers.StartPostgres(t.Context(), &servers.PostgresOptions{NoFsync: true})
	pg = need(t, pg, err)
	defer pg.Stop()
	url, table := tables(t, pg.Primary.URL())
	options := patient(table)
	options.MaxConns, options.Timeout = poolSize, 2*time.Minute // nothing fails on a machine that is very busy
	var stores [webServers]*postgresstore.Store
	open := func() {
		for i := range stores {
			if stores[i], err = postgresstore.Open(t.Context(), url, options); err != nil {
				t.Fatal(err)
			}
		}
	}
	shut := func() {
		for i, s := range stores {
			if s == nil {
				continue
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			stores[i] = nil
		}
	}
	open()
	defer shut()
	f := newFleet(t, func(i int) roam.Store { return stores[i] }, nil)
	defer f.stop()

	// There are many sessions, and of some the visitors come.
	populate(t, stores[0], sessions-visitors, "nobody who comes")
	browsers := make([]browser, visitors)
	ids := make([]roam.ID, visitors)
	var next atomic.Int64
	parallel(8*webServers, func(k int) {
		for i := next.Add(1) - 1; i < int64(visitors); i = next.Add(1) - 1 {
			w, r := sending{}.request(t.Context())
			s, err := f.server(k%webServers).Login(w, r, roam.Login{User: fmt.Sprint("user ", i), Level: 1}, func(d *diary) error { d.N++; return nil })
			if err != nil {
				t.Error(err)
				return
			}
			browsers[i].take(w)
			ids[i] = s.ID
		}
	})
	if t.Failed() {
		return
	}

	var asked atomic.Int64
	ask := func(sql string) (n [3]int) {
		t.Helper()
		asked.Add(1)
		row, err := pg.Primary.Query(context.Background(), sql)
		if err != nil {
			t.Error(err)
		}
		for i, field := range strings.Split(strings.TrimSpace(row), "|") {
			n[i], _ = strconv.Atoi(field)
		}
		return n
	}
	statements := func() int { // when no connection is left that has not yet told what it did
		f.stop()
		shut()
		time.Sleep(500 * time.Millisecond)
		return ask("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'roam'")[0]
	}

	// All servers stop, and all start.
	before := statements()
	asked.Store(0)
	open()
	began := time.Now()
	parallel(webServers, func(i int) { f.start(i) })

	var peak, active atomic.Int64
	done := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			n := ask("SELECT count(*), count(*) FILTER (WHERE state = 'active') FROM pg_stat_activity WHERE usename = 'roam'")
			atomicMax(&peak, int64(n[0]))
			atomicMax(&active, int64(n[1]))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	const rounds = 3
	var waits [2 * rounds][]time.Duration
	var mu sync.Mutex
	loads := [rounds]int64{}
	counted := int64(0)
	for round := range rounds {
		parallel(visitors, func(v int) {
			with := browsers[v].cookies()
			// A page that asks who it is, and two parts of it that need the session.
			parallel(3, func(part int) {
				web := f.server(rand.IntN(webServers))
				w, r := with.request(t.Context())
				begin := time.Now()
				var id roam.ID
				var err error
				slot := 2 * round
				if part == 0 {
					var who roam.Identity
					who, err = web.Identify(w, r)
					id = who.ID
				} else {
					var s roam.Session[diary]
					s, err = web.Get(w, r)
					id, slot = s.ID, slot+1
				}
				took := time.Since(begin)
				if err != nil || id != ids[v] {
					t.Errorf("%v, %v; want session %v", id, err, ids[v])
				}
				mu.Lock()
				defer mu.Unlock()
				waits[slot] = append(waits[slot], took)
			})
		})
		sum := int64(0)
		for i := range webServers {
			sum += f.server(i).feed.loads.Load()
		}
		loads[round], counted = sum-counted, sum
	}
	took := time.Since(began)
	close(done)
	sampler.Wait()
	ran := int64(statements()-before) - asked.Load()

	// Each server has a connection besides, with which it looks whether the
	// database is well.
	if most := int64(webServers * (poolSize + 1)); peak.Load() > most {
		t.Errorf("%d connections, want at most %d", peak.Load(), most)
	} else {
		t.Logf("%d sessions, %d visitors with 3 requests at once, %d times: at most %d connections of %d, %d statements at once", sessions, visitors, rounds, peak.Load(), most, active.Load())
	}
	for round := range rounds {
		at := func(d []time.Duration, p float64) time.Duration {
			return d[int(p*float64(len(d)-1))].Round(100 * time.Microsecond)
		}
		who, get := waits[2*round], waits[2*round+1]
		slices.Sort(who)
		slices.Sort(get)
		t.Logf("round %d: %d requests, %d lookups; Identify p50 %v p99 %v, Get p50 %v p99 %v", round+1, 3*visitors, loads[round], at(who, .5), at(who, .99), at(get, .5), at(get, .99))
	}
	t.Logf("%d requests, %d lookups, %d transactions of all kinds in %v: %.0f a second", 3*rounds*visitors, counted, ran, took.Round(time.Millisecond), float64(ran)/took.Seconds())
}
