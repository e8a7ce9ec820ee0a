package storetest

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/roam-web/roam"
)

// A Skewed is a store whose clock differs by By from that of the store behind
// it: every time that goes out is later by so much, every time that comes in
// earlier. For a manager it makes no difference which of two clocks is wrong,
// so a manager on a Skewed store is a web server whose clock is wrong.
type Skewed struct {
	Store roam.Store
	By    time.Duration
}

func shift(at time.Time, by time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(by)
}

func (s *Skewed) shift(rec roam.Record, by time.Duration) roam.Record {
	for _, at := range []*time.Time{&rec.Created, &rec.LoggedIn, &rec.Seen, &rec.Ended, &rec.Now} {
		*at = shift(*at, by)
	}
	return rec
}

func (s *Skewed) shiftAll(seq iter.Seq2[roam.Record, error]) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		for rec, err := range seq {
			if !yield(s.shift(rec, s.By), err) {
				return
			}
		}
	}
}

// Load implements [roam.Store].
func (s *Skewed) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	rec, err := s.Store.Load(ctx, id, want)
	return s.shift(rec, s.By), err
}

// Insert implements [roam.Store].
func (s *Skewed) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec, err := s.Store.Insert(ctx, s.shift(rec, -s.By))
	return s.shift(rec, s.By), err
}

// Update implements [roam.Store].
func (s *Skewed) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	rec, err := s.Store.Update(ctx, s.shift(rec, -s.By))
	return s.shift(rec, s.By), err
}

// Touch implements [roam.Store].
func (s *Skewed) Touch(ctx context.Context, seen []roam.Touch) error {
	shifted := make([]roam.Touch, len(seen))
	for i, touch := range seen {
		shifted[i] = roam.Touch{ID: touch.ID, At: shift(touch.At, -s.By)}
	}
	return s.Store.Touch(ctx, shifted)
}

// End implements [roam.Store].
func (s *Skewed) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	return s.Store.End(ctx, id, why)
}

// EndUser implements [roam.Store].
func (s *Skewed) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	return s.Store.EndUser(ctx, user, why, except...)
}

// Ends implements [roam.Store].
func (s *Skewed) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	log, err := s.Store.Ends(ctx, after)
	log.Now, log.Ends = shift(log.Now, s.By), slices.Clone(log.Ends)
	for i := range log.Ends {
		log.Ends[i].At = shift(log.Ends[i].At, s.By)
	}
	return log, err
}

// List implements [roam.Store].
func (s *Skewed) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return s.shiftAll(s.Store.List(ctx, user))
}

// All implements [roam.Store].
func (s *Skewed) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return s.shiftAll(s.Store.All(ctx))
}

// Prune implements [roam.Store].
func (s *Skewed) Prune(ctx context.Context, keep time.Duration, max int) (int, error) {
	return s.Store.Prune(ctx, keep, max)
}
