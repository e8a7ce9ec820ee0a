package nearcache

import (
	"context"
	"time"

	"github.com/roam-web/roam"
)

// A moment is a time on both of this server's clocks. The monotonic one stands
// still while a machine is suspended, and the other one jumps when it is set:
// of two that disagree about an age, the larger is believed.
type moment struct{ mono, wall time.Duration }

var start = time.Now()

func now() moment {
	t := time.Now()
	return moment{t.Sub(start), time.Duration(t.UnixNano())}
}

func (m moment) since(before moment) time.Duration {
	return max(m.mono-before.mono, m.wall-before.wall)
}

// A mark is the last time that the log of ends was read to its end. All that
// had ended when that read began is known here. It also tells the store's time.
type mark struct {
	began  moment
	store  time.Time     // the store's clock when the read began, or less by at most slack
	slack  time.Duration // the time that the answer took
	epoch  uint64
	doubts uint64 // the Store's when the read began
}

// The store's clock is between these two. What must not be served too long is
// judged by the later one, and callers are told the earlier one, so that the
// store's next answer is not before it.
func (m *mark) latest(at moment) time.Time { return m.store.Add(at.since(m.began)) }

func (m *mark) earliest(at moment) time.Time {
	return m.store.Add(at.mono - m.began.mono - m.slack).Truncate(time.Microsecond)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Ends implements [roam.Store]. Whoever reads the log reads it for this server's
// memory as well: with a place in it of our own, so that we know what we have
// read. A caller who is at another place gets the answer that is due there, and
// is then where we are; so there is one read at a time usually, and two at most.
func (s *Store) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	s.feed.Lock()
	defer s.feed.Unlock()
	same := after == s.next
	log, err := s.follow(ctx)
	if err != nil || same {
		return log, err
	}
	theirs, err := s.store.Ends(ctx, after)
	if theirs.Epoch == log.Epoch {
		// What came between the two reads comes twice, which is allowed.
		theirs.Next = log.Next
	}
	return theirs, err
}

// follow reads on in the log.
func (s *Store) follow(ctx context.Context) (roam.Log, error) {
	began, doubts := s.clock(), s.doubts.Load()
	log, err := s.store.Ends(ctx, s.next)
	if err != nil {
		return log, err
	}
	arrived := s.clock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if log.Epoch < s.epoch.Load() {
		return log, nil // of a store that has been replaced: not followed
	}
	m := &mark{began, log.Now, arrived.mono - began.mono, log.Epoch, doubts}
	if last := s.mark.Load(); last == nil || last.epoch != m.epoch || log.Now.Before(last.store) ||
		arrived.since(last.began) >= roam.LogKept || log.Now.Sub(last.store) >= roam.LogKept {
		// What ended since the last read may be in the log no more.
		s.drop()
	} else if ahead := last.earliest(arrived).Sub(log.Now); ahead > 0 {
		m.slack = max(m.slack-ahead, 0) // a slow answer does not set the clock back
	}
	for _, e := range log.Ends {
		s.shard(e.ID).end(e)
	}
	s.next = log.Next
	s.epoch.Store(log.Epoch)
	s.mark.Store(m) // only now: what it vouches for is done
	return log, nil
}

// meet takes note of the epoch of an answer. When a newer one has begun, what is
// known from before it counts no longer, and nothing is served until its log has
// been read.
func (s *Store) meet(epoch uint64) {
	if epoch <= s.epoch.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch > s.epoch.Load() {
		s.epoch.Store(epoch)
		s.drop()
	}
}

// drop forgets everything, and lets no answer in that is on its way. s.mu is
// held.
func (s *Store) drop() {
	s.mark.Store(nil)
	for i := range s.shards {
		s.shards[i].drop()
	}
}
