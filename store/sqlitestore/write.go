package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/roam-web/roam"
)

// write runs a write in the queue.
func (s *Store) write(ctx context.Context, what string, do func(c *conn, now int64) error) error {
	if ctx.Err() != nil {
		return s.explain(what, unwritten(ctx.Err()))
	}
	return s.explain(what, s.queue.write(ctx, do))
}

// alive is a write of nothing.
func (s *Store) alive(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return s.explain(what, unwritten(ctx.Err()))
	}
	return s.explain(what, s.queue.alive())
}

// Insert implements [roam.Store].
func (s *Store) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec.Ended, rec.Why = noTime, ""
	err := s.write(ctx, "insert", func(c *conn, now int64) error {
		q, err := c.stmt(insertRecord)
		if err != nil {
			return err
		}
		defer q.reset()
		q.bindInt(1, now)
		if rec.User == "" {
			q.bindNull(2)
		} else {
			q.bindInt(2, now)
		}
		bindRecord(q, &rec)
		row, err := q.step()
		if err != nil {
			return err
		}
		if !row {
			return roam.ErrConflict
		}
		rec.Version, rec.LoggedIn = 1, noTime
		stamp(&rec, now, now, now, q.int(0))
		if rec.User != "" {
			rec.LoggedIn = rec.Now
		}
		_, err = q.step()
		return err
	})
	if err != nil {
		return roam.Record{}, err
	}
	s.pruning.forget(&rec)
	rec.Data = slices.Clone(rec.Data)
	return rec, nil
}

// Update implements [roam.Store].
func (s *Store) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec.Ended, rec.Why = noTime, ""
	rec.LoggedIn = micro(rec.LoggedIn)
	err := s.write(ctx, "update", func(c *conn, now int64) error {
		err := update(c, updateData, &rec, now)
		if err == roam.ErrConflict {
			err = update(c, updateLogin, &rec, now)
		}
		return err
	})
	if err != nil {
		return roam.Record{}, err
	}
	s.pruning.forget(&rec)
	rec.Version++
	rec.Data = slices.Clone(rec.Data)
	return rec, nil
}

func update(c *conn, which query, rec *roam.Record, now int64) error {
	q, err := c.stmt(which)
	if err != nil {
		return err
	}
	defer q.reset()
	q.bindInt(1, now)
	q.bindInt(2, int64(rec.Version))
	bindRecord(q, rec)
	bindTime(q, 14, rec.LoggedIn)
	row, err := q.step()
	if err != nil {
		return err
	}
	if !row {
		return roam.ErrConflict
	}
	stamp(rec, q.int(0), q.int(1), now, q.int(2))
	_, err = q.step()
	return err
}

func stamp(rec *roam.Record, created, seen, now, epoch int64) {
	rec.Created, rec.Seen = moment(created), moment(seen)
	rec.Now, rec.Epoch = moment(max(now, seen)), uint64(epoch)
}

// touchChunk bounds how many records one write touches.
const touchChunk = 256

// Touch implements [roam.Store]. A large batch is written in several
// transactions, so that other writes get their turn.
func (s *Store) Touch(ctx context.Context, seen []roam.Touch) error {
	if len(seen) == 0 {
		return s.alive(ctx, "touch")
	}
	written := 0
	for chunk := range slices.Chunk(seen, touchChunk) {
		err := s.write(ctx, "touch", func(c *conn, now int64) error {
			return c.all(func() error {
				q, err := c.stmt(touchRecord)
				if err != nil {
					return err
				}
				for _, t := range chunk {
					q.bindInt(1, now)
					q.bindInt(2, min(t.At.UnixMicro(), now))
					q.bindBlob(3, t.ID[:])
					if err := q.run(); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return partly(err, written)
		}
		written += len(chunk)
	}
	return nil
}

// partly takes from an error the promise that nothing was written.
func partly(err error, written int) error {
	if written == 0 || !errors.Is(err, roam.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("after %d records: %v", written, err)
}

// End implements [roam.Store].
func (s *Store) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	return s.write(ctx, "end", func(c *conn, now int64) error { return end(c, id, why, now) })
}

func end(c *conn, id roam.ID, why roam.Reason, now int64) error {
	q, err := c.stmt(endRecord)
	if err != nil {
		return err
	}
	q.bindInt(1, now)
	q.bindText(2, string(why))
	q.bindBlob(3, id[:])
	return q.run()
}

// EndUser implements [roam.Store]. It is one transaction.
func (s *Store) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (n int, err error) {
	err = s.write(ctx, "end user", func(c *conn, now int64) error {
		n = 0
		return c.all(func() error {
			ids, err := userIDs(c, user)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if slices.Contains(except, id) {
					continue
				}
				if err := end(c, id, why, now); err != nil {
					return err
				}
				n++
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func userIDs(c *conn, user string) (ids []roam.ID, err error) {
	q, err := c.stmt(idsOfUser)
	if err != nil {
		return nil, err
	}
	defer q.reset()
	q.bindText(1, user)
	for {
		row, err := q.step()
		if err != nil || !row {
			return ids, err
		}
		var id roam.ID
		copy(id[:], q.bytes(0))
		ids = append(ids, id)
	}
}
