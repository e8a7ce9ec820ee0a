package postgresstore

import (
	"context"
	"sync"
	"time"
)

const (
	// mostSeats is how many callers one exchange serves at most, and mostBytes
	// how large what they send is together, so that a large one does not hold
	// up many small ones.
	mostSeats = 256
	mostBytes = 64 << 10

	// patience is how long somebody who waits puts up with no exchange being
	// begun, see hurry. It is longer than an exchange takes where nothing is
	// wrong.
	patience = 25 * time.Millisecond
)

// Lanes make one exchange with the server out of what several callers ask at
// the same time. Who comes while a lane is free goes at once and by itself, in
// its own goroutine, with its own context. The others take seats, and the next
// lane to come back takes them all. So nobody waits for company, no timer holds
// anything back, and groups are as large as the server is busy.
//
// A group belongs to none of its callers. A goroutine makes its exchange under
// a deadline and no context, so that a caller whose context ends gets up and
// goes, and neither the connection nor the others notice. The goroutine goes on
// as long as somebody waits, and then ends: there are never more of them than
// lanes.
type lanes[T any] struct {
	fly      func(group []*seat[T]) // makes the exchange, and sets answers and errors
	size     func(*T) int           // in bytes, nil if all are small
	width    func(avg float64) int  // how many lanes there are, see widthFor
	most     int                    // exchanges that may be under way, late ones too
	patience time.Duration
	off      bool // everybody goes alone

	mu      sync.Mutex
	queue   []*seat[T]
	callers int       // who wait or fly
	flying  int       // exchanges under way
	lap     *lap      // of those that are not late
	begun   time.Time // when the last one was begun
	avg     float64   // how many callers the last ones served
	free    sync.Pool // of seats
}

// widthFor returns how many lanes there are while exchanges serve that many
// callers each. Where hardly anybody ever waits there is one for each, so that
// nothing is slower than without lanes. Where many do, two give the largest
// groups: more are quicker only for the first who come, and cost the server a
// statement each. The steps are far enough apart that half as many lanes, and
// so groups that are twice as large, do not lead back.
func widthFor(avg float64) int {
	switch {
	case avg < 1.5:
		return 16
	case avg < 3.5:
		return 8
	}
	return 2
}

// A lap is the exchanges that were begun since a lane was late the last time.
type lap struct{ flying int }

// A seat is where a caller waits.
type seat[T any] struct {
	ask   T     // and the answer
	err   error // why there is none
	flown chan struct{}
	timer *time.Timer
	waits bool // no lane has taken it yet; under lanes.mu
}

// enter returns a seat, or nil if the caller is to make the exchange by itself
// and to call leave afterwards.
func (l *lanes[T]) enter(ask *T) (*seat[T], *lap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.callers++
	if l.off || len(l.queue) == 0 && l.vacant() {
		return nil, l.begin(1)
	}
	s, _ := l.free.Get().(*seat[T])
	if s == nil {
		s = &seat[T]{flown: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	}
	s.ask, s.waits = *ask, true
	l.queue = append(l.queue, s)
	l.start()
	return s, nil
}

// leave ends the exchange of a caller who went alone.
func (l *lanes[T]) leave(on *lap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.callers--
	l.end(on)
	l.start()
}

// vacant reports whether there is a lane for one more exchange.
func (l *lanes[T]) vacant() bool {
	if l.lap == nil {
		l.lap = new(lap)
	}
	return l.flying < l.most && l.lap.flying < l.width(l.avg)
}

func (l *lanes[T]) begin(callers int) *lap {
	if l.lap == nil {
		l.lap = new(lap)
	}
	l.flying++
	l.lap.flying++
	l.begun = time.Now()
	l.avg += (float64(callers) - l.avg) / 16
	return l.lap
}

func (l *lanes[T]) end(on *lap) {
	l.flying--
	on.flying--
}

// start lets those who wait fly, if there is a lane.
func (l *lanes[T]) start() {
	for len(l.queue) > 0 && l.vacant() {
		if group := l.take(nil); len(group) > 0 {
			go l.run(group, l.begin(len(group)))
		}
	}
}

// take returns those who wait longest.
func (l *lanes[T]) take(group []*seat[T]) []*seat[T] {
	n, bytes := 0, 0
	for _, s := range l.queue {
		if s.waits {
			if l.size != nil {
				bytes += l.size(&s.ask)
			}
			if len(group) == mostSeats || len(group) > 0 && bytes > mostBytes {
				break
			}
			s.waits = false
			group = append(group, s)
		}
		n++
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return group
}

// run makes a group's exchange, and then those of whoever waits by then.
func (l *lanes[T]) run(group []*seat[T], on *lap) {
	for len(group) > 0 {
		l.fly(group)
		l.mu.Lock()
		l.callers -= len(group)
		l.mu.Unlock()
		for _, s := range group {
			s.flown <- struct{}{}
		}
		clear(group)
		group = group[:0]
		l.mu.Lock()
		l.end(on)
		if len(l.queue) > 0 && l.vacant() {
			if group = l.take(group); len(group) > 0 {
				on = l.begin(len(group))
			}
		}
		l.mu.Unlock()
	}
}

// wait waits for the answer, until ctx or time ends. Then its error says why,
// and taken whether the exchange may be made all the same.
func (l *lanes[T]) wait(ctx context.Context, deadline time.Time, s *seat[T]) (taken bool, err error) {
	for err == nil {
		s.timer.Reset(min(time.Until(deadline), l.patience))
		select {
		case <-s.flown:
			s.timer.Stop()
			return true, nil
		case <-ctx.Done():
			s.timer.Stop()
			err = ctx.Err()
		case <-s.timer.C:
			if time.Now().Before(deadline) {
				l.hurry()
			} else {
				err = context.DeadlineExceeded
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.waits {
		s.waits = false
		l.callers--
		return false, err
	}
	select {
	case <-s.flown: // after all
		return true, nil
	default:
		return true, err
	}
}

// hurry is called by who waits for long. If no exchange was begun since, all
// that are under way are late, and count no more: who asked for a row that is
// locked, or over a connection that is dead, holds up no one who comes later.
// On a network that is as slow as that there are more lanes for it.
func (l *lanes[T]) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 && time.Since(l.begun) >= l.patience {
		l.lap = new(lap)
		l.start()
	}
}

// stand gives a seat back whose answer was read. A seat that somebody left
// before there was one is not used again.
func (l *lanes[T]) stand(s *seat[T]) {
	var zero T
	s.ask, s.err = zero, nil // what it held is not kept
	l.free.Put(s)
}

// idle reports whether nobody waits or flies.
func (l *lanes[T]) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.callers == 0
}
