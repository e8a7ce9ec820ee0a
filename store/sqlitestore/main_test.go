package sqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func TestMain(m *testing.M) {
	if os.Getenv("SQ_CHILD") == "fair" {
		fair()
		return
	}
	os.Exit(m.Run())
}

func fair() {
	s, err := Open(os.Getenv("SQ_PATH"), nil)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	ctx := context.Background()
	var mu sync.Mutex
	var lat []time.Duration
	var wg sync.WaitGroup
	g := 16
	fmt.Sscan(os.Getenv("SQ_G"), &g)
	end := time.Now().Add(4 * time.Second)
	for range g {
		wg.Go(func() {
			for time.Now().Before(end) {
				r := record(rand.Uint32(), "")
				t0 := time.Now()
				_, err := s.Insert(ctx, r)
				d := time.Since(t0)
				if err != nil && err != roam.ErrConflict {
					fmt.Println(err)
				}
				mu.Lock()
				lat = append(lat, d)
				mu.Unlock()
				if os.Getenv("SQ_PACE") != "" {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	sort.Slice(lat, func(i, j int) bool { return lat[i] < lat[j] })
	fmt.Printf("%d writes %d groups p50 %v p99 %v max %v  ckpt %d/%d\n", len(lat), s.queue.groups.Load(), lat[len(lat)/2], lat[len(lat)*99/100], lat[len(lat)-1], s.side.beside, s.side.inside)
}
