package sqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/roam-web/roam"
)

const benchRecords = 100_000

// filled returns a store with many records, each with some 200 bytes of data.
func filled(b *testing.B, n, size int) *Store {
	s := open(b, nil)
	data := make([]byte, size)
	for i := range data {
		data[i] = 'a'
	}
	for i := 0; i < n; {
		err := s.queue.write(context.Background(), func(c *conn, now int64) error {
			for k := 0; k < 1000 && i < n; k, i = k+1, i+1 {
				r := benchRecord(uint32(i), data)
				q, err := c.stmt(insertRecord)
				if err != nil {
					return err
				}
				q.bindInt(1, now)
				q.bindInt(2, now)
				bindRecord(q, &r)
				if err := q.run(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// benchID is a random-looking ID, so that lookups hit pages all over the file.
func benchID(n uint32) (id roam.ID) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func benchRecord(n uint32, data []byte) roam.Record {
	r := record(n, fmt.Sprint("user", n/3))
	r.ID = benchID(n)
	r.From = roam.Client{Addr: netip.MustParseAddr("192.0.2.7"), Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
	r.Data = data
	return r
}

func BenchmarkLoad(b *testing.B) {
	s := filled(b, benchRecords, 200)
	ctx := context.Background()
	ids := make([]roam.ID, 1<<16)
	for i := range ids {
		ids[i] = benchID(rand.Uint32N(benchRecords))
	}
	var own, raw, all time.Duration
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, err := s.Load(ctx, ids[i%len(ids)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
		own = b.Elapsed() / time.Duration(b.N)
	})
	load := func(b *testing.B, sql string, read func(st *sqlite3.Stmt)) time.Duration {
		db, err := sqlite3.Open(s.path)
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		st, _, err := db.Prepare(sql)
		if err != nil {
			b.Fatal(err)
		}
		defer st.Close()
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			st.BindBlob(1, ids[i%len(ids)][:])
			if !st.Step() {
				b.Fatal("no row")
			}
			read(st)
			st.Reset()
			i++
		}
		return b.Elapsed() / time.Duration(b.N)
	}
	b.Run("raw-data", func(b *testing.B) {
		raw = load(b, "SELECT version, data FROM session WHERE id = ?", func(st *sqlite3.Stmt) { st.ColumnInt64(0); st.ColumnBlob(1, nil) })
		b.ReportMetric(float64(own)/float64(raw), "store/raw")
	})
	b.Run("raw-columns", func(b *testing.B) {
		cols := make([]any, 18)
		all = load(b, queries[loadRecord], func(st *sqlite3.Stmt) { st.ColumnsRaw(cols...) })
		b.ReportMetric(float64(own)/float64(all), "store/raw")
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			i := rand.IntN(len(ids))
			for pb.Next() {
				if _, err := s.Load(ctx, ids[i%len(ids)]); err != nil {
					b.Error(err)
				}
				i++
			}
		})
	})
}

func BenchmarkUpdate(b *testing.B) {
	s := filled(b, benchRecords, 200)
	ctx := context.Background()
	for _, par := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprint("store-", par), func(b *testing.B) {
			g, o := s.queue.groups.Load(), s.queue.ops.Load()
			b.SetParallelism((par + 1) / 2)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					rec, err := s.Load(ctx, benchID(rand.Uint32N(benchRecords)))
					if err == nil {
						_, err = s.Update(ctx, rec)
					}
					if err != nil && err != roam.ErrConflict {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(s.queue.ops.Load()-o)/float64(s.queue.groups.Load()-g), "writes/commit")
		})
	}
}
