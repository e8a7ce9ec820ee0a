package roam

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"time"
)

// A Manager keeps sessions with data of type T in a [Store]. It is safe for
// concurrent use. It knows no HTTP; [Web] adds that.
type Manager[T any] struct {
	store Store
	opts  Options
	use   use
	past  past

	lines   lines
	watches watches
	sharing sharing
}

// New returns a manager, or an error if the options contradict each other. A
// nil opts is ready to use. It starts nothing; see [Manager.Run].
func New[T any](store Store, opts *Options) (*Manager[T], error) {
	if store == nil {
		return nil, errors.New("roam: New: the store is nil; for tests use NewMemStore()")
	}
	resolved, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	m := &Manager[T]{store: store, opts: resolved, sharing: sharingOf[T]()}
	m.past.turn, m.past.feed = make(chan struct{}, 1), make(chan struct{}, 1)
	return m, nil
}

// Get returns the session of tok. The zero Token has the zero Session, and no
// error: a first visit is none. Otherwise the error is an [*EndedError], an
// [ErrUnavailable] or an [ErrUndecodable].
func (m *Manager[T]) Get(ctx context.Context, tok Token) (Session[T], error) {
	return m.get(ctx, tok, tok.want())
}

func (m *Manager[T]) get(ctx context.Context, tok Token, want Want) (Session[T], error) {
	if tok.IsZero() {
		return Session[T]{}, nil
	}
	var rec Record
	if err := m.load(ctx, tok, "", want, &rec); err != nil {
		return Session[T]{}, err
	}
	data, err := m.view(&rec)
	if err != nil {
		return Session[T]{}, err
	}
	m.touch(ctx, &rec)
	tok.hand = nil
	if rec.memo == nil { // else it comes from a cache, where an update will find it too
		tok.hand = inHand(rec)
	}
	return m.session(tok, &rec, data), nil
}

// Update changes a session's data, durably when it returns, and without a
// lock: if the session has changed since it was read, it is read again and fn
// runs again on the new data. So fn may run several times, and must only
// change its argument. If fn returns an error, nothing is written and Update
// returns that error. If fn changes nothing, nothing is written. Updates of one
// session on this manager take turns, rather than race in vain; none waits for
// longer than a quarter of a second, so fn should not do slow work.
//
// The zero Token starts a session, if fn changes the zero T. Else the errors
// are those of Get, and [ErrConflict], [ErrTooLarge] and [ErrUnknown].
//
// A token from a Session that was just read or written brings the record with
// it: if that is still current, Update is a single trip to the store.
//
// In a request use [Web.Update], which also tells the browser of the new
// version. Without that another server's cache may show this visitor the old
// one, until a minute has passed.
func (m *Manager[T]) Update(ctx context.Context, tok Token, fn func(*T) error) (Session[T], error) {
	s, err := m.update(ctx, tok, fn)
	return s, own(err)
}

func (m *Manager[T]) update(ctx context.Context, tok Token, fn func(*T) error) (Session[T], error) {
	if tok.IsZero() {
		return m.start(ctx, Login{}, fn)
	}
	return m.change(ctx, tok, "", func(_ *hand, data *T) (Token, error) { return tok, called(fn, data) })
}

// called runs the application's function and marks its error as its own.
func called[T any](fn func(*T) error, data *T) error {
	if err := fn(data); err != nil {
		return fnError{err}
	}
	return nil
}

