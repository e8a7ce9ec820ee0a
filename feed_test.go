package roam_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// slowLog takes a second to bring a large answer.
type slowLog struct{ roam.Store }

func (s slowLog) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	log, err := s.Store.Ends(ctx, after)
	if len(log.Ends) > 1000 {
		time.Sleep(time.Second)
	}
	return log, err
}

// A near cache answers with the present time what it knows from before. If more
// sessions end at once than are remembered, those that were asked about while
// the log was on its way are over all the same.
func TestNobodyOutlivesAMassRevocationBehindANearCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		near, err := nearcache.New(slowLog{store}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, web := site(t, near, nil, nil)
		time.Sleep(time.Second)
		some := crowd(t, store, web)
		time.Sleep(time.Second)
		if _, err := store.EndUser(t.Context(), "ann", roam.Revoked); err != nil { // by another server
			t.Fatal(err)
		}
		ended := time.Now()
		for i, b := range some { // allowed: the log is not here yet. Each is asked about once
			if b.identify(); i%5 == 4 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(6 * time.Second)
		alive := 0
		for _, b := range some {
			if _, err := b.identify(); reason(err) != roam.Revoked {
				alive++
			}
		}
		if alive > 0 {
			t.Errorf("%d of %d revoked sessions are served %v after their end", alive, len(some), time.Since(ended))
		}
	})
}
