package postgresstore

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

const benchRecords = 10_000

// durable is a PostgreSQL as people run it, with fsync.
func durable(tb testing.TB) *servers.Postgres {
	tb.Helper()
	synced.once.Do(func() { synced.pg, synced.err = servers.StartPostgres(background, nil) })
	return need(tb, synced.pg, synced.err)
}

// filled returns a store with many records, and the ids of some.
func filled(b *testing.B, n int) (*Store, *servers.Postgres, []roam.ID) {
	pg := durable(b)
	opts := fresh(b)
	s := openAt(b, pg.Primary.URL(), opts)
	fill(b, pg, s, n)
	ids := make([]roam.ID, 1<<14)
	for i := range ids {
		ids[i] = benchID(rand.IntN(n))
	}
	return s, pg, ids
}

// fill inserts n living records with some 200 bytes of data.
func fill(tb testing.TB, pg *servers.Postgres, s *Store, n int) {
	tb.Helper()
	must(tb, pg.Primary.Exec(background, s.names.in(fmt.Sprintf(`
		INSERT INTO {session} (id, version, created, seen, logged_in, idle, lifetime, level, proof, writes, username, addr, agent, data)
		SELECT md5(i::text)::uuid, 1, now(), now(), now(), 3600e9, 864e11, 1, sha256(i::text::bytea), '\x0102030405060708', 'user' || i / 3,
			'192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', repeat('a', 200)
		FROM generate_series(0, %d) AS i;
		VACUUM ANALYZE {session}; CHECKPOINT`, n-1))))
}

// benchID is the ID that fill gives the n-th record: a page of the table is as
// near as another.
func benchID(n int) (id roam.ID) { return md5ID(fmt.Sprint(n)) }

