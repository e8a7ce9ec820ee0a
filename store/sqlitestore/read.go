package sqlitestore

import (
	"context"
	"iter"
	"math"

	"github.com/roam-web/roam"
)

// read runs a read on a connection of the pool. do must not keep anything of
// the connection.
func (s *Store) read(ctx context.Context, what string, do func(c *conn) error) error {
	if ctx.Err() != nil {
		return s.explain(what, unwritten(ctx.Err()))
	}
	c, err := s.pool.get(ctx)
	if err != nil {
		return s.explain(what, unwritten(err))
	}
	c.interrupt(ctx)
	err = guard(func() error { return do(c) })
	c.interrupt(context.Background())
	if err == nil || err == roam.ErrNotFound {
		s.pool.put(c, false)
		return err
	}
	f := failureOf(err)
	s.pool.put(c, f != busy && f != interrupted)
	if f == interrupted {
		err = ctx.Err()
	}
	return s.explain(what, unwritten(err))
}

// Load implements [roam.Store]. There is one file, and what can be seen in it
// is on the disk: each answer is as new and as durable as any Want asks.
func (s *Store) Load(ctx context.Context, id roam.ID, _ roam.Want) (rec roam.Record, err error) {
	err = s.read(ctx, "load", func(c *conn) (err error) {
		if rec, err = c.load(loadRecord, id); err == roam.ErrNotFound {
			// No row has no epoch. This one has a row always, but is slower.
			rec, err = c.load(loadMissing, id)
		}
		return err
	})
	return rec, err
}

func (c *conn) load(which query, id roam.ID) (roam.Record, error) {
	q, err := c.stmt(which)
	if err != nil {
		return roam.Record{}, err
	}
	defer q.reset()
	q.bindBlob(1, id[:])
	now := clock()
	switch row, err := q.step(); {
	case err != nil:
		return roam.Record{}, err
	case !row:
		return roam.Record{}, roam.ErrNotFound
	case q.null(0):
		return roam.Record{Now: moment(now), Epoch: uint64(q.int(epochColumn))}, roam.ErrNotFound
	}
	return c.scan(q, now), nil
}

// page bounds how many records a statement of List and All reads, so that no
// reader, however slow, keeps the write-ahead log from being reused.
const page = 128

// List implements [roam.Store].
func (s *Store) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		first := true
		s.pages(ctx, "list", listUser, yield, func(q *stmt, last *roam.Record) {
			q.bindText(1, user)
			if first {
				q.bindInt(2, -1)
				q.bindInt(3, 0)
				first = false
			} else if last.LoggedIn.IsZero() {
				q.bindInt(2, 1)
				q.bindInt(3, 0)
			} else {
				q.bindInt(2, 0)
				q.bindInt(3, -last.LoggedIn.UnixMicro())
			}
			q.bindBlob(4, last.ID[:])
			q.bindInt(5, page)
		})
	}
}

// All implements [roam.Store]. Its order is that of arrival.
func (s *Store) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		after := int64(math.MinInt64)
		s.pages(ctx, "all", listAll, yield, func(q *stmt, _ *roam.Record) {
			q.bindInt(1, after)
			q.bindInt(2, page)
		}, func(q *stmt) { after = q.int(epochColumn + 1) })
	}
}

// pages yields what a query finds, page by page. bind gets the last record of
// the page before; seen is called on each row.
func (s *Store) pages(ctx context.Context, what string, which query, yield func(roam.Record, error) bool,
	bind func(*stmt, *roam.Record), seen ...func(*stmt)) {
	var last roam.Record
	var recs []roam.Record
	for {
		recs = recs[:0]
		err := s.read(ctx, what, func(c *conn) error {
			q, err := c.stmt(which)
			if err != nil {
				return err
			}
			defer q.reset()
			bind(q, &last)
			now := clock()
			for {
				row, err := q.step()
				if err != nil || !row {
					return err
				}
				recs = append(recs, c.scan(q, now))
				for _, f := range seen {
					f(q)
				}
			}
		})
		for i := range recs {
			if err != nil {
				break
			}
			if ctx.Err() != nil {
				err = s.explain(what, unwritten(ctx.Err()))
				break
			}
			if !yield(recs[i], nil) {
				return
			}
		}
		if err != nil {
			yield(roam.Record{}, err)
			return
		}
		if len(recs) < page {
			return
		}
		last = recs[len(recs)-1]
	}
}
