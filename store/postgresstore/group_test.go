package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// gather holds back who asks, until n of them wait, and then lets them go as
// one group. It is for one use.
func gather[T any](t *testing.T, l *lanes[T]) (release func(n int)) {
	t.Helper()
	l.width = func(float64) int { return 1 }
	l.patience = time.Hour
	seat, lap := l.enter(new(T))
	if seat != nil {
		t.Fatal("the lane is taken")
	}
	return func(n int) {
		t.Helper()
		until(t, fmt.Sprintf("%d wait", n), func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.queue) == n
		})
		l.leave(lap)
	}
}

// counted counts exchanges of groups, and whom they serve.
func counted[T any](l *lanes[T]) (groups, served *atomic.Int64) {
	groups, served = new(atomic.Int64), new(atomic.Int64)
	fly := l.fly
	l.fly = func(group []*seat[T]) {
		groups.Add(1)
		served.Add(int64(len(group)))
		fly(group)
	}
	return groups, served
}

type loaded struct {
	rec roam.Record
	err error
}

// loads calls Load for each ID at once.
func loads(s *Store, ctx context.Context, ids ...roam.ID) []chan loaded {
	all := make([]chan loaded, len(ids))
	for i, id := range ids {
		all[i] = make(chan loaded, 1)
		go func() {
			rec, err := s.Load(ctx, id, roam.Want{})
			all[i] <- loaded{rec, err}
		}()
	}
	return all
}

func TestLookupsShareARoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var ids []roam.ID
	want := make(map[roam.ID]roam.Record)
	for n := range uint32(20) {
		rec := insert(t, s, record(n, fmt.Sprint("user", n)))
		if n == 3 {
			must(t, s.End(background, rec.ID, roam.Revoked))
		}
		want[rec.ID] = must2(s.Load(background, rec.ID, roam.Want{}))
		ids = append(ids, rec.ID, rec.ID) // two callers each
	}
	missing := record(1000, "").ID
	ids = append(ids, missing, missing)
	groups, served := counted(&s.lookups)
	release := gather(t, &s.lookups)
	all := loads(s, background, ids...)
	release(len(ids))
	answers := make(map[roam.ID][]roam.Record)
	for i, id := range ids {
		got := <-all[i]
		if id == missing {
			if got.err != roam.ErrNotFound || got.rec.Now.IsZero() || got.rec.Epoch == 0 {
				t.Errorf("got %+v, error %v, for what is not there, want ErrNotFound with the clock and the epoch", got.rec, got.err)
			}
			continue
		}
		must(t, got.err)
		w := want[id]
		w.Now = got.rec.Now
		if fmt.Sprintf("%+v", got.rec) != fmt.Sprintf("%+v", w) || string(got.rec.Data) != string(w.Data) {
			t.Errorf("got %+v, want %+v", got.rec, w)
		}
		answers[id] = append(answers[id], got.rec)
	}
	for id, two := range answers {
		if two[0].Data != nil && &two[0].Data[0] == &two[1].Data[0] {
			t.Errorf("two callers of %v got the same slice", id)
		}
	}
	if groups.Load() != 1 || served.Load() != int64(len(ids)) {
		t.Errorf("%d round trips for %d callers, want 1 for %d", groups.Load(), served.Load(), len(ids))
	}
}

