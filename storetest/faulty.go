package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A Faulty is a store behind a network that refuses, loses, delays and repeats
// messages. It lies about nothing: an ErrUnavailable from it means, as from
// every store, that nothing was written.
//
// What is late arrives before one of the next calls, so that a Faulty needs no
// goroutine and one that is called from a single goroutine does the same each
// time.
type Faulty struct {
	Store  roam.Store
	Faults Faults

	mu     sync.Mutex
	rand   *rand.Rand
	late   []func()
	counts map[string]int
	healed bool
}

// Faults are how often each fault happens, as a probability per call; 0 is
// never. Late and Repeated befall writes only.
type Faults struct {
	Seed uint64

	Refused     float64 // the request is not sent, and the caller is told so with ErrUnavailable
	LostRequest float64 // the request does not arrive, and the caller is told nothing
	LostAnswer  float64 // the request is carried out, and the caller is told nothing
	Late        float64 // the caller is told nothing, and the request is carried out later
	Repeated    float64 // the request is carried out, answered, and carried out again later
	Cancelled   float64 // the context ends at some moment

	// Delay is the longest that a request is held up. 0 means not at all.
	Delay time.Duration
}

// errLost is what a caller sees who waited for an answer in vain: it is no
// ErrUnavailable, because the request may have been carried out.
var errLost = errors.New("storetest: the answer did not come")

// Heal ends all faults, and carries out what was late before it returns.
func (f *Faulty) Heal() {
	f.mu.Lock()
	f.healed = true
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, do := range late {
		do()
	}
}

// Happened returns how often each fault has happened, by its name in [Faults].
// A test that depends on faults checks that there were some.
func (f *Faulty) Happened(fault string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[fault]
}

// next decides what happens to a call, and returns the late requests that
// arrive before it.
func (f *Faulty) next(write bool) (fault string, delay, deadline time.Duration, arrive []func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.healed {
		return "", 0, 0, nil
	}
	if f.rand == nil {
		f.rand, f.counts = rand.New(rand.NewPCG(f.Faults.Seed, 0)), make(map[string]int)
	}
	f.late = slices.DeleteFunc(f.late, func(do func()) bool {
		now := f.rand.IntN(2) == 0
		if now {
			arrive = append(arrive, do)
		}
		return now
	})
	dice := f.rand.Float64()
	for _, d := range []struct {
		name  string
		p     float64
		reads bool
	}{
		{"Refused", f.Faults.Refused, true},
		{"LostRequest", f.Faults.LostRequest, true},
		{"LostAnswer", f.Faults.LostAnswer, true},
		{"Late", f.Faults.Late, false},
		{"Repeated", f.Faults.Repeated, false},
		{"Cancelled", f.Faults.Cancelled, true},
	} {
		if dice -= d.p; dice < 0 {
			if d.reads || write {
				fault = d.name
				f.counts[fault]++
			}
			break
		}
	}
	if f.Faults.Delay > 0 {
		delay = time.Duration(f.rand.Int64N(int64(f.Faults.Delay)))
	}
	return fault, delay, time.Duration(f.rand.Int64N(int64(200 * time.Microsecond))), arrive
}

func (f *Faulty) later(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = append(f.late, do)
}

// send carries a call to the store and its answer back, or does not. do may be
// called more than once, and keeps nothing that the caller may change.
func send[A any](f *Faulty, ctx context.Context, write bool, do func(context.Context) (A, error)) (none A, err error) {
	fault, delay, deadline, arrive := f.next(write)
	for _, do := range arrive {
		do()
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	if ctx.Err() != nil {
		return do(ctx) // the store's own answer to that
	}
	detached := context.WithoutCancel(ctx) // what is under way cannot be called back
	switch fault {
	case "Refused":
		return none, fmt.Errorf("%w: storetest refused the request", roam.ErrUnavailable)
	case "LostRequest":
		return none, errLost
	case "LostAnswer":
		do(detached)
		return none, errLost
	case "Late":
		f.later(func() { do(detached) })
		return none, errLost
	case "Repeated":
		answer, err := do(ctx)
		f.later(func() { do(detached) }) // from now on, so that the answer is the first one's
		return answer, err
	case "Cancelled":
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		return do(ctx)
	}
	return do(ctx)
}

// Load implements [roam.Store].
func (f *Faulty) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	return send(f, ctx, false, func(ctx context.Context) (roam.Record, error) { return f.Store.Load(ctx, id, want) })
}

// Insert implements [roam.Store].
func (f *Faulty) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec.Data = bytes.Clone(rec.Data)
	return send(f, ctx, true, func(ctx context.Context) (roam.Record, error) { return f.Store.Insert(ctx, rec) })
}

// Update implements [roam.Store].
func (f *Faulty) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec.Data = bytes.Clone(rec.Data)
	return send(f, ctx, true, func(ctx context.Context) (roam.Record, error) { return f.Store.Update(ctx, rec) })
}

// Touch implements [roam.Store].
func (f *Faulty) Touch(ctx context.Context, seen []roam.Touch) error {
	seen = slices.Clone(seen)
	_, err := send(f, ctx, true, func(ctx context.Context) (int, error) { return 0, f.Store.Touch(ctx, seen) })
	return err
}

// End implements [roam.Store].
func (f *Faulty) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	_, err := send(f, ctx, true, func(ctx context.Context) (int, error) { return 0, f.Store.End(ctx, id, why) })
	return err
}

// EndUser implements [roam.Store].
func (f *Faulty) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	except = slices.Clone(except)
	return send(f, ctx, true, func(ctx context.Context) (int, error) { return f.Store.EndUser(ctx, user, why, except...) })
}

// Ends implements [roam.Store].
func (f *Faulty) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	return send(f, ctx, false, func(ctx context.Context) (roam.Log, error) { return f.Store.Ends(ctx, after) })
}

// List implements [roam.Store].
func (f *Faulty) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return f.sequence(ctx, func() iter.Seq2[roam.Record, error] { return f.Store.List(ctx, user) })
}

// All implements [roam.Store].
func (f *Faulty) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return f.sequence(ctx, func() iter.Seq2[roam.Record, error] { return f.Store.All(ctx) })
}

// sequence breaks off at the beginning or after the first record.
func (f *Faulty) sequence(ctx context.Context, open func() iter.Seq2[roam.Record, error]) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		_, broken := send(f, ctx, false, func(ctx context.Context) (int, error) { return 0, nil })
		if errors.Is(broken, roam.ErrUnavailable) {
			yield(roam.Record{}, broken)
			return
		}
		for rec, err := range open() {
			if !yield(rec, err) {
				return
			}
			if broken != nil {
				break
			}
		}
		if broken != nil {
			yield(roam.Record{}, broken)
		}
	}
}

// Prune implements [roam.Store].
func (f *Faulty) Prune(ctx context.Context, keep time.Duration, max int) (int, error) {
	return send(f, ctx, true, func(ctx context.Context) (int, error) { return f.Store.Prune(ctx, keep, max) })
}
