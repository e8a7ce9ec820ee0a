package storetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/roam-web/roam"
)

// A mutant is a store in memory with one bug, the one that it is named after.
// Without a name it is sound: that the laws say so is the control.
type mutant struct {
	bug   string
	epoch uint64

	mu     sync.Mutex
	recs   map[roam.ID]roam.Record
	born   map[roam.ID]string // the user at Insert
	stale  map[roam.ID]roam.Record
	listed int // iterators that are open
	writes int // so far
	calls  int
	fresh  map[roam.ID]int
	log    []logged
	seq    int             // of the log
	reads  int             // of the log
	lent   []roam.End      // the log as "Ends give their own slice out" has it
	ending context.Context // of the End or EndUser that runs
}

func newMutant(bug string) *mutant {
	var b [8]byte
	rand.Read(b[:])
	s := &mutant{bug: bug, epoch: binary.LittleEndian.Uint64(b[:])>>1 | 1, recs: make(map[roam.ID]roam.Record),
		born: make(map[roam.ID]string), stale: make(map[roam.ID]roam.Record), fresh: make(map[roam.ID]int)}
	if s.is("A new store has records of another") {
		s.Insert(context.Background(), record("ann"))
	}
	return s
}

// A logged is an entry of the log with its place in it.
type logged struct {
	seq int
	roam.End
}

var errOwn = errors.New("an error of the store's own")

func (s *mutant) is(bug string) bool { return s.bug == bug }

func (s *mutant) clock() time.Time {
	now := time.Now().UTC()
	switch {
	case s.is("Stamps have nanoseconds"):
		return now.Truncate(time.Microsecond).Add(321)
	case s.is("Stamps are milliseconds"):
		return now.Truncate(time.Millisecond)
	}
	return now.Truncate(time.Microsecond)
}

func (s *mutant) answer(r roam.Record, now time.Time) roam.Record {
	r.Data = bytes.Clone(r.Data)
	if !s.is("Now is what was given") || r.Now.IsZero() {
		r.Now = now
	}
	if !s.is("Epoch is what was given") || r.Epoch == 0 {
		r.Epoch = s.epoch
	}
	switch s.bug {
	case "Touch takes the clock along":
		if r.Seen.After(now) {
			r.Now = r.Seen
		}
	case "Now is missing":
		r.Now = time.Time{}
	case "Now goes back":
		s.calls++
		r.Now = now.Add(-time.Duration(s.calls%2) * time.Second)
	case "Now stands still":
		r.Now = r.Seen
	case "Epoch is missing":
		r.Epoch = 0
	case "Epoch changes with each answer":
		s.epoch++
	}
	return r
}