// Login makes a session in.User's, with a new secret; the old one is dead when
// Login returns. A guest's session keeps its data, so a cart comes along, and
// so does the session of the same user. A session of another user is ended
// first, and a new one started that gets none of its data; one is also started
// for a token that has no living session. fn may change the data; it may be
// nil, and may run again as in Update. A login for a higher Level is a login
// like any other: pass Persist again if the session is to stay remembered.
func (m *Manager[T]) Login(ctx context.Context, tok Token, in Login, fn func(*T) error) (Session[T], error) {
	if err := in.check(); err != nil {
		return Session[T]{}, err
	}
	in.From.Agent = clip(in.From.Agent, 256)
	if fn == nil {
		fn = func(*T) error { return nil }
	}
	var s Session[T]
	err := ErrEnded
	if !tok.IsZero() {
		fresh := mint(tok.id)
		s, err = m.change(ctx, tok, in.User, func(h *hand, data *T) (Token, error) {
			r := &h.rec
			if r.User != "" && r.User != in.User {
				return Token{}, errAnotherUser
			}
			if r.Proof.fits(tok.proof) {
				r.Previous = r.Proof // else tok is the previous one already, and its browser may send it once more
			}
			r.Proof = fresh.proof
			r.User, r.Level, r.From = in.User, in.Level, in.From
			r.LoggedIn = h.now()
			r.Idle, r.Lifetime = m.allow(in)
			return fresh, called(fn, data)
		})
	}
	if err == nil {
		// This server need not wait for the log to know that the old secret is dead.
		m.past.name(s.Token.hand.rec.Epoch, End{ID: s.ID, Version: s.Token.hand.rec.Version})
	}
	if errors.Is(err, errAnotherUser) {
		if err = m.end(ctx, tok.id, Replaced); err == nil {
			err = ErrEnded
		}
	}
	if errors.Is(err, ErrEnded) {
		s, err = m.start(ctx, in, fn)
	}
	if err != nil {
		return Session[T]{}, own(err)
	}
	m.log(ctx, "logged in", s.ID, s.User)
	m.limit(ctx, in.User)
	return s, nil
}

var errAnotherUser = errors.New("roam: the session is another user's")

// Logout ends the session of tok, for good when it returns. That there is none
// any more is no error. But a token that was replaced by a newer login gets an
// [*EndedError] with reason [Rotated], because its session lives on.
func (m *Manager[T]) Logout(ctx context.Context, tok Token) error {
	if tok.IsZero() {
		return nil
	}
	ctx, cancel := unhurried(ctx)
	defer cancel()
	var rec Record
	err := m.load(ctx, tok, "", Want{}, &rec)
	var ended *EndedError
	if errors.As(err, &ended) && ended.Reason != Rotated {
		return nil
	}
	if err != nil {
		return err
	}
	return m.end(ctx, rec.ID, LoggedOut)
}

// List yields the user's living sessions, newest login first. Their Token
// opens nothing: a list only shows. A session whose data cannot be
// decoded comes with an [ErrUndecodable], and the list goes on.
func (m *Manager[T]) List(ctx context.Context, user string) iter.Seq2[Session[T], error] {
	return func(yield func(Session[T], error) bool) {
		for rec, err := range m.store.List(ctx, user) {
			if err != nil {
				yield(Session[T]{}, unavailable(err))
				return
			}
			if _, _, over := rec.Over(rec.Now); over {
				continue
			}
			var data T
			_, err := m.decode(&rec, &data) // one that cannot be decoded is listed all the same
			if !yield(m.session(Token{id: rec.ID}, &rec, data), err) {
				return
			}
		}
	}
}

// Revoke ends the session with this ID, for good when it returns, whoever's it
// is: it is the operator's verb. A page where users end their own sessions
// calls [Manager.RevokeOwn].
func (m *Manager[T]) Revoke(ctx context.Context, id ID, why Reason) error {
	if err := why.check(); err != nil {
		return err
	}
	return m.end(ctx, id, why)
}

// RevokeOwn ends another session of the user who is logged in with tok, as a
// page "your devices" does. If the session with this ID is not that user's, it
// returns an [*EndedError] with that ID and reason [Missing]; one with the ID of
// tok is about the visitor's own session.
func (m *Manager[T]) RevokeOwn(ctx context.Context, tok Token, id ID, why Reason) error {
	if err := why.check(); err != nil {
		return err
	}
	ctx, cancel := unhurried(ctx)
	defer cancel()
	var own, other Record
	if err := m.load(ctx, tok, "", Want{}, &own); err != nil {
		return err
	}
	err := m.read(ctx, id, Want{}, &other)
	if errors.Is(err, ErrNotFound) || err == nil && (own.User == "" || other.User != own.User) {
		return &EndedError{ID: id, Reason: Missing}
	}
	if err != nil {
		return unavailable(err)
	}
	return m.end(ctx, id, why)
}

