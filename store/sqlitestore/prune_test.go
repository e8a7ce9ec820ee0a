package sqlitestore

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// fill inserts n records that are over since long.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	must(t, s.queue.write(background, func(c *conn, now int64) error {
		for i := range n {
			rec := record(uint32(i), "")
			q, err := c.stmt(insertRecord)
			if err != nil {
				return err
			}
			q.bindInt(1, 1) // in 1970
			q.bindNull(2)
			bindRecord(q, &rec)
			if err := q.run(); err != nil {
				return err
			}
		}
		return nil
	}))
}

func count(t testing.TB, s *Store) (n int) {
	t.Helper()
	for _, err := range s.All(background) {
		must(t, err)
		n++
	}
	return n
}

func TestPruneIsBounded(t *testing.T) {
	s := open(t, nil)
	fill(t, s, 1000)
	alive := insert(t, s, record(5000, ""))
	groups := s.queue.groups.Load()
	for _, want := range []int{700, 300, 0, 0} {
		got, err := s.Prune(background, 0, 700)
		must(t, err)
		if got != want {
			t.Errorf("got %d pruned, want %d", got, want)
		}
	}
	if got, want := s.queue.groups.Load()-groups, int64(3+2); got != want {
		t.Errorf("got %d transactions of at most %d records, want %d", got, pruneChunk, want)
	}
	_, err := s.Load(background, alive.ID, roam.Want{})
	must(t, err)
}

func TestPruneGoesOnWhenItsMemoryIsFull(t *testing.T) {
	defer func(was int) { maxDue = was }(maxDue)
	maxDue = 64
	s := open(t, nil)
	fill(t, s, 1000)
	got, err := s.Prune(background, time.Hour, 900)
	must(t, err)
	if got != 900 {
		t.Errorf("got %d pruned, want 900", got)
	}
	if got, err = s.Prune(background, time.Hour, 900); err != nil || got != 100 {
		t.Errorf("got %d pruned and error %v, want 100", got, err)
	}
	if got := count(t, s); got != 0 {
		t.Errorf("got %d records left, want none", got)
	}
}

func TestPruneSparesWhatIsNoLongerOver(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, ""))
	s.pruning.due = []due{{n: 1, over: 1}} // as a pass saw it, before a touch
	s.pruning.horizon = clock() + int64(time.Hour/time.Microsecond)
	got, err := s.Prune(background, 0, 10)
	must(t, err)
	if got != 0 {
		t.Errorf("got %d pruned, want none", got)
	}
	_, err = s.Load(background, rec.ID, roam.Want{})
	must(t, err)
}

func TestPruneSeldomPasses(t *testing.T) {
	s := open(t, nil)
	fill(t, s, 10)
	const keep = 24 * time.Hour
	got, err := s.Prune(background, keep, 10)
	must(t, err)
	if got != 10 {
		t.Fatalf("got %d pruned, want 10", got)
	}
	horizon := s.pruning.horizon
	rec := insert(t, s, record(100, ""))
	must(t, s.End(background, rec.ID, roam.LoggedOut))
	for range 10 {
		got, err := s.Prune(background, keep, 10)
		must(t, err)
		if got != 0 {
			t.Errorf("got %d pruned, want none", got)
		}
	}
	if s.pruning.horizon != horizon {
		t.Error("the table was passed through again although nothing could be due for a day")
	}
	if got, err := s.Prune(background, 0, 10); err != nil || got != 1 {
		t.Errorf("got %d pruned and error %v, want 1 without any time to keep", got, err)
	}
}

// Whatever it remembers, Prune removes what a look at all records would.
func TestPruneRemovesJustWhatIsOver(t *testing.T) {
	defer func(was int) { maxDue = was }(maxDue)
	maxDue = 16
	s := open(t, nil)
	r := rand.New(rand.NewPCG(1, 2))
	limits := []time.Duration{0, 1, -1, 1500, time.Hour, -time.Minute, -time.Hour, -2 * time.Hour, 48 * time.Hour, 1<<63 - 1}
	next := uint32(0)
	for step := range 400 {
		var some []roam.Record
		for rec, err := range s.All(background) {
			must(t, err)
			some = append(some, rec)
		}
		switch op := r.IntN(10); {
		case op < 5 || len(some) == 0:
			for range 3 {
				rec := record(next, []string{"", "ada"}[r.IntN(2)])
				rec.Idle, rec.Lifetime = limits[r.IntN(len(limits))], limits[r.IntN(len(limits))]
				insert(t, s, rec)
				next++
			}
		case op < 6:
			must(t, s.End(background, some[r.IntN(len(some))].ID, roam.Revoked))
		case op < 7:
			rec := some[r.IntN(len(some))]
			rec.Idle = limits[r.IntN(len(limits))]
			s.Update(background, rec) // or not, if it is over
		default:
			keep := []time.Duration{0, time.Second, 30 * time.Minute, 90 * time.Minute, -time.Hour}[r.IntN(5)]
			most := 1 + r.IntN(8)
			// What is over while Prune runs is in doubt.
			sure, maybe := 0, 0
			before := time.Now().UTC().Add(-keep)
			for _, rec := range some {
				if _, at, over := rec.Over(before); over && !at.After(before) {
					sure++
				} else if at, _ := rec.Deadline(); !at.After(before.Add(10 * time.Second)) {
					maybe++
				}
			}
			got, err := s.Prune(background, keep, most)
			must(t, err)
			if got < min(sure, most) || got > min(sure+maybe, most) {
				t.Fatalf("step %d: keep %v: got %d pruned of at most %d, want %d (or up to %d)", step, keep, got, most, min(sure, most), min(sure+maybe, most))
			}
		}
	}
}

func TestPruneCanBeCancelled(t *testing.T) {
	s := open(t, nil)
	fill(t, s, 10)
	ctx, cancel := context.WithCancel(background)
	cancel()
	n, err := s.Prune(ctx, 0, 10)
	refused(t, err, "prune")
	if got := count(t, s); n != 0 || got != 10 {
		t.Errorf("got %d pruned and %d left, want 0 and 10", n, got)
	}
}
