package postgresstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// fillOver inserts n records by hand, of which every k-th has been over for a
// day.
func fillOver(tb testing.TB, s *Store, n, k int) {
	tb.Helper()
	sql(tb, s, fmt.Sprintf(`
		INSERT INTO {session} (id, version, created, seen, idle, lifetime, level, proof, writes, username, agent, data)
		SELECT gen_random_uuid(), 1, t, t, 3600e9, 864e11, 0, sha256(i::text::bytea), '', '', '', repeat('a', 200)
		FROM generate_series(1, %d) AS i, LATERAL (SELECT CASE WHEN i %% %d = 0 THEN now() - interval '25 hours' ELSE now() END AS t) AS x`, n, k))
}

func count(tb testing.TB, s *Store) string {
	tb.Helper()
	return sql(tb, s, "SELECT count(*) FROM {session}")
}

func TestPruneOfALargeTableGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	fillOver(t, s, 60_000, 10)
	if pages := sql(t, s, "SELECT pg_relation_size('{session}') / 8192"); len(pages) < 4 {
		t.Fatalf("%s pages are no large table", pages)
	}
	total := 0
	for range 20 {
		n := must2(s.Prune(background, time.Hour, 1000))
		total += n
		if n < 1000 {
			break
		}
	}
	if total != 6000 {
		t.Errorf("got %d pruned, want 6000", total)
	}
	if got := count(t, s); got != "54000" {
		t.Errorf("got %s records left, want 54000", got)
	}
}

func TestPruneDoesNotSweepForNothing(t *testing.T) {
	t.Parallel()
	opts := fresh(t)
	s := open(t, opts)
	other := reopen(t, postgres(t).Primary.URL(), opts)
	fillOver(t, s, 60_000, 60)
	scans := func() string {
		sql(t, s, "SELECT pg_stat_force_next_flush()")
		return sql(t, s, "SELECT swept || ' ' || due FROM {meta}")
	}
	if n := must2(s.Prune(background, time.Hour, 5000)); n != 1000 {
		t.Fatalf("got %d pruned, want 1000", n)
	}
	sql(t, s, "UPDATE {meta} SET took = 0") // it would not cost anything
	before := scans()
	for range 5 {
		for _, s := range []*Store{s, other} { // the other knows it from the database
			if n := must2(s.Prune(background, time.Hour, 5000)); n != 0 {
				t.Errorf("got %d pruned, want none", n)
			}
		}
	}
	if got := scans(); got != before {
		t.Errorf("the table was swept again although nothing can be due for an hour: %s, was %s", got, before)
	}
	// Ended a moment ago, and asked not to keep it: that is due now.
	for rec := range s.All(background) {
		must(t, s.End(background, rec.ID, roam.Revoked))
		break
	}
	sql(t, s, "UPDATE {meta} SET took = 0")
	if n := must2(other.Prune(background, 0, 5000)); n != 1 {
		t.Errorf("got %d pruned, want 1 without any time to keep", n)
	}
	// What is due soon is not worth a sweep that takes long.
	sql(t, s, "UPDATE {meta} SET took = 60")
	if n := must2(other.Prune(background, 0, 5000)); n != 0 {
		t.Errorf("got %d pruned", n)
	}
	if got := scans(); !strings.HasPrefix(got, time.Now().UTC().Format("2006")) {
		t.Errorf("sweeps are not told to others: %s", got)
	}
}

func TestOneServerSweepsAtATime(t *testing.T) {
	t.Parallel()
	opts := fresh(t)
	s := open(t, opts)
	fillOver(t, s, 60_000, 6)
	var all sync.WaitGroup
	var total atomic.Int64
	for range 4 {
		one := reopen(t, postgres(t).Primary.URL(), opts)
		all.Go(func() {
			for range 10 {
				n, err := one.Prune(background, time.Hour, 2000)
				if err != nil {
					t.Error(err)
					return
				}
				total.Add(int64(n))
			}
		})
	}
	all.Wait()
	if got := count(t, s); total.Load() != 10_000 || got != "50000" {
		t.Errorf("got %d pruned and %s left, want 10000 and 50000", total.Load(), got)
	}
}

func TestPruneSparesWhatWasTouchedMeanwhile(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	fillOver(t, s, 5000, 1<<30) // so that rows are looked up where they were
	sql(t, s, "ANALYZE {session}")
	rec := record(1, "ada")
	rec.Idle = time.Millisecond
	rec = insert(t, s, rec)
	until(t, "it is over", func() bool {
		r := must2(s.Load(background, rec.ID, roam.Want{}))
		_, _, over := r.Over(r.Now)
		return over
	})
	// Between the look and the removal somebody brings it back, by hand.
	lock := hand(t, s)
	exec(t, s, lock, "BEGIN")
	exec(t, s, lock, "UPDATE {session} SET idle = 3600000000000 WHERE id = $1", rec.ID)
	done := make(chan int)
	go func() { done <- must2(s.Prune(background, 0, 10)) }()
	until(t, "the removal waits", func() bool {
		return lockWaits(t, postgres(t), s) == "1"
	})
	exec(t, s, lock, "COMMIT")
	if n := <-done; n != 0 {
		t.Errorf("got %d pruned, want none", n)
	}
	must2(s.Load(background, rec.ID, roam.Want{}))
}

func TestPruneCanBeCancelled(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	fillOver(t, s, 10, 1)
	ctx, cancel := context.WithCancel(background)
	cancel()
	n, err := s.Prune(ctx, 0, 10)
	refusedBy(t, err, "prune")
	if got := count(t, s); n != 0 || got != "10" {
		t.Errorf("got %d pruned and %s left, want 0 and 10", n, got)
	}
}

// A sweep reads only the pages it looks at.
func TestSweepIsByPages(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	fillOver(t, s, 20_000, 10)
	plan := sql(t, s, "SET plan_cache_mode = force_generic_plan; PREPARE q (tid, tid, timestamptz, int) AS "+queries[sweepPart].sql+
		"; EXPLAIN EXECUTE q ('(0,0)', '(500,0)', now(), 100)")
	if !strings.Contains(plan, "Tid Range Scan") || !strings.Contains(plan, "Tid Scan") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("a sweep is not by pages:\n%s", plan)
	}
}