// narrow is what the columns make of a record.
func (s *mutant) narrow(r, old roam.Record) roam.Record {
	seconds := func(d time.Duration) time.Duration { return d.Truncate(time.Second) }
	update := old.Version > 0
	switch s.bug {
	case "Writes are forgotten":
		r.Writes = roam.Writes{}
	case "Writes are not updated":
		if update {
			r.Writes = old.Writes
		}
	case "Writes keep four ids":
		clear(r.Writes[4:])
	case "Writes are signed":
		for i := range r.Writes {
			r.Writes[i] &= 1<<63 - 1
		}
	case "Previous is forgotten":
		r.Previous = roam.Proof{}
	case "Proof is not updated":
		if update {
			r.Proof = old.Proof
		}
	case "User is not updated":
		if update {
			r.User = old.User
		}
	case "Level is forgotten":
		r.Level = 0
	case "Level is signed":
		r.Level = min(r.Level, 127)
	case "Level is not updated":
		if update {
			r.Level = old.Level
		}
	case "Client is not updated":
		if update {
			r.From = old.From
		}
	case "Address is unmapped":
		r.From.Addr = r.From.Addr.Unmap()
	case "Agent is cut to 128 bytes":
		r.From.Agent = r.From.Agent[:min(len(r.From.Agent), 128)]
	case "Data is text":
		if !utf8.Valid(r.Data) {
			r.Data = bytes.ToValidUTF8(r.Data, []byte("\ufffd"))
		}
	case "Data ends at NUL":
		r.Data, _, _ = bytes.Cut(r.Data, []byte{0})
	case "Data is cut to 4 KiB":
		r.Data = r.Data[:min(len(r.Data), 4096)]
	case "Data is trimmed":
		r.Data = bytes.TrimSpace(r.Data)
	case "Data cannot be emptied":
		if update && len(r.Data) == 0 {
			r.Data = old.Data
		}
	case "Limits are seconds":
		r.Idle, r.Lifetime = seconds(r.Idle), seconds(r.Lifetime)
	case "Limits are 32 bits of seconds":
		r.Idle, r.Lifetime = min(r.Idle, 1<<31*time.Millisecond), min(r.Lifetime, 1<<31*time.Millisecond)
	case "Limits are not updated":
		if update {
			r.Idle, r.Lifetime = old.Idle, old.Lifetime
		}
	case "Users are trimmed":
		r.User = strings.TrimSpace(r.User)
	case "Users are cut to 64 bytes":
		r.User = r.User[:min(len(r.User), 64)]
	case "LoggedIn loses its zone":
		if !r.LoggedIn.IsZero() {
			l := r.LoggedIn
			r.LoggedIn = time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), time.UTC)
		}
	}
	return r
}

func (s *mutant) keep(r roam.Record, now time.Time) roam.Record {
	if !s.is("Now is what was given") {
		r.Now = time.Time{}
	}
	if !s.is("Epoch is what was given") {
		r.Epoch = 0
	}
	s.stale[r.ID] = s.recs[r.ID]
	s.recs[r.ID] = r
	s.writes++
	return s.answer(r, now)
}

// stop returns the error of a call whose context has ended, nil to go on.
func (s *mutant) stop(ctx context.Context, write bool) error {
	err := ctx.Err()
	switch {
	case err == nil, write && s.is("Cancelled writes land"), !write && s.is("Cancelled reads succeed"):
		return nil
	case s.is("Cancelled calls have an error of their own"):
		return err
	}
	return fmt.Errorf("%w: %w", roam.ErrUnavailable, err)
}

// betray is for a write that lands although its caller is told otherwise.
func (s *mutant) betray(ctx context.Context) (context.Context, error) {
	if ctx.Err() != nil && s.is("Cancelled writes land and are called unavailable") {
		return context.WithoutCancel(ctx), fmt.Errorf("%w: %w", roam.ErrUnavailable, ctx.Err())
	}
	return ctx, nil
}

