package roam

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// A MemStore is a Store in this program's memory. It is the specification of
// what a store does, and right for tests. Behind more than one web server it
// is what roam exists to replace.
type MemStore struct {
	epoch uint64
	mu    sync.Mutex
	recs  map[ID]Record

	log     []End
	dropped int // entries that were at the front of log once
}

// NewMemStore returns an empty MemStore.
func NewMemStore() *MemStore {
	var b [4]byte
	rand.Read(b[:])
	epoch := uint64(time.Now().UnixMilli())<<20 | uint64(binary.LittleEndian.Uint32(b[:])>>12) // higher than that of an older one
	return &MemStore{epoch: epoch, recs: make(map[ID]Record)}
}

// stamp is the store's clock. Microseconds are what every database can keep.
func stamp() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// answer is what leaves the store: a copy, stamped.
func (s *MemStore) answer(r Record, now time.Time) Record {
	r.Data = bytes.Clone(r.Data)
	r.Now, r.Epoch = now, s.epoch
	return r
}

// keep is what enters it. Now and Epoch belong to answers alone.
func (s *MemStore) keep(r Record, now time.Time) Record {
	r.Data = bytes.Clone(r.Data)
	r.Now, r.Epoch, r.memo = time.Time{}, 0, nil
	s.recs[r.ID] = r
	return s.answer(r, now)
}

// Load implements [Store].
func (s *MemStore) Load(ctx context.Context, id ID, _ Want) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.recs[id]
	if !ok {
		return s.answer(Record{}, stamp()), ErrNotFound
	}
	return s.answer(r, stamp()), nil
}

// Insert implements [Store].
func (s *MemStore) Insert(ctx context.Context, rec Record) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.recs[rec.ID]; taken {
		return Record{}, ErrConflict
	}
	now := stamp()
	rec.Version, rec.Created, rec.Seen, rec.LoggedIn = 1, now, now, time.Time{}
	if rec.User != "" {
		rec.LoggedIn = now
	}
	rec.Ended, rec.Why = time.Time{}, ""
	return s.keep(rec, now), nil
}

// Update implements [Store].
func (s *MemStore) Update(ctx context.Context, rec Record) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := stamp()
	old, ok := s.recs[rec.ID]
	if _, _, over := old.Over(now); !ok || over || old.Version != rec.Version {
		return Record{}, ErrConflict
	}
	rec.Version, rec.Created = old.Version+1, old.Created
	rec.Seen = later(old.Seen, now)
	rec.LoggedIn = rec.LoggedIn.UTC().Truncate(time.Microsecond)
	rec.Ended, rec.Why = time.Time{}, ""
	if rec.Proof != old.Proof || rec.Level != old.Level {
		s.log = append(s.log, End{ID: rec.ID, Version: rec.Version, At: now})
	}
	return s.keep(rec, now), nil
}

// Touch implements [Store].
func (s *MemStore) Touch(ctx context.Context, seen []Touch) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := stamp()
	for _, t := range seen {
		r, ok := s.recs[t.ID]
		if _, _, over := r.Over(now); !ok || over {
			continue
		}
		at := t.At.UTC().Truncate(time.Microsecond)
		if at.After(now) {
			at = now
		}
		r.Seen = later(r.Seen, at)
		s.recs[t.ID] = r
	}
	return nil
}

// End implements [Store].
func (s *MemStore) End(ctx context.Context, id ID, why Reason) error {
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(id, why)
	return nil
}

func (s *MemStore) end(id ID, why Reason) bool {
	r, ok := s.recs[id]
	if !ok || !r.Ended.IsZero() {
		return false
	}
	r.Version++
	r.Ended, r.Why = stamp(), why
	r.Data, r.Level, r.From = nil, 0, Client{}
	s.recs[id] = r
	s.log = append(s.log, End{id, r.Version, why, r.Ended})
	return true
}

// EndUser implements [Store].
func (s *MemStore) EndUser(ctx context.Context, user string, why Reason, except ...ID) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.recs {
		if user != "" && r.User == user && !slices.Contains(except, id) && s.end(id, why) {
			n++
		}
	}
	return n, nil
}

// Ends implements [Store].
func (s *MemStore) Ends(ctx context.Context, after Cursor) (Log, error) {
	if err := ctx.Err(); err != nil {
		return Log{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var epoch uint64
	var read int
	if _, err := fmt.Sscanf(string(after), "%d/%d", &epoch, &read); err != nil || epoch != s.epoch {
		read = 0
	}
	return Log{
		Ends:  slices.Clone(s.log[min(max(read-s.dropped, 0), len(s.log)):]),
		Next:  Cursor(fmt.Sprintf("%d/%d", s.epoch, s.dropped+len(s.log))),
		Now:   stamp(),
		Epoch: s.epoch,
	}, nil
}

// List implements [Store].
func (s *MemStore) List(ctx context.Context, user string) iter.Seq2[Record, error] {
	return s.yield(ctx, func(r Record) bool { return user != "" && r.User == user && r.Ended.IsZero() })
}

// All implements [Store].
func (s *MemStore) All(ctx context.Context) iter.Seq2[Record, error] {
	return s.yield(ctx, func(Record) bool { return true })
}

func (s *MemStore) yield(ctx context.Context, want func(Record) bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(Record{}, unavailable(err))
			return
		}
		s.mu.Lock()
		recs := slices.Collect(maps.Values(s.recs))
		now := stamp()
		s.mu.Unlock()
		slices.SortFunc(recs, func(a, b Record) int {
			return cmp.Or(b.LoggedIn.Compare(a.LoggedIn), bytes.Compare(a.ID[:], b.ID[:]))
		})
		for _, r := range recs {
			if want(r) && !yield(s.answer(r, now), nil) {
				return
			}
		}
	}
}

// Prune implements [Store].
func (s *MemStore) Prune(ctx context.Context, keep time.Duration, max int) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for now := stamp(); len(s.log) > 0 && now.Sub(s.log[0].At) > LogKept; s.dropped++ {
		s.log = s.log[1:]
	}
	before := stamp().Add(-keep)
	for id, r := range s.recs {
		if _, at, over := r.Over(before); over && !at.After(before) && n < max {
			delete(s.recs, id)
			n++
		}
	}
	return n, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
