package postgresstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A double is what is asked in these tests, and its double is the answer.
type double struct{ of, is int }

// A track has lanes whose exchanges begin and end when the test says so.
type track struct {
	*lanes[double]
	groups chan []*seat[double]
	land   chan struct{}
}

func newTrack(width, most int) *track {
	tr := &track{groups: make(chan []*seat[double], 1000), land: make(chan struct{})}
	tr.lanes = &lanes[double]{width: func(float64) int { return width }, most: most, patience: time.Hour}
	tr.fly = func(group []*seat[double]) {
		tr.groups <- append([]*seat[double](nil), group...)
		<-tr.land
		for _, s := range group {
			s.ask.is = 2 * s.ask.of
		}
	}
	return tr
}

// board has a caller wait for its answer.
func (tr *track) board(t *testing.T, ctx context.Context, n int, deadline time.Time) chan error {
	t.Helper()
	s, lap := tr.enter(&double{of: n})
	done := make(chan error, 1)
	if s == nil {
		t.Errorf("%d went alone", n)
		tr.leave(lap)
		done <- nil
		return done
	}
	go func() {
		_, err := tr.wait(ctx, deadline, s)
		if err == nil {
			if s.ask.is != 2*n {
				t.Errorf("the answer to %d is %d", n, s.ask.is)
			}
			tr.stand(s)
		}
		done <- err
	}()
	return done
}

func (tr *track) alone(t *testing.T) *lap {
	t.Helper()
	s, lap := tr.enter(&double{of: 1})
	if s != nil {
		t.Fatal("the first caller got a seat, want that it goes at once")
	}
	return lap
}

func later10s() time.Time { return time.Now().Add(10 * time.Second) }

func numbers(group []*seat[double]) (all []int) {
	for _, s := range group {
		all = append(all, s.ask.of)
	}
	return all
}

func TestFirstCallerGoesAtOnceAndTheRestTogether(t *testing.T) {
	t.Parallel()
	tr := newTrack(1, 16)
	lap := tr.alone(t)
	a, b := tr.board(t, background, 2, later10s()), tr.board(t, background, 3, later10s())
	select {
	case g := <-tr.groups:
		t.Fatalf("%v fly although the only lane is taken", numbers(g))
	default:
	}
	tr.leave(lap)
	if g := numbers(<-tr.groups); len(g) != 2 || g[0] != 2 || g[1] != 3 {
		t.Errorf("%v fly, want both who waited, in their order", g)
	}
	c := tr.board(t, background, 4, later10s())
	tr.land <- struct{}{}
	must(t, <-a)
	must(t, <-b)
	if g := numbers(<-tr.groups); len(g) != 1 || g[0] != 4 {
		t.Errorf("%v fly, want who came meanwhile", g)
	}
	tr.land <- struct{}{}
	must(t, <-c)
	until(t, "the lane is free", tr.idle)
	tr.leave(tr.alone(t))
}

func TestCallerWhoGoesDisturbsNobody(t *testing.T) {
	t.Parallel()
	tr := newTrack(1, 16)
	lap := tr.alone(t)
	ctx, cancel := context.WithCancel(background)
	first, second := tr.board(t, ctx, 2, later10s()), tr.board(t, background, 3, later10s())
	tr.leave(lap)
	<-tr.groups
	waits, third := tr.board(t, ctx, 4, later10s()), tr.board(t, background, 5, later10s())
	cancel()
	for _, done := range []chan error{first, waits} { // although nothing has landed
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that the context ended", err)
		}
	}
	tr.land <- struct{}{}
	must(t, <-second)
	if g := numbers(<-tr.groups); len(g) != 1 || g[0] != 5 {
		t.Errorf("%v fly, want only who is still there", g)
	}
	if s, _ := tr.free.Get().(*seat[double]); s != nil && s.ask.of == 2 {
		t.Error("the seat of a caller who left before the answer is used again")
	}
	tr.land <- struct{}{}
	must(t, <-third)
	until(t, "the lane is free", tr.idle)
}

