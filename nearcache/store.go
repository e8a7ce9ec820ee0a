package nearcache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roam-web/roam"
)

// A Store is a [roam.Store] in front of another one.
type Store struct {
	store  roam.Store
	opts   Options
	clock  func() moment // of this server
	shards []shard       // a power of two, chosen by ID

	feed sync.Mutex  // held while the log is read
	next roam.Cursor // of the log, under feed

	mu     sync.Mutex           // held while mark and epoch change
	mark   atomic.Pointer[mark] // nil until the log has been read in this epoch
	epoch  atomic.Uint64        // the newest that any answer was from
	doubts atomic.Uint64        // goes up when more has ended than is known by ID
	missed atomic.Uint64        // see Stats
}

// New returns a Store in front of store, or an error if the options make no
// sense. It starts nothing; see the package comment.
func New(store roam.Store, opts *Options) (*Store, error) {
	if store == nil {
		return nil, errors.New("nearcache: New: the store is nil: want the store that keeps the sessions, of which this one is a copy")
	}
	resolved, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	n := 1
	for n < maxShards && resolved.Bytes/(2*n) >= minBytes {
		n *= 2
	}
	s := &Store{store: store, opts: resolved, clock: now, shards: make([]shard, n)}
	for i := range s.shards {
		s.shards[i].init(resolved.Bytes / n)
	}
	return s, nil
}

const maxShards = 256

// shard returns where an ID belongs. IDs that the store knows are random; what
// somebody else makes up is looked for there and never stored.
func (s *Store) shard(id roam.ID) *shard { return &s.shards[int(id[len(id)-1])&(len(s.shards)-1)] }

// Load implements [roam.Store].
func (s *Store) Load(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	if want.Version == 0 || want.Durable || ctx.Err() != nil {
		// The newest is wanted. An answer to somebody who asked before may be
		// older than this question, so none is waited for.
		return s.ask(ctx, id, want)
	}
	ok, trusted := s.recall(&rec, id, want)
	if ok {
		return rec, nil
	}
	s.missed.Add(1)
	if !trusted {
		return s.ask(ctx, id, want)
	}
	c, leads := s.shard(id).join(id)
	if leads {
		return s.lead(ctx, c, id, want)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return rec, fmt.Errorf("%w: while another request asked the store: %w", roam.ErrUnavailable, context.Cause(ctx))
	}
	if c.err != nil {
		return rec, c.err
	}
	// What was asked for before this Load began is as good as what is in
	// memory, and no better.
	if ok, _ := s.recall(&rec, id, want); ok {
		return rec, nil
	}
	return s.ask(ctx, id, want)
}

// lead asks the store for all who want the same in the meantime. It runs in the
// goroutine of the first, with that one's context: if that ends, the others ask
// for themselves.
func (s *Store) lead(ctx context.Context, c *call, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	defer func() {
		if err != nil && !errors.Is(err, roam.ErrNotFound) && ctx.Err() == nil {
			c.err = err
		}
		s.shard(id).leave(id, c)
	}()
	return s.ask(ctx, id, want)
}

// recall answers from memory, if it may. It also reports whether the memory as
// a whole can be trusted now, so that this record, were it there, would do.
func (s *Store) recall(rec *roam.Record, id roam.ID, want roam.Want) (ok, trusted bool) {
	m, at := s.mark.Load(), s.clock()
	if m == nil || at.since(m.began) >= s.opts.Bound || m.doubts != s.doubts.Load() || m.epoch < want.Epoch {
		return false, false
	}
	latest := m.latest(at)
	ok = s.shard(id).recall(rec, id, func(r *roam.Record) bool {
		if r.Epoch != m.epoch || r.Version < want.Version || latest.Sub(r.Now) > s.opts.MaxAge {
			return false
		}
		_, _, over := r.Over(latest)
		return !over || !r.Ended.IsZero()
	})
	if ok {
		rec.Now = later(rec.Now, m.earliest(at))
	}
	return ok, true
}

// ask loads the newest record, and remembers it.
func (s *Store) ask(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	sh := s.shard(id)
	r := sh.begin(id)
	defer sh.finish(id, r)
	rec, err := s.store.Load(ctx, id, roam.Want{Durable: want.Durable})
	switch {
	case err == nil && rec.ID == id:
		rec = s.remember(r, rec)
	case errors.Is(err, roam.ErrNotFound):
		s.meet(rec.Epoch)
		sh.forget(id)
	}
	return rec, err
}

// remember keeps an answer of the store's, if it is of the present epoch.
func (s *Store) remember(r *reading, rec roam.Record) roam.Record {
	s.meet(rec.Epoch)
	if m := s.mark.Load(); m != nil && m.epoch == rec.Epoch {
		rec = rec.WithMemo()
		s.shard(rec.ID).keep(r, &rec)
	}
	return rec
}

// Insert implements [roam.Store].
func (s *Store) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return s.write(ctx, rec, s.store.Insert)
}

// Update implements [roam.Store].
func (s *Store) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return s.write(ctx, rec, s.store.Update)
}

// write is a reading too, because its answer is the new record.
func (s *Store) write(ctx context.Context, rec roam.Record, send func(context.Context, roam.Record) (roam.Record, error)) (roam.Record, error) {
	sh := s.shard(rec.ID)
	r := sh.begin(rec.ID)
	defer sh.finish(rec.ID, r)
	written, err := send(ctx, rec)
	switch {
	case err == nil && written.ID == rec.ID:
		written = s.remember(r, written)
	case !errors.Is(err, roam.ErrUnavailable): // then what is here may be old, or soon will be
		sh.forget(rec.ID)
	}
	return written, err
}

// Touch implements [roam.Store].
func (s *Store) Touch(ctx context.Context, seen []roam.Touch) error {
	err := s.store.Touch(ctx, seen)
	m, at := s.mark.Load(), s.clock()
	if err != nil || m == nil {
		return err
	}
	for _, t := range seen {
		s.shard(t.ID).touch(t, m.earliest(at), m.latest(at))
	}
	return nil
}

// End implements [roam.Store].
func (s *Store) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	err := s.store.End(ctx, id, why)
	if !errors.Is(err, roam.ErrUnavailable) {
		s.shard(id).forget(id)
	}
	return err
}

// EndUser implements [roam.Store]. The store does not say which sessions it
// ended; its log does, and until that has been read nothing is answered from
// memory.
func (s *Store) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	n, err := s.store.EndUser(ctx, user, why, except...)
	if n > 0 || err != nil && !errors.Is(err, roam.ErrUnavailable) {
		s.doubts.Add(1)
	}
	return n, err
}

// List implements [roam.Store]. It asks the store.
func (s *Store) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return s.store.List(ctx, user)
}

// All implements [roam.Store]. It asks the store.
func (s *Store) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return s.store.All(ctx)
}

// Prune implements [roam.Store].
func (s *Store) Prune(ctx context.Context, keep time.Duration, max int) (int, error) {
	return s.store.Prune(ctx, keep, max)
}