// A caller who goes while the answer is on its way leaves the connection and
// the others alone.
func TestCancelledLookupDisturbsNobody(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	proxy := need2(t)(servers.StartProxy(pg.Primary.Addr()))
	t.Cleanup(proxy.Stop)
	s := openAt(t, pg.DSN(proxy.Addr()), nil)
	rec := insert(t, s, record(1, "ada"))
	other := insert(t, s, record(2, "bob"))
	pool := s.primary.Load().pool
	conns := func() (all []*conn) {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		for c := range pool.open {
			all = append(all, c)
		}
		return all
	}
	before := conns()
	flew := make(chan struct{})
	fly := s.lookups.fly
	s.lookups.fly = func(group []*seat[lookup]) { close(flew); fly(group) }
	release := gather(t, &s.lookups)
	ctx, cancel := context.WithCancel(background)
	gone := loads(s, ctx, rec.ID, other.ID)
	stay := loads(s, background, rec.ID, other.ID)
	proxy.Cut()
	release(4)
	<-flew
	cancel()
	for _, done := range gone {
		if got := <-done; !errors.Is(got.err, context.Canceled) || !errors.Is(got.err, roam.ErrUnavailable) {
			t.Errorf("got error %v, want that the call was cancelled", got.err)
		}
	}
	must(t, proxy.Restore())
	for _, done := range stay {
		must(t, (<-done).err)
	}
	if after := conns(); len(before) != 1 || len(after) != 1 || before[0] != after[0] {
		t.Errorf("connections %p before and %p after, want the same one", before, after)
	}
}

// All updates of a group land, but those that conflict, whose row somebody
// holds, or whose content the server refuses: each of these hears its own.
func TestUpdatesShareACommit(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var recs []roam.Record
	for n := range uint32(20) {
		rec := record(n, fmt.Sprint("user", n))
		if n == 4 {
			rec.Lifetime = time.Nanosecond
		}
		recs = append(recs, insert(t, s, rec))
	}
	const behind, ended, expired, missing, locked = 2, 3, 4, 5, 6
	must2(s.Update(background, recs[behind]))
	must(t, s.End(background, recs[ended].ID, roam.Revoked))
	recs[missing].ID[0] = 9
	lock := hand(t, s)
	exec(t, s, lock, "BEGIN")
	exec(t, s, lock, "SELECT 1 FROM {session} WHERE id = $1 FOR UPDATE", recs[locked].ID)

	groups, _ := counted(&s.changes)
	release := gather(t, &s.changes)
	type outcome struct {
		rec roam.Record
		err error
	}
	all := make([]chan outcome, len(recs)+1)
	for i := range all {
		all[i] = make(chan outcome, 1)
		rec := recs[i%len(recs)] // the first one twice
		rec.Data = fmt.Append(nil, "of ", i)
		if i%3 == 1 {
			rec.Data = fmt.Append(nil, "\xff\x00 of ", i)
		}
		rec.Previous[0], rec.Level = byte(i), roam.Level(i)
		if i%2 == 0 {
			rec.LoggedIn = time.Time{}
		}
		rec.Writes = rec.Writes.Push(uint64(1000 + i))
		go func() {
			got, err := s.Update(background, rec)
			clear(rec.Data) // it is the caller's again
			all[i] <- outcome{got, err}
		}()
	}
	release(len(all))
	won := 0
	for i, done := range all {
		if i == locked {
			continue
		}
		got := <-done
		switch i {
		case behind, ended, expired, missing:
			if got.err != roam.ErrConflict {
				t.Errorf("update %d: error %v, want ErrConflict", i, got.err)
			}
			continue
		case 0, len(recs): // of one session: one of them
			if got.err == roam.ErrConflict {
				continue
			}
			won++
		}
		must(t, got.err)
		now := must2(s.Load(background, got.rec.ID, roam.Want{}))
		now.Now = got.rec.Now
		if fmt.Sprintf("%+v %q", got.rec, got.rec.Data) != fmt.Sprintf("%+v %q", now, now.Data) {
			t.Errorf("update %d returned %+v %q, and stored is %+v %q", i, got.rec, got.rec.Data, now, now.Data)
		}
		if got.rec.Version != 2 || !strings.HasSuffix(string(got.rec.Data), fmt.Sprint("of ", i)) || got.rec.Writes[0] != uint64(1000+i) ||
			got.rec.Previous[0] != byte(i) || got.rec.Level != roam.Level(i) || got.rec.LoggedIn.IsZero() != (i%2 == 0) || got.rec.User != fmt.Sprint("user", i%len(recs)) {
			t.Errorf("update %d: got %+v %q", i, got.rec, got.rec.Data)
		}
	}
	if won != 1 {
		t.Errorf("%d of two updates of one session have won, want one", won)
	}
	if groups.Load() != 1 {
		t.Errorf("%d groups, want 1", groups.Load())
	}
	select {
	case got := <-all[locked]:
		t.Errorf("the one whose row is locked returned: %v", got.err)
	default:
	}
	exec(t, s, lock, "COMMIT")
	must(t, (<-all[locked]).err)
}