func benchRecord(n int) roam.Record {
	r := record(uint32(n), fmt.Sprint("user", n/3))
	for i := range r.ID {
		r.ID[i] = byte(rand.Uint32())
	}
	r.From = roam.Client{Addr: netip.MustParseAddr("192.0.2.7"), Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
	r.Data = make([]byte, 200)
	for i := range r.Data {
		r.Data[i] = 'a'
	}
	return r
}

// rawPool is pgx as its documentation shows it.
func rawPool(b *testing.B, url string) *pgxpool.Pool {
	cfg, err := pgxpool.ParseConfig(url)
	must(b, err)
	cfg.MaxConns = defaultConns
	pool, err := pgxpool.NewWithConfig(background, cfg)
	must(b, err)
	b.Cleanup(pool.Close)
	return pool
}

// each runs do in n goroutines, b.N times in all.
func each(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	b.StartTimer()
	if err := spread(n, b.N, do); err != nil {
		b.Fatal(err)
	}
}

// spread calls do so often, from n goroutines.
func spread(n, calls int, do func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, n)
	for range n {
		go func() {
			for {
				i := int(next.Add(1))
				if i > calls {
					errs <- nil
					return
				}
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var failed error
	for range n {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// against measures ours and raw in turn, a few milliseconds each, so that both
// have the same weather, and reports how many times the raw rate ours is.
func against(b *testing.B, n int, ours, raw func(i int) error) {
	b.Helper()
	const block = 512
	var took [2]time.Duration
	for b.Loop() {
		for k, do := range []func(int) error{raw, ours} {
			start := time.Now()
			if err := spread(n, block, do); err != nil {
				b.Fatal(err)
			}
			took[k] += time.Since(start)
		}
	}
	calls := float64(b.N * block)
	b.ReportMetric(float64(took[1].Nanoseconds())/calls, "ours-ns")
	b.ReportMetric(float64(took[0].Nanoseconds())/calls, "raw-ns")
	b.ReportMetric(float64(took[0])/float64(took[1]), "rate/raw")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLoad compares Load with a loop of pgx that runs the same statement,
// and with one that does the least: no clock, and three of the columns.
func BenchmarkLoad(b *testing.B) {
	s, pg, ids := filled(b, benchRecords)
	pool := rawPool(b, pg.Primary.URL())
	load := func(i int) error {
		_, err := s.Load(background, ids[i%len(ids)], roam.Want{})
		return err
	}
	all, three := s.statements[loadRecord].sql, s.names.in("SELECT version, username, data FROM {session} WHERE id = $1")
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("store-%d", n), func(b *testing.B) { each(b, n, load) })
		b.Run(fmt.Sprintf("raw-%d", n), func(b *testing.B) {
			each(b, n, func(i int) error { return scanAll(pool.QueryRow(background, all, ids[i%len(ids)])) })
		})
		b.Run(fmt.Sprintf("against-raw-%d", n), func(b *testing.B) {
			against(b, n, load, func(i int) error { return scanAll(pool.QueryRow(background, all, ids[i%len(ids)])) })
		})
		b.Run(fmt.Sprintf("against-least-%d", n), func(b *testing.B) {
			against(b, n, load, func(i int) error {
				var version int64
				var user, data string
				return pool.QueryRow(background, three, ids[i%len(ids)]).Scan(&version, &user, &data)
			})
		})
	}
}

// scanAll reads a record as a program does that pgx's documentation taught.
func scanAll(row pgx.Row) error {
	var now, created, seen time.Time
	var loggedIn, ended *time.Time
	var timeline, username, agent, why string
	var addr, data *string
	var id [16]byte
	var version, idle, lifetime int64
	var level int16
	var proof, previous, writes, blob []byte
	return row.Scan(&now, &timeline, &id, &version, &created, &seen, &idle, &lifetime, &loggedIn, &ended, &level,
		&proof, &previous, &writes, &username, &addr, &agent, &why, &data, &blob)
}

// BenchmarkUpdate compares Update with just the compare-and-swap, without what
// else a record has.
func BenchmarkUpdate(b *testing.B) {
	s, pg, _ := filled(b, benchRecords)
	pool := rawPool(b, pg.Primary.URL())
	recs := make([]roam.Record, 1000)
	for i := range recs {
		rec, err := s.Load(background, benchID(i), roam.Want{})
		must(b, err)
		recs[i] = rec
	}
	var busy [1000]sync.Mutex
	update := func(i int) error {
		i %= len(recs)
		busy[i].Lock()
		defer busy[i].Unlock()
		rec, err := s.Update(background, recs[i])
		recs[i] = rec
		return err
	}
	sql := s.names.in("UPDATE {session} SET version = version + 1, seen = now(), data = $2 WHERE id = $1 AND version > 0")
	data := string(benchRecord(0).Data)
	raw := func(i int) error {
		_, err := pool.Exec(background, sql, benchID(1000+i%1000), data)
		return err
	}
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("store-%d", n), func(b *testing.B) { each(b, n, update) })
		b.Run(fmt.Sprintf("against-raw-%d", n), func(b *testing.B) { against(b, n, update, raw) })
	}
}

func BenchmarkInsert(b *testing.B) {
	s, _, _ := filled(b, benchRecords)
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("store-%d", n), func(b *testing.B) {
			each(b, n, func(i int) error {
				_, err := s.Insert(background, benchRecord(i))
				return err
			})
		})
	}
}

// BenchmarkTouch touches a thousand records with each call.
func BenchmarkTouch(b *testing.B) {
	s, _, _ := filled(b, 10*benchRecords)
	b.ReportAllocs()
	touches := make([]roam.Touch, 1000)
	for b.Loop() {
		b.StopTimer()
		at := time.Now()
		for i := range touches {
			touches[i] = roam.Touch{ID: benchID(rand.IntN(10 * benchRecords)), At: at}
		}
		b.StartTimer()
		must(b, s.Touch(background, touches))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

// BenchmarkConns shows what more connections give.
func BenchmarkConns(b *testing.B) {
	pg := durable(b)
	for _, conns := range []int{4, 8, 16, 32, 64} {
		opts := fresh(b)
		opts.MaxConns = conns
		s := openAt(b, pg.Primary.URL(), opts)
		fill(b, pg, s, benchRecords)
		b.Run(fmt.Sprintf("load-%d", conns), func(b *testing.B) {
			each(b, 64, func(i int) error {
				_, err := s.Load(background, benchID(i%benchRecords), roam.Want{})
				return err
			})
		})
		b.Run(fmt.Sprintf("insert-%d", conns), func(b *testing.B) {
			each(b, 64, func(i int) error {
				_, err := s.Insert(background, benchRecord(i))
				return err
			})
		})
	}
}
