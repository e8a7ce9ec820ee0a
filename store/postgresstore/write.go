package postgresstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/roam-web/roam"
)

// Insert implements [roam.Store]. It is one round trip.
func (s *Store) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	done := false
	_, err := s.call(ctx, kindWrite, insertRecord, func(a *args) {
		a.bool(rec.User != "")
		a.record(&rec)
	}, func(p *primary, v [][]byte) error {
		done = true
		rec.Version, rec.LoggedIn = 1, time.Time{}
		return p.stamp(&rec, v)
	})
	if err == nil && !done {
		err = roam.ErrConflict
	}
	if err != nil {
		return roam.Record{}, s.explain("insert", err)
	}
	if rec.User != "" {
		rec.LoggedIn = rec.Created
	}
	rec.Data = bytes.Clone(rec.Data)
	return rec, nil
}

// Update implements [roam.Store]. It is one statement that compares and swaps,
// and one round trip, or a part of one that is made for several callers at once.
func (s *Store) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	deadline := time.Now().Add(s.opts.Timeout)
	rec.LoggedIn = micro(rec.LoggedIn)
	rec.Data = bytes.Clone(rec.Data) // the caller may go before the group's exchange is over
	rec, err := s.changed(ctx, deadline, &rec)
	if err != nil {
		return roam.Record{}, s.explain("update", err)
	}
	return rec, nil
}

func (s *Store) changed(ctx context.Context, deadline time.Time, rec *roam.Record) (roam.Record, error) {
	if _, err := s.alive(ctx); err != nil {
		return *rec, err
	}
	seat, lap := s.changes.enter(&change{rec: *rec})
	if seat == nil {
		defer s.changes.leave(lap)
		return s.update(ctx, deadline, *rec)
	}
	if taken, err := s.changes.wait(ctx, deadline, seat); err != nil {
		if !taken {
			err = unwritten(err)
		}
		return *rec, err
	}
	written, err := seat.ask.rec, seat.err
	s.changes.stand(seat)
	if err == errAlone {
		return s.update(ctx, deadline, *rec)
	}
	return written, err
}

// update writes one record. It keeps rec.Data.
func (s *Store) update(ctx context.Context, deadline time.Time, rec roam.Record) (roam.Record, error) {
	done := false
	was := rec.Version
	_, err := s.callUntil(ctx, deadline, kindWrite, updateRecord, func(a *args) {
		a.int(int64(was))
		a.record(&rec)
		a.time(rec.LoggedIn)
	}, func(p *primary, v [][]byte) error {
		done = true
		rec.Version = was + 1
		return p.stamp(&rec, v)
	})
	if err == nil && !done {
		err = roam.ErrConflict
	}
	return rec, err
}

// A change is an Update that may share its round trip, and its commit, with
// others.
type change struct {
	rec  roam.Record // as it is to be, and then as it was written
	was  uint64      // its version
	done bool
}

func (c *change) size() int { return len(c.rec.Data) + len(c.rec.User) + len(c.rec.From.Agent) }

// change makes the round trip for a group of updates. Of each one that the
// server does not say it has done, because it is a conflict, or because
// somebody holds the row, its caller finds out alone.
func (s *Store) change(group []*seat[change]) {
	ctx, deadline := context.Background(), time.Now().Add(s.opts.Timeout)
	if len(group) == 1 {
		group[0].ask.rec, group[0].err = s.update(ctx, deadline, group[0].ask.rec)
		return
	}
	slices.SortStableFunc(group, func(a, b *seat[change]) int { return bytes.Compare(a.ask.rec.ID[:], b.ask.rec.ID[:]) })
	// Of several updates of one session only one can be in a statement. The
	// others are alone after it.
	first := make([]*seat[change], 0, len(group))
	for i, seat := range group {
		if seat.err = errAlone; i == 0 || seat.ask.rec.ID != group[i-1].ask.rec.ID {
			seat.ask.was = seat.ask.rec.Version
			first = append(first, seat)
		}
	}
	_, err := s.callUntil(ctx, deadline, kindWrite, updateRecords, func(a *args) {
		for _, seat := range first {
			seat.ask.done, seat.ask.rec.Version = false, seat.ask.was
		}
		a.records(len(first), func(i int) *roam.Record { return &first[i].ask.rec })
	}, func(p *primary, v [][]byte) error {
		i, asked := slices.BinarySearchFunc(first, v[0], func(seat *seat[change], id []byte) int { return bytes.Compare(seat.ask.rec.ID[:], id) })
		if !asked || first[i].ask.done {
			return errStranger
		}
		ask := &first[i].ask
		ask.done, ask.rec.Version = true, ask.was+1
		return p.stamp(&ask.rec, v[1:])
	})
	for _, seat := range first {
		switch {
		case err == nil && seat.ask.done:
			seat.err = nil
		case err != nil && !(refused(err) && personal(err)):
			seat.err = err
		}
	}
}