func TestCallersDeadlineIsItsOwn(t *testing.T) {
	t.Parallel()
	tr := newTrack(1, 16)
	lap := tr.alone(t)
	soon, late := tr.board(t, background, 2, time.Now()), tr.board(t, background, 3, later10s())
	if err := <-soon; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that its time was over", err)
	}
	tr.leave(lap)
	if g := numbers(<-tr.groups); len(g) != 1 || g[0] != 3 {
		t.Errorf("%v fly, want who has time left", g)
	}
	tr.land <- struct{}{}
	must(t, <-late)
	until(t, "the lane is free", tr.idle)
}

// What never comes back takes the lane of nobody who comes later, and is still
// counted: there are never more than most.
func TestLateLanesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	tr := newTrack(1, 3)
	tr.patience = time.Millisecond
	lap := tr.alone(t)
	a := tr.board(t, background, 2, later10s())
	<-tr.groups
	b := tr.board(t, background, 3, later10s())
	<-tr.groups
	c := tr.board(t, background, 4, later10s())
	for range 100 { // as often as it likes
		tr.lanes.mu.Lock()
		tr.lanes.begun = time.Time{}
		tr.lanes.mu.Unlock()
		tr.hurry()
	}
	select {
	case g := <-tr.groups:
		t.Errorf("%v fly beside 3 others, want at most 3", numbers(g))
	default:
	}
	tr.leave(lap)
	<-tr.groups
	for range 3 {
		tr.land <- struct{}{}
	}
	must(t, <-a)
	must(t, <-b)
	must(t, <-c)
	until(t, "the lanes are free", tr.idle)
	if tr.flying != 0 || tr.lap.flying != 0 {
		t.Errorf("%d and %d lanes are taken, want none", tr.flying, tr.lap.flying)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	tr := newTrack(1, 16)
	tr.size = func(d *double) int { return d.of }
	lap := tr.alone(t)
	var all []chan error
	for range 300 {
		all = append(all, tr.board(t, background, 1, later10s()))
	}
	for _, size := range []int{mostBytes * 2, mostBytes / 2, mostBytes / 2, mostBytes} {
		all = append(all, tr.board(t, background, size, later10s()))
	}
	tr.leave(lap)
	for _, want := range []int{256, 44, 1, 2, 1} {
		if g := numbers(<-tr.groups); len(g) != want {
			t.Errorf("%d fly together, want %d", len(g), want)
		}
		tr.land <- struct{}{}
	}
	for _, done := range all {
		must(t, <-done)
	}
	until(t, "the lane is free", tr.idle)
}

// The more wait, the fewer lanes; and the step to fewer does not lead back.
func TestWidthFollowsTheLoad(t *testing.T) {
	t.Parallel()
	last := 1 << 30
	for avg := 1.0; avg < 256; avg += 0.25 {
		n := widthFor(avg)
		if n > last || n < 1 {
			t.Errorf("%d lanes at %v callers each, and %d at fewer", n, avg, last)
		}
		if n < last && last < 1<<30 && widthFor(avg*float64(last)/float64(n)) != n {
			t.Errorf("at %v callers each there are %d lanes and no longer %d, and with those not", avg, n, last)
		}
		last = n
	}
}

// Whatever callers do, each gets the answer to what it asked, or goes.
func TestLanesUnderConfusion(t *testing.T) {
	t.Parallel()
	var flying, most atomic.Int64
	l := &lanes[double]{width: widthFor, most: 16, patience: 100 * time.Microsecond}
	l.fly = func(group []*seat[double]) {
		n := flying.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		for _, s := range group {
			s.ask.is = 2 * s.ask.of
		}
		flying.Add(-1)
	}
	var callers sync.WaitGroup
	var answers, gone atomic.Int64
	for range 64 {
		callers.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithCancel(background)
				n := rand.Int()
				s, lap := l.enter(&double{of: n})
				if s == nil {
					cancel()
					l.leave(lap)
					continue
				}
				if rand.IntN(4) == 0 {
					go cancel()
				}
				if _, err := l.wait(ctx, later10s(), s); err != nil {
					gone.Add(1)
				} else {
					answers.Add(1)
					if s.ask.of != n || s.ask.is != 2*n {
						t.Errorf("the answer to %d is %d to %d", n, s.ask.is, s.ask.of)
					}
					l.stand(s)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	until(t, "the lanes are free", l.idle)
	if most.Load() > 16 {
		t.Errorf("%d exchanges at once, want at most 16", most.Load())
	}
	t.Logf("%d answers, %d gone, %d at once", answers.Load(), gone.Load(), most.Load())
}
