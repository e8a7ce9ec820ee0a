package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roam-web/roam"
)

// A ledger is what the sessions of the load hold. Every write of any kind adds
// one item that no other write adds, and counts: so N is also the version of
// the record, and each write can be found again, or missed.
type ledger struct {
	Items []int64
	N     int
}

// A farm is some web servers, as far as sessions are concerned, with visitors
// who use all of them at once, and notes of everything that they were told.
type farm struct {
	managers []*roam.Manager[ledger]
	start    time.Time
	users    []*user
	hot      []*visit // which are used much and never end, for histories
	stop     atomic.Bool

	// pause is how long a worker waits after each step, and retryAfter after it
	// got no answer.
	pause, retryAfter time.Duration
	most              int64 // how many steps the workers take at most; 0 is any number
	steps             atomic.Int64

	mu   sync.Mutex
	all  map[roam.ID]*visit
	dead []*visit // which have been ended for sure

	notes []*notes       // one for each worker
	wrote []atomic.Int64 // when the last write of each server that was acknowledged began
}

// A user has two devices, each with a session.
type user struct {
	name  string
	life  sync.Mutex // held by whoever starts or ends a session of the user, or logs in
	seats [2]atomic.Pointer[visit]
	under []*visit // all that were started under this name, under life
}

// A visit is one session and what may be said about it.
type visit struct {
	id   roam.ID
	user string
	hot  bool

	mu       sync.Mutex
	tok      roam.Token
	gen      int       // how many logins have made a secret for it
	login    int       // the version that the last one of them made
	loginAt  time.Time // and when
	logins   int       // how many logins were begun, and not refused
	adrift   bool      // nobody knows its secret: a login's outcome is unknown
	endBegun bool
	endAcked time.Time // zero if it was not
}

// Notes are what one worker was told.
type notes struct {
	f         *farm
	item      int64
	writes    []write
	calls     []call
	away      []away
	alive     []alive
	history   []step
	unstarted int // sessions whose start has an unknown outcome
	odd       []error
}

// A write is one that a session was asked for.
type write struct {
	id      roam.ID // zero if it should have made a session
	item    int64
	n       int // the version that it made, if it was acknowledged
	outcome outcome
	begin   time.Time
	at      time.Time // when the answer came
}

type outcome int

const (
	acked   outcome = iota
	unknown         // it may be there, once
	refused         // it must not be there
)

// A call is one to a manager, for the rates.
type call struct {
	server     int
	write, ok  bool
	begin, end time.Time
}

// An away is an answer that a session is over which nobody had ended.
type away struct {
	v       *visit
	login   int // the version in which the visitor got the secret
	loginAt time.Time
	at      time.Time
	err     error
}

// An alive is an answer that a session lives which had been ended before the
// question.
type alive struct {
	v      *visit
	what   string
	recall bool // by what the server remembers, for which there is a bound
	ended  time.Time
	begin  time.Time
}

// Traffic is how the workers divide their time, in percent; what is left are
// reads. The zero Traffic is that of a busy site.
type traffic struct {
	hot    int // of what anybody does, on sessions of many at once
	noEnds bool
}

const workers = 16

// newFarm has so many users log in twice each.
func newFarm(managers []*roam.Manager[ledger], users int, tr traffic) *farm {
	f := &farm{managers: managers, start: time.Now(), all: make(map[roam.ID]*visit), wrote: make([]atomic.Int64, len(managers))}
	for i := range workers {
		f.notes = append(f.notes, &notes{f: f, item: int64(i+1) * 1e9})
	}
	for i := range users {
		f.users = append(f.users, &user{name: fmt.Sprint("user ", i)})
	}
	if tr.hot > 0 {
		for i := range 4 {
			u := &user{name: fmt.Sprint("hot ", i)}
			v := f.begin(f.notes[0], 0, u)
			for v == nil {
				v = f.begin(f.notes[0], 0, u)
			}
			v.hot = true
			f.hot = append(f.hot, v)
		}
	}
	parallel(workers, func(w int) {
		for i := w; i < users; i += workers {
			for k := range f.users[i].seats {
				f.users[i].seats[k].Store(f.begin(f.notes[w], i, f.users[i]))
			}
		}
	})
	return f
}

