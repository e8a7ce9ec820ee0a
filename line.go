package roam

import (
	"context"
	"slices"
	"sync"
	"time"
)

// lineWait bounds how long an update waits for others of its session. The line
// is a courtesy and no lock: whoever has waited that long, behind a slow
// function or a slow store, goes on beside the others, and the store decides.
const lineWait = 250 * time.Millisecond

// lines are where updates of one session wait for each other inside this
// process, so that they do not race at the store, where all but one of them
// would be in vain. Each hands what it has written on to the next, who
// therefore need not read it.
type lines struct {
	mu sync.Mutex
	of map[Proof][]chan *hand // by the secret, so that who knows an ID delays nobody
}

// enter waits for the caller's turn. It returns what the one before has
// written, if anything, and whether the caller has the turn now and has to
// leave the line.
func (l *lines) enter(ctx context.Context, key Proof) (h *hand, turn bool) {
	l.mu.Lock()
	waiting, busy := l.of[key]
	if !busy {
		if l.of == nil {
			l.of = make(map[Proof][]chan *hand)
		}
		l.of[key] = nil
		l.mu.Unlock()
		return nil, true
	}
	w := make(chan *hand, 1)
	l.of[key] = append(waiting, w)
	l.mu.Unlock()

	timer := time.NewTimer(lineWait)
	defer timer.Stop()
	select {
	case h = <-w:
		return h, true
	case <-timer.C:
	case <-ctx.Done(): // the store will say so
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.of[key], w)
	if i < 0 { // the turn has come after all
		return <-w, true
	}
	l.of[key] = slices.Delete(l.of[key], i, i+1)
	return nil, false
}

// leave gives the turn to who waits longest, with what was written.
func (l *lines) leave(key Proof, h *hand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if waiting := l.of[key]; len(waiting) > 0 {
		waiting[0] <- h
		l.of[key] = slices.Delete(waiting, 0, 1)
		return
	}
	delete(l.of, key)
}
