package postgresstore

import (
	"bytes"
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/roam-web/roam"
)

// Load implements [roam.Store]. It is one round trip, or a part of one that is
// made for several callers at once.
func (s *Store) Load(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	switch {
	case want.Durable:
		rec, err = s.load(ctx, time.Now().Add(s.opts.Timeout), kindBarrier, loadDurable, id)
	case want.Version != 0 && len(s.replicas) > 0:
		var ok bool
		if rec, ok = s.loadCopy(ctx, id, want); ok {
			return rec, nil
		}
		fallthrough
	default:
		rec, err = s.lookUp(ctx, time.Now().Add(s.opts.Timeout), id)
	}
	if err != nil && err != roam.ErrNotFound {
		return roam.Record{}, s.explain("load", err)
	}
	return rec, err
}

// lookUp asks for a record together with others, or alone.
func (s *Store) lookUp(ctx context.Context, deadline time.Time, id roam.ID) (roam.Record, error) {
	if _, err := s.alive(ctx); err != nil {
		return roam.Record{}, err
	}
	seat, lap := s.lookups.enter(&lookup{id: id})
	if seat == nil {
		defer s.lookups.leave(lap)
		return s.load(ctx, deadline, kindRead, loadRecord, id)
	}
	if _, err := s.lookups.wait(ctx, deadline, seat); err != nil {
		return roam.Record{}, unwritten(err)
	}
	rec, err := seat.ask.rec, seat.err
	s.lookups.stand(seat)
	if err == errAlone {
		return s.load(ctx, deadline, kindRead, loadRecord, id)
	}
	return rec, err
}

// load asks for one record.
func (s *Store) load(ctx context.Context, deadline time.Time, k kind, q query, id roam.ID) (rec roam.Record, err error) {
	var found bool
	_, err = s.callUntil(ctx, deadline, k, q, func(a *args) { a.bytes(id[:]) }, func(p *primary, v [][]byte) error {
		now := moment(v[0])
		if found = v[2] != nil; found {
			rec = scan(v[2:], now, p.epoch)
		} else {
			rec = roam.Record{Now: now, Epoch: p.epoch}
		}
		return p.sure(v[1])
	})
	switch {
	case err != nil:
	case found && rec.ID != id:
		err = unwritten(errStranger)
	case !found:
		err = roam.ErrNotFound
	}
	return rec, err
}

// A lookup is a Load that may share its round trip with others.
type lookup struct {
	id    roam.ID
	rec   roam.Record
	found bool
}

// look makes the round trip for a group of lookups. Those of the same session
// ask once, and get a copy each.
func (s *Store) look(group []*seat[lookup]) {
	ctx, deadline := context.Background(), time.Now().Add(s.opts.Timeout)
	if len(group) == 1 {
		group[0].ask.rec, group[0].err = s.load(ctx, deadline, kindRead, loadRecord, group[0].ask.id)
		return
	}
	slices.SortFunc(group, func(a, b *seat[lookup]) int { return bytes.Compare(a.ask.id[:], b.ask.id[:]) })
	ids := make([]roam.ID, 0, len(group))
	for i, seat := range group {
		if i == 0 || seat.ask.id != group[i-1].ask.id {
			ids = append(ids, seat.ask.id)
		}
	}
	var none roam.Record
	_, err := s.callUntil(ctx, deadline, kindRead, loadRecords, func(a *args) {
		for _, seat := range group {
			seat.ask.found = false
		}
		a.ids(ids)
	}, func(p *primary, v [][]byte) error {
		now := moment(v[0])
		none = roam.Record{Now: now, Epoch: p.epoch}
		if v[2] == nil {
			return p.sure(v[1])
		}
		i, asked := slices.BinarySearchFunc(group, v[2], func(seat *seat[lookup], id []byte) int { return bytes.Compare(seat.ask.id[:], id) })
		if !asked || group[i].ask.found {
			return errStranger
		}
		rec := scan(v[2:], now, p.epoch)
		for k, seat := range group[i:] {
			if seat.ask.id != rec.ID {
				break
			}
			seat.ask.rec, seat.ask.found = rec, true
			if k > 0 {
				seat.ask.rec.Data = bytes.Clone(rec.Data)
			}
		}
		return p.sure(v[1])
	})
	if personal(err) {
		err = errAlone
	}
	for _, seat := range group {
		if seat.err = err; err == nil && !seat.ask.found {
			seat.ask.rec, seat.err = none, roam.ErrNotFound
		}
	}
}

// page bounds how many records a statement of List and All reads, so that no
// caller, however slow, keeps a connection.
const page = 128

// List implements [roam.Store].
func (s *Store) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		s.pages(ctx, "list", listUser, yield, func(a *args, last *roam.Record) {
			a.text(user)
			switch {
			case last == nil:
				a.int(math.MaxInt64)
				a.bytes(noID[:])
			case last.LoggedIn.IsZero():
				a.int(math.MinInt64)
				a.bytes(last.ID[:])
			default:
				a.time(last.LoggedIn)
				a.bytes(last.ID[:])
			}
			a.int(page)
		})
	}
}

// All implements [roam.Store]. Its order is that of IDs.
func (s *Store) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		s.pages(ctx, "all", listAll, yield, func(a *args, last *roam.Record) {
			if last == nil {
				a.bytes(noID[:])
			} else {
				a.bytes(last.ID[:])
			}
			a.bool(last == nil)
			a.int(page)
		})
	}
}

var noID roam.ID

// pages yields what a query finds, page by page. bind gets the last record of
// the page before.
func (s *Store) pages(ctx context.Context, what string, q query, yield func(roam.Record, error) bool, bind func(*args, *roam.Record)) {
	var last *roam.Record
	for {
		var recs []roam.Record
		_, err := s.call(ctx, kindRead, q, func(a *args) { recs = recs[:0]; bind(a, last) }, func(p *primary, v [][]byte) error {
			if err := p.sure(v[1]); err != nil {
				return err
			}
			r := scan(v[2:], moment(v[0]), p.epoch)
			if last != nil && bytes.Equal(r.ID[:], last.ID[:]) {
				return nil
			}
			recs = append(recs, r)
			return nil
		})
		if err != nil {
			yield(roam.Record{}, s.explain(what, err))
			return
		}
		for i := range recs {
			if ctx.Err() != nil {
				yield(roam.Record{}, s.explain(what, unwritten(ctx.Err())))
				return
			}
			if !yield(recs[i], nil) {
				return
			}
		}
		if len(recs) < page {
			return
		}
		last = &recs[len(recs)-1]
	}
}
