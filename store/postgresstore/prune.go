package postgresstore

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

const (
	// sweepPages is how many pages one statement looks at: 2 MB.
	sweepPages = 250

	// smallTable is how many pages are swept without a second thought.
	smallTable = 2000

	// sweepShare is how much of the time may be spent on sweeping, one part
	// in so many.
	sweepShare = 100

	// logMargin is how much longer than roam.LogKept the log goes back.
	logMargin = time.Minute
)

// A sweep passes through the table page by page and removes what is over: there
// is no index that leads to it, because that would cost every touch more than
// all sweeping saves.
type sweep struct {
	mu sync.Mutex
	id int64 // by which other servers know whose sweep is going on

	progress
}

// progress is how far a sweep is.
type progress struct {
	on          bool
	page, pages int64
	small       bool
	before      time.Time // what was over by then is removed
	due         time.Time // when the first of those that stay can be over
	took        time.Duration
}

// Prune implements [roam.Store]. It works in short steps. A call that returns
// less than max has passed through the whole table, or found that it need not
// do so: of a table over 16 MB a sweep is made only if something can be due,
// and if it would catch up with a hundred times the time it takes; and one
// server at a time does it.
func (s *Store) Prune(ctx context.Context, keep time.Duration, max int) (n int, err error) {
	w := &s.sweep
	w.mu.Lock()
	defer w.mu.Unlock()
	now, err := s.beginSweep(ctx, keep)
	if err != nil {
		return 0, s.explain("prune", err)
	}
	before := now.Add(-keep)
	for w.on && n < max {
		k, err := s.sweepStep(ctx, before, max-n)
		n += k
		if err != nil {
			return n, s.explain("prune", partly(err, n))
		}
	}
	return n, nil
}

// beginSweep begins a sweep, if none is going on and one is worth it. It
// returns the store's clock.
func (s *Store) beginSweep(ctx context.Context, keep time.Duration) (now time.Time, err error) {
	w := &s.sweep
	var swept, due, leased time.Time
	var took time.Duration
	var pages, sweeper int64
	var trim bool
	_, err = s.call(ctx, kindRead, sweepState, func(a *args) { a.float((roam.LogKept + logMargin).Seconds()) }, func(_ *primary, v [][]byte) error {
		now, swept, due, pages = moment(v[0]), moment(v[1]), moment(v[2]), number(v[4])
		took = time.Duration(math.Float64frombits(uint64(number(v[3]))) * float64(time.Second))
		sweeper, leased, trim = number(v[5]), moment(v[6]), v[7][0] == 1
		return nil
	})
	if err == nil && trim {
		err = s.trimLog(ctx)
	}
	if err != nil {
		return now, err
	}
	before := now.Add(-keep)
	small := pages <= smallTable
	if !small {
		if !w.on && (before.Before(due) || before.Sub(swept) < sweepShare*took) {
			return now, nil
		}
		if sweeper != w.id || w.id == 0 || leased.Before(now.Add(5*time.Second)) {
			if ours, err := s.leaseSweep(ctx); err != nil || !ours {
				w.on = false
				return now, err
			}
		}
	}
	if !w.on {
		w.progress = progress{on: true, pages: pages, small: small, before: before, due: now}
	}
	if before.Before(w.before) {
		w.before = before
	}
	return now, nil
}

// leaseSweep makes this server the one that sweeps, for a while.
func (s *Store) leaseSweep(ctx context.Context) (ours bool, err error) {
	w := &s.sweep
	if w.id == 0 {
		w.id = rand.Int64()
	}
	_, err = s.call(ctx, kindWrite, sweepLease, func(a *args) { a.int(w.id) }, func(*primary, [][]byte) error {
		ours = true
		return nil
	})
	return ours, err
}

// sweepStep looks at the next pages and removes at most limit records.
func (s *Store) sweepStep(ctx context.Context, before time.Time, limit int) (n int, err error) {
	w := &s.sweep
	start := time.Now()
	defer func() { w.took += time.Since(start) }()
	end := w.page + sweepPages
	next := end
	_, err = s.call(ctx, kindWrite, sweepPart, func(a *args) {
		a.tid(w.page)
		a.tid(end)
		a.time(before)
		a.int4(limit)
	}, func(_ *primary, v [][]byte) error {
		n = int(number(v[0]))
		if next = end; len(v[1]) == 6 {
			next = int64(binary.BigEndian.Uint32(v[1]))
		}
		if first := moment(v[2]); v[2] != nil && first.Before(w.due) {
			w.due = first
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if w.page = next; w.page >= w.pages {
		return n, s.endSweep(ctx)
	}
	return n, nil
}

// endSweep tells the other servers that it was done.
func (s *Store) endSweep(ctx context.Context) error {
	w := &s.sweep
	w.on = false
	if w.small {
		return nil
	}
	_, err := s.call(ctx, kindWrite, sweepDone, func(a *args) {
		a.time(w.before)
		a.time(w.due)
		a.float(w.took.Seconds())
		a.int(w.id)
	}, noRow)
	return err
}

// trimLog forgets what has been in the log for longer than anyone relies on.
func (s *Store) trimLog(ctx context.Context) error {
	_, err := s.call(ctx, kindWrite, trimLog, func(a *args) {
		a.float((roam.LogKept + logMargin).Seconds())
	}, noRow)
	return err
}