// gap lets go of the lock between a read and the write that depends on it,
// until somebody else has written: a race that is not left to chance. If
// nobody comes within a moment it goes on.
func (s *mutant) gap() {
	was := s.writes
	for start := time.Now(); s.writes == was && time.Since(start) < 300*time.Microsecond; {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

func (s *mutant) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	if err := s.stop(ctx, false); err != nil {
		return roam.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.recs[id]
	now := s.clock()
	_, _, over := r.Over(now)
	switch {
	case !ok && s.is("Load finds what is missing"):
		return s.answer(roam.Record{ID: id}, now), nil
	case !ok, s.is("Load hides tombstones") && !r.Ended.IsZero(), s.is("Load judges expiry") && over && r.Ended.IsZero():
		a := s.answer(roam.Record{}, now)
		switch s.bug {
		case "Not found has no clock":
			a.Now = time.Time{}
		case "Not found has no epoch":
			a.Epoch = 0
		case "Not found has an ID":
			a.ID = id
		}
		return a, roam.ErrNotFound
	case want.Version > r.Version && s.is("Load fails without the version wanted"):
		return roam.Record{}, fmt.Errorf("%w: no such version", roam.ErrUnavailable)
	case want.Version > 0 && want.Epoch > s.epoch && s.is("Load does not find another epoch"):
		return s.answer(roam.Record{}, now), roam.ErrNotFound
	case want.Version > 0 && r.Version == 1 && s.is("Load believes a copy without the record"):
		return s.answer(roam.Record{}, now), roam.ErrNotFound
	case want.Version > 0 && s.stale[id].Version > 0 && s.is("Load does not check the version wanted"),
		want.Version > r.Version && s.stale[id].Version > 0 && s.is("Load is stale without the version wanted"),
		want == roam.Want{Durable: true} && s.stale[id].Version > 0 && s.is("Load is stale if it must be durable"):
		r = s.stale[id]
	case s.is("Load is stale") && s.stale[id].Version > 0 && s.writes%2 == 0,
		s.is("Load is stale after an end") && s.stale[id].Version > 0 && !r.Ended.IsZero() && now.Sub(r.Ended) < 100*time.Microsecond:
		r = s.stale[id]
	case s.is("Load counts as use") && !over:
		r.Seen = now
		s.recs[id] = r
	}
	a := s.answer(r, now)
	if s.is("Load gives its own slice out") {
		a.Data = r.Data
	}
	return a, nil
}

func (s *mutant) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		return roam.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if old, taken := s.recs[rec.ID]; taken {
		_, _, over := old.Over(now)
		switch {
		case s.is("Insert replaces a taken ID") && !over:
		case s.is("Insert replaces a tombstone") && !old.Ended.IsZero():
		case s.is("Insert replaces the expired") && over && old.Ended.IsZero():
		default:
			return roam.Record{}, roam.ErrConflict
		}
	}
	if !s.is("Insert keeps the version it was given") {
		rec.Version = 1
	}
	rec.Version = max(rec.Version, 1)
	if !s.is("Insert keeps Created as given") || rec.Created.IsZero() {
		rec.Created = now
	}
	if !s.is("Insert keeps Seen as given") || rec.Seen.IsZero() {
		rec.Seen = now
	}
	if !s.is("Insert keeps LoggedIn as given") {
		rec.LoggedIn = time.Time{}
	}
	if rec.LoggedIn.IsZero() && (rec.User != "" && !s.is("Insert forgets LoggedIn") || s.is("Insert logs guests in")) {
		rec.LoggedIn = now
	}
	if !s.is("Insert takes Ended") {
		rec.Ended, rec.Why = time.Time{}, ""
	}
	if !s.is("Insert keeps the slice it is given") {
		rec.Data = bytes.Clone(rec.Data)
	}
	s.born[rec.ID], s.fresh[rec.ID] = rec.User, s.writes
	rec = s.narrow(rec, roam.Record{})
	a := s.keep(rec, now)
	if s.is("The log has inserts") {
		s.enter(s.place(), roam.End{ID: rec.ID, Version: rec.Version, At: now})
	}
	if s.is("Insert gives its own slice out") {
		a.Data = rec.Data
	}
	return a, lie
}

// over is the guard of writes.
func (s *mutant) over(old, rec roam.Record, now time.Time) bool {
	if !old.Ended.IsZero() {
		return !s.is("Update revives a tombstone")
	}
	_, _, over := old.Over(now)
	switch s.bug {
	case "Update revives the expired":
		return false
	case "Update guards by idle timeout alone":
		return !now.Before(old.Seen.Add(old.Idle))
	case "Update guards by lifetime alone":
		old.Idle = 1000 * time.Hour
		_, _, over = old.Over(now)
	case "Update guards by the new limits":
		old.Idle, old.Lifetime, old.LoggedIn = rec.Idle, rec.Lifetime, rec.LoggedIn
		_, _, over = old.Over(now)
	case "Update lets those without limits live":
		return over && old.Idle != 0 && old.Lifetime != 0
	case "Lifetime counts from Created":
		old.LoggedIn = time.Time{}
		_, _, over = old.Over(now)
	}
	return over
}

func (s *mutant) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		return roam.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	old, ok := s.recs[rec.ID]
	fits := old.Version == rec.Version
	switch s.bug {
	case "Update ignores the version":
		fits = true
	case "Update takes a newer version too":
		fits = rec.Version >= old.Version
	case "Update takes version 0 for any":
		fits = fits || rec.Version == 0
	case "Update revives a tombstone":
		fits = fits || !old.Ended.IsZero()
	}
	if !ok && s.is("Update inserts what is missing") {
		old, ok, fits = rec, true, true
		old.Created, old.Seen = now, now
	}
	if !ok || !fits || s.over(old, rec, now) {
		switch s.bug {
		case "The log has updates that conflict":
			s.enter(s.place(), roam.End{ID: rec.ID, Version: rec.Version + 1, At: now})
		case "Update calls a conflict unavailable":
			return roam.Record{}, fmt.Errorf("%w: %w", roam.ErrUnavailable, roam.ErrConflict)
		case "Update calls a conflict not found":
			return roam.Record{}, roam.ErrNotFound
		}
		return roam.Record{}, roam.ErrConflict
	}
	if s.is("Update changes all of the user's") {
		for id, r := range s.recs {
			if r.User == old.User {
				r.Data = bytes.Clone(rec.Data)
				s.recs[id] = r
			}
		}
	}
	if s.is("Update compares, then swaps") {
		s.gap()
	}
	var seq int
	if s.is("A cursor passes what is not yet visible") {
		seq = s.place()
		s.lag(1)
		if s.recs[rec.ID].Version != old.Version {
			return roam.Record{}, roam.ErrConflict
		}
	}
	given := rec
	if !s.is("Update stores the version it was given") {
		rec.Version = old.Version + 1
	}
	if !s.is("Update takes Created as given") {
		rec.Created = old.Created
	}
	if s.is("Update resets Created") {
		rec.Created = now
	}
	if !s.is("Update takes Seen as given") {
		rec.Seen = now
		if old.Seen.After(now) || s.is("Update leaves Seen") {
			rec.Seen = old.Seen
		}
	}
	switch s.bug {
	case "LoggedIn has nanoseconds", "LoggedIn loses its zone":
	case "Update stamps LoggedIn":
		rec.LoggedIn = now
	case "Update leaves LoggedIn":
		rec.LoggedIn = old.LoggedIn
	default:
		rec.LoggedIn = rec.LoggedIn.UTC().Truncate(time.Microsecond)
	}
	if !s.is("Update takes Ended") {
		rec.Ended, rec.Why = time.Time{}, ""
	}
	if !s.is("Update keeps the slice it is given") {
		rec.Data = bytes.Clone(rec.Data)
	}
	rec = s.narrow(rec, old)
	a := s.keep(rec, now)
	s.rotate(seq, rec, old, now)
	switch s.bug {
	case "Update gives its own slice out":
		a.Data = rec.Data
	case "Update lands although its context ends":
		for start := time.Now(); ctx.Err() == nil && time.Since(start) < time.Millisecond/2; {
			runtime.Gosched()
		}
		if ctx.Err() != nil {
			return roam.Record{}, fmt.Errorf("%w: %w", roam.ErrUnavailable, ctx.Err())
		}
	case "Update answers with the record it was given":
		given.Now, given.Epoch, given.Data = a.Now, a.Epoch, a.Data
		return given, lie
	}
	return a, lie
}

