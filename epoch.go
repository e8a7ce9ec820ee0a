package roam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// past is what a manager remembers of the last ten minutes: the ends it knows
// and the writes it acknowledged. A store that begins another epoch, because a
// replica took over or a backup was put back, may have lost some of them. Then
// the ends are made again before anything is served, so that a logout that
// counted once counts for good, and the writes are looked for, so that a loss
// is counted and not just suffered.
type past struct {
	epoch atomic.Uint64 // the store's present epoch, 0 until it has answered once
	turn  chan struct{} // held by the one who makes ends again

	feed chan struct{} // held by the one who reads the log
	next Cursor        // of the log, under feed
	read watermark     // the last one, under feed
	mark atomic.Pointer[watermark]

	mu        sync.RWMutex
	named     map[ID]named
	forgot    int64         // see watermark.since
	forgetful bool          // entries were dropped since the log was last read
	writes    []wrote       // oldest first
	audit     []wrote       // those of the epoch that is over, not yet looked for
	behind    map[ID]uint64 // versions that visitors have seen and the store has not

	facts facts // read at the store by Identify
	lost  atomic.Uint64
}

// A wrote is a write that this manager acknowledged.
type wrote struct {
	session ID
	version uint64
	id      uint64 // in Record.Writes
	at      time.Time
}

const (
	maxPast    = 1 << 16 // writes that are remembered
	auditBatch = 1000    // sessions that one step of an audit reads
	amenders   = 8       // ends that are made again at once
)

// wrote remembers a write that is acknowledged now.
func (p *past) wrote(rec *Record, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(p.writes) && (now.Sub(p.writes[n].at) > LogKept || len(p.writes)-n >= maxPast) {
		n++
	}
	p.writes = append(p.writes[n:], wrote{rec.ID, rec.Version, id, now})
}

// recent returns the ends to make again, the last ones first: what a replica
// had not heard of when it took over is the most recent.
func (p *past) recent() []End {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now := time.Now()
	var ends []End
	for id, n := range p.named {
		if n.why != "" && now.Sub(n.at) <= LogKept {
			ends = append(ends, End{ID: id, Why: n.why, At: n.at})
		}
	}
	slices.SortFunc(ends, func(a, b End) int { return b.At.Compare(a.At) })
	return ends
}

// enter looks at the epoch of an answer. It reports whether the answer is of
// the present epoch and counts. If it is of a newer one, that epoch has begun
// when enter returns, and the store must be asked again. One of an older epoch
// is an error: there is a store that has been replaced and does not know it.
func (m *Manager[T]) enter(ctx context.Context, epoch uint64) (counts bool, err error) {
	p := &m.past
	switch known := p.epoch.Load(); {
	case epoch == known:
		return true, nil
	case known == 0 && p.epoch.CompareAndSwap(0, epoch):
		return true, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return false, unavailable(ctx.Err())
	}
	known := p.epoch.Load()
	switch {
	case epoch == known:
		return false, nil
	case epoch < known:
		return false, fmt.Errorf("%w: it answered from epoch %d, but epoch %d has begun: a primary that was replaced, or an old backup", ErrUnavailable, epoch, known)
	}
	ends := p.recent()
	if err := m.amend(ctx, ends); err != nil {
		return false, fmt.Errorf("%w: epoch %d has begun, and its recent ends are not yet asserted: %w", ErrUnavailable, epoch, err)
	}
	p.mu.Lock()
	p.audit, p.writes = append(p.audit, p.writes...), nil
	p.mu.Unlock()
	p.mark.Store(nil) // what was read before says nothing about this epoch
	p.epoch.Store(epoch)
	m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: the store began another epoch",
		slog.Uint64("was", known), slog.Uint64("epoch", epoch), slog.Int("ends_asserted", len(ends)))
	return false, nil
}

// amend ends sessions that had ended already.
func (m *Manager[T]) amend(ctx context.Context, ends []End) error {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(amenders, len(ends)))
	for k := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(ends) {
					return
				}
				if errs[k] = m.store.End(ctx, ends[i].ID, ends[i].Why); errs[k] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reconcile looks for some of the writes that were acknowledged before the
// store began its present epoch, and counts those that are gone.
func (m *Manager[T]) reconcile(ctx context.Context) error {
	p := &m.past
	p.mu.Lock()
	all := p.audit
	p.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b wrote) int { return cmp.Compare(string(a.session[:]), string(b.session[:])) })
	var lost uint64
	done := 0
	var err error
	for range auditBatch {
		if done == len(all) {
			break
		}
		id := all[done].session
		var rec Record
		if err = m.read(ctx, id, Want{}, &rec); err != nil && !errors.Is(err, ErrNotFound) {
			break
		}
		err = nil // a record that is gone reads as version 0
		for ; done < len(all) && all[done].session == id; done++ {
			switch w := &all[done]; {
			case w.version > rec.Version:
				lost++
			case rec.Version-w.version < uint64(len(rec.Writes)) && !rec.Writes.Has(w.id):
				lost++ // and others wrote there since
			}
		}
	}
	p.mu.Lock()
	p.audit = all[done:]
	p.mu.Unlock()
	total := p.lost.Add(lost)
	if lost > 0 {
		m.opts.Logger.LogAttrs(ctx, slog.LevelError, "session: the store has lost acknowledged writes",
			slog.Uint64("writes", lost), slog.Uint64("since_start", total), slog.Uint64("epoch", p.epoch.Load()))
	}
	return err
}

// behind compares what the store has with what the visitor has seen, if the
// mark can be believed. A store that is behind in the same epoch has lost what
// it had acknowledged: that is counted, and the visitor served what is left. A
// store in an older epoch has been replaced and does not know it.
func (m *Manager[T]) behind(ctx context.Context, tok Token, rec *Record) error {
	switch {
	case !tok.mark.sealed || rec.ID.IsZero():
	case tok.mark.epoch > rec.Epoch:
		return fmt.Errorf("%w: it answered from epoch %d, and the visitor has seen epoch %d: a primary that was replaced, or an old backup that was put back without saying so", ErrUnavailable, rec.Epoch, tok.mark.epoch)
	case tok.mark.epoch == rec.Epoch && tok.mark.version > rec.Version:
		p := &m.past
		p.mu.Lock()
		known := p.behind[rec.ID] >= tok.mark.version
		if !known {
			if p.behind == nil || len(p.behind) >= maxPast {
				p.behind = make(map[ID]uint64)
			}
			p.behind[rec.ID] = tok.mark.version
		}
		p.mu.Unlock()
		if !known {
			p.lost.Add(tok.mark.version - rec.Version)
			m.opts.Logger.LogAttrs(ctx, slog.LevelError, "session: the store is behind what it has acknowledged", slog.Any("session", rec.ID),
				slog.Uint64("version", rec.Version), slog.Uint64("acknowledged", tok.mark.version), slog.Uint64("epoch", rec.Epoch))
		}
	}
	return nil
}

// Lost returns how many writes that this manager had acknowledged the store
// was found to have lost: by a failover to a replica that had not received
// them, or by a backup put back. While Run runs they are looked for whenever
// the store's epoch changes, and sealed marks tell of them at any time;
// sessions whose writes are gone stay as the store has them, and nobody is
// logged out for it. It is 0 for a store that keeps what it acknowledges.
func (m *Manager[T]) Lost() uint64 { return m.past.lost.Load() }