// RevokeUser ends every session of the user whose Login had returned when it
// was called, but for those excepted, and returns how many it ended. After a
// new password log in again first, so that the session that stays has a new
// secret too:
//
//	s, err := m.Login(ctx, s.Token, roam.Login{User: s.User}, nil)
//	n, err := m.RevokeUser(ctx, s.User, roam.PasswordChanged, s.ID)
func (m *Manager[T]) RevokeUser(ctx context.Context, user string, why Reason, except ...ID) (n int, err error) {
	if err := why.check(); err != nil {
		return 0, err
	}
	if user == "" {
		return 0, errors.New("roam: RevokeUser of the empty user: guests' sessions are nobody's; to end one of them use Revoke")
	}
	err = m.insist(ctx, func(ctx context.Context) error {
		k, err := m.store.EndUser(ctx, user, why, except...)
		n += k
		return err
	})
	if n > 0 {
		if m.follow(ctx) != nil { // which were they?
			m.past.mark.Store(nil) // until the log can be read again, the store is asked
		}
		m.log(ctx, "revoked user", ID{}, user, slog.String("reason", string(why)), slog.Int("sessions", n))
	}
	return n, err
}

// check also keeps the judged reasons out of tombstones, where they would be
// lies.
func (why Reason) check() error {
	switch why {
	case "", Idle, Lifetime, Rotated, Forged, Missing:
		return fmt.Errorf("roam: reason %q: want a constant such as Revoked, or a short name of your own", string(why))
	}
	if !plain(string(why), maxReason) {
		return fmt.Errorf("roam: reason of %d bytes: want at most %d, valid UTF-8 and no NUL", len(why), maxReason)
	}
	return nil
}

// allow returns the limits of a session that starts or logs in now.
func (m *Manager[T]) allow(in Login) (idle, lifetime time.Duration) {
	if in.Persist > 0 {
		return in.Persist, in.Persist
	}
	return m.opts.IdleTimeout, m.opts.Lifetime
}

// start makes a new session; a guest's only if fn puts something into it.
func (m *Manager[T]) start(ctx context.Context, in Login, fn func(*T) error) (Session[T], error) {
	var data T
	empty, err := m.encode(&data, nil)
	if err != nil {
		return Session[T]{}, err
	}
	if err := called(fn, &data); err != nil {
		return Session[T]{}, err
	}
	encoded, err := m.encode(&data, nil)
	if err != nil || in.User == "" && bytes.Equal(empty, encoded) {
		return Session[T]{}, err
	}
	if err := m.fits(encoded); err != nil {
		return Session[T]{}, err
	}
	tok := mint(newID())
	rec := Record{ID: tok.id, Proof: tok.proof, User: in.User, Level: in.Level, From: in.From, Data: encoded}
	rec.Idle, rec.Lifetime = m.allow(in)
	h, err := m.write(ctx, rec)
	if err != nil {
		return Session[T]{}, err
	}
	m.log(ctx, "started", rec.ID, rec.User)
	return m.handed(tok, h, data), nil
}

// An edit changes a copy of a record and the data decoded from it, and returns
// the token that opens the record afterwards.
type edit[T any] func(*hand, *T) (Token, error)

// A draft is a record as an edit would have it.
type draft[T any] struct {
	rec  Record
	tok  Token
	data T
	same bool // the data is as it was
}

// draft runs an edit on what is in h.
func (m *Manager[T]) draft(h *hand, edit edit[T]) (d draft[T], err error) {
	stored, err := m.decode(&h.rec, &d.data)
	if err != nil {
		return d, err
	}
	before, err := m.encode(&d.data, nil)
	if err != nil {
		return d, err
	}
	next := &hand{rec: h.rec, read: h.read}
	if d.tok, err = edit(next, &d.data); err != nil {
		return d, err
	}
	d.rec = next.rec
	after, err := m.encode(&d.data, nil)
	if err != nil {
		return d, err
	}
	if d.same = bytes.Equal(before, after); d.same {
		return d, nil
	}
	if !bytes.Equal(before, stored) { // the stored form has more than a T, or another order
		if after, err = m.encode(&d.data, stored); err != nil {
			return d, err
		}
	}
	d.rec.Data = after
	return d, m.fits(after)
}

