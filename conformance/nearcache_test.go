package conformance

import (
	"context"
	"sync"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
	"github.com/roam-web/roam/storetest"
)

// openNear is a near cache as it is before Manager.Run, or without it: it only
// passes on.
func openNear(tb testing.TB) roam.Store {
	tb.Helper()
	return nearly(tb, roam.NewMemStore())
}

func nearly(tb testing.TB, store roam.Store) *nearcache.Store {
	tb.Helper()
	s, err := nearcache.New(store, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// A trusting store is a near cache that reads on in the log before it answers,
// and is asked for any version: so it answers from memory what it can. While
// all writes go through it, nobody may notice.
type trusting struct {
	*nearcache.Store
	tb   testing.TB
	mu   sync.Mutex
	next roam.Cursor
}

func trust(tb testing.TB, store roam.Store) *trusting {
	tb.Helper()
	s := &trusting{Store: nearly(tb, store), tb: tb}
	tb.Cleanup(func() { tb.Logf("%+v", s.Stats()) })
	return s
}

func (s *trusting) follow(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := s.Store.Ends(context.WithoutCancel(ctx), s.next)
	if err != nil {
		s.tb.Errorf("Ends: %v", err)
		return
	}
	s.next = log.Next
}

func (s *trusting) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	s.follow(ctx)
	want.Version = max(want.Version, 1)
	rec, err := s.Store.Load(ctx, id, want)
	if err == nil && !rec.Ended.IsZero() { // which may have been pruned
		return s.Store.Load(ctx, id, roam.Want{})
	}
	return rec, err
}

func openTrusting(tb testing.TB) roam.Store {
	tb.Helper()
	return trust(tb, roam.NewMemStore())
}

func TestNearCache(t *testing.T)         { storetest.Run(t, openNear) }
func TestTrustingNearCache(t *testing.T) { storetest.Run(t, openTrusting) }
func FuzzNearCache(f *testing.F)         { storetest.Fuzz(f, openTrusting) }
func BenchmarkNearCache(b *testing.B)    { storetest.Bench(b, openNear) }