// stamp sets what an insert or an update returned.
func (p *primary) stamp(rec *roam.Record, v [][]byte) error {
	rec.Created, rec.Seen = moment(v[0]), moment(v[1])
	rec.Now, rec.Epoch = later(moment(v[2]), rec.Seen), p.epoch
	rec.Ended, rec.Why = time.Time{}, ""
	return p.sure(v[3])
}

// touchChunk bounds how many records one statement touches.
const touchChunk = 1000

// Touch implements [roam.Store]. A batch of up to a thousand is one round trip.
func (s *Store) Touch(ctx context.Context, seen []roam.Touch) error {
	// All who write several rows do so in the order of their IDs, so that
	// none of them waits for one who waits for it.
	sorted := slices.Clone(seen)
	slices.SortFunc(sorted, func(a, b roam.Touch) int {
		if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
			return c
		}
		return b.At.Compare(a.At)
	})
	sorted = slices.CompactFunc(sorted, func(a, b roam.Touch) bool { return a.ID == b.ID })
	if len(sorted) == 0 {
		_, err := s.alive(ctx)
		return s.explain("touch", err)
	}
	written := 0
	for chunk := range slices.Chunk(sorted, touchChunk) {
		_, err := s.call(ctx, kindWrite, touchRecords, func(a *args) {
			a.array(typeUUID, len(chunk), 16, func(b []byte, i int) []byte { return append(b, chunk[i].ID[:]...) })
			a.array(typeTimestamp, len(chunk), 8, func(b []byte, i int) []byte {
				return binary.BigEndian.AppendUint64(b, uint64(stamp(chunk[i].At)))
			})
		}, noRow)
		if err != nil {
			return s.explain("touch", partly(err, written))
		}
		written += len(chunk)
	}
	return nil
}

func noRow(*primary, [][]byte) error { return nil }

// alive fails if nothing could be written now.
func (s *Store) alive(ctx context.Context) (*primary, error) {
	if err := ctx.Err(); err != nil {
		return nil, unwritten(err)
	}
	if s.closed.Load() {
		return nil, unwritten(errClosed)
	}
	p := s.primary.Load()
	if p == nil {
		return nil, *s.reason.Load()
	}
	return p, nil
}

// partly takes from an error the promise that nothing was written.
func partly(err error, written int) error {
	if written == 0 || !errors.Is(err, roam.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("after %d records: %v", written, err)
}

// End implements [roam.Store]. It is one round trip.
func (s *Store) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	_, err := s.call(ctx, kindWrite, endRecord, func(a *args) {
		a.bytes(id[:])
		a.text(string(why))
	}, func(p *primary, v [][]byte) error { return p.sure(v[0]) })
	return s.explain("end", err)
}

// EndUser implements [roam.Store]. It is one statement.
func (s *Store) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (n int, err error) {
	_, err = s.call(ctx, kindWrite, endUser, func(a *args) {
		a.text(user)
		a.text(string(why))
		a.ids(except)
	}, func(p *primary, v [][]byte) error {
		n = int(number(v[0]))
		return p.sure(v[1])
	})
	if err != nil {
		return 0, s.explain("end user", err)
	}
	return n, nil
}
