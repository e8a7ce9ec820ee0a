package shoppers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A job is something a tab does, and when it is due.
type job struct {
	at time.Time
	do func(ctx context.Context, t *tab, at time.Time)
}

// jobs is a tab's queue. It has no limit: a request that is due is due, and
// waits in line if the tab still waits for another answer.
type jobs struct {
	mu     sync.Mutex
	queue  []job
	busy   bool
	closed bool
	wake   chan struct{}
}

func newJobs() *jobs { return &jobs{wake: make(chan struct{}, 1)} }

func (q *jobs) push(j job) {
	q.mu.Lock()
	q.queue = append(q.queue, j)
	q.mu.Unlock()
	q.ring()
}

func (q *jobs) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *jobs) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ring()
}

// pop waits for the next job; false says that there will be none.
func (q *jobs) pop() (job, bool) {
	for {
		q.mu.Lock()
		q.busy = len(q.queue) > 0
		if q.busy {
			j := q.queue[0]
			q.queue = q.queue[1:]
			q.mu.Unlock()
			return j, true
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return job{}, false
		}
		<-q.wake
	}
}

func (q *jobs) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0 && !q.busy
}

// extra counts the requests that follow from others at once, such as a replay
// after a logout. The schedule leaves out as many, so that the rate holds.
type extra struct{ n atomic.Int64 }

// budget limits how often something expensive happens. Checking a password is
// made to be slow, and the machine has other things to show.
type budget struct {
	mu   sync.Mutex
	rate float64 // per second
	has  float64
	last time.Time
}

func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if !b.last.IsZero() {
		b.has = min(b.rate, b.has+b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.has < 1 {
		return false
	}
	b.has--
	return true
}

// load hands out requests at their times until the time is over and During has
// returned, then waits for the last answers.
func (c *crowd) load(ctx context.Context) error {
	began := time.Now()
	c.tally.begin(began)

	beside, stop := context.WithCancel(ctx)
	during := make(chan error, 1)
	if c.opts.During == nil {
		during <- nil
	} else {
		go func() { during <- c.opts.During(beside, &Stage{c, began}) }()
	}
	err, returned := error(nil), false
	defer func() { // During must not outlive Run
		stop()
		if !returned {
			<-during
		}
	}()

	rng := rand.New(rand.NewPCG(c.opts.Seed, 1))
	interval := time.Second / time.Duration(c.opts.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	reported := began
	turn := 0
	for slot := 0; ; {
		at := began.Add(time.Duration(slot) * interval)
		if !returned && at.Sub(began) >= c.opts.Duration+afterDuring {
			err = fmt.Errorf("the load was over and what went on beside it did not end within %v", afterDuring)
			break
		}
		if returned && (err != nil || at.Sub(began) >= c.opts.Duration) {
			break
		}
		timer.Reset(time.Until(at))
		select {
		case <-timer.C:
		case err = <-during:
			returned = true
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.opts.Progress != nil && time.Since(reported) >= bucketWidth {
			reported = time.Now()
			c.opts.Progress(reported.Sub(began))
		}
		if turn%len(c.people) == 0 {
			rng.Shuffle(len(c.people), func(i, j int) { c.people[i], c.people[j] = c.people[j], c.people[i] })
		}
		slot += c.people[turn%len(c.people)].due(rng, at)
		turn++
		slot += int(c.extra.n.Swap(0))
	}
	if err != nil {
		return err
	}
	for !c.idle() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
	c.tally.end(time.Now())
	return nil
}

func (c *crowd) idle() bool {
	for _, s := range c.people {
		for _, t := range s.tabs {
			if !t.jobs.idle() {
				return false
			}
		}
	}
	return true
}
