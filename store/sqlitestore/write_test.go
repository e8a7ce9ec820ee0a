package sqlitestore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func TestWritesThatWaitShareACommit(t *testing.T) {
	s := open(t, nil)
	const n = 100
	recs := make([]roam.Record, n)
	for i := range recs {
		recs[i] = insert(t, s, record(uint32(i), "ada"))
	}
	groups, ops := s.queue.groups.Load(), s.queue.ops.Load()
	unlock := lock(t, s.path)
	var wg sync.WaitGroup
	for _, rec := range recs {
		wg.Go(func() {
			if _, err := s.Update(background, rec); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, s, n)
	unlock()
	wg.Wait()
	if got := s.queue.ops.Load() - ops; got != n {
		t.Errorf("got %d writes, want %d", got, n)
	}
	if got := s.queue.groups.Load() - groups; got != 1 {
		t.Errorf("got %d commits for %d writes that waited at once, want 1", got, n)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	s := open(t, nil)
	unlock := lock(t, s.path)
	var wg sync.WaitGroup
	for i := range uint32(maxGroup + 1) {
		wg.Go(func() {
			if _, err := s.Insert(background, record(i, "ada")); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, s, maxGroup+1)
	unlock()
	wg.Wait()
	if got := s.queue.groups.Load(); got != 2 {
		t.Errorf("got %d commits, want 2", got)
	}
}

func TestCancelledWaiterIsNotWritten(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		s := open(t, nil)
		unlock := lock(t, s.path)
		ctx, cancel := context.WithCancel(background)
		ctxs := map[bool]context.Context{true: ctx, false: background}
		errs := make([]chan error, 3)
		for i := range errs {
			errs[i] = make(chan error, 1)
			ctx := ctxs[(i == 0) == (who == "leader") && i < 2]
			go func() {
				_, err := s.Insert(ctx, record(uint32(i), "ada"))
				errs[i] <- err
			}()
			queued(t, s, i+1)
		}
		gone := map[string]int{"leader": 0, "follower": 1}[who]
		cancel()
		err := <-errs[gone] // while the lock is still held
		refused(t, err)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want a context.Canceled", who, err)
		}
		queued(t, s, 2)
		unlock()
		for i := range errs {
			_, loadErr := func() (roam.Record, error) {
				if i != gone {
					must(t, <-errs[i])
				}
				return s.Load(background, record(uint32(i), "").ID, roam.Want{})
			}()
			if want := map[bool]error{true: roam.ErrNotFound}[i == gone]; loadErr != want {
				t.Errorf("%s cancelled: loading record %d: got error %v, want %v", who, i, loadErr, want)
			}
		}
	}
}

func TestCancelledContextWritesNothing(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	ctx, cancel := context.WithCancel(background)
	cancel()
	for name, err := range callAll(s, ctx, rec) {
		refused(t, err, name, s.path)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want a context.Canceled", name, err)
		}
	}
	got, err := s.Load(background, rec.ID, roam.Want{})
	must(t, err)
	if got.Version != 1 || !got.Ended.IsZero() {
		t.Errorf("got %+v, want it as it was", got)
	}
}

// callAll calls every method and returns their errors by what they are called
// in messages.
func callAll(s *Store, ctx context.Context, rec roam.Record) map[string]error {
	errs := make(map[string]error)
	_, errs["load"] = s.Load(ctx, rec.ID, roam.Want{})
	_, errs["insert"] = s.Insert(ctx, record(1<<20, "bob"))
	_, errs["update"] = s.Update(ctx, rec)
	errs["touch"] = s.Touch(ctx, []roam.Touch{{ID: rec.ID, At: time.Now()}})
	errs["end"] = s.End(ctx, rec.ID, roam.Revoked)
	_, errs["end user"] = s.EndUser(ctx, rec.User, roam.Revoked)
	for _, errs["list"] = range s.List(ctx, rec.User) {
	}
	for _, errs["all"] = range s.All(ctx) {
	}
	_, errs["prune"] = s.Prune(ctx, 0, 1)
	_, errs["restored"] = s.Restored(ctx)
	errs["check"] = s.Check(ctx)
	return errs
}

func TestFailureInAGroupIsItsOwn(t *testing.T) {
	s := open(t, nil)
	unlock := lock(t, s.path)
	ops := []func(c *conn, now int64) error{
		func(c *conn, now int64) error { return c.exec("INSERT INTO epoch_of_nobody VALUES (1)") },
		func(c *conn, now int64) error { // half done, then failed
			return c.all(func() error {
				return errors.Join(end(c, record(1, "").ID, roam.Revoked, now), errors.New("second thoughts"))
			})
		},
	}
	rec := make(chan error, 1)
	go func() {
		_, err := s.Insert(background, record(1, "ada"))
		rec <- err
	}()
	queued(t, s, 1)
	errs := make([]chan error, len(ops))
	for i, do := range ops {
		errs[i] = make(chan error, 1)
		go func() { errs[i] <- s.write(background, "fail", do) }()
		queued(t, s, 2+i)
	}
	last := make(chan error, 1)
	go func() { last <- s.Touch(background, []roam.Touch{{ID: record(1, "").ID, At: time.Now()}}) }()
	queued(t, s, 4)
	unlock()

	must(t, <-rec)
	refused(t, <-errs[0], "fail", "no such table")
	refused(t, <-errs[1], "fail", "second thoughts")
	must(t, <-last)
	got, err := s.Load(background, record(1, "").ID, roam.Want{})
	must(t, err)
	if !got.Ended.IsZero() {
		t.Error("the write that failed half done was not undone")
	}
	if got := s.queue.groups.Load(); got != 1 {
		t.Errorf("got %d commits, want 1", got)
	}
}

// The driver panics when memory runs out.
func TestPanicOfTheDriverIsAnError(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	unlock := lock(t, s.path)
	ended := make(chan error, 1)
	go func() { ended <- s.End(background, rec.ID, roam.Revoked) }()
	queued(t, s, 1)
	err := make(chan error, 1)
	go func() { err <- s.write(background, "fail", func(*conn, int64) error { panic("out of memory") }) }()
	queued(t, s, 2)
	unlock()
	refused(t, <-ended, "out of memory") // it shared the transaction
	refused(t, <-err, "out of memory")

	refused(t, s.read(background, "fail", func(*conn) error { panic("out of memory") }), "out of memory")

	got, e := s.Update(background, rec)
	must(t, e)
	if got.Version != 2 {
		t.Errorf("got version %d, want 2", got.Version)
	}
}

// A commit that fails for a reason that we cannot judge is not vouched for.
func TestFailedCommitLeavesTheOutcomeOpen(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	s.queue.conn.db.CommitHook(func() bool { return false })
	_, err := s.Update(background, rec)
	if err == nil || errors.Is(err, roam.ErrUnavailable) || errors.Is(err, roam.ErrConflict) {
		t.Errorf("got error %v, want one that vouches for nothing", err)
	}
	tells(t, err, s.path, "update")
	_, err = s.Update(background, rec) // on a new connection
	must(t, err)
}

// A commit that is refused while its transaction is still there is undone.
func TestRefusedCommitIsUndone(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	err := s.write(background, "end", func(c *conn, now int64) error {
		err := end(c, rec.ID, roam.Revoked, now)
		ctx, cancel := context.WithCancel(background)
		cancel()
		c.interrupt(ctx) // so that COMMIT does not even begin
		return err
	})
	refused(t, err)
	got, err := s.Load(background, rec.ID, roam.Want{})
	must(t, err)
	if !got.Ended.IsZero() {
		t.Error("the write was vouched not to be there, and is")
	}
	_, err = s.Update(background, rec)
	must(t, err)
}

func TestLockHeldTooLongIsToldAndNothingWritten(t *testing.T) {
	s := open(t, &Options{BusyWait: 20 * time.Millisecond})
	rec := insert(t, s, record(1, "ada"))
	unlock := lock(t, s.path)
	_, err := s.Update(background, rec)
	refused(t, err, s.path, "locked", "BusyWait, 20ms")
	refused(t, s.End(background, rec.ID, roam.Revoked), "locked")
	if _, err := s.Load(background, rec.ID, roam.Want{}); err != nil {
		t.Errorf("a lock on writing keeps readers out: %v", err)
	}
	unlock()
	got, err := s.Update(background, rec)
	must(t, err)
	if got.Version != 2 {
		t.Errorf("got version %d, want 2", got.Version)
	}
}

func TestUpdatesOfOneSessionAreAllKept(t *testing.T) {
	path := open(t, nil).path
	stores := []*Store{reopen(t, path, nil), reopen(t, path, nil), reopen(t, path, nil)}
	id := insert(t, stores[0], record(1, "ada")).ID
	const writers, each = 12, 10
	var wg sync.WaitGroup
	for w := range writers {
		s := stores[w%len(stores)]
		wg.Go(func() {
			for done := 0; done < each; {
				rec, err := s.Load(background, id, roam.Want{})
				if err == nil {
					rec.Data = append(slices.Clone(rec.Data), 'x')
					_, err = s.Update(background, rec)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, roam.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	rec, err := stores[0].Load(background, id, roam.Want{})
	must(t, err)
	if got, want := len(rec.Data)-len(record(1, "").Data), writers*each; got != want {
		t.Errorf("got %d updates in the data, want %d", got, want)
	}
	if got, want := rec.Version, uint64(1+writers*each); got != want {
		t.Errorf("got version %d, want %d", got, want)
	}
}

func TestBigTouchLetsOthersIn(t *testing.T) {
	s := open(t, nil)
	const n = 769 // of 256 each
	touches := make([]roam.Touch, n)
	must(t, s.queue.write(background, func(c *conn, now int64) error {
		for i := range touches {
			rec := record(uint32(i), "")
			touches[i].ID = rec.ID
			q, err := c.stmt(insertRecord)
			if err != nil {
				return err
			}
			q.bindInt(1, now-int64(time.Minute/time.Microsecond))
			q.bindNull(2)
			bindRecord(q, &rec)
			if err := q.run(); err != nil {
				return err
			}
		}
		return nil
	}))
	at := time.Now().Truncate(time.Microsecond)
	for i := range touches {
		touches[i].At = at
	}
	groups := s.queue.groups.Load()
	must(t, s.Touch(background, touches))
	if got := s.queue.groups.Load() - groups; got != 4 {
		t.Errorf("got %d transactions, want 4", got)
	}
	for rec, err := range s.All(background) {
		must(t, err)
		if !rec.Seen.Equal(at) {
			t.Fatalf("%v: got seen %v, want %v", rec.ID, rec.Seen, at)
		}
	}
}

func TestPartOfATouchIsNotVouchedFor(t *testing.T) {
	err := unwritten(context.Canceled)
	if got := partly(err, 0); !errors.Is(got, roam.ErrUnavailable) {
		t.Errorf("nothing written: got %v, want an ErrUnavailable", got)
	}
	if got := partly(err, touchChunk); errors.Is(got, roam.ErrUnavailable) {
		t.Errorf("a chunk written: got %v, which vouches that nothing was", got)
	}
}

// An update that leaves user and login alone does not write their index: it
// costs a page of the write-ahead log, not two.
func TestPlainUpdateWritesOnePage(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	for _, test := range []struct {
		name   string
		change func(*roam.Record)
		want   int
	}{
		{"data", func(r *roam.Record) { r.Data = []byte("{}") }, 1},
		{"login", func(r *roam.Record) { r.LoggedIn = r.Now }, 2},
		{"login and secret", func(r *roam.Record) { r.LoggedIn, r.Proof[0] = r.Now, 9 }, 3}, // and the log of ends
	} {
		before := s.queue.conn.frames
		test.change(&rec)
		var err error
		rec, err = s.Update(background, rec)
		must(t, err)
		if got := s.queue.conn.frames - before; got != test.want {
			t.Errorf("update of %s: got %d pages, want %d", test.name, got, test.want)
		}
	}
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	must(t, s.Close())
	must(t, s.Close())
	for name, err := range callAll(s, background, rec) {
		refused(t, err, name, "closed")
	}
	refused(t, s.Touch(background, nil), "closed")
	_, err := s.Prune(background, 0, 0)
	refused(t, err, "closed")
}

func TestCloseWaitsForWritesThatWait(t *testing.T) {
	s := open(t, nil)
	unlock := lock(t, s.path)
	const n = 5
	errs := make(chan error, n)
	for i := range uint32(n) {
		go func() {
			_, err := s.Insert(background, record(i, "ada"))
			errs <- err
		}()
	}
	queued(t, s, n)
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for s.queue.alive() == nil {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-closed:
		t.Error("Close returned while writes waited")
	default:
	}
	unlock()
	must(t, <-closed)
	for range n {
		must(t, <-errs)
	}
	other := reopen(t, s.path, nil)
	for i := range uint32(n) {
		if _, err := other.Load(background, record(i, "").ID, roam.Want{}); err != nil {
			t.Error(err)
		}
	}
}
