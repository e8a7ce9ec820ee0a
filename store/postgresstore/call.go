package postgresstore

import (
	"context"
	"errors"
	"time"
)

// A kind says what may be done about a call that failed.
type kind int

const (
	kindRead    kind = iota // may be asked again
	kindBarrier             // waits for the standby as a write, but may be asked again
	kindWrite               // may have landed
)

// tries bounds how often a call is made when the server refused it for a reason
// that passes.
const tries = 5

// call makes one round trip to the primary. bind sets the parameters and row is
// called with each row, which it must not keep; both may be called again. It
// returns the primary that answered.
//
// A returned error wraps roam.ErrUnavailable if nothing was written. A call
// never takes longer than Options.Timeout.
func (s *Store) call(ctx context.Context, k kind, q query, bind func(*args), row func(*primary, [][]byte) error) (*primary, error) {
	return s.callUntil(ctx, time.Now().Add(s.opts.Timeout), k, q, bind, row)
}

func (s *Store) callUntil(ctx context.Context, deadline time.Time, k kind, q query, bind func(*args), row func(*primary, [][]byte) error) (*primary, error) {
	if err := ctx.Err(); err != nil {
		return nil, unwritten(err)
	}
	for try := 1; ; try++ {
		p := s.primary.Load()
		if p == nil {
			return nil, *s.reason.Load()
		}
		c, err := p.pool.get(ctx, deadline, k != kindRead)
		if err != nil {
			if errors.Is(err, errHistory) && try < tries && p != s.primary.Load() {
				continue // the next one is in use already
			}
			return p, unwritten(err)
		}
		sent, err := s.run(ctx, deadline, p.pool, c, q, bind, func(v [][]byte) error { return row(p, v) })
		if err == nil {
			return p, nil
		}
		gone := deposed(err) || broken(err)
		if gone || errors.Is(err, errHistory) {
			p.host.look()
		}
		switch {
		case gone && !sent && try < tries:
			continue
		case !sent || refused(err):
			if try < tries && (misnamed(err) || state(err) == "40P01" || state(err) == "40001") {
				if misnamed(err) {
					s.share()
				}
				continue
			}
			return p, unwritten(err)
		case k != kindWrite && gone && try < tries:
			continue
		}
		if k != kindWrite {
			err = unwritten(err)
		}
		return p, err
	}
}

// run makes one exchange on a connection and gives it back.
func (s *Store) run(ctx context.Context, deadline time.Time, pool *pool, c *conn, q query,
	bind func(*args), row func([][]byte) error) (sent bool, err error) {
	c.args.reset()
	if s.unnamed.Load() {
		c.unprepare()
	}
	bind(&c.args)
	sent, err = c.exec(ctx, deadline, q, &s.statements[q], row)
	c.args.reset() // what the caller gave is not kept
	switch {
	case !c.pg.IsClosed() && !c.spoiled && !deposed(err):
		pool.put(c)
	case sent && !broken(err) && c.pg.IsClosed() && state(err) == "":
		pool.leave(c)
	default:
		if deposed(err) || broken(err) {
			pool.refresh(c)
		}
		pool.drop(c)
	}
	return sent, err
}

// sure checks that an answer came from the server that was chosen.
func (p *primary) sure(timeline []byte) error {
	if string(timeline) != p.timeline {
		return errHistory
	}
	return nil
}