// rotate enters an update into the log, if it belongs there.
func (s *mutant) rotate(seq int, rec, old roam.Record, now time.Time) {
	secret, level := rec.Proof != old.Proof, rec.Level != old.Level
	switch s.bug {
	case "The log forgets secrets":
		secret = false
	case "The log forgets guests who log in":
		secret = secret && old.User != ""
	case "The log forgets levels":
		level = false
	case "The log forgets lower levels":
		level = rec.Level > old.Level
	case "The log has every update":
		secret = true
	case "The log has every user":
		secret = secret || rec.User != old.User
	case "The log has every login":
		secret = secret || !rec.LoggedIn.Equal(old.LoggedIn)
	case "The log has every previous secret":
		secret = secret || rec.Previous != old.Previous
	case "The log is written after the change":
		s.lag(0)
	}
	if !secret && !level {
		return
	}
	if seq == 0 {
		seq = s.place()
	}
	e := roam.End{ID: rec.ID, Version: rec.Version, At: now}
	s.enter(seq, e)
	if secret && level && s.is("The log has secret and level apart") {
		e.Version++
		s.enter(s.place(), e)
	}
}

func (s *mutant) Touch(ctx context.Context, seen []roam.Touch) error {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		return err
	}
	switch {
	case s.is("Touch fails on nothing") && len(seen) == 0, s.is("Touch fails on more than 999") && len(seen) > 999:
		return errOwn
	case s.is("Touch takes the first of a batch only") && len(seen) > 1:
		seen = seen[:1]
	case s.is("Touch takes the last of a session only"):
		last := make(map[roam.ID]roam.Touch)
		for _, t := range seen {
			last[t.ID] = t
		}
		seen = slices.Collect(maps.Values(last))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for _, t := range seen {
		r, ok := s.recs[t.ID]
		if !ok {
			switch s.bug {
			case "Touch inserts what is missing":
				s.recs[t.ID] = roam.Record{ID: t.ID, Version: 1, Seen: now}
			case "Touch stops at what is missing":
				return lie
			case "Touch fails at what is missing":
				return errOwn
			}
			continue
		}
		_, _, over := r.Over(now)
		switch {
		case !r.Ended.IsZero() && !s.is("Touch moves tombstones"), r.Ended.IsZero() && over && !s.is("Touch revives the expired"):
			continue
		}
		at := t.At.UTC()
		if !s.is("Touch has nanoseconds") {
			at = at.Truncate(time.Microsecond)
		}
		if at.After(now) && !s.is("Touch goes beyond the clock") && !s.is("Touch takes the clock along") || s.is("Touch ignores the time it is given") {
			at = now
		}
		if s.is("Touch rewrites the record") && s.stale[t.ID].Version > 0 {
			seen := r.Seen
			r = s.stale[t.ID]
			r.Seen = seen
		}
		if s.is("Touch is forgotten") {
			continue
		}
		if s.is("Touch writes an old copy back") {
			s.gap()
		}
		if s.is("Touch raises the version") {
			r.Version++
		}
		if at.After(r.Seen) || s.is("Touch moves backwards") {
			r.Seen = at
		}
		s.recs[t.ID] = r
		if s.is("The log has touches") {
			s.enter(s.place(), roam.End{ID: r.ID, Version: r.Version, At: now})
		}
	}
	return lie
}

