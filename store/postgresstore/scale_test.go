package postgresstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// BenchmarkScale runs with ROAM_SCALE=5000000, say: as many sessions, of which
// every tenth is over. It compares looking one up with looking one up among ten
// thousand, and Prune with the bare statement that sweeps by pages.
func BenchmarkScale(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv("ROAM_SCALE"))
	if n == 0 {
		b.Skip("takes minutes: set ROAM_SCALE to the number of sessions, 5000000 say")
	}
	pg, err := servers.StartPostgres(background, &servers.PostgresOptions{Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"}})
	pg = need(b, pg, err)
	b.Cleanup(pg.Stop)
	small, large := openAt(b, pg.DSN(), nil), openAt(b, pg.DSN(), nil)
	fill(b, pg, small, 10_000)
	began := time.Now()
	for from := 0; from < n; from += 500_000 {
		must(b, pg.Primary.Exec(background, large.names.in(fmt.Sprintf(`
			INSERT INTO {session} (id, version, created, seen, logged_in, idle, lifetime, level, proof, writes, username, addr, agent, data)
			SELECT md5(i::text)::uuid, 1, t, t, t, 3600e9, 864e11, 1, sha256(i::text::bytea), '\x0102030405060708', 'user' || i / 3,
				'192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', repeat('a', 200)
			FROM generate_series(%d, %d) AS i, LATERAL (SELECT CASE WHEN i %% 10 = 0 THEN now() - interval '2 days' ELSE now() END AS t) AS x`,
			from, min(from+500_000, n)-1))))
	}
	must(b, pg.Primary.Exec(background, large.names.in("VACUUM ANALYZE {session}; CHECKPOINT")))
	size, err := pg.Primary.Query(background, large.names.in("SELECT pg_size_pretty(pg_table_size('{session}')) || ' and indexes ' || pg_size_pretty(pg_indexes_size('{session}'))"))
	must(b, err)
	b.Logf("%d sessions made in %v: %s", n, time.Since(began).Round(time.Second), size)

	// lookups measures until it is stopped.
	lookups := func(s *Store, n, callers int, pace time.Duration) (stop func() []time.Duration) {
		ctx, cancel := context.WithCancel(background)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var all []time.Duration
		for range callers {
			wg.Go(func() {
				var mine []time.Duration
				for ctx.Err() == nil {
					i := rand.IntN(n)
					if i%10 == 0 {
						i++
					}
					start := time.Now()
					if _, err := s.Load(background, benchID(i), roam.Want{}); err != nil {
						b.Error(err)
						break
					}
					mine = append(mine, time.Since(start))
					time.Sleep(pace)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
			})
		}
		return func() []time.Duration {
			cancel()
			wg.Wait()
			slices.Sort(all)
			return all
		}
	}
	at := func(d []time.Duration, p float64) time.Duration { return d[int(p*float64(len(d)-1))] }
	during := func(s *Store, n, callers int, pace, d time.Duration) []time.Duration {
		stop := lookups(s, n, callers, pace)
		time.Sleep(d)
		return stop()
	}
	for range b.N {
		var ratios []float64
		for range 3 {
			few := during(small, 9_999, 1, 0, 3*time.Second)
			many := during(large, n-1, 1, 0, 3*time.Second)
			b.Logf("lookup alone: p50 %v among 10000, %v among %d; p99 %v and %v", at(few, .5), at(many, .5), n, at(few, .99), at(many, .99))
			ratios = append(ratios, float64(at(many, .5))/float64(at(few, .5)))
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[1], "p50/10k")

		// The table in parts, in turn swept by the bare statement and by
		// Prune, with the same lookups beside them.
		pages, err := strconv.Atoi(must2(pg.Primary.Query(background, large.names.in("SELECT pg_relation_size('{session}') / 8192"))))
		must(b, err)
		idle := during(large, n-1, 4, time.Millisecond, 5*time.Second)
		raw, ours := 0.0, 0.0
		var all []time.Duration // beside Prune
		const parts = 6
		c := must2(connect(background, large.hosts[0].cfg))
		defer c.quit()
		for part := range parts {
			from, to := part*pages/parts, (part+1)*pages/parts
			stop := lookups(large, n-1, 4, time.Millisecond)
			start := time.Now()
			removed := 0
			if part%2 == 0 {
				for page := from; page < to; page += 500 {
					tag := c.pg.ExecParams(background, large.names.in(fmt.Sprintf("DELETE FROM {session} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {session} WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)' AND %s <= now() - interval '1 day'))",
						page, min(page+500, to), over)), nil, nil, nil, nil).Read()
					must(b, tag.Err)
					removed += int(tag.CommandTag.RowsAffected())
				}
				raw += float64(removed) / time.Since(start).Seconds() / (parts / 2)
			} else {
				large.sweep.progress = progress{on: true, page: int64(from), pages: int64(to), before: time.Now().Add(-24 * time.Hour), due: time.Now()}
				for large.sweep.on {
					k, err := large.Prune(background, 24*time.Hour, 10_000)
					must(b, err)
					removed += k
				}
				ours += float64(removed) / time.Since(start).Seconds() / (parts / 2)
			}
			took := time.Since(start)
			beside := stop()
			b.Logf("part %d: %d removed in %v, %.0f a second; lookups beside it p50 %v p99 %v (idle %v and %v)", part, removed, took.Round(time.Millisecond),
				float64(removed)/took.Seconds(), at(beside, .5), at(beside, .99), at(idle, .5), at(idle, .99))
			if part%2 == 1 {
				all = append(all, beside...)
			}
		}
		b.ReportMetric(ours/raw, "prune/raw")
		slices.Sort(all)
		b.ReportMetric(float64(at(all, .99))/float64(at(idle, .99)), "p99/idle")
	}
}
