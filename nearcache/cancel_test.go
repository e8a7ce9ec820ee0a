package nearcache_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// Many ask at once for few sessions, in a memory that is too small for them, and
// give up at any moment, before, while and after the store is asked, for
// themselves and so for those who wait with them. Nobody gets another's record,
// and nobody is told of a cancellation who was not cancelled. It is 30 thousand
// loads, a third of that with -short.
func TestR125CancelledAtAnyMomentNobodyGetsAnothersRecord(t *testing.T) {
	const sessions, askers = 48, 16
	loads := 30_000
	if testing.Short() {
		loads /= 3
	}
	back := &laggard{Store: roam.NewMemStore()}
	s := idle(t, back, &nearcache.Options{Bytes: 1 << 20})
	var ids [sessions]roam.ID
	for i := range ids {
		rec := session("user")
		rec.Data = bytes.Repeat(rec.ID[:], 2<<10) // 32 KB: about 16 of them fit
		ids[i] = insert(t, back, rec).ID
	}
	if _, err := s.Ends(t.Context(), ""); err != nil {
		t.Fatal(err)
	}

	var following, asking sync.WaitGroup
	var done atomic.Bool
	following.Go(func() { // so that memory is trusted, however long this takes
		for next := roam.Cursor(""); !done.Load(); {
			log, err := s.Ends(t.Context(), next)
			if err != nil {
				t.Errorf("Ends: %v", err)
				return
			}
			next = log.Next
		}
	})
	var given, cancelled, foreign atomic.Int64
	for k := range askers {
		asking.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 9))
			for range loads / askers {
				id := ids[r.IntN(sessions)]
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				var quitting sync.WaitGroup
				patient := r.IntN(3) == 0
				if !patient {
					ctx, cancel = context.WithCancel(ctx)
					moment := r.IntN(100)
					quitting.Go(func() {
						for range moment {
							runtime.Gosched()
						}
						cancel()
					})
				}
				rec, err := s.Load(ctx, id, roam.Want{Version: 1})
				switch {
				case err == nil:
					given.Add(1)
					if rec.ID != id || len(rec.Data) != 32<<10 || !bytes.Equal(rec.Data[:16], id[:]) || !bytes.Equal(rec.Data[len(rec.Data)-16:], id[:]) {
						foreign.Add(1)
						t.Errorf("asked for %v, got %v with the data of %x", id, rec.ID, rec.Data[:16])
					}
					clear(rec.Data) // it is ours
				case patient:
					t.Errorf("nobody cancelled this one: %v", err)
				case !errors.Is(err, roam.ErrUnavailable) && !errors.Is(err, context.Canceled):
					t.Errorf("cancelled: %v", err)
				default:
					cancelled.Add(1)
				}
				cancel()
				quitting.Wait()
				if t.Failed() {
					return
				}
			}
		})
	}
	asking.Wait()
	done.Store(true)
	following.Wait()
	st := s.Stats()
	t.Logf("%d loads: %d answered, %d cancelled; %+v", loads, given.Load(), cancelled.Load(), st)
	if given.Load() < int64(loads)/10 || cancelled.Load() < 100 || st.Hits == 0 || st.Evicted == 0 || s.Readings() != 0 {
		t.Errorf("want many of both, hits, evictions, and no question kept of %d, or this proves nothing", s.Readings())
	}
}
