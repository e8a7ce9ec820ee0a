package postgresstore

import (
	"context"
	"time"

	"github.com/roam-web/roam"
)

// A clock is the primary's, as it was read at a moment of ours.
type clock struct{ store, here time.Time }

// now is a little behind the primary's clock, by at most a round trip.
func (c *clock) now() time.Time { return c.store.Add(time.Since(c.here)).Truncate(time.Microsecond) }

// enlist opens or closes the connections to a replica, as it comes and goes.
func (s *Store) enlist(h *host) {
	switch {
	case h.up && h.pool == nil:
		h.pool = newPool(s.opts.MaxConns, func(ctx context.Context) (*conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*s.opts.Timeout)
			defer cancel()
			return connect(ctx, h.cfg)
		})
	case !h.up && h.pool != nil:
		h.pool.close(unwritten(h.err))
		h.pool = nil
	case h.pool != nil:
		h.pool.trim()
	}
}

// loadCopy asks a replica, and reports whether its answer will do. A replica's
// record will do if it is as new as is wanted, and alive by the primary's
// clock: it may not have heard yet that the session was in use. A tombstone is
// final. That there is no record may just not have arrived yet.
//
// The clock in the answer is the primary's, estimated from the last probe: a
// replica's own may be wrong, and nobody is to be logged out by that, or kept.
func (s *Store) loadCopy(ctx context.Context, id roam.ID, want roam.Want) (rec roam.Record, ok bool) {
	p, clock := s.primary.Load(), s.clock.Load()
	if p == nil || clock == nil || time.Since(clock.here) > s.opts.Timeout {
		return rec, false
	}
	h, pool := s.replica(p)
	if pool == nil {
		return rec, false
	}
	// Half of the time is left for the primary.
	deadline := time.Now().Add(s.opts.Timeout / 2)
	c, err := pool.get(ctx, deadline, false)
	if err != nil {
		return rec, false
	}
	now := clock.now()
	_, err = s.run(ctx, deadline, pool, c, loadCopy, func(a *args) { a.bytes(id[:]) }, func(v [][]byte) error {
		if v[2] != nil {
			rec = scan(v[2:], now, uint64(number(v[1])))
			rec.Now = later(rec.Now, rec.Seen) // the primary's clock has been there
		}
		return nil
	})
	if err != nil {
		h.look()
		return rec, false
	}
	if rec.Epoch != p.epoch || rec.Epoch < want.Epoch || rec.Version < want.Version {
		return rec, false
	}
	if _, _, over := rec.Over(rec.Now); over && rec.Ended.IsZero() {
		return rec, false
	}
	return rec, p == s.primary.Load()
}

// replica returns the next replica that is up and has the primary's history.
func (s *Store) replica(p *primary) (*host, *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.replicas {
		h := s.replicas[int(s.turn.Add(1))%len(s.replicas)]
		if h.up && h.pool != nil && h.said.system == p.system && h.said.epoch == p.epoch {
			return h, h.pool
		}
	}
	return nil, nil
}
