package roam

import (
	"context"
	"crypto/subtle"
	"errors"
	"sync"
	"time"
)

// An Identity says who a visitor is, without what the session holds.
type Identity struct {
	ID    ID     // of the session; zero if there is none
	User  string // "" until login
	Level Level  // of the login

	// LoggedIn and Expires are the store's time, LoggedIn is zero before
	// login. Use since the last answer of the store may have moved Expires on.
	LoggedIn, Expires time.Time

	// Stale says that the store was not there to confirm it; see
	// [Web.IdentifyStale].
	Stale bool
}

// Identify says whose session tok opens. It costs no trip to the store while
// this manager has asked not long ago, the log of ends has been read since, by
// Run, and names no end and no login of the session. So a revoke shows within
// a second, and within five if the log cannot be read; then the store is asked.
// It counts as use of the session. The errors are those of Get, but that the
// data is not decoded.
func (m *Manager[T]) Identify(ctx context.Context, tok Token) (Identity, error) {
	who, _, err := m.identify(ctx, tok, &fact{})
	return who, err
}

// identify also takes what tok's mark says, if it is a sealed one, and returns
// how new what it decided by was.
func (m *Manager[T]) identify(ctx context.Context, tok Token, seal *fact) (Identity, mark, error) {
	if tok.IsZero() {
		return Identity{}, mark{}, nil
	}
	p := &m.past
	var read *watermark
	var name named
	for again := true; again; again = p.mark.Load() != read { // up to there is complete what was looked up
		read, name = p.mark.Load(), p.lookUp(tok.id)
	}
	now, young := read.clock()
	if young {
		if tok.mark.sealed && read.holds(seal, &name, now, sealWindow) {
			if !seal.known {
				p.facts.put(tok, *seal)
			}
			return m.identity(ctx, tok, seal, now), tok.mark, nil
		}
		if f, known := p.facts.get(tok); known && read.holds(&f, &name, now, sealWindow) {
			return m.identity(ctx, tok, &f, now), f.news(), nil
		}
	}
	var rec Record
	if err := m.load(ctx, tok, "", tok.want(), &rec); err != nil {
		return Identity{}, mark{}, err
	}
	f := factOf(&rec)
	who := m.identity(ctx, tok, &f, f.verified)
	if read != nil {
		// A near cache answers with the present time what it knows by the log,
		// as far as that has been read.
		f.verified = min(f.verified, read.now)
	}
	p.facts.put(tok, f)
	return who, f.news(), nil
}

func (f *fact) news() mark { return mark{version: f.version, epoch: f.epoch} }

// holds reports whether f still tells how the session is at the time now, in
// the store's time, so far as anybody who has read the log up to w can know.
func (w *watermark) holds(f *fact, name *named, now int64, window time.Duration) bool {
	return f.epoch == w.epoch && !name.overrules(f.news()) &&
		f.verified > w.since && f.verified <= now && now-f.verified < window.Microseconds() &&
		now < f.deadline()
}

// deadline is when the session is over if nobody touches it, in microseconds.
func (f *fact) deadline() int64 {
	start := f.created
	if f.loggedIn != 0 {
		start = f.loggedIn
	}
	return min(f.seen+f.idle.Microseconds(), start+f.lifetime.Microseconds())
}

// identity is the answer, and counts as use.
func (m *Manager[T]) identity(ctx context.Context, tok Token, f *fact, now int64) Identity {
	if window := touchWindow(f.idle); now-f.seen >= window.Microseconds() {
		m.used(ctx, tok.id, time.UnixMicro(now).UTC(), window)
	}
	return f.identity(tok.id)
}

func (f *fact) identity(id ID) Identity {
	who := Identity{ID: id, User: f.user, Level: f.level, Expires: time.UnixMicro(f.deadline()).UTC()}
	if f.loggedIn != 0 {
		who.LoggedIn = time.UnixMicro(f.loggedIn).UTC()
	}
	return who
}

// stale is what identify falls back to when the store does not answer and the
// page can do with what was true not longer than so long ago, or than ends are
// remembered.
func (m *Manager[T]) stale(tok Token, seal *fact, atMost time.Duration) (who Identity, ok bool) {
	p := &m.past
	mark := p.mark.Load()
	if mark == nil {
		return who, false
	}
	now, _ := mark.clock()
	name := p.lookUp(tok.id)
	f, known := p.facts.get(tok)
	if tok.mark.sealed && (!known || seal.verified > f.verified) {
		f, known = *seal, true
	}
	if !known || !mark.holds(&f, &name, now, min(atMost, LogKept)) {
		return who, false
	}
	who = f.identity(tok.id)
	who.Stale = true
	return who, true
}

// Fresh is Get with the certainty that no copy of the record can give: it
// always asks the store for the newest.
func (m *Manager[T]) Fresh(ctx context.Context, tok Token) (Session[T], error) {
	return m.get(ctx, tok, Want{})
}

// maxFacts is how many facts a generation keeps; each takes about 300 bytes.
const maxFacts = 1 << 15

// facts are what Identify has learned of sessions, in two generations, so that
// the memory is bounded by the sessions in use and by number.
type facts struct {
	lock     sync.RWMutex
	since    time.Time
	now, old map[ID]*known
}

// A known never changes.
type known struct {
	proof Proof
	fact  fact
}

// get returns what is known of the session of tok, if tok opens it.
func (s *facts) get(tok Token) (fact, bool) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	k := s.find(tok.id)
	if k == nil || subtle.ConstantTimeCompare(k.proof[:], tok.proof[:]) != 1 {
		return fact{}, false
	}
	return k.fact, true
}

// find returns nil if nothing is known of the session.
func (s *facts) find(id ID) *known {
	if k := s.now[id]; k != nil {
		return k
	}
	return s.old[id]
}

// put remembers a fact, unless a newer one is known.
func (s *facts) put(tok Token, f fact) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if k := s.find(tok.id); k != nil && k.fact.epoch == f.epoch && (k.fact.version > f.version || k.fact.version == f.version && k.fact.verified > f.verified) {
		return
	}
	if time.Since(s.since) > sealWindow || len(s.now) >= maxFacts {
		s.since, s.old, s.now = time.Now(), s.now, make(map[ID]*known)
	}
	s.now[tok.id] = &known{tok.proof, f}
}

// user returns the text as a string, which is the one already known if the
// session is.
func (s *facts) user(id ID, text []byte) (user string, known bool) {
	s.lock.RLock()
	k := s.find(id)
	s.lock.RUnlock()
	if k != nil && k.fact.user == string(text) {
		return k.fact.user, true
	}
	return string(text), false
}

// want is how new an answer must be for the visitor who has tok.
func (t Token) want() Want { return Want{Version: t.mark.version, Epoch: t.mark.epoch} }

// ErrLogin says that a page needs a login: one at all, a more recent one, or
// one of a higher level. Lead the visitor to a login and back.
var ErrLogin = errors.New("roam: a login is required")
