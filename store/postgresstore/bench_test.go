package postgresstore

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
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
	b.ReportAllocs()
	if n == 1 {
		for i := 0; b.Loop(); i++ {
			if err := do(i); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var next atomic.Int64
	b.SetParallelism(max(n/runtime.GOMAXPROCS(0), 1))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := do(int(next.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// compare reports how many times the raw rate ours is.
func compare(b *testing.B, raw time.Duration) {
	each := b.Elapsed() / time.Duration(b.N)
	b.ReportMetric(float64(raw)/float64(each), "rate/raw")
}

// BenchmarkLoad compares Load with a loop of pgx that runs the same statement,
// and with one that only gets the row's data.
func BenchmarkLoad(b *testing.B) {
	s, pg, ids := filled(b, benchRecords)
	pool := rawPool(b, pg.Primary.URL())
	for _, n := range []int{1, 64} {
		var raw time.Duration
		b.Run(fmt.Sprintf("raw-same-%d", n), func(b *testing.B) {
			sql := s.statements[loadRecord].sql
			each(b, n, func(i int) error { return scanAll(pool.QueryRow(background, sql, ids[i%len(ids)])) })
			raw = b.Elapsed() / time.Duration(b.N)
		})
		b.Run(fmt.Sprintf("store-%d", n), func(b *testing.B) {
			each(b, n, func(i int) error {
				_, err := s.Load(background, ids[i%len(ids)], roam.Want{})
				return err
			})
			compare(b, raw)
		})
		b.Run(fmt.Sprintf("raw-plain-%d", n), func(b *testing.B) {
			sql := s.names.in("SELECT version, username, data FROM {session} WHERE id = $1")
			each(b, n, func(i int) error {
				var version int64
				var user, data string
				return pool.QueryRow(background, sql, ids[i%len(ids)]).Scan(&version, &user, &data)
			})
			compare(b, raw)
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

func BenchmarkUpdate(b *testing.B) {
	s, pg, _ := filled(b, benchRecords)
	pool := rawPool(b, pg.Primary.URL())
	for _, n := range []int{1, 64} {
		var raw time.Duration
		b.Run(fmt.Sprintf("raw-%d", n), func(b *testing.B) {
			// Just the compare-and-swap, without what else a record has.
			sql := s.names.in("UPDATE {session} SET version = version + 1, seen = now(), data = $2 WHERE id = $1 AND version = version")
			data := string(benchRecord(0).Data)
			each(b, n, func(i int) error {
				_, err := pool.Exec(background, sql, benchID(i%benchRecords), data)
				return err
			})
			raw = b.Elapsed() / time.Duration(b.N)
		})
		b.Run(fmt.Sprintf("store-%d", n), func(b *testing.B) {
			recs := make([]roam.Record, benchRecords)
			for i := range recs {
				rec, err := s.Load(background, benchID(i), roam.Want{})
				must(b, err)
				recs[i] = rec
			}
			var busy [benchRecords]sync.Mutex
			b.ResetTimer()
			each(b, n, func(i int) error {
				i %= len(recs)
				busy[i].Lock()
				defer busy[i].Unlock()
				rec, err := s.Update(background, recs[i])
				recs[i] = rec
				return err
			})
			compare(b, raw)
		})
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
