package postgresstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const probeEvery = 100 * time.Millisecond

// A host is one of the servers in the URL. A goroutine of its own, the prober,
// asks it all the time, over a connection of its own, whether it can be
// written to and which history it has.
type host struct {
	s    *Store
	name string
	cfg  *pgconn.Config
	copy bool          // a read replica
	kick chan struct{} // asks the prober to look at once

	// Under Store.mu:
	tried    bool      // there was an outcome
	up       bool      // it answers
	answered time.Time // when it did last
	said     answer    // then
	err      error     // why it is not up
	fenced   bool      // it was logged that it is
	pool     *pool     // of a read replica that is up
}

// An answer is what a host says of itself.
type answer struct {
	now      time.Time
	readOnly bool
	history  // the present one
	lsn      int64
	epoch    uint64
	named    history // the one that the epoch names
	schema   int64
}

// A history is an unbroken sequence of commits, as PostgreSQL knows it.
type history struct {
	system   int64
	timeline string // hexadecimal digits; a standby that is promoted begins a higher one
}

// A primary is a host in use, with the epoch that all its answers are of.
type primary struct {
	history
	host  *host
	pool  *pool
	epoch uint64
}

var (
	errSilent  = errors.New("no answer")
	errStandby = errors.New("a standby, or set to read only")
	errFenced  = errors.New("fenced: another server has taken over from it")
	errClaim   = errors.New("its history is new, and no epoch begun for it yet")
)

