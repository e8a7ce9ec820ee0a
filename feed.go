package roam

import (
	"context"
	"log/slog"
	"time"
)

const (
	followEvery = 500 * time.Millisecond // a revoke is everywhere within a second
	feedBound   = 5 * time.Second        // so long an unread log is trusted to have nothing new
	sealWindow  = LogKept / 2            // so long what was read at the store may decide alone
	maxNamed    = 1 << 16                // sessions of the log that are remembered
)

// A watermark says up to when the log has been read. Whatever ended before it,
// in the store's order, is known here.
type watermark struct {
	began time.Time // when the read began, on this server's clocks
	now   int64     // the store's clock at that read, in microseconds
	epoch uint64

	// What was read at the store until then, in its time, may have been changed
	// by an end that is not remembered here.
	since int64
}

// elapsed is the time since t by the monotonic clock or the wall clock,
// whichever says more: the first stops while a machine is suspended, and the
// second can be set back.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), time.Duration(now.UnixNano()-t.UnixNano()))
}

// clock estimates the store's time, in microseconds and rather late than early,
// and reports whether the feed is young enough to decide by.
func (w *watermark) clock() (now int64, young bool) {
	if w == nil {
		return 0, false
	}
	past := elapsed(w.began)
	return w.now + past.Microseconds(), past < feedBound
}

// named is what the log says of a session.
type named struct {
	version, epoch uint64    // what was known of older versions no longer holds
	why            Reason    // "" if the session lives on
	at             time.Time // when this program learned of it
}

// overrules reports whether what was seen of the session no longer holds. An
// end does for good. A login may be lost with its epoch: then what the next one
// says of the session counts, whatever its version.
func (n *named) overrules(seen mark) bool {
	return n.why != "" || n.epoch >= seen.epoch && n.version > seen.version
}

// follow reads on in the store's log.
func (m *Manager[T]) follow(ctx context.Context) error {
	p := &m.past
	select {
	case p.feed <- struct{}{}:
		defer func() { <-p.feed }()
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	began := time.Now()
	log, err := m.store.Ends(ctx, p.next)
	if err != nil {
		return err
	}
	// If a new epoch begins, its recent ends are asserted first. What a store
	// tells that has been replaced is not followed.
	counts, err := m.enter(ctx, log.Epoch)
	if err != nil {
		return err
	}
	p.name(log.Epoch, log.Ends...)
	p.next = log.Next
	if !counts {
		return nil // the log of the new epoch is complete with the next read
	}
	mark := &watermark{began: began, now: log.Now.UnixMicro(), epoch: log.Epoch}
	p.mu.Lock()
	if p.forgetful {
		p.forgot, p.forgetful = mark.now, false
	}
	mark.since = p.forgot
	p.mu.Unlock()
	last := p.read
	p.read = *mark
	p.mark.Store(mark)
	m.watches.check(log.Ends, log.Epoch)
	if last.epoch != mark.epoch || max(elapsed(last.began), time.Duration(mark.now-last.now)*time.Microsecond) >= LogKept {
		m.watches.doubt() // the log may no longer have, or never had, what ended since
	}
	return nil
}

// name remembers entries of the log of an epoch.
func (p *past) name(epoch uint64, ends ...End) {
	if len(ends) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.named == nil {
		p.named = make(map[ID]named)
	}
	for _, e := range ends {
		n, known := p.named[e.ID]
		if known && (n.why != "" || n.epoch > epoch || n.epoch == epoch && n.version > e.Version) {
			continue
		}
		if !known && len(p.named) >= maxNamed {
			p.forget(now)
		}
		p.named[e.ID] = named{e.Version, epoch, e.Why, now}
	}
}

// forget makes room: first of what nobody can rely on any more, and if that is
// not enough of anything, after which all that was read at the store until now
// must be read there again. The caller holds mu.
func (p *past) forget(now time.Time) {
	for id, n := range p.named {
		if now.Sub(n.at) > LogKept {
			delete(p.named, id)
		}
	}
	if len(p.named) < maxNamed {
		return
	}
	n := 0
	for id := range p.named {
		delete(p.named, id)
		if n++; n == maxNamed/8 {
			break
		}
	}
	p.mark.Store(nil)
	p.forgetful = true
}

// lookUp returns what the log says of a session, the zero value if nothing.
func (p *past) lookUp(id ID) named {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.named[id]
}

// feed follows the log until ctx is done. That it cannot, and that it can
// again, is logged.
func (m *Manager[T]) feed(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for could := true; ; {
		call, cancel := context.WithTimeout(ctx, endTimeout)
		err := m.follow(call)
		if err == nil {
			err = m.reconcile(call)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch can := err == nil; {
		case can && !could:
			m.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "session: the store answers again")
		case !can && could:
			m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: the store does not answer", slog.Any("error", err))
		}
		could = err == nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
