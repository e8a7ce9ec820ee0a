package postgresstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/roam-web/roam"
)

// hand is a connection by hand, for transactions of any length.
func hand(tb testing.TB, s *Store) *pgx.Conn {
	tb.Helper()
	c, err := pgx.Connect(background, postgres(tb).Primary.URL())
	must(tb, err)
	tb.Cleanup(func() { c.Close(background) })
	return c
}

func exec(tb testing.TB, s *Store, c *pgx.Conn, query string, args ...any) {
	tb.Helper()
	_, err := c.Exec(background, s.names.in(query), args...)
	must(tb, err)
}

// endByHand is what an operator might do.
const endByHand = "UPDATE {session} SET ended = now(), why = 'by hand', version = version + 1 WHERE id = $1"

// A reader of the log keeps what it has seen, and how often.
type reader struct {
	s    *Store
	next roam.Cursor
	seen map[roam.ID]int
}

func (r *reader) read(tb testing.TB) (fresh []roam.ID) {
	tb.Helper()
	log, err := r.s.Ends(background, r.next)
	must(tb, err)
	r.next = log.Next
	for _, e := range log.Ends {
		r.seen[e.ID]++
		fresh = append(fresh, e.ID)
	}
	return fresh
}

func follow(tb testing.TB, s *Store) *reader {
	r := &reader{s: s, seen: make(map[roam.ID]int)}
	r.read(tb)
	return r
}

func (r *reader) has(tb testing.TB, what string, want ...roam.ID) {
	tb.Helper()
	if got := r.read(tb); fmt.Sprint(got) != fmt.Sprint(want) {
		tb.Errorf("%s: the log has %v more, want %v", what, got, want)
	}
}

func TestLogMissesNothingThatCommitsOutOfOrder(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var recs []roam.Record
	for n := range uint32(6) {
		recs = append(recs, insert(t, s, record(n, "ada")))
	}
	r := follow(t, s)
	first, second, undone := hand(t, s), hand(t, s), hand(t, s)
	exec(t, s, first, "BEGIN")
	exec(t, s, first, endByHand, recs[0].ID) // takes its number first
	exec(t, s, undone, "BEGIN")
	exec(t, s, undone, endByHand, recs[5].ID)
	exec(t, s, second, endByHand, recs[1].ID) // and commits last
	r.has(t, "after the second transaction", recs[1].ID)
	r.has(t, "and again")
	must(t, s.End(background, recs[2].ID, roam.Revoked))
	r.has(t, "after a third", recs[2].ID)
	exec(t, s, undone, "ROLLBACK")
	r.has(t, "after one that was rolled back")
	exec(t, s, first, "COMMIT")
	r.has(t, "after the first", recs[0].ID)
	exec(t, s, first, "BEGIN")
	exec(t, s, first, "SAVEPOINT a")
	exec(t, s, first, endByHand, recs[3].ID)
	exec(t, s, first, "ROLLBACK TO a")
	exec(t, s, first, "SAVEPOINT b")
	exec(t, s, first, endByHand, recs[4].ID)
	r.has(t, "before a transaction of parts commits")
	exec(t, s, first, "COMMIT")
	r.has(t, "after it", recs[4].ID)
}

// Many transactions of random length beside one that stays open all the time.
func TestLogIsExactUnderLoad(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	const n = 200
	for i := range uint32(n + 1) {
		insert(t, s, record(i, ""))
	}
	long := hand(t, s)
	exec(t, s, long, "BEGIN")
	exec(t, s, long, endByHand, record(n, "").ID)
	readers := []*reader{follow(t, s), follow(t, s)}
	done := make(chan error)
	for lane := range uint32(4) {
		c := hand(t, s)
		rnd := rand.New(rand.NewPCG(uint64(lane), 1))
		go func() {
			for i := lane; i < n; i += 4 {
				for _, q := range []string{"BEGIN", endByHand, "COMMIT"} {
					var args []any
					if strings.Contains(q, "$1") {
						args = append(args, record(i, "").ID)
					}
					if _, err := c.Exec(background, s.names.in(q), args...); err != nil {
						done <- err
						return
					}
					time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Millisecond))))
				}
			}
			done <- nil
		}()
	}
	for running := 4; running > 0; {
		for _, r := range readers {
			r.read(t)
		}
		select {
		case err := <-done:
			must(t, err)
			running--
		default:
		}
	}
	exec(t, s, long, "COMMIT")
	for _, r := range readers {
		r.read(t)
		for i := range uint32(n + 1) {
			if got := r.seen[record(i, "").ID]; got != 1 {
				t.Errorf("session %d came %d times, want once", i, got)
			}
		}
	}
}