func (s *mutant) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		if s.is("The log has what was cancelled") {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.enter(s.place(), roam.End{ID: id, Version: s.recs[id].Version + 1, Why: why, At: s.clock()})
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = ctx
	if s.is("List holds a lock") && s.listed > 0 {
		return errOwn // as a store that is busy would after a while
	}
	if _, ok := s.recs[id]; !ok {
		switch s.bug {
		case "End of nothing leaves a tombstone":
			s.recs[id] = roam.Record{ID: id, Version: 1, Ended: s.clock(), Why: why}
		case "End of nothing is an error":
			return roam.ErrNotFound
		case "The log has ends of nothing":
			s.enter(s.place(), roam.End{ID: id, Version: 1, Why: why, At: s.clock()})
		}
	}
	s.end(id, why)
	return lie
}

func (s *mutant) end(id roam.ID, why roam.Reason) bool {
	r, ok := s.recs[id]
	now := s.clock()
	_, _, over := r.Over(now)
	switch {
	case !ok, s.is("End skips the expired") && over:
		return false
	case s.is("End deletes the record"):
		delete(s.recs, id)
		return true
	case !r.Ended.IsZero() && s.is("End overwrites the reason"):
		r.Why = why
		s.recs[id] = r
		return false
	case !r.Ended.IsZero() && s.is("End moves Ended"):
		r.Ended = now
		s.recs[id] = r
		return false
	case !r.Ended.IsZero():
		if s.is("The log has what had ended") {
			s.enter(s.place(), roam.End{ID: id, Version: r.Version, Why: why, At: now})
		}
		return false
	}
	if s.is("The log forgets ends") || s.is("The log forgets the expired") && over {
		defer func(log []logged) { s.log = log }(s.log)
	}
	var seq int
	if s.is("A cursor passes what is not yet visible") {
		seq = s.place()
		s.lag(1)
		if r = s.recs[id]; !r.Ended.IsZero() {
			return false
		}
	}
	if s.is("End ends all of the user's") {
		for id, other := range s.recs {
			if other.User == r.User && other.Ended.IsZero() {
				other.Version++
				other.Ended, other.Why, other.Data = now, why, nil
				s.recs[id] = other
			}
		}
	}
	s.stale[id] = r
	if !s.is("End keeps the version") {
		r.Version++
	}
	r.Ended, r.Why = now, why
	if s.is("End cuts reasons to 32 bytes") {
		r.Why = why[:min(len(why), 32)]
	}
	if !s.is("End keeps the data") {
		r.Data = nil
	}
	if !s.is("End keeps the client") {
		r.From = roam.Client{}
	}
	r.Level = 0
	switch s.bug {
	case "End forgets the write ids":
		r.Writes = roam.Writes{}
	case "End forgets the proofs":
		r.Proof, r.Previous = roam.Proof{}, roam.Proof{}
	case "End forgets the user":
		r.User = ""
	}
	s.recs[id] = r
	s.writes++
	switch s.bug {
	case "The log is written after the change":
		s.lag(0)
	case "The log misses what is cancelled":
		for start := time.Now(); s.ending.Err() == nil && time.Since(start) < time.Millisecond/2; {
			runtime.Gosched()
		}
		if s.ending.Err() != nil {
			return true
		}
	}
	if seq == 0 {
		seq = s.place()
	}
	s.enter(seq, roam.End{ID: id, Version: r.Version, Why: why, At: now})
	return true
}