// Two updates of one session are never in one statement: its answer would not
// tell which of them was done.
func TestUpdatesOfOneSessionAreApart(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	stale, other := insert(t, s, record(1, "ada")), insert(t, s, record(2, "bob"))
	now := must2(s.Update(background, stale))
	release := gather(t, &s.changes)
	var all []chan error
	for i, rec := range []roam.Record{stale, now, other} {
		done := make(chan error, 1)
		all = append(all, done)
		go func() { _, err := s.Update(background, rec); done <- err }()
		until(t, "it waits", func() bool {
			s.changes.mu.Lock()
			defer s.changes.mu.Unlock()
			return len(s.changes.queue) == i+1
		})
	}
	release(len(all))
	for i, want := range []error{roam.ErrConflict, nil, nil} {
		if err := <-all[i]; err != want {
			t.Errorf("update %d: error %v, want %v", i, err, want)
		}
	}
}

// A name that the server refuses is its own caller's trouble.
func TestRefusedUpdateIsOne(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	good, bad := insert(t, s, record(1, "ada")), insert(t, s, record(2, "bob"))
	bad.From.Agent = "\xff"
	release := gather(t, &s.changes)
	errs := make(chan error, 2)
	go func() { _, err := s.Update(background, good); errs <- err }()
	failed := make(chan error, 1)
	go func() { _, err := s.Update(background, bad); failed <- err }()
	release(2)
	must(t, <-errs)
	refusedBy(t, <-failed, "update", "UTF-8")
}

// Nobody of a group whose answer got lost knows.
func TestLostAnswerIsOpenForAll(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	proxy := need2(t)(servers.StartProxy(pg.Primary.Addr()))
	t.Cleanup(proxy.Stop)
	s := openAt(t, pg.DSN(proxy.Addr()), quick(t))
	recs := []roam.Record{insert(t, s, record(1, "")), insert(t, s, record(2, "")), insert(t, s, record(3, ""))}
	release := gather(t, &s.changes)
	errs := make(chan error, len(recs))
	for _, rec := range recs {
		go func() { _, err := s.Update(background, rec); errs <- err }()
	}
	proxy.DropAnswers()
	release(len(recs))
	for range recs {
		if err := <-errs; err == nil || errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrConflict) {
			t.Errorf("got error %v, want one that leaves it open", err)
		}
	}
	must(t, proxy.Restore())
	until(t, "the server is used again", func() bool {
		_, err := s.Load(background, recs[0].ID, roam.Want{})
		return err == nil
	})
	for _, rec := range recs {
		if got := must2(s.Load(background, rec.ID, roam.Want{})); got.Version != 2 {
			t.Errorf("got version %d, want 2: only the answer was lost", got.Version)
		}
	}
}

