package postgresstore

import (
	"bytes"
	"context"
	"iter"
	"math"

	"github.com/roam-web/roam"
)

// Load implements [roam.Store]. It is one round trip.
func (s *Store) Load(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, err error) {
	k, q := kindRead, loadRecord
	switch {
	case want.Durable:
		k, q = kindBarrier, loadDurable
	case want.Version != 0 && len(s.replicas) > 0:
		if rec, ok := s.loadCopy(ctx, id, want); ok {
			return rec, nil
		}
	}
	var found bool
	_, err = s.call(ctx, k, q, func(a *args) { a.bytes(id[:]) }, func(p *primary, v [][]byte) error {
		if err := p.sure(v[1]); err != nil {
			return err
		}
		now := moment(v[0])
		if found = v[2] != nil; found {
			rec = scan(v[2:], now, p.epoch)
		} else {
			rec = roam.Record{Now: now, Epoch: p.epoch}
		}
		return nil
	})
	if err != nil {
		return roam.Record{}, s.explain("load", err)
	}
	if !found {
		return rec, roam.ErrNotFound
	}
	return rec, nil
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
