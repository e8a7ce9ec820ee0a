package roam

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// use remembers which sessions were in use, so that each is touched at most
// once per window however many requests it has at once. While Run runs the
// touches wait for it in pending.
type use struct {
	mu      sync.Mutex
	running bool
	pending map[ID]Touch

	// Two generations of what was noted, each of one window at least. The
	// older is dropped whole, so that the memory is bounded by the sessions
	// in use.
	since    time.Time
	now, old map[ID]time.Time
}

// note reports whether a touch of id, in use at time at, is due, and if Run
// runs takes charge of it.
func (u *use) note(id ID, at time.Time, window time.Duration) (due, later bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.since) > maxTouchDelay {
		u.since, u.old, u.now = time.Now(), u.now, make(map[ID]time.Time)
	}
	last, ok := u.now[id]
	if !ok {
		last, ok = u.old[id]
	}
	if ok && at.Sub(last) < window {
		return false, false
	}
	u.now[id] = at
	if u.running {
		u.pending[id] = Touch{id, at}
	}
	return true, u.running
}

// forget makes a touch due again that could not be written.
func (u *use) forget(id ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.now, id)
	delete(u.old, id)
}

// take empties the pending touches.
func (u *use) take() []Touch {
	u.mu.Lock()
	defer u.mu.Unlock()
	touches := make([]Touch, 0, len(u.pending))
	for _, t := range u.pending {
		touches = append(touches, t)
	}
	clear(u.pending)
	return touches
}

// giveBack keeps touches that could not be written for the next time.
func (u *use) giveBack(touches []Touch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range touches {
		if _, newer := u.pending[t.ID]; !newer {
			u.pending[t.ID] = t
		}
	}
}

// touch notes that a session just read was in use. That the store fails to
// keep it is no reason to fail the request.
func (m *Manager[T]) touch(ctx context.Context, rec *Record) {
	if window := touchWindow(rec.Idle); rec.Now.Sub(rec.Seen) >= window {
		m.used(ctx, rec.ID, rec.Now, window)
	}
}

// used notes that a session was in use at a time, which is the store's.
func (m *Manager[T]) used(ctx context.Context, id ID, at time.Time, window time.Duration) {
	if due, later := m.use.note(id, at, window); due && !later {
		ctx, cancel := unhurried(ctx)
		defer cancel()
		if !m.flush(ctx, []Touch{{id, at}}) {
			m.use.forget(id)
		}
	}
}

func (m *Manager[T]) flush(ctx context.Context, touches []Touch) bool {
	if len(touches) == 0 {
		return true
	}
	err := m.store.Touch(ctx, touches)
	if err != nil {
		m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: touch failed", slog.Int("sessions", len(touches)), slog.Any("error", err))
	}
	return err == nil
}

// Run does the manager's work in the background until ctx is done, and then
// returns nil. It follows the store's log of ends, twice a second: by that
// Identify and a near cache know that nothing has ended without asking the
// store, Watch hears of ends, and what a store has lost is asserted again. It
// writes touches once a second in one batch, looks for lost writes, and prunes
// what ended longer than Options.Retain ago. Start it once:
//
//	go sessions.Run(ctx)
//
// Without it every read asks the store, touches are written by the requests
// that cause them, this server asserts again only what it ended itself, and
// nothing is pruned; all else is the same.
func (m *Manager[T]) Run(ctx context.Context) error {
	m.use.mu.Lock()
	if m.use.running {
		m.use.mu.Unlock()
		return errors.New("roam: Run is already running on this manager")
	}
	m.use.running, m.use.pending = true, make(map[ID]Touch)
	m.use.mu.Unlock()

	var beside sync.WaitGroup // so that no batch of work delays a revoke
	beside.Go(func() { m.feed(ctx) })
	beside.Go(func() { m.confirm(ctx) })
	defer beside.Wait()

	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	prune := time.Now().Add(pruneEvery)
	for {
		select {
		case <-tick.C:
			m.flushPending(ctx)
			// A full batch means that there is more: it goes on with the next
			// tick, so that touches never wait for it.
			if !time.Now().Before(prune) && m.prune(ctx) < pruneBatch {
				prune = time.Now().Add(pruneEvery)
			}
		case <-ctx.Done():
			m.use.mu.Lock()
			m.use.running = false
			m.use.mu.Unlock()
			m.flushPending(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// flushPending writes the pending touches, and keeps those that could not be
// written for the next time.
func (m *Manager[T]) flushPending(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for touches := range slices.Chunk(m.use.take(), touchBatch) {
		if !m.flush(ctx, touches) {
			m.use.giveBack(touches)
		}
	}
}

// prune removes one batch, so that it never holds the store for long.
func (m *Manager[T]) prune(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	n, err := m.store.Prune(ctx, m.opts.Retain, pruneBatch)
	if err != nil && ctx.Err() == nil {
		m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: prune failed", slog.Any("error", err))
	}
	return n
}