// Nor does who goes before the answer. Who goes before the group was sent does.
func TestCancelledUpdateOfAGroupIsOpen(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	proxy := need2(t)(servers.StartProxy(pg.Primary.Addr()))
	t.Cleanup(proxy.Stop)
	s := openAt(t, pg.DSN(proxy.Addr()), nil)
	a, b, c := insert(t, s, record(1, "")), insert(t, s, record(2, "")), insert(t, s, record(3, ""))
	flew := make(chan struct{}, 10)
	fly := s.changes.fly
	s.changes.fly = func(group []*seat[change]) { flew <- struct{}{}; fly(group) }
	release := gather(t, &s.changes)
	ctx, cancel := context.WithCancel(background)
	update := func(ctx context.Context, rec roam.Record) chan error {
		done := make(chan error, 1)
		go func() { _, err := s.Update(ctx, rec); done <- err }()
		return done
	}
	goes, stays := update(ctx, a), update(background, b)
	proxy.Cut()
	release(2)
	<-flew
	queued := update(ctx, c)
	until(t, "another one waits", func() bool {
		s.changes.mu.Lock()
		defer s.changes.mu.Unlock()
		return len(s.changes.queue) == 1
	})
	cancel()
	if err := <-goes; !errors.Is(err, context.Canceled) || errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got error %v for an update that was sent, want that it was cancelled, and its outcome open", err)
	}
	if err := <-queued; !errors.Is(err, context.Canceled) || !errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got error %v for one that was not, want that nothing was written", err)
	}
	must(t, proxy.Restore())
	must(t, <-stays)
	for rec, want := range map[*roam.Record]uint64{&a: 2, &b: 2, &c: 1} {
		if got := must2(s.Load(background, rec.ID, roam.Want{})); got.Version != want {
			t.Errorf("%v has version %d, want %d", rec.ID, got.Version, want)
		}
	}
}

// Nor does anybody whose commit was not replicated.
func TestCancelledCommitIsOpenForAll(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Sync: true})
	s := openAt(t, pg.DSN(), nil)
	recs := []roam.Record{insert(t, s, record(1, "")), insert(t, s, record(2, ""))}
	must(t, pg.Lag(background, true))
	release := gather(t, &s.changes)
	errs := make(chan error, len(recs))
	for _, rec := range recs {
		go func() { _, err := s.Update(background, rec); errs <- err }()
	}
	release(len(recs))
	until(t, "one commit waits for the standby", func() bool { return waiting(t, pg) == "1" })
	must(t, pg.Primary.Exec(background, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
	for range recs {
		err := <-errs
		if err == nil || errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrConflict) {
			t.Errorf("got error %v, want one that leaves it open", err)
		}
		tells(t, err, "standby")
	}
	must(t, pg.Lag(background, false))
}

// An answer that nobody asked for is given to nobody.
func TestAnswersAreWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	a, b := insert(t, s, record(1, "ada")), insert(t, s, record(2, "bob"))
	insert(t, s, record(3, "eve"))
	for q, cond := range map[query]string{loadRecords: "s.id = ANY ($1)", loadRecord: "s.id = $1"} {
		st := &s.statements[q]
		was := st.sql
		st.sql = strings.Replace(was, cond, "("+cond+") IS NOT NULL AND username = 'eve'", 1)
		s.unnamed.Store(true)
		release := gather(t, &s.lookups)
		ids := []roam.ID{a.ID, b.ID}
		if q == loadRecord {
			ids = ids[:1]
		}
		all := loads(s, background, ids...)
		release(len(ids))
		for _, done := range all {
			refusedBy(t, (<-done).err, "another session")
		}
		until(t, "the lane is free", s.lookups.idle)
		st.sql = was
	}
}

// All servers were restarted, and everybody comes at once.
func TestManyLookupsNeedFewConnections(t *testing.T) {
	t.Parallel()
	opts := fresh(t)
	opts.MaxConns, opts.Timeout = 64, time.Minute
	s := open(t, opts)
	const n = 10_000
	sql(t, s, fmt.Sprintf(`INSERT INTO {session} (id, version, created, seen, idle, lifetime, level, proof, writes, username, agent)
		SELECT md5(i::text)::uuid, 1, now(), now(), 3600e9, 864e11, 0, '', '', '', '' FROM generate_series(0, %d) AS i`, n-1))
	s.lookups.patience = time.Minute // how slow the machine is makes no difference
	groups, served := counted(&s.lookups)
	var callers sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		callers.Go(func() {
			<-start
			rec, err := s.Load(background, benchID(i), roam.Want{})
			if err != nil || rec.ID != benchID(i) {
				t.Errorf("session %d: got %v, error %v", i, rec.ID, err)
			}
		})
	}
	close(start)
	callers.Wait()
	pool := s.primary.Load().pool
	pool.mu.Lock()
	conns := len(pool.open)
	pool.mu.Unlock()
	statements := n - served.Load() + groups.Load()
	t.Logf("%d lookups, %d statements, %d connections", n, statements, conns)
	if conns > widthFor(1) || statements > n/10 {
		t.Errorf("%d connections and %d statements, want at most %d, and far fewer than %d", conns, statements, widthFor(1), n)
	}
}