func TestLogKnowsWhatIsDoneByHand(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	living, over, dead := insert(t, s, record(1, "ada")), record(2, "ada"), insert(t, s, record(3, "ada"))
	over.Idle = time.Microsecond
	insert(t, s, over)
	must(t, s.End(background, dead.ID, roam.Revoked))
	r := follow(t, s)
	c := hand(t, s)
	exec(t, s, c, "UPDATE {session} SET seen = seen, level = level, proof = proof")
	r.has(t, "after an update that changes nothing")
	exec(t, s, c, "DELETE FROM {session}")
	r.has(t, "after a delete of everything", living.ID)
	log := must2(s.Ends(background, ""))
	last := log.Ends[len(log.Ends)-1]
	if last.Why == "" || last.Version != living.Version+1 {
		t.Errorf("a delete is logged as version %d %q, want version %d and a reason", last.Version, last.Why, living.Version+1)
	}
}

func TestLogBeginsAnewInAnotherEpoch(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	must(t, s.End(background, rec.ID, roam.Revoked))
	r := follow(t, s)
	r.has(t, "at once")
	must2(s.Restored(background))
	r.has(t, "in another epoch", rec.ID)
	for _, c := range []roam.Cursor{"nonsense", "1/2", r.next + "x", "1/0:0:", "1/5:4:", roam.Cursor(strings.Repeat("9", 40)), "1/3:9:8,7"} {
		log, err := s.Ends(background, c)
		must(t, err)
		if len(log.Ends) != 1 {
			t.Errorf("after cursor %q the log has %d entries, want all, which is 1", c, len(log.Ends))
		}
	}
}

// In a copy on another system transactions have other numbers.
func TestLogOfACopyIsNumberedAnew(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	must(t, s.End(background, rec.ID, roam.Revoked))
	sql(t, s, "UPDATE {log} SET xid = '9000000000'; UPDATE {meta} SET system = 7")
	until(t, "another epoch", func() bool {
		got, err := s.Load(background, rec.ID, roam.Want{})
		return err == nil && got.Epoch > rec.Epoch
	})
	r := &reader{s: s, seen: make(map[roam.ID]int)}
	r.has(t, "at first", rec.ID)
	r.has(t, "and again")
}

// What is trimmed was visible for long, however old it is.
func TestLogIsTrimmedByWhatCouldBeSeen(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var recs []roam.Record
	for n := range uint32(3) {
		recs = append(recs, insert(t, s, record(n, "ada")))
	}
	late := hand(t, s)
	exec(t, s, late, "BEGIN")
	exec(t, s, late, endByHand, recs[0].ID)
	must(t, s.End(background, recs[1].ID, roam.Revoked))
	prune := func(marked time.Duration) {
		t.Helper()
		sql(t, s, fmt.Sprintf("UPDATE {meta} SET marked = marked - interval '%d seconds'", int(marked.Seconds())))
		must2(s.Prune(background, time.Hour, 10))
	}
	left := func(want ...roam.ID) {
		t.Helper()
		var got []roam.ID
		for _, e := range must2(s.Ends(background, "")).Ends {
			got = append(got, e.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the log has %v, want %v", got, want)
		}
	}
	prune(roam.LogKept)
	left(recs[1].ID) // not yet that old
	prune(time.Hour) // sets a mark: the late one was not over
	left(recs[1].ID)
	exec(t, s, late, "COMMIT")
	prune(time.Hour)
	left(recs[0].ID, recs[1].ID)
	prune(time.Hour)
	left()
}

// The condition on the log's index bounds what a look at it costs.
func TestLogIsReadByItsIndex(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	sql(t, s, `INSERT INTO {log} (xid, id, version, why) SELECT i::text::xid8, gen_random_uuid(), 1, '' FROM generate_series(1, 20000) AS i; ANALYZE {log}`)
	plan := sql(t, s, "PREPARE q AS "+queries[readLogAfter].sql+"; SET plan_cache_mode = force_generic_plan; EXPLAIN EXECUTE q ('15000:15000:')")
	if !strings.Contains(plan, "Index Cond") || !strings.Contains(plan, "xid >=") {
		t.Errorf("the log is not read by its index:\n%s", plan)
	}
}

func TestCursorsAreReadAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	for c, want := range map[roam.Cursor]string{
		"7/10:20:10,15": "10:20:10,15", "7/10:10:": "10:10:", "7/": "", "/10:10:": "", "7/10:9:": "", "7/10:20:9": "", "7/10:20:20": "",
		"7/10:20:15,12": "", "7/a:20:": "", "7/10:20:'": "", "-1/10:20:": "", "7/10:20": "", "7/99999999999999999999:1:": "",
	} {
		epoch, got := parseCursor(c)
		if got != want || got != "" && epoch != 7 {
			t.Errorf("cursor %q: got epoch %d and snapshot %q, want %q", c, epoch, got, want)
		}
	}
}