// look makes the prober look at once.
func (h *host) look() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// watch is the prober.
func (h *host) watch(ctx context.Context) {
	for {
		c := h.reach(ctx)
		if c == nil {
			return
		}
		for {
			a, err := h.ask(ctx, c)
			if c.pg.IsClosed() || deposed(err) {
				// The connection broke, or nothing came. If it broke,
				// reaching the host again will show whether it is down.
				c.close()
				if err != nil && !deposed(err) && !broken(err) {
					h.s.learn(ctx, h, answer{}, fmt.Errorf("%w for %v", errSilent, h.s.opts.Timeout))
				}
				break
			}
			if h.s.learn(ctx, h, a, err) {
				if err := h.claim(ctx, c, a); err != nil {
					h.s.learn(ctx, h, a, fmt.Errorf("beginning an epoch: %w", err))
				} else {
					continue
				}
			}
			if !h.pause(ctx) {
				c.quit()
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// pause waits until it is time to ask again, and reports whether to go on.
func (h *host) pause(ctx context.Context) bool {
	t := time.NewTimer(probeEvery*9/10 + mathrand.N(probeEvery/5))
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.kick:
	case <-ctx.Done():
		return false
	}
	return true
}

// reach connects to the host, however often that must be tried. An attempt that
// hangs does not keep others from being made: the answer to the first may be
// lost for good.
func (h *host) reach(ctx context.Context) *conn {
	type result struct {
		c   *conn
		err error
	}
	results := make(chan result, 8)
	trying := 0
	attempt, cancel := context.WithCancel(ctx)
	try := func() {
		trying++
		go func() {
			ctx, cancel := context.WithTimeout(attempt, 5*h.s.opts.Timeout)
			defer cancel()
			c, err := connect(ctx, h.cfg)
			results <- result{c, err}
		}()
	}
	defer func() {
		cancel()
		for ; trying > 0; trying-- {
			if r := <-results; r.c != nil {
				r.c.close()
			}
		}
	}()
	again := time.NewTicker(h.s.opts.Timeout)
	defer again.Stop()
	h.s.mu.Lock()
	since := h.answered
	h.s.mu.Unlock()
	if since.IsZero() {
		since = time.Now()
	}
	silent := time.NewTimer(time.Until(since.Add(h.s.opts.Timeout)))
	defer silent.Stop()
	try()
	for {
		select {
		case r := <-results:
			trying--
			if r.err == nil {
				return r.c
			}
			if ctx.Err() != nil {
				return nil
			}
			h.s.learn(ctx, h, answer{}, r.err)
			if !h.pause(ctx) {
				return nil
			}
			if trying == 0 {
				try()
			}
		case <-silent.C:
			h.s.learn(ctx, h, answer{}, fmt.Errorf("%w for %v", errSilent, h.s.opts.Timeout))
		case <-again.C:
			if trying < 4 {
				try()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// ask asks the host once. It waits until the host has not answered for
// Options.Timeout.
func (h *host) ask(ctx context.Context, c *conn) (a answer, err error) {
	h.s.mu.Lock()
	deadline := h.answered.Add(h.s.opts.Timeout)
	h.s.mu.Unlock()
	if least := time.Now().Add(h.s.opts.Timeout / 2); deadline.Before(least) {
		deadline = least
	}
	c.args.reset()
	rows := 0
	_, err = c.exec(ctx, deadline, probe, &h.s.statements[probe], func(v [][]byte) error {
		rows++
		a = answer{
			now: moment(v[0]), readOnly: v[1][0] == 1,
			history: history{number(v[2]), string(v[3])}, lsn: number(v[4]),
			epoch: uint64(number(v[5])), named: history{number(v[6]), string(v[7])}, schema: number(v[8]),
		}
		return nil
	})
	if err == nil && rows == 0 {
		err = &pgconn.PgError{Severity: "ERROR", Code: "42P01", Message: "the table about the store is empty"}
	}
	if err == nil {
		err = compatible(int(a.schema))
	}
	return a, err
}

// claim begins another epoch, unless somebody else has just done so.
func (h *host) claim(ctx context.Context, c *conn, a answer) error {
	h.s.mu.Lock()
	floor := max(a.epoch, h.s.known.epoch)
	h.s.mu.Unlock()
	next := newEpoch(floor)
	c.args.reset()
	c.args.int(int64(next))
	c.args.int(a.system)
	c.args.text(a.timeline)
	c.args.int(int64(a.epoch))
	c.args.bool(a.system != a.named.system)
	var claimed int64
	_, err := c.exec(ctx, time.Now().Add(h.s.opts.Timeout), claim, &h.s.statements[claim], func(v [][]byte) error {
		claimed = number(v[0])
		return nil
	})
	if err == nil && claimed > 0 {
		h.s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session store: another history, so another epoch begins",
			slog.String("host", h.name), slog.Uint64("epoch", next), slog.Uint64("was", a.epoch),
			slog.String("timeline", a.timeline), slog.String("timeline_was", a.named.timeline))
	}
	return err
}

// newEpoch returns an epoch above floor, and above any that was begun earlier,
// on whichever server. It consists of milliseconds and of random bits, so that
// two histories that begin at once differ.
func newEpoch(floor uint64) uint64 {
	var b [4]byte
	rand.Read(b[:])
	return max(floor+1, uint64(time.Now().UnixMilli())<<20|uint64(binary.BigEndian.Uint32(b[:])>>12))
}

// learn takes note of what a host said, or why it did not, and decides which
// one is used. It reports whether the host's history needs an epoch, and may
// get one.
func (s *Store) learn(ctx context.Context, h *host, a answer, err error) (claim bool) {
	if ctx.Err() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.tried, h.err, h.up = true, err, err == nil
	if h.up {
		h.said, h.answered = a, time.Now()
	}
	if h.copy {
		s.enlist(h)
	} else {
		s.elect(ctx)
		claim = s.mayClaim(h)
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
	return claim
}

// elect decides which host is used. That is the one of the highest epoch: to
// one of a lower epoch than was ever seen there is no way back, because it is a
// primary that was replaced and does not know it, or an old backup.
func (s *Store) elect(ctx context.Context) {
	now := s.primary.Load()
	var best *host
	waits := false // before the first choice for those that have not answered yet
	for _, h := range s.hosts {
		waits = waits || !h.tried && s.known.epoch == 0
		fenced := false
		switch {
		case !h.up:
		case h.said.readOnly:
			h.err = errStandby
		case h.said.history != h.said.named:
			h.err = errClaim
		case h.said.epoch < s.known.epoch:
			h.err = fmt.Errorf("%w: it is of epoch %d, and epoch %d has begun", errFenced, h.said.epoch, s.known.epoch)
			fenced = true
		case s.regressed(h):
			h.err = errClaim
		default:
			h.err = nil
			if best == nil || h.said.epoch > best.said.epoch || h.said.epoch == best.said.epoch && now != nil && h == now.host {
				best = h
			}
		}
		if fenced && !h.fenced {
			s.opts.Logger.LogAttrs(ctx, slog.LevelError, "session store: a server that was replaced can still be written to; it is not used",
				slog.String("host", h.name), slog.Uint64("epoch", h.said.epoch), slog.Uint64("known", s.known.epoch))
		}
		h.fenced = fenced
	}
	if best == nil || waits {
		s.down(ctx)
		return
	}
	a := &best.said
	if a.epoch > s.known.epoch || a.lsn > s.known.lsn || a.history != s.known.history {
		s.known = known{a.history, a.epoch, a.lsn}
	}
	s.clock.Store(&clock{a.now, best.answered})
	if now != nil && now.host == best && now.epoch == a.epoch && now.history == a.history {
		now.pool.trim()
		return
	}
	p := &primary{history: a.history, host: best, epoch: a.epoch}
	p.pool = newPool(s.opts.MaxConns, func(ctx context.Context) (*conn, error) { return s.connect(ctx, p) })
	s.primary.Store(p)
	if now != nil {
		now.pool.close(errHistory)
	}
	s.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "session store: in use",
		slog.String("host", best.name), slog.Uint64("epoch", p.epoch), slog.String("timeline", p.timeline))
}

// known is the newest history that was seen, and how far it was.
type known struct {
	history
	epoch uint64
	lsn   int64
}

// regressed reports whether a host has less than what it had on disk before: a
// copy of an earlier time was put in its place.
func (s *Store) regressed(h *host) bool {
	a := &h.said
	return a.epoch == s.known.epoch && a.history == s.known.history && a.lsn < s.known.lsn
}

// mayClaim reports whether a host has a new history that is to be used.
func (s *Store) mayClaim(h *host) bool {
	a := &h.said
	if !h.up || a.readOnly || !errors.Is(h.err, errClaim) {
		return false
	}
	if s.known.epoch != 0 && a.system == s.known.system && a.timeline < s.known.timeline {
		return false
	}
	for _, o := range s.hosts {
		switch {
		case o == h:
		case !o.tried: // perhaps it is in use
			return false
		case !o.up || o.said.readOnly:
		case o.said.system == a.system && o.said.timeline < a.timeline:
		case o.err == nil: // in use, and not older
			return false
		case o.said.system == a.system && o.said.timeline > a.timeline:
			return false
		}
	}
	return true
}

// down gives up the host in use.
func (s *Store) down(ctx context.Context) {
	var why []string
	for _, h := range s.hosts {
		switch {
		case h.err != nil:
			why = append(why, h.name+": "+h.err.Error()+hint(h.err, s.names))
		case !h.tried:
			why = append(why, h.name+": not yet answered")
		}
	}
	err := unwritten(errors.New("no server that can be written to: " + strings.Join(why, "; ")))
	s.reason.Store(&err)
	now := s.primary.Swap(nil)
	if now == nil {
		return
	}
	now.pool.close(err)
	s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session store: down", slog.Any("error", err))
}

// connect opens one of a primary's connections. It must be to the same server,
// also if an address or a pooler stands for several.
func (s *Store) connect(ctx context.Context, p *primary) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*s.opts.Timeout)
	defer cancel()
	c, err := connect(ctx, p.host.cfg)
	if err != nil {
		p.host.look()
		return nil, err
	}
	named := !s.unnamed.Load()
	system, timeline, err := c.prepare(ctx, &s.statements, named)
	if misnamed(err) {
		s.share()
		system, timeline, err = c.prepare(ctx, &s.statements, false)
	}
	if err == nil && (history{system, timeline}) != p.history {
		err = errHistory
	}
	if err != nil {
		c.close()
		p.host.look()
		return nil, err
	}
	return c, nil
}

// share stops using prepared statements: a pooler shares connections.
func (s *Store) share() {
	if !s.unnamed.Swap(true) {
		s.opts.Logger.Info("session store: a pooler shares connections between clients, so no statements are prepared; " +
			"to do so from the beginning add default_query_exec_mode=exec to the URL")
	}
}