// However many are asked for, and whether the plan is made for them or for any,
// no statement of a group ever reads the whole table.
func TestGroupsUseTheIndex(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	s := open(t, nil)
	fill(t, pg, s, 50_000)
	c := hand(t, s)
	types := map[uint32]string{typeUUIDs: "uuid[]", typeInt8s: "bigint[]", typeInt2s: "smallint[]", typeByteas: "bytea[]", typeTexts: "text[]", typeTimestamps: "timestamptz[]"}
	for _, q := range []query{loadRecords, updateRecords} {
		st := s.statements[q]
		var params []string
		for _, oid := range st.oids {
			params = append(params, types[oid])
		}
		name := fmt.Sprint("q", q)
		exec(t, s, c, "PREPARE "+name+" ("+strings.Join(params, ", ")+") AS "+st.sql)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			exec(t, s, c, "SET plan_cache_mode = "+mode)
			for _, n := range []int{2, 16, 64, 256} {
				args := []string{fmt.Sprintf("(SELECT array_agg(md5(i::text)::uuid) FROM generate_series(1, %d) AS i)", n)}
				// EXECUTE takes no subquery, so the arrays are written out.
				var id []string
				for i := range n {
					id = append(id, fmt.Sprint("\"", benchID(i*7), "\""))
				}
				args[0] = "'{" + strings.Join(id, ",") + "}'"
				for _, oid := range st.oids[1:] {
					v := map[uint32]string{typeInt8s: "1", typeInt2s: "1", typeByteas: `"\\\\x00"`, typeTexts: "a", typeTimestamps: "2026-01-01"}[oid]
					args = append(args, "'{"+strings.TrimSuffix(strings.Repeat(v+",", n), ",")+"}'")
				}
				rows, err := c.Query(background, "EXPLAIN EXECUTE "+name+" ("+strings.Join(args, ", ")+")")
				must(t, err)
				var plan []string
				for rows.Next() {
					var line string
					must(t, rows.Scan(&line))
					plan = append(plan, line)
				}
				must(t, rows.Err())
				all := strings.Join(plan, "\n")
				if strings.Contains(all, "Seq Scan") || !strings.Contains(all, "_pkey") {
					t.Errorf("%s for %d: the plan is\n%s", mode, n, all)
				}
			}
		}
	}
}

// What a call costs in memory when it shares its round trip. The race detector
// adds some: it empties pools at random.
func TestGroupsAllocateLittle(t *testing.T) {
	s := open(t, nil)
	recs := make([]roam.Record, 64)
	for n := range recs {
		recs[n] = insert(t, s, record(uint32(n), "ada"))
	}
	each := func(do func(i int)) float64 {
		var before, after runtime.MemStats
		const rounds = 100
		var callers sync.WaitGroup
		runtime.ReadMemStats(&before)
		for i := range recs {
			callers.Go(func() {
				for range rounds {
					do(i)
				}
			})
		}
		callers.Wait()
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / float64(rounds*len(recs))
	}
	load := func(i int) { must2(s.Load(background, recs[i].ID, roam.Want{})) }
	update := func(i int) { recs[i] = must2(s.Update(background, recs[i])) }
	each(load)
	each(update)
	if got := each(load); got > 10 {
		t.Errorf("%.1f allocations for a lookup, want at most 10", got)
	} else {
		t.Logf("%.1f allocations for a lookup", got)
	}
	if got := each(update); got > 15 {
		t.Errorf("%.1f allocations for an update, want at most 15", got)
	} else {
		t.Logf("%.1f allocations for an update", got)
	}
}
