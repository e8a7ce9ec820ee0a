package sqlitestore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

const (
	scanChunk  = 1000 // records that one read of a pass looks at
	pruneChunk = 250  // records that one transaction removes
)

// maxDue is how many records a pass remembers: 1 MB.
var maxDue = 65536

// pruning remembers what is due to be pruned. Nothing in the file leads to what
// is over, because an index on seen would cost every touch more than all of
// pruning saves. So Prune passes through the whole table, but seldom: a pass
// notes the records that are over soonest, and the next one waits until these
// are used up, or until what has changed since can be due.
type pruning struct {
	mu sync.Mutex

	// due are records to look at, the next one first.
	due []due

	// Before this time no other record was over. Whatever changed after the
	// pass began is over later than that; see forget for the exception.
	horizon int64
}

// A due is a record, by its n, and since when it is over if nothing changes.
type due struct{ n, over int64 }

// forget makes the next Prune pass through the table, if rec was written in a
// way that it was over already then: its limits are negative, or its login is
// dated back. The manager writes no such record.
func (p *pruning) forget(rec *roam.Record) {
	if at, _ := rec.Deadline(); at.Before(rec.Now) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.horizon, p.due = math.MinInt64, nil
	}
}

// Prune implements [roam.Store]. It reads and removes in short steps. A call
// that returns less than max found no more.
func (s *Store) Prune(ctx context.Context, keep time.Duration, max int) (n int, err error) {
	if err := s.trim(ctx); err != nil {
		return 0, err
	}
	p := &s.pruning
	p.mu.Lock()
	defer p.mu.Unlock()
	before := time.Now().Add(-keep).UnixMicro()
	passed := false
	for {
		for n < max && p.next(before) {
			k := 1
			for k < min(len(p.due), max-n, pruneChunk) && p.due[k].over <= before {
				k++
			}
			removed, err := s.remove(ctx, p.due[:k], before)
			if err != nil {
				return n, partly(err, n)
			}
			n += removed
			p.due = p.due[k:]
		}
		if n >= max || before < p.horizon || passed && len(p.due) > 0 {
			break
		}
		if err := s.pass(ctx); err != nil {
			return n, partly(err, n)
		}
		if passed = true; !p.next(before) {
			break
		}
	}
	if n == 0 { // tell at least whether the store could
		err = s.alive(ctx, "prune")
	}
	return n, err
}

// next reports whether the next record in due was over at the time before.
func (p *pruning) next(before int64) bool { return len(p.due) > 0 && p.due[0].over <= before }

// pass reads through the table.
func (s *Store) pass(ctx context.Context) error {
	began := clock()
	var found []due
	horizon := began
	for after, more := int64(math.MinInt64), true; more; {
		err := s.read(ctx, "prune", func(c *conn) error {
			q, err := c.stmt(scanOver)
			if err != nil {
				return err
			}
			defer q.reset()
			q.bindInt(1, after)
			q.bindInt(2, scanChunk)
			more = false
			for {
				row, err := q.step()
				if err != nil || !row {
					return err
				}
				after, more = q.int(0), true
				found = append(found, due{after, q.int(1)})
			}
		})
		if err != nil {
			return err
		}
		if !more || len(found) >= 2*maxDue {
			slices.SortFunc(found, func(a, b due) int { return cmp.Compare(a.over, b.over) })
			if len(found) > maxDue {
				horizon = min(horizon, found[maxDue].over)
				found = found[:maxDue]
			}
		}
	}
	s.pruning.due, s.pruning.horizon = slices.Clip(found), horizon
	return nil
}

// remove deletes those of the records that are over indeed: one may have been
// touched since, or its n may have become another record's.
func (s *Store) remove(ctx context.Context, found []due, before int64) (n int, err error) {
	err = s.write(ctx, "prune", func(c *conn, _ int64) error {
		n = 0
		return c.all(func() error {
			q, err := c.stmt(deleteOver)
			if err != nil {
				return err
			}
			for _, d := range found {
				q.bindInt(1, before)
				q.bindInt(2, d.n)
				if err := q.run(); err != nil {
					return err
				}
				n += int(c.changes())
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