// request is the context of one call, with the time that a web server gives its
// requests.
func request() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 3*time.Second)
}

// note writes down what became of a call that writes.
func (n *notes) note(id roam.ID, item int64, begin time.Time, s roam.Session[ledger], err error) outcome {
	w := write{id: id, item: item, begin: begin, at: time.Now()}
	switch {
	case err == nil:
		w.id, w.n = s.ID, s.Data.N
	case errors.Is(err, roam.ErrUnknown):
		w.outcome = unknown
	case errors.Is(err, roam.ErrUnavailable), errors.Is(err, roam.ErrConflict), errors.Is(err, roam.ErrEnded):
		w.outcome = refused
	default:
		w.outcome = unknown
		n.odd = append(n.odd, err)
	}
	n.writes = append(n.writes, w)
	return w.outcome
}

func (n *notes) called(server int, write bool, begin time.Time, err error) {
	if write && err == nil {
		n.f.wrote[server].Store(begin.UnixNano())
	}
	n.calls = append(n.calls, call{server, write, err == nil || errors.Is(err, roam.ErrEnded), begin, time.Now()})
	if errors.Is(err, roam.ErrUnavailable) { // a visitor does not come back at once
		time.Sleep(n.f.retryAfter)
	}
}

// add returns the function for a write, and the item that it adds.
func (n *notes) add() (int64, func(*ledger) error) {
	n.item++
	item := n.item
	return item, func(l *ledger) error {
		l.Items = append(l.Items, item)
		l.N++
		return nil
	}
}

// presented returns a token as it comes from a browser.
func presented(tok roam.Token) roam.Token {
	if text := tok.Reveal(); text != "" {
		tok, _ = roam.ParseToken(text)
	}
	return tok
}

// begin starts a session of a user who logs in.
func (f *farm) begin(n *notes, r int, u *user) *visit {
	server := r % len(f.managers)
	ctx, cancel := request()
	defer cancel()
	item, fn := n.add()
	t := time.Now()
	s, err := f.managers[server].Login(ctx, roam.Token{}, roam.Login{User: u.name}, fn)
	n.called(server, true, t, err)
	if n.note(roam.ID{}, item, t, s, err) == unknown {
		n.unstarted++
	}
	if err != nil {
		return nil
	}
	v := &visit{id: s.ID, user: u.name, tok: presented(s.Token), gen: 1, logins: 1, login: s.Data.N, loginAt: time.Now()}
	f.mu.Lock()
	f.all[v.id] = v
	f.mu.Unlock()
	u.under = append(u.under, v)
	return v
}

// work is one worker until the farm stops.
func (f *farm) work(w int, tr traffic) {
	r := rand.New(rand.NewPCG(uint64(w), 3))
	n := f.notes[w]
	for !f.stop.Load() && (f.steps.Add(1) <= f.most || f.most == 0) {
		time.Sleep(f.pause)
		server := r.IntN(len(f.managers))
		if tr.hot > 0 && r.IntN(100) < tr.hot {
			f.crowd(n, w, server, f.hot[r.IntN(len(f.hot))], r)
			continue
		}
		if r.IntN(100) < 5 {
			if v := f.anyDead(r); v != nil {
				f.disturb(n, server, v, r)
				continue
			}
		}
		u := f.users[r.IntN(len(f.users))]
		seat := &u.seats[r.IntN(2)]
		v := seat.Load()
		switch dice := r.IntN(100); {
		case v == nil:
			if u.life.TryLock() {
				if seat.Load() == nil {
					seat.Store(f.begin(n, server, u))
				}
				u.life.Unlock()
			}
		case dice < 8 && u.life.TryLock():
			switch {
			case seat.Load() != v:
			case dice < 4 || tr.noEnds:
				f.login(n, server, u, seat, v)
			case dice < 6:
				f.end(n, server, u, "Logout", v, seat)
			case dice < 7:
				f.end(n, server, u, "Revoke", v, seat)
			default:
				f.endAll(n, server, u)
			}
			u.life.Unlock()
		case dice < 60:
			f.write(n, server, seat, v)
		default:
			f.read(n, server, seat, v, [...]string{"Get", "Get", "Get", "Identify", "Fresh"}[r.IntN(5)])
		}
	}
}

