package sqlitestore

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

const (
	scanChunk  = 1000 // records that one read of Prune looks at
	pruneChunk = 250  // records that one transaction of Prune removes
)

// pruning remembers where the last Prune stopped.
type pruning struct {
	mu    sync.Mutex
	after int64 // the last n looked at
}

var _ = slices.Chunk[[]int]
var _ roam.Reason

// Prune implements [roam.Store]. There is no index to find what is over, which
// every touch would pay for. So it reads through the table in short reads, from
// where the last call stopped, round to there again or until it has found max.
func (s *Store) Prune(ctx context.Context, keep time.Duration, max int) (n int, err error) {
	p := &s.pruning
	p.mu.Lock()
	defer p.mu.Unlock()
	if max <= 0 {
		return 0, s.write(ctx, "prune", func(*conn, int64) error { return nil })
	}
	before := time.Now().Add(-keep).UnixMicro()
	start, wrapped := p.after, false
	for {
		found, looked, err := s.scan(ctx, before, max-n)
		if err != nil {
			return n, partly(err, n)
		}
		k, err := s.remove(ctx, found, before)
		if n += k; err != nil {
			return n, partly(err, n)
		}
		if n == max {
			return n, nil
		}
		if wrapped && (p.after >= start || !looked) {
			return n, nil
		}
		if !looked {
			p.after, wrapped = math.MinInt64, true
		}
	}
}

// scan looks at the next records, until it has found max or seen a chunk, and
// reports whether there were any.
func (s *Store) scan(ctx context.Context, before int64, max int) (found []int64, looked bool, err error) {
	after := s.pruning.after
	err = s.read(ctx, "prune", func(c *conn) error {
		q, err := c.stmt(scanOver)
		if err != nil {
			return err
		}
		defer q.reset()
		q.bindInt(1, before)
		q.bindInt(2, after)
		q.bindInt(3, scanChunk)
		for len(found) < max {
			row, err := q.step()
			if err != nil || !row {
				return err
			}
			after, looked = q.int(0), true
			if q.int(1) != 0 {
				found = append(found, after)
			}
		}
		return nil
	})
	if err == nil {
		s.pruning.after = after
	}
	return found, looked, err
}

// remove deletes those of the records that are still over: between the read and
// here one may have been touched, or its n used again.
func (s *Store) remove(ctx context.Context, found []int64, before int64) (n int, err error) {
	for chunk := range slices.Chunk(found, pruneChunk) {
		k := 0
		err := s.write(ctx, "prune", func(c *conn, _ int64) error {
			k = 0
			return c.all(func() error {
				q, err := c.stmt(deleteOver)
				if err != nil {
					return err
				}
				for _, i := range chunk {
					q.bindInt(1, before)
					q.bindInt(2, i)
					if err := q.run(); err != nil {
						return err
					}
					k += int(c.changes())
				}
				return nil
			})
		})
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}
