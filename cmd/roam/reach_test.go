package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
)

// A patient is a store that answers, refuses or hangs.
type patient struct {
	roam.Store
	state atomic.Int32
}

const (
	answers = iota
	refuses
	hangs
)

func (p *patient) Load(ctx context.Context, _ roam.ID, _ roam.Want) (roam.Record, error) {
	switch p.state.Load() {
	case refuses:
		return roam.Record{}, roam.ErrUnavailable
	case hangs:
		<-ctx.Done()
		return roam.Record{}, ctx.Err()
	}
	return roam.Record{}, roam.ErrNotFound
}

func TestAServerIsReadyAsLongAsItReachesItsStore(t *testing.T) {
	for _, fault := range []int32{refuses, hangs} {
		synctest.Test(t, func(t *testing.T) {
			store := &patient{}
			store.state.Store(fault)
			r := newReach(store, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); r.watch(ctx) }()
			// expect looks after so long.
			expect := func(when string, after time.Duration, ready bool) {
				t.Helper()
				time.Sleep(after)
				synctest.Wait()
				if err := r.ready(t.Context()); (err == nil) != ready || r.down() == ready {
					t.Errorf("fault %d, %s: ready %v, down %v; want ready %v", fault, when, err == nil, r.down(), ready)
				}
			}
			expect("before the first answer", time.Millisecond, false)
			store.state.Store(answers)
			expect("after it", outOfReach+askEvery, true)
			store.state.Store(fault)
			expect("at first", outOfReach/2, true)
			expect("after a second", outOfReach+askEvery, false)
			expect("for as long as it takes", time.Hour, false)
			store.state.Store(answers)
			expect("with the store back", outOfReach+askEvery, true)
			cancel()
			<-ended
		})
	}
}
