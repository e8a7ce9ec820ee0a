package roam

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// watches are the contexts that end with a session.
type watches struct {
	mu sync.Mutex
	by map[ID]map[*watch]struct{}
}

type watch struct {
	tok    Token
	cancel context.CancelCauseFunc
	seen   mark  // zero until it is known
	until  int64 // when the session is over if nobody touches it, in the store's time; 0 if that is in doubt
}

// Watch returns a context for what goes on after the request has been answered
// in the first instance: server-sent events, a WebSocket, a long poll. It ends
// with ctx, or when the session does, on whatever server and for whatever
// reason, which is then its cause, an [*EndedError]: a second later at most,
// because the log of ends is read by Run, without which it ends with ctx alone.
// A login in another tab ends it too, with reason [Rotated].
//
// If the store does not answer, the context goes on: unknown is not gone.
// Keeping it open does not count as use of the session. The errors are those
// of Identify; the zero Token has a context that ends with ctx.
func (m *Manager[T]) Watch(ctx context.Context, tok Token) (context.Context, Identity, error) {
	return m.watch(ctx, tok, &fact{})
}

func (m *Manager[T]) watch(ctx context.Context, tok Token, seal *fact) (context.Context, Identity, error) {
	if tok.IsZero() {
		return ctx, Identity{}, nil
	}
	watched, cancel := context.WithCancelCause(ctx)
	w := &watch{tok: tok, cancel: cancel}
	m.watches.add(w)
	context.AfterFunc(watched, func() { m.watches.remove(w) })
	who, seen, err := m.identify(ctx, tok, seal)
	if err != nil {
		cancel(err)
		return nil, who, err
	}
	m.watches.mu.Lock()
	w.seen, w.until = seen, who.Expires.UnixMicro()
	m.watches.mu.Unlock()
	// What the log told while this was being found out.
	if name := m.past.lookUp(tok.id); name.overrules(seen) {
		cancel(name.end(tok.id))
	}
	return watched, who, nil
}

// end is the error for a session that the log names.
func (n *named) end(id ID) *EndedError {
	if n.why == "" {
		return &EndedError{ID: id, Reason: Rotated}
	}
	return &EndedError{ID: id, Reason: n.why}
}

func (s *watches) add(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[ID]map[*watch]struct{})
	}
	if s.by[w.tok.id] == nil {
		s.by[w.tok.id] = make(map[*watch]struct{})
	}
	s.by[w.tok.id][w] = struct{}{}
}

func (s *watches) remove(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by[w.tok.id], w)
	if len(s.by[w.tok.id]) == 0 {
		delete(s.by, w.tok.id)
	}
}

// check cancels what the log of an epoch names.
func (s *watches) check(ends []End, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range ends {
		n := named{version: e.Version, epoch: epoch, why: e.Why}
		for w := range s.by[e.ID] {
			if w.seen != (mark{}) && n.overrules(w.seen) {
				w.cancel(n.end(e.ID))
			}
		}
	}
}

// doubt makes all of them due.
func (s *watches) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.by {
		for w := range of {
			w.until = 0
		}
	}
}

// due returns those whose time has come.
func (s *watches) due(now int64) (due []*watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.by {
		for w := range of {
			if w.seen != (mark{}) && w.until <= now {
				due = append(due, w)
			}
		}
	}
	return due
}

// confirmers is how many sessions are confirmed at once.
const confirmers = 8

// confirm asks the store, until ctx is done, about sessions that look over:
// they may have been in use elsewhere, or be under a newer token. While the log
// cannot be read it asks about all of them, often enough for the bound.
func (m *Manager[T]) confirm(ctx context.Context) {
	const often = feedBound - 2*followEvery
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	doubted := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		read := m.past.mark.Load()
		now, _ := read.clock()
		if (read == nil || elapsed(read.began) >= often) && time.Since(doubted) >= often {
			m.watches.doubt()
			doubted = time.Now()
		}
		due := m.watches.due(now)
		var next atomic.Int64
		var wg sync.WaitGroup
		for range min(confirmers, len(due)) {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < int64(len(due)) && m.ask(ctx, due[i]); i = next.Add(1) - 1 {
				}
			})
		}
		wg.Wait()
	}
}

// ask confirms one, and reports whether the store answers.
func (m *Manager[T]) ask(ctx context.Context, w *watch) bool {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	var rec Record
	err := m.read(ctx, w.tok.id, Want{}, &rec)
	if err == nil {
		err = m.admit(ctx, w.tok, "", &rec)
	}
	switch {
	case err == nil:
		f := factOf(&rec)
		m.watches.mu.Lock()
		w.seen, w.until = f.news(), f.deadline()
		m.watches.mu.Unlock()
	case errors.Is(err, ErrNotFound):
		w.cancel(&EndedError{ID: w.tok.id, Reason: Missing})
	case errors.Is(err, ErrEnded):
		w.cancel(err)
	default: // unknown: it is asked again
		return false
	}
	return true
}