func (f *farm) anyDead(r *rand.Rand) *visit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dead) == 0 {
		return nil
	}
	// Mostly one of the last ones, which a server may not yet have heard of.
	k := len(f.dead)
	if r.IntN(4) > 0 {
		k = min(k, 20)
	}
	return f.dead[len(f.dead)-1-r.IntN(k)]
}

// A look is what was known of a visit when it was asked about.
type look struct {
	tok     roam.Token
	gen     int
	login   int
	loginAt time.Time
	ended   time.Time
}

func (v *visit) look() look {
	v.mu.Lock()
	defer v.mu.Unlock()
	return look{v.tok, v.gen, v.login, v.loginAt, v.endAcked}
}

// heard judges an answer about a session: alive, or over, or neither. It
// reports whether the visitor has to begin anew.
func (f *farm) heard(n *notes, v *visit, l look, what string, begin time.Time, err error) (over bool) {
	var ended *roam.EndedError
	switch {
	case err == nil && !l.ended.IsZero():
		n.alive = append(n.alive, alive{v, what, what == "Identify", l.ended, begin})
	case errors.As(err, &ended):
		v.mu.Lock()
		defer v.mu.Unlock()
		switch {
		case v.endBegun, v.adrift:
		case ended.Reason == roam.Rotated && v.logins > l.gen:
		case ended.Reason == roam.Forged && v.logins > l.gen+1:
		default:
			n.away = append(n.away, away{v, l.login, l.loginAt, time.Now(), fmt.Errorf("%s: %w", what, err)})
			v.adrift = true // one complaint is enough
		}
		return v.gen == l.gen
	case err != nil && !errors.Is(err, roam.ErrUnavailable) && !errors.Is(err, roam.ErrConflict):
		n.odd = append(n.odd, fmt.Errorf("%s: %w", what, err))
	}
	return false
}

func (f *farm) write(n *notes, server int, seat *atomic.Pointer[visit], v *visit) {
	l := v.look()
	ctx, cancel := request()
	defer cancel()
	item, fn := n.add()
	t := time.Now()
	s, err := f.managers[server].Update(ctx, l.tok, fn)
	n.called(server, true, t, err)
	n.note(v.id, item, t, s, err)
	if f.heard(n, v, l, "Update", t, err) {
		seat.CompareAndSwap(v, nil)
	}
}

func (f *farm) read(n *notes, server int, seat *atomic.Pointer[visit], v *visit, what string) {
	l := v.look()
	if f.heard(n, v, l, what, time.Now(), f.ask(n, server, l.tok, what)) {
		seat.CompareAndSwap(v, nil)
	}
}

func (f *farm) ask(n *notes, server int, tok roam.Token, what string) (err error) {
	ctx, cancel := request()
	defer cancel()
	t := time.Now()
	switch m := f.managers[server]; what {
	case "Get":
		_, err = m.Get(ctx, tok)
	case "Fresh":
		_, err = m.Fresh(ctx, tok)
	case "Identify":
		_, err = m.Identify(ctx, tok)
	}
	n.called(server, false, t, err)
	return err
}

// disturb does to an ended session what late requests do.
func (f *farm) disturb(n *notes, server int, v *visit, r *rand.Rand) {
	l, t := v.look(), time.Now()
	if r.IntN(3) == 0 {
		ctx, cancel := request()
		defer cancel()
		item, fn := n.add()
		s, err := f.managers[server].Update(ctx, l.tok, fn)
		n.called(server, true, t, err)
		n.note(v.id, item, t, s, err)
		f.heard(n, v, l, "Update", t, err)
		return
	}
	what := [...]string{"Get", "Identify"}[r.IntN(2)]
	f.heard(n, v, l, what, t, f.ask(n, server, l.tok, what))
}

