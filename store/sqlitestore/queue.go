package sqlitestore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roam-web/roam"
)

// maxGroup bounds how many writes share a transaction, and so how long other
// processes wait for it.
const maxGroup = 128

// A queue groups the writes of this process into transactions, so that they
// share a commit and its wait for the disk. There is no timer and no goroutine
// of its own: the caller that finds nobody writing leads. While it waits for
// the file's lock and while it commits, others queue up, and the next leader
// takes them all along.
type queue struct {
	open func() (*conn, error)
	busy time.Duration
	// after runs after each commit, while the connection is still the
	// leader's.
	after func(*conn)

	mu      sync.Mutex
	waiting []*op
	leading bool
	drained chan struct{} // made by close, closed when nobody leads any more

	conn *conn // the leader's; nil before the first write and after a failure

	groups, ops atomic.Int64 // committed transactions, and the writes in them
}

// An op is one caller's write.
type op struct {
	ctx   context.Context
	do    func(c *conn, now int64) error
	since time.Time

	state  state
	signal chan struct{} // says that the state is now leads or done
	err    error
}

type state int

const (
	waits state = iota // the only state in which a caller can still go
	leads
	taken
	done
)

// write runs do in a transaction, perhaps together with other writes, and
// returns when it is committed. do must be repeatable: its transaction may be
// rolled back. Its error fails it alone; ErrConflict is not a failure.
//
// A returned error wraps roam.ErrUnavailable if nothing was written.
func (q *queue) write(ctx context.Context, do func(c *conn, now int64) error) error {
	o := &op{ctx: ctx, do: do, since: time.Now(), signal: make(chan struct{}, 1)}
	q.mu.Lock()
	if q.drained != nil {
		q.mu.Unlock()
		return unwritten(errClosed)
	}
	q.waiting = append(q.waiting, o)
	if !q.leading {
		q.leading, o.state = true, leads
		o.signal <- struct{}{}
	}
	q.mu.Unlock()

	select {
	case <-o.signal:
	case <-ctx.Done():
		if q.withdraw(o) {
			return unwritten(ctx.Err())
		}
		<-o.signal // the write is on its way, its outcome counts
	}
	if o.state == leads {
		q.lead(o)
	}
	return o.err
}

// alive fails once close was called.
func (q *queue) alive() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.drained != nil {
		return unwritten(errClosed)
	}
	return nil
}

// withdraw takes a write back that nobody has begun with.
func (q *queue) withdraw(o *op) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch o.state {
	case waits:
		q.remove(o)
	case leads:
		q.remove(o)
		q.pass()
	default:
		return false
	}
	return true
}

func (q *queue) remove(o *op) {
	if i := slices.Index(q.waiting, o); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
}

// pass gives the lead to who waits longest.
func (q *queue) pass() {
	if len(q.waiting) > 0 {
		q.waiting[0].become(leads)
		return
	}
	q.leading = false
	if q.drained != nil {
		close(q.drained)
	}
}

func (o *op) become(s state) {
	o.state = s
	o.signal <- struct{}{}
}

// lead runs one group. The writes that queue up meanwhile are the next
// leader's.
func (q *queue) lead(o *op) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.pass()
	}()
	c, err := q.begin(o)
	if err != nil {
		// The others have not waited as long: the next one tries again.
		q.mu.Lock()
		defer q.mu.Unlock()
		q.remove(o)
		o.state, o.err = done, unwritten(err)
		return
	}
	group := q.take(o)
	err = q.run(c, group)
	for _, member := range group {
		if err != nil {
			member.err = err
		}
		if member == o {
			o.state = done
			continue
		}
		q.mu.Lock()
		member.become(done)
		q.mu.Unlock()
	}
	if q.conn != nil {
		q.after(q.conn)
	}
}

// begin waits for the file's lock, as long as the leader may still wait. It
// can be cancelled: nothing has been begun yet.
func (q *queue) begin(o *op) (*conn, error) {
	if q.conn == nil {
		c, err := q.open()
		if err != nil {
			return nil, err
		}
		q.conn = c
	}
	c := q.conn
	err := guard(func() error {
		c.wait(q.busy - time.Since(o.since))
		c.interrupt(o.ctx)
		defer c.interrupt(context.Background())
		return c.run(begin)
	})
	if err == nil {
		return c, nil
	}
	if f := failureOf(err); f != busy && f != interrupted {
		q.discard()
	}
	if cause := o.ctx.Err(); cause != nil {
		err = cause
	}
	return nil, err
}

// discard closes a connection that failed; the next leader opens another.
func (q *queue) discard() {
	guard(func() error { return q.conn.run(rollback) })
	q.conn.close()
	q.conn = nil
}

// take makes a group of those who wait and are not cancelled.
func (q *queue) take(leader *op) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxGroup)
	group := make([]*op, 0, n)
	for _, o := range q.waiting[:n] {
		switch {
		case o.ctx.Err() == nil:
			o.state = taken
			group = append(group, o)
		case o == leader:
			o.state, o.err = done, unwritten(o.ctx.Err())
		default:
			o.err = unwritten(o.ctx.Err())
			o.become(done)
		}
	}
	q.waiting = slices.Delete(q.waiting, 0, n)
	return group
}

// run does a group's writes and commits them. The error it returns is for all;
// that of a single one is in its op.
func (q *queue) run(c *conn, group []*op) error {
	for _, o := range group {
		o.err = guard(func() error { return o.do(c, clock()) })
		if o.err == nil || errors.Is(o.err, roam.ErrConflict) {
			continue
		}
		if errors.Is(o.err, errPanic) || !c.inTransaction() {
			// SQLite has given up the whole transaction, or we do.
			err := unwritten(o.err)
			q.discard()
			return err
		}
		o.err = unwritten(o.err)
	}
	err := guard(func() error { return c.run(commit) })
	if err != nil {
		// The mark that ends a transaction is the last that is written. If
		// writing failed, it is not there; and what is still open is
		// rolled back. After any other failure, of an fsync for instance,
		// the disk may have all of it or nothing.
		f := failureOf(err)
		if f == full || f == noWrite || !errors.Is(err, errPanic) && c.inTransaction() {
			err = unwritten(err)
		}
		q.discard()
		return err
	}
	q.groups.Add(1)
	q.ops.Add(int64(len(group)))
	return nil
}

// run executes a statement without parameters.
func (c *conn) run(q query) error {
	s, err := c.stmt(q)
	if err != nil {
		return err
	}
	return s.run()
}

// all makes several statements one: either all are done or none.
func (c *conn) all(do func() error) error {
	if err := c.run(savepoint); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return c.run(release)
	}
	if c.inTransaction() {
		if e := errors.Join(c.run(rollbackTo), c.run(release)); e != nil {
			return errors.Join(err, e)
		}
	}
	return err
}

// close lets no more writes in and waits for those that are.
func (q *queue) close() {
	q.mu.Lock()
	if q.drained == nil {
		q.drained = make(chan struct{})
		if !q.leading {
			close(q.drained)
		}
	}
	q.mu.Unlock()
	<-q.drained
}