// change is Update and Login, of one after the other if several in this
// process are about the same session.
func (m *Manager[T]) change(ctx context.Context, tok Token, login string, edit edit[T]) (s Session[T], err error) {
	written, turn := m.lines.enter(ctx, tok.proof)
	if turn {
		defer func() { m.lines.leave(tok.proof, s.Token.hand) }()
	}
	h := tok.hand
	if written != nil && (h == nil || h.rec.Version < written.rec.Version) && m.admit(ctx, tok, login, &written.rec) == nil {
		h = written
	}
	if h != nil {
		if _, _, over := h.rec.Over(h.now()); over || h.rec.Version < tok.mark.version || h.rec.Epoch < tok.mark.epoch {
			h = nil // confirm at the store: another server may have touched it
		}
	}
	return m.swap(ctx, tok, login, h, edit)
}

// swap is the loop: read, if nothing is in hand, edit, compare and swap.
func (m *Manager[T]) swap(ctx context.Context, tok Token, login string, h *hand, edit edit[T]) (Session[T], error) {
	want, old := tok.want(), true // what there is may be old, until the store itself is asked
	for try := range updateTries {
		if h == nil {
			var rec Record
			if err := m.load(ctx, tok, login, want, &rec); err != nil {
				return Session[T]{}, err
			}
			h = inHand(rec)
			old, want = want != Want{}, Want{}
		}
		d, err := m.draft(h, edit)
		if old && (err != nil || d.same && login == "") {
			h, want = nil, Want{} // only a swap could tell that it is old indeed
			continue
		}
		if err != nil {
			return Session[T]{}, err
		}
		if d.same && login == "" {
			m.touch(ctx, &h.rec)
			return m.handed(tok, h, d.data), nil
		}
		written, err := m.write(ctx, d.rec)
		if err == nil {
			return m.handed(d.tok, written, d.data), nil
		}
		if !errors.Is(err, ErrConflict) {
			return Session[T]{}, err
		}
		if h, old = written, false; h != nil {
			if err := m.admit(ctx, tok, login, &h.rec); err != nil {
				return Session[T]{}, err
			}
		}
		if try > 0 { // what is in hand now will be old after the pause
			h = nil
			if err := pause(ctx, try); err != nil {
				return Session[T]{}, unavailable(err)
			}
		}
	}
	return Session[T]{}, fmt.Errorf("%w: session %v after %d tries", ErrConflict, tok.id, updateTries)
}

