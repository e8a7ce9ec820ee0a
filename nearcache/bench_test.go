package nearcache_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// An endless store has every session, and keeps none.
type endless struct {
	roam.Store
	data string
}

func (e endless) Load(_ context.Context, id roam.ID, _ roam.Want) (roam.Record, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	rec := session("user-" + id.String()[:8])
	rec.ID, rec.Version, rec.Data, rec.Epoch = id, 1, []byte(e.data), 1
	rec.From.Agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
	rec.Created, rec.LoggedIn, rec.Seen, rec.Now = now, now, now, now
	return rec, nil
}

func (e endless) Ends(context.Context, roam.Cursor) (roam.Log, error) {
	return roam.Log{Next: "1", Now: time.Now().UTC().Truncate(time.Microsecond), Epoch: 1}, nil
}

// full returns a near cache with n sessions of so many bytes of data.
func full(b *testing.B, n, data int) (*nearcache.Store, []roam.ID) {
	b.Helper()
	s := idle(b, endless{data: strings.Repeat("x", data)}, &nearcache.Options{Bytes: 8 << 30, Bound: time.Minute, MaxAge: time.Hour})
	ids := make([]roam.ID, n)
	s.Ends(b.Context(), "")
	for i := range ids {
		ids[i] = session("").ID
		s.Load(b.Context(), ids[i], roam.Want{Version: 1})
		if i%100_000 == 0 {
			s.Ends(b.Context(), "1")
		}
	}
	s.Ends(b.Context(), "1")
	return s, ids
}

func BenchmarkHit(b *testing.B) {
	s, ids := full(b, 1000, 200)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i++; i%100_000 == 0 {
			s.Ends(b.Context(), "1")
		}
		s.Load(b.Context(), ids[i%len(ids)], roam.Want{Version: 1})
	}
}

func BenchmarkMiss(b *testing.B) {
	s, ids := full(b, 1000, 200)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		s.Load(b.Context(), ids[i%len(ids)], roam.Want{})
	}
}

// What a million sessions take: bytes each, with all that it costs to keep them,
// against the bytes that the near cache believes; and what one cycle of the
// garbage collector costs while they are there.
func BenchmarkMillionSessions(b *testing.B) {
	const n = 1_000_000
	for _, data := range []int{0, 200, 1500} {
		b.Run(fmt.Sprintf("data=%d", data), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				s, ids := full(b, n, data)
				b.ReportMetric(float64(heap()-before-n*len(ids[0]))/n, "B/session")
				b.ReportMetric(float64(s.Stats().Bytes)/n, "believed-B/session")
				cycle := gcSeconds()
				for range 3 {
					runtime.GC()
				}
				b.ReportMetric((gcSeconds()-cycle)/3*1000, "gc-ms/cycle")
				runtime.KeepAlive(s)
				runtime.KeepAlive(ids)
			}
		})
	}
}

// What the garbage collector costs while a million sessions are there and are
// read at a steady rate, by requests that make as much garbage each as one of
// net/http's, about 4 KiB: its share of all processors, and of what is used.
func BenchmarkSteadyLoad(b *testing.B) {
	s, ids := full(b, 1_000_000, 200)
	for _, rate := range []int{5_000, 20_000} {
		b.Run(fmt.Sprintf("%d-a-second", rate), func(b *testing.B) {
			runtime.GC()
			var gc, used, all float64
			for b.Loop() {
				before, began := cpuSeconds(), time.Now()
				for i := 0; time.Since(began) < 15*time.Second; {
					for due := int(time.Since(began).Seconds() * float64(rate)); i < due; i++ {
						garbage = make([]byte, 4<<10)
						s.Load(b.Context(), ids[(i*7919)%len(ids)], roam.Want{})
					}
					time.Sleep(time.Millisecond)
				}
				after := cpuSeconds()
				gc, used, all = gc+after[0]-before[0], used+after[1]-before[1]-(after[2]-before[2]), all+after[1]-before[1]
			}
			b.ReportMetric(100*gc/all, "gc-%-of-all")
			b.ReportMetric(100*gc/used, "gc-%-of-used")
		})
	}
}

var garbage []byte

// cpuSeconds are the collector's without what it does in idle time, all that
// there were, and those nobody used.
func cpuSeconds() (v [3]float64) {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	runtime.GC() // they are brought up to date by each cycle
	metrics.Read(s)
	v[0], v[1], v[2] = s[0].Value.Float64()-s[3].Value.Float64(), s[1].Value.Float64(), s[2].Value.Float64()
	return v
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func gcSeconds() float64 {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64() + s[1].Value.Float64()
}