// login gives a session another secret. The caller has the user's life.
func (f *farm) login(n *notes, server int, u *user, seat *atomic.Pointer[visit], v *visit) {
	l := v.look()
	v.mu.Lock()
	v.logins++
	v.mu.Unlock()
	ctx, cancel := request()
	defer cancel()
	item, fn := n.add()
	t := time.Now()
	s, err := f.managers[server].Login(ctx, l.tok, roam.Login{User: v.user}, fn)
	n.called(server, true, t, err)
	what := n.note(v.id, item, t, s, err)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case what == refused:
		v.logins--
	case what == unknown:
		v.adrift = true
		seat.Store(nil)
	case s.ID != v.id: // it was taken for over
		if !v.endBegun && !v.adrift {
			n.away = append(n.away, away{v, l.login, l.loginAt, time.Now(), errors.New("Login: a new session was started")})
		}
		v.adrift = true
		next := &visit{id: s.ID, user: v.user, tok: presented(s.Token), gen: 1, logins: 1, login: s.Data.N, loginAt: time.Now()}
		f.mu.Lock()
		f.all[next.id] = next
		f.mu.Unlock()
		u.under = append(u.under, next)
		seat.Store(next)
	default:
		v.tok, v.gen, v.login, v.loginAt = presented(s.Token), v.logins, s.Data.N, time.Now()
	}
}

// end ends a session. The caller has the user's life.
func (f *farm) end(n *notes, server int, u *user, what string, v *visit, seat *atomic.Pointer[visit]) {
	l := v.look()
	f.endOf(n, server, []*visit{v}, func(ctx context.Context, m *roam.Manager[ledger]) error {
		if what == "Logout" {
			return m.Logout(ctx, l.tok)
		}
		return m.Revoke(ctx, v.id, roam.Revoked)
	})
	seat.Store(nil)
}

// endAll ends all that a user has.
func (f *farm) endAll(n *notes, server int, u *user) {
	var visits []*visit
	for _, v := range u.under {
		if v.look().ended.IsZero() {
			visits = append(visits, v)
		}
	}
	f.endOf(n, server, visits, func(ctx context.Context, m *roam.Manager[ledger]) error {
		_, err := m.RevokeUser(ctx, u.name, roam.PasswordChanged)
		return err
	})
	for k := range u.seats {
		u.seats[k].Store(nil)
	}
	// A request to end all that was sent twice, because the first one seemed
	// lost, may arrive when the user has logged in again, and then ends that
	// too. Nobody can tell it from a new one; so it is left out here.
	u.name, u.under = u.name+"'", nil
}

func (f *farm) endOf(n *notes, server int, visits []*visit, do func(context.Context, *roam.Manager[ledger]) error) {
	for _, v := range visits {
		v.mu.Lock()
		v.endBegun = true
		v.mu.Unlock()
	}
	ctx, cancel := request()
	defer cancel()
	t := time.Now()
	err := do(ctx, f.managers[server])
	n.called(server, true, t, err)
	if err != nil {
		if !errors.Is(err, roam.ErrUnavailable) {
			n.odd = append(n.odd, err)
		}
		return
	}
	now := time.Now()
	for _, v := range visits {
		v.mu.Lock()
		v.endAcked = now
		v.mu.Unlock()
	}
	f.mu.Lock()
	f.dead = append(f.dead, visits...)
	f.mu.Unlock()
}

// crowd reads or writes a session that many use at once, and keeps a history.
func (f *farm) crowd(n *notes, w, server int, v *visit, r *rand.Rand) {
	l := v.look()
	ctx, cancel := request()
	defer cancel()
	t := time.Now()
	st := step{client: w, id: v.id, begin: t.Sub(f.start)}
	var s roam.Session[ledger]
	var err error
	if r.IntN(2) == 0 {
		var fn func(*ledger) error
		st.item, fn = n.add()
		s, err = f.managers[server].Update(ctx, l.tok, fn)
		n.called(server, true, t, err)
		st.outcome = n.note(v.id, st.item, t, s, err)
	} else {
		s, err = f.managers[server].Get(ctx, l.tok)
		n.called(server, false, t, err)
		if err != nil {
			st.outcome = refused
		}
	}
	f.heard(n, v, l, "Update", t, err)
	st.end = time.Since(f.start)
	st.state = stateOf(s.Data.Items)
	if st.outcome != refused {
		n.history = append(n.history, st)
	}
}