// pause waits a random time that grows with the tries, so that many writers of
// one session, on several servers, get out of each other's way.
func pause(ctx context.Context, try int) error {
	t := time.NewTimer(time.Duration(mathrand.Int64N(int64(min(try, 20)) * int64(time.Millisecond))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads the living record that tok opens into rec. A login may also open, with
// the secret from before it, a session that already is the user's: so two
// logins sent at once by one browser end in one session.
//
// A copy may answer if it is new enough for the visitor. But it only says yes:
// before anybody is turned away the store itself is asked, because a copy may
// not have heard of the login that made this secret, or of the last use.
func (m *Manager[T]) load(ctx context.Context, tok Token, login string, want Want, rec *Record) error {
	if tok.IsZero() {
		return &EndedError{Reason: Missing}
	}
	for {
		err := m.read(ctx, tok.id, want, rec)
		switch {
		case errors.Is(err, ErrNotFound):
			err = &EndedError{ID: tok.id, Reason: Missing}
		case err != nil:
			return unavailable(err)
		default:
			err = m.admit(ctx, tok, login, rec)
		}
		if err != nil && want != (Want{}) {
			want = Want{}
			continue
		}
		if behind := m.behind(ctx, tok, rec); behind != nil {
			return behind
		}
		return err
	}
}

// read loads a record, and makes sure that the answer is to this question and
// of the store's present epoch. That there is no record counts only then, too.
func (m *Manager[T]) read(ctx context.Context, id ID, want Want, rec *Record) error {
	for {
		var err error
		*rec, err = m.store.Load(ctx, id, want)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && rec.ID != id {
			return fmt.Errorf("asked for session %v, the store answered with %v", id, rec.ID)
		}
		if counts, stale := m.enter(ctx, rec.Epoch); counts {
			return err
		} else if stale != nil {
			return stale
		}
	}
}

// admit says whether tok opens the record as it is.
func (m *Manager[T]) admit(ctx context.Context, tok Token, login string, rec *Record) error {
	fits, rotated := rec.Proof.fits(tok.proof), rec.Previous.fits(tok.proof)
	if !fits && !rotated {
		m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: wrong secret", slog.Any("session", tok.id))
		return &EndedError{ID: tok.id, Reason: Forged}
	}
	if why, at, over := rec.Over(rec.Now); over {
		return &EndedError{tok.id, why, at}
	}
	if rotated && (login == "" || login != rec.User) {
		return &EndedError{tok.id, Rotated, rec.LoggedIn}
	}
	return nil
}

// write sends an insert or an update until its outcome is known. A write whose
// answer was lost, or was a conflict, perhaps with itself because something on
// the way sent it twice, is settled by the ids of the record's last writes:
//
//   - our id is among them: it landed;
//   - the version has not moved: it did not, so the same write is sent again,
//     and if both arrive the second one conflicts;
//   - the version moved by no more writes than the ids tell of: conflict;
//   - otherwise nobody can tell.
//
// With an ErrConflict comes the record as it is now, unless it is gone.
func (m *Manager[T]) write(ctx context.Context, rec Record) (*hand, error) {
	var b [8]byte
	rand.Read(b[:])
	id := binary.LittleEndian.Uint64(b[:])
	next := rec
	next.Writes, next.memo = rec.Writes.Push(id), nil // a memo is of other data
	send := m.store.Update
	if rec.Version == 0 {
		send = m.store.Insert
	}
	var lost error // the answer of a send that may have landed
	for range writeTries {
		written, err := send(ctx, next)
		if err == nil {
			if written.ID != rec.ID {
				return nil, unknown(fmt.Errorf("wrote session %v, the store answered with %v", rec.ID, written.ID))
			}
			var counts bool
			if counts, err = m.enter(ctx, written.Epoch); counts {
				m.past.wrote(&written, id)
				return inHand(written), nil
			}
			// Written to a store that has been replaced, or to its heir before
			// the recent ends were asserted: what it says now decides.
			err = errors.Join(errEpoch, err)
		}
		conflict := errors.Is(err, ErrConflict)
		switch {
		case conflict:
		case errors.Is(err, ErrUnavailable) && lost == nil && !errors.Is(err, errEpoch):
			return nil, err
		default:
			lost = err
		}
		if lost != nil && ctx.Err() != nil { // nobody waits for the answer any more
			break
		}
		var is Record
		err = m.read(ctx, rec.ID, Want{Durable: lost != nil}, &is)
		switch moved := is.Version - rec.Version; {
		case errors.Is(err, ErrNotFound) && rec.Version == 0:
		case errors.Is(err, ErrNotFound):
			return nil, ErrConflict
		case err != nil && lost == nil:
			return nil, unavailable(err)
		case err != nil:
			return nil, unknown(errors.Join(lost, err))
		case is.Writes.Has(id) && moved == 1:
			m.past.wrote(&is, id)
			return inHand(is), nil
		case is.Writes.Has(id): // and others came after it: we answer with what we wrote
			next.Version, next.Created, next.Seen = rec.Version+1, is.Created, is.Seen
			next.Now, next.Epoch = is.Now, is.Epoch
			m.past.wrote(&next, id)
			return inHand(next), nil
		case moved == 0 && !conflict:
		case moved <= uint64(len(rec.Writes)) || lost == nil:
			return inHand(is), ErrConflict
		default:
			return nil, unknown(lost)
		}
	}
	if lost == nil { // an insert whose ID is taken, by a record that is not there
		return nil, ErrConflict
	}
	return nil, unknown(lost)
}

var errEpoch = errors.New("roam: written as the store's epoch changed")

// end ends a session, even if the request that asked for it is cancelled
// meanwhile: a logout is not undone by a closed browser window.
func (m *Manager[T]) end(ctx context.Context, id ID, why Reason) error {
	err := m.insist(ctx, func(ctx context.Context) error { return m.store.End(ctx, id, why) })
	if err == nil {
		m.past.name(m.past.epoch.Load(), End{ID: id, Version: math.MaxUint64, Why: why})
		m.log(ctx, "ended", id, "", slog.String("reason", string(why)))
	}
	return err
}

// insist repeats what may be repeated, because doing it twice is doing it once.
func (m *Manager[T]) insist(ctx context.Context, do func(context.Context) error) (err error) {
	ctx, cancel := unhurried(ctx)
	defer cancel()
	var lost error // the answer of a try that may have landed
	for range writeTries {
		if err = do(ctx); err == nil {
			return nil
		}
		if !errors.Is(err, ErrUnavailable) {
			lost = err
		}
	}
	if lost != nil {
		return unknown(lost)
	}
	return err
}

// unhurried returns a context for what must not stop half-way because a browser
// window is closed, and must not hang either.
func unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
}

// limit ends the user's oldest logins beyond SessionsPerUser. Each login looks
// after its own write, so the last of several that race sees them all, and
// whom any of them ends is old for every other too. (One that logs in again
// between the look and the end is ended all the same.) The login itself has
// landed, so if this fails it is left to the next one.
func (m *Manager[T]) limit(ctx context.Context, user string) {
	if m.opts.SessionsPerUser == 0 {
		return
	}
	ctx, cancel := unhurried(ctx)
	defer cancel()
	n := 0
	for rec, err := range m.store.List(ctx, user) {
		if err == nil {
			if _, _, over := rec.Over(rec.Now); over {
				continue
			}
			if n++; n > m.opts.SessionsPerUser {
				err = m.end(ctx, rec.ID, OverLimit)
			}
		}
		if err != nil {
			m.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "session: limit not enforced", slog.String("user", user), slog.Any("error", err))
			return
		}
	}
}

// handed is session, with the record in the token's hand.
func (m *Manager[T]) handed(tok Token, h *hand, data T) Session[T] {
	tok.hand = h
	return m.session(tok, &h.rec, data)
}

// session shows a record to the application.
func (m *Manager[T]) session(tok Token, r *Record, data T) Session[T] {
	s := Session[T]{ID: r.ID, User: r.User, Data: data,
		Created: r.Created, LoggedIn: r.LoggedIn, Seen: r.Seen, Now: r.Now, From: r.From, Level: r.Level}
	s.Expires, _ = r.Deadline()
	s.Token = tok
	return s
}

// decode also returns the stored form of the data, upgraded if need be.
func (m *Manager[T]) decode(rec *Record, data *T) (stored []byte, err error) {
	stored = rec.Data
	if m.opts.Upgrade != nil && len(stored) > 0 {
		stored, err = m.opts.Upgrade(bytes.Clone(stored))
	}
	if err == nil {
		err = m.opts.Codec.Decode(stored, data)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: session %v as %T: %w", ErrUndecodable, rec.ID, *data, err)
	}
	return stored, nil
}

func (m *Manager[T]) encode(data *T, was []byte) ([]byte, error) {
	b, err := m.opts.Codec.Encode(data, was)
	if err != nil {
		return nil, fmt.Errorf("roam: encoding %T: %w", *data, err)
	}
	return b, nil
}

func (m *Manager[T]) fits(data []byte) error {
	if len(data) > m.opts.MaxData {
		return fmt.Errorf("%w: %d bytes, and Options.MaxData is %d; keep only identifiers and unfinished work in a session", ErrTooLarge, len(data), m.opts.MaxData)
	}
	return nil
}

func (m *Manager[T]) log(ctx context.Context, event string, id ID, user string, more ...slog.Attr) {
	if !m.opts.Logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	if !id.IsZero() {
		more = append(more, slog.Any("session", id))
	}
	if user != "" {
		more = append(more, slog.String("user", user))
	}
	m.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "session: "+event, more...)
}