// place takes the next place in the log.
func (s *mutant) place() int {
	s.seq++
	return s.seq
}

// lag lets go of the lock until the log has been read, with something in it
// that was not there before. If nobody does within a moment it goes on.
func (s *mutant) lag(more int) {
	entries, reads := len(s.log)+more, s.reads
	for start := time.Now(); time.Since(start) < time.Millisecond; {
		if len(s.log) < entries {
			reads = s.reads
		} else if s.reads > reads+1 {
			return
		}
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

func (s *mutant) enter(seq int, e roam.End) {
	switch s.bug {
	case "The log has the version that was":
		e.Version--
	case "The log forgets reasons":
		e.Why = ""
	case "The log cuts reasons to 32 bytes":
		e.Why = e.Why[:min(len(e.Why), 32)]
	case "The log calls a login an end":
		if e.Why == "" {
			e.Why = roam.Rotated
		}
	case "The log dates entries by Created":
		e.At = s.recs[e.ID].Created
	}
	s.log = append(s.log, logged{seq, e})
	s.lent = append(s.lent, e)
}

func (s *mutant) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	if err := s.stop(ctx, false); err != nil && !s.is("Cancelled readings of the log succeed") {
		return roam.Log{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	log := roam.Log{Now: s.clock(), Epoch: s.epoch}
	var epoch uint64
	var read int
	last := s.seq
	if n := len(s.log); n > 0 && s.is("A cursor passes what is not yet visible") {
		last = 0
		for _, e := range s.log {
			last = max(last, e.seq)
		}
	}
	_, err := fmt.Sscanf(string(after), "%d/%d", &epoch, &read)
	foreign := err != nil || epoch != s.epoch
	switch {
	case s.is("A cursor is a number alone"):
		if err != nil {
			read = 0
			fmt.Sscan(string(after), &read)
		}
	case foreign && after != "" && s.is("A foreign cursor is an error"):
		return roam.Log{}, errOwn
	case foreign && after != "" && s.is("A foreign cursor is the end"), after == "" && s.is("The empty cursor is the end"):
		read = last
	case foreign, s.is("Ends begin anew each time"):
		read = 0
	case s.is("Ends skip one after a cursor"):
		read++
	case s.is("Ends repeat the last one"):
		read--
	}
	own := make([]roam.End, 0, len(s.log))
	for _, e := range s.log {
		if s.is("The log dates entries when it is read") {
			e.At = log.Now
		}
		if e.seq > read {
			own = append(own, e.End)
		}
	}
	log.Ends = own
	log.Next = roam.Cursor(fmt.Sprintf("%d/%d", s.epoch, last))
	switch s.bug {
	case "Reading the log empties it":
		s.log = nil
	case "Ends give their own slice out":
		if read == 0 {
			log.Ends = s.lent
		}
	case "The log has no clock":
		log.Now = time.Time{}
	case "The log's clock is its last entry":
		if n := len(s.log); n > 0 {
			log.Now = s.log[n-1].At
		}
	case "The log has another epoch":
		log.Epoch++
	}
	return log, nil
}

// matches tells the user's records, as EndUser and List find them.
func (s *mutant) matches(method, user string, r roam.Record) bool {
	switch s.bug {
	case method + " of the empty user has the guests", "EndUser ends the guests for the empty user":
		if user == "" && (method == "EndUser" || s.bug != "EndUser ends the guests for the empty user") {
			return r.User == ""
		}
	case method + " finds users as they were born":
		return user != "" && s.born[r.ID] == user
	case method + " ignores case":
		return user != "" && strings.EqualFold(r.User, user)
	case method + " takes users as patterns":
		prefix, pattern := strings.CutSuffix(user, "%")
		return user != "" && (r.User == user || pattern && r.User != "" && strings.HasPrefix(r.User, prefix))
	case "EndUser ends all but the user's":
		if method == "EndUser" {
			return user != "" && r.User != user
		}
	}
	return user != "" && r.User == user
}

func (s *mutant) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (n int, err error) {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		return 0, err
	}
	switch {
	case s.is("EndUser ignores except"):
		except = nil
	case s.is("EndUser takes the first exception only") && len(except) > 1:
		except = except[:1]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = ctx
	now := s.clock()
	if s.is("The log forgets EndUser") {
		defer func(log []logged) { s.log = log }(s.log)
	}
	for id, r := range maps.Clone(s.recs) {
		if !s.matches("EndUser", user, r) || slices.Contains(except, id) {
			continue
		}
		_, _, over := r.Over(now)
		dead := !r.Ended.IsZero()
		switch {
		case s.is("EndUser stops at 100") && n >= 100, s.is("EndUser ends one") && n >= 1,
			s.is("EndUser misses the latest insert") && s.fresh[id] == s.writes-1,
			s.is("EndUser skips the expired") && over && !dead:
			continue
		case s.is("EndUser deletes the records"):
			delete(s.recs, id)
			n++
			continue
		case s.is("EndUser overwrites reasons") && dead:
			r.Why = why
			s.recs[id] = r
			continue
		}
		if s.end(id, why) || s.is("EndUser counts what had ended") {
			n++
		}
	}
	if s.is("EndUser counts nothing") {
		n = 0
	}
	return n, lie
}

func (s *mutant) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return s.yield(ctx, "List", func(a, b roam.Record) int {
		switch s.bug {
		case "List is oldest first":
			a, b = b, a
		case "List is by Created":
			return cmp.Or(b.Created.Compare(a.Created), bytes.Compare(a.ID[:], b.ID[:]))
		case "List breaks ties at random":
			return cmp.Or(b.LoggedIn.Compare(a.LoggedIn), bytes.Compare(a.Proof[:], b.Proof[:]))
		}
		return cmp.Or(b.LoggedIn.Compare(a.LoggedIn), bytes.Compare(a.ID[:], b.ID[:]))
	}, func(r roam.Record, now time.Time) bool {
		_, _, over := r.Over(now)
		switch {
		case !r.Ended.IsZero():
			return s.is("List leaks tombstones") && r.User == user && user != ""
		case s.is("List hides the expired") && over:
			return false
		}
		return s.matches("List", user, r)
	})
}

func (s *mutant) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return s.yield(ctx, "All", func(a, b roam.Record) int { return 0 }, func(r roam.Record, now time.Time) bool {
		_, _, over := r.Over(now)
		switch s.bug {
		case "All hides tombstones":
			return r.Ended.IsZero()
		case "All hides the expired":
			return !over || !r.Ended.IsZero()
		case "All hides guests":
			return r.User != ""
		}
		return true
	})
}

func (s *mutant) yield(ctx context.Context, method string, order func(a, b roam.Record) int, want func(roam.Record, time.Time) bool) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		if err := s.stop(ctx, false); err != nil {
			if !s.is("Cancelled lists are empty") {
				yield(roam.Record{}, err)
			}
			return
		}
		s.mu.Lock()
		if s.is("List leaks a cursor") && s.listed > 10 {
			s.mu.Unlock()
			yield(roam.Record{}, errOwn)
			return
		}
		s.listed++
		now := s.clock()
		var recs []roam.Record
		for _, r := range s.recs {
			if want(r, now) {
				recs = append(recs, r)
				if s.is("All yields twice") && method == "All" {
					recs = append(recs, r)
				}
			}
		}
		s.mu.Unlock()
		slices.SortFunc(recs, order)
		if s.is("List stops at 100") {
			recs = recs[:min(len(recs), 100)]
		}
		whole := true
		for _, r := range recs {
			s.mu.Lock()
			a := s.answer(r, now)
			s.mu.Unlock()
			switch s.bug {
			case method + " gives its own slice out":
				a.Data = r.Data
			case method + " yields no data":
				a.Data = nil
			}
			if !yield(a, nil) && !s.is("List goes on after a break") {
				whole = false
				break
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if whole || !s.is("List leaks a cursor") {
			s.listed--
		}
	}
}

func (s *mutant) Prune(ctx context.Context, keep time.Duration, max int) (n int, err error) {
	ctx, lie := s.betray(ctx)
	if err := s.stop(ctx, true); err != nil {
		return 0, err
	}
	if s.is("Prune ignores keep") {
		keep = 0
	}
	if s.is("Prune ignores max") || s.is("Prune takes max 0 for all") && max == 0 {
		max = 1 << 30
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.clock().Add(-keep)
	for id, r := range s.recs {
		_, at, over := r.Over(before)
		over = over && !at.After(before)
		dead := !r.Ended.IsZero()
		switch s.bug {
		case "Prune removes the living":
			over = true
		case "Prune forgets tombstones":
			over = over && !dead
		case "Prune forgets the expired":
			over = over && dead
		case "Prune counts from Created":
			_, _, over = r.Over(s.clock())
			over = over && !r.Created.After(before)
		case "Prune counts a tombstone from its deadline":
			if at, _ := r.Deadline(); dead && !at.After(before) {
				over = true
			}
		}
		if over && n < max {
			delete(s.recs, id)
			n++
			switch s.bug {
			case "The log has what was pruned":
				s.enter(s.place(), roam.End{ID: id, Version: r.Version + 1, At: s.clock()})
			case "Prune empties the log":
				s.log = nil
			case "Prune takes the log's entries along":
				s.log = slices.DeleteFunc(s.log, func(e logged) bool { return e.ID == id })
			}
		}
	}
	if s.is("Prune forgets to count") {
		n = min(n, 1)
	}
	return n, lie
}
