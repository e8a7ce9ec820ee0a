package roam

import (
	"context"
	"errors"
	"sync"
)

// watches are the contexts that end with a session.
type watches struct {
	mu sync.Mutex
	by map[ID]map[*watch]struct{}
}

type watch struct {
	tok     Token
	cancel  context.CancelCauseFunc
	version uint64 // 0 until it is known
	until   int64  // when the session is over if nobody touches it, in the store's time
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
	who, version, err := m.identify(ctx, tok, seal)
	if err != nil {
		cancel(err)
		return nil, who, err
	}
	m.watches.mu.Lock()
	w.version, w.until = version, who.Expires.UnixMicro()
	m.watches.mu.Unlock()
	// What the log told while this was being found out.
	if name := m.past.lookUp(tok.id); name.version > version {
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

// check cancels what the log names, and returns those whose time has come.
func (s *watches) check(ends []End, now int64) (due []*watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range ends {
		for w := range s.by[e.ID] {
			if w.version != 0 && e.Version > w.version {
				n := named{why: e.Why}
				w.cancel(n.end(e.ID))
			}
		}
	}
	for _, of := range s.by {
		for w := range of {
			if w.version != 0 && w.until <= now {
				due = append(due, w)
			}
		}
	}
	return due
}

// confirm asks the store about sessions that look over: they may have been in
// use elsewhere, or under a newer token.
func (m *Manager[T]) confirm(ctx context.Context, due []*watch) {
	for _, w := range due {
		var rec Record
		err := m.read(ctx, w.tok.id, Want{}, &rec)
		if err == nil {
			err = m.admit(ctx, w.tok, "", &rec)
		}
		switch {
		case err == nil:
			until, _ := rec.Deadline()
			m.watches.mu.Lock()
			w.until = until.UnixMicro()
			m.watches.mu.Unlock()
		case errors.Is(err, ErrNotFound):
			w.cancel(&EndedError{ID: w.tok.id, Reason: Missing})
		case errors.Is(err, ErrEnded):
			w.cancel(err)
		default: // unknown: look again with the next entries
			return
		}
	}
}
