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

// A near is a near cache and one who reads the log for it.
type near struct {
	*nearcache.Store
	mu   sync.Mutex
	next roam.Cursor
}

func nearly(tb testing.TB, store roam.Store) *near {
	tb.Helper()
	s, err := nearcache.New(store, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &near{Store: s}
}

func (n *near) follow(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	log, err := n.Store.Ends(ctx, n.next)
	if err == nil {
		n.next = log.Next
	}
	return err
}

// A trusting store is a near cache that has just read the log whenever it is
// asked, and is asked for any version: so it answers from memory what it can.
// While all writes go through it, nobody may notice.
type trusting struct {
	*near
	tb testing.TB
}

func (s trusting) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	if err := s.follow(context.WithoutCancel(ctx)); err != nil {
		s.tb.Errorf("Ends: %v", err)
	}
	want.Version = max(want.Version, 1)
	rec, err := s.Store.Load(ctx, id, want)
	if err == nil && !rec.Ended.IsZero() { // which may have been pruned
		return s.Store.Load(ctx, id, roam.Want{})
	}
	return rec, err
}

func openTrusting(tb testing.TB) roam.Store {
	tb.Helper()
	s := trusting{nearly(tb, roam.NewMemStore()), tb}
	tb.Cleanup(func() { tb.Logf("%+v", s.Stats()) })
	return s
}

func TestNearCache(t *testing.T)         { storetest.Run(t, openNear) }
func TestTrustingNearCache(t *testing.T) { storetest.Run(t, openTrusting) }

func TestNearCacheBeforeSQLite(t *testing.T) {
	storetest.Run(t, func(tb testing.TB) roam.Store { return trusting{nearly(tb, openSQLite(tb)), tb} })
}

func FuzzNearCache(f *testing.F)      { storetest.Fuzz(f, openTrusting) }
func BenchmarkNearCache(b *testing.B) { storetest.Bench(b, openNear) }
