package sqlitestore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
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
		err := s.queue.write(background, func(c *conn, now int64) error {
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

// BenchmarkLoad compares Load with the bare driver on the same file: reading
// what is needed at least, and reading all columns. One and the same record
// shows what the store adds; records all over the file, what a page costs.
func BenchmarkLoad(b *testing.B) {
	s := filled(b, benchRecords, 200)
	same := []roam.ID{benchID(7)}
	var all []roam.ID
	for range 1 << 14 {
		all = append(all, benchID(rand.Uint32N(benchRecords)))
	}
	for _, on := range []struct {
		name string
		ids  []roam.ID
	}{{"same", same}, {"all", all}} {
		var own time.Duration
		b.Run(on.name+"/store", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Load(background, on.ids[i%len(on.ids)], roam.Want{}); err != nil {
					b.Fatal(err)
				}
			}
			own = b.Elapsed() / time.Duration(b.N)
		})
		bare := func(name, sql string, read func(*sqlite3.Stmt)) {
			b.Run(on.name+"/"+name, func(b *testing.B) {
				db, st := prepared(b, s, sql)
				defer db.Close()
				defer st.Close()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					st.BindBlob(1, on.ids[i%len(on.ids)][:])
					if !st.Step() {
						b.Fatal("no row")
					}
					read(st)
					st.Reset()
				}
				compare(b, own)
			})
		}
		bare("driver-data", "SELECT version, data FROM session WHERE id = ?", func(st *sqlite3.Stmt) {
			st.ColumnInt64(0)
			st.ColumnBlob(1, nil)
		})
		columns := make([]any, 18)
		bare("driver-all-columns", queries[loadRecord], func(st *sqlite3.Stmt) { st.ColumnsRaw(columns...) })
	}
	b.Run("parallel/store", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(all)); pb.Next(); i++ {
				if _, err := s.Load(background, all[i%len(all)], roam.Want{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func prepared(b *testing.B, s *Store, sql string) (*sqlite3.Conn, *sqlite3.Stmt) {
	db, err := sqlite3.Open(s.path)
	if err != nil {
		b.Fatal(err)
	}
	st, _, err := db.Prepare(sql)
	if err != nil {
		b.Fatal(err)
	}
	return db, st
}

// compare reports how the store's time relates to this one.
func compare(b *testing.B, own time.Duration) {
	each := b.Elapsed() / time.Duration(b.N)
	b.ReportMetric(float64(own)/float64(each), "store/this")
	b.ReportMetric(float64(own-each), "store-this-ns")
}

// BenchmarkUpdate compares a compare-and-swap with the bare driver doing the
// same with one transaction each, and shows what grouping gives.
func BenchmarkUpdate(b *testing.B) {
	s := filled(b, benchRecords, 200)
	recs := make([]roam.Record, 1<<14)
	for i := range recs {
		var err error
		if recs[i], err = s.Load(background, benchID(uint32(i)), roam.Want{}); err != nil {
			b.Fatal(err)
		}
	}
	var own time.Duration
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			rec, err := s.Update(background, recs[i%len(recs)])
			if err != nil {
				b.Fatal(err)
			}
			recs[i%len(recs)] = rec
		}
		own = b.Elapsed() / time.Duration(b.N)
	})
	b.Run("driver", func(b *testing.B) {
		db, st := prepared(b, s, "UPDATE session SET version = version + 1, seen = ?, data = ? WHERE id = ? AND version = ?")
		defer db.Close()
		defer st.Close()
		if err := db.Exec("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0"); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			rec := &recs[i%len(recs)]
			st.BindInt64(1, clock())
			st.BindBlob(2, rec.Data)
			st.BindBlob(3, rec.ID[:])
			st.BindInt64(4, int64(rec.Version))
			if err := errors.Join(db.Exec("BEGIN IMMEDIATE"), st.Exec(), db.Exec("COMMIT")); err != nil || db.Changes() != 1 {
				b.Fatal(err, db.Changes())
			}
			rec.Version++
		}
		compare(b, own)
	})
	for _, n := range []int{8, 64, 256} {
		b.Run(fmt.Sprint("store-by-", n), func(b *testing.B) {
			groups, ops := s.queue.groups.Load(), s.queue.ops.Load()
			b.SetParallelism(n / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			var next atomic.Uint32
			b.RunParallel(func(pb *testing.PB) {
				rec, err := s.Load(background, benchID(1<<15+next.Add(1)), roam.Want{})
				for err == nil && pb.Next() {
					rec, err = s.Update(background, rec)
				}
				if err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(float64(s.queue.ops.Load()-ops)/float64(s.queue.groups.Load()-groups), "writes/commit")
		})
	}
}

// BenchmarkPass is what Prune costs when it has to look at every record.
func BenchmarkPass(b *testing.B) {
	s := filled(b, benchRecords, 200)
	for b.Loop() {
		if err := s.pass(background); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
}

// BenchmarkLog is what the log of ends costs a write: each is done in turn on
// two files, one of which has no trigger. On a disk its noise hides much; put
// TMPDIR into memory to see the processor's part.
func BenchmarkLog(b *testing.B) {
	const n = 20_000
	stores := [2]*Store{filled(b, n, 200), filled(b, n, 200)}
	must(b, raw(b, stores[1].path).exec("DROP TRIGGER session_log"))
	for _, op := range []struct {
		name string
		do   func(*Store, roam.Record) error
	}{
		{"update", func(s *Store, rec roam.Record) error {
			rec.Data = append(rec.Data[1:], 'b')
			_, err := s.Update(background, rec)
			return err
		}},
		{"login", func(s *Store, rec roam.Record) error {
			rec.Proof[0]++
			rec.LoggedIn = rec.Now
			_, err := s.Update(background, rec)
			return err
		}},
		{"end", func(s *Store, rec roam.Record) error { return s.End(background, rec.ID, roam.LoggedOut) }},
	} {
		b.Run(op.name, func(b *testing.B) {
			var took [2]time.Duration
			for i := 0; b.Loop(); i++ {
				id := benchID(uint32(i % n))
				for k := range stores {
					k = (i + k) % 2 // each is as often the first
					rec, err := stores[k].Load(background, id, roam.Want{})
					must(b, err)
					began := time.Now()
					must(b, op.do(stores[k], rec))
					took[k] += time.Since(began)
				}
			}
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "with-ns")
			b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "without-ns")
			b.ReportMetric(float64(took[0])/float64(took[1]), "with/without")
		})
	}
}
