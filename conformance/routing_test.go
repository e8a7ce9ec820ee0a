package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// A routing is a fleet in use by visitors, each of whose requests goes to any
// server, several at once, and whose browsers take the answers in any order.
// Every answer is judged as it comes, by what the cookies were that the request
// was sent with:
//
//   - a read shows no version before that of the mark, nor another content than
//     was written; an update and a login build upon all that was acknowledged;
//     Fresh shows all of it;
//   - Identify says whom the token was made for;
//   - what has ended, or a token that was replaced, is served by nobody who asks
//     the store, not by the server that ended it, and longer than the bound
//     by none;
//   - what lives is not said to be over.
type routing struct {
	*fleet
	bound time.Duration
	rest  func() // of a visitor between two steps; nil is none
	want  string // if it is found nobody need go on; "" is nothing

	requests atomic.Int64 // that may still be sent
	checked  atomic.Int64
	kinds    [6]atomic.Int64

	// Answers that came after an end or a login, within the bound, and of
	// those the latest.
	late    atomic.Int64
	latest  atomic.Int64
	deaths  atomic.Int64
	own     atomic.Int64 // by Identify of the server of the login itself
	ownLate atomic.Int64

	mu     sync.Mutex
	wrongs map[string]int
	says   []string
}

// A shopper is a visitor, and what may be said about all sessions that the
// visitor ever had.
type shopper struct {
	*routing
	name string
	browser
	thief sending // a copy of the cookies of before some login or end

	know    sync.Mutex
	secrets map[string]*secret // by token
	marks   map[string]seen
	lives   map[roam.ID]*life
	item    int64
}

// A secret is a token and who it makes of its visitor.
type secret struct {
	of    *life
	user  string
	level roam.Level

	replacing bool      // a login with it was sent
	replaced  time.Time // and answered
	by        *webServer
}

// Seen is what a mark says: the version of the session that the token opens.
type seen struct {
	token string
	n     int64
}

// A life is a session.
type life struct {
	id     roam.ID
	acked  int64           // the newest version of which anybody was told that it was written
	wrote  map[int64]int64 // the content of each version that was seen
	ending bool
	ended  time.Time
	by     *webServer
}

func (r *routing) wrong(what, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrongs == nil {
		r.wrongs = make(map[string]int)
	}
	r.wrongs[what]++
	if len(r.says) < 20 {
		r.says = append(r.says, what+": "+fmt.Sprintf(format, args...))
	}
	if what == r.want {
		r.requests.Store(0)
	}
}

// found returns what must never be, one line each.
func (r *routing) found() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for what, n := range r.wrongs {
		fmt.Fprintf(&b, "%d answers %s\n", n, what)
	}
	return b.String()
}

// What is wrong with an answer.
const (
	goesBack  = "go back in time"
	forgets   = "do not have what was acknowledged"
	strange   = "show what nobody wrote"
	mistaken  = "mistake one visitor for another"
	revives   = "serve what has ended"
	banishes  = "say that a living session is over"
	anonymous = "do not know the visitor"
	silent    = "are none"
)

// Kinds of requests.
type kind int

const (
	get kind = iota
	identify
	fresh
	update
	login
	logout
)

var kindNames = [...]string{"Get", "Identify", "Fresh", "Update", "Login", "Logout"}

// visit has a visitor send requests until there are enough.
func (r *routing) visit(name string) {
	v := &shopper{routing: r, name: name, secrets: make(map[string]*secret), marks: make(map[string]seen), lives: make(map[roam.ID]*life)}
	var held []*httptest.ResponseRecorder // answers that are still on their way
	for step := 0; ; step++ {
		var kinds []kind
		if step == 0 || rand.IntN(25) == 0 {
			kinds = append(kinds, login)
		} else if rand.IntN(60) == 0 {
			kinds = append(kinds, logout)
		}
		for range 1 + rand.IntN(4) {
			kinds = append(kinds, []kind{get, get, get, identify, identify, identify, fresh, update, update}[rand.IntN(9)])
		}
		if r.requests.Add(-int64(len(kinds))) < 0 {
			return
		}
		with := v.cookies()
		answers := make([]*httptest.ResponseRecorder, len(kinds))
		parallel(len(kinds), func(i int) { answers[i] = v.send(kinds[i], with) })
		// The answer to a login or logout comes before the next one is asked
		// for, others may be on their way for much longer.
		var arrived []*httptest.ResponseRecorder
		for i, w := range answers {
			if kinds[i] == update && rand.IntN(4) == 0 {
				held = append(held, w)
			} else {
				arrived = append(arrived, w)
			}
		}
		if len(held) > 0 && rand.IntN(3) == 0 {
			arrived, held = append(arrived, held...), nil
		}
		rand.Shuffle(len(arrived), func(i, j int) { arrived[i], arrived[j] = arrived[j], arrived[i] })
		for _, w := range arrived {
			v.take(w)
		}
		if (kinds[0] == login || kinds[0] == logout) && (v.thief.token == "" || rand.IntN(2) == 0) {
			v.thief = with
		}
		// Somebody has the cookies of before, and tries them.
		if v.thief.token != "" && r.requests.Add(-2) >= 0 {
			v.send(get, v.thief)
			v.send(identify, v.thief)
		}
		// Somebody else may end the session, on any server.
		if token := v.cookies().token; token != "" && rand.IntN(60) == 0 {
			v.revoke(token)
		}
		if r.rest != nil {
			r.rest()
		}
	}
}

// revoke is what an operator does.
func (v *shopper) revoke(token string) {
	v.know.Lock()
	of := v.secrets[token].of
	of.ending = true
	v.know.Unlock()
	v.thief = v.cookies()
	w := v.server(rand.IntN(webServers))
	if err := w.m.Revoke(context.Background(), of.id, roam.Revoked); err != nil {
		v.wrong(silent, "Revoke: %v", err)
		return
	}
	v.dies(of, w)
}

// dies notes that the end of a session was answered.
func (v *shopper) dies(of *life, by *webServer) {
	v.know.Lock()
	defer v.know.Unlock()
	if of.ended.IsZero() {
		of.ended, of.by = time.Now(), by
		v.deaths.Add(1)
	}
}

// send sends one request to any server and judges the answer, which it returns.
func (v *shopper) send(k kind, with sending) *httptest.ResponseRecorder {
	i := rand.IntN(webServers)
	web := v.server(i)
	w, r := with.request(context.Background())

	v.know.Lock()
	v.item++
	item := v.item
	user, level := v.name, roam.Level(1+rand.IntN(100))
	if rand.IntN(4) == 0 {
		user += "'s other name"
	}
	sec := v.secrets[with.token]
	var was secret // as it was when the request was sent
	var old life
	floor := int64(0)
	marked := false
	if sec != nil {
		was, old = *sec, *sec.of
		if m, ok := v.marks[with.mark]; ok && m.token == with.token {
			floor, marked = m.n, true
		}
		switch {
		case k == login:
			sec.replacing = true
			sec.of.ending = sec.of.ending || sec.user != "" && sec.user != user
		case k == logout:
			sec.of.ending = true
		}
	}
	v.know.Unlock()

	begin := time.Now()
	write := func(d *diary) error {
		d.N++
		d.Last = item
		return nil
	}
	var s roam.Session[diary]
	var who roam.Identity
	var err error
	switch k {
	case get:
		s, err = web.Get(w, r)
	case identify:
		who, err = web.Identify(w, r)
	case fresh:
		s, err = web.Fresh(w, r)
	case update:
		s, err = web.Update(w, r, write)
	case login:
		s, err = web.Login(w, r, roam.Login{User: user, Level: level}, write)
	case logout:
		err = web.Logout(w, r)
	}
	v.checked.Add(1)
	v.kinds[k].Add(1)

	told := func(what, format string, args ...any) {
		v.wrong(what, "%s on server %d, %v: %s", kindNames[k], i, old.id, fmt.Sprintf(format, args...))
	}
	// asks says that the server must have asked the store, or knows itself, so
	// that there is no bound.
	bound := func(by *webServer) time.Duration {
		if (k == get || k == identify) && web != by {
			return v.bound
		}
		return 0
	}
	var ended *roam.EndedError
	switch {
	case errors.As(err, &ended):
		v.know.Lock()
		legal := sec != nil && (sec.of.ending || sec.replacing && (ended.Reason == roam.Rotated || ended.Reason == roam.Forged))
		v.know.Unlock()
		if !legal {
			told(banishes, "%v", err)
		}
		return w
	case err != nil:
		told(silent, "%v", err)
		return w
	case sec == nil && (k == get || k == fresh || k == identify):
		if !s.ID.IsZero() || !who.ID.IsZero() {
			told(mistaken, "a session for nobody")
		}
		return w
	case k == logout:
		if sec != nil {
			v.dies(sec.of, web)
		}
		return w
	case k == get || k == fresh || k == identify:
		id := s.ID
		if k == identify {
			id = who.ID
		}
		if id.IsZero() {
			told(anonymous, "no session")
			return w
		}
	}

	// It says that the session lives.
	if sec != nil && k != login {
		if since := begin.Sub(old.ended); !old.ended.IsZero() {
			if since > bound(old.by) {
				told(revives, "%v after its end", since)
			}
			v.belated(since)
		}
		if since := begin.Sub(was.replaced); !was.replaced.IsZero() {
			switch {
			case k == identify && web == was.by && since <= v.bound:
				// The log tells the login's own server, as all others.
				v.own.Add(1)
				atomicMax(&v.ownLate, int64(since))
			case since > bound(was.by):
				told(revives, "%v after a login with its token", since)
			}
			v.belated(since)
		}
	}
	if k == identify {
		if who.ID != old.id || who.User != was.user || who.Level != was.level {
			told(mistaken, "%v is %q of level %d, want %v, %q, %d", who.ID, who.User, who.Level, old.id, was.user, was.level)
		}
		return w
	}

	v.know.Lock()
	defer v.know.Unlock()
	n := s.Data.N
	of := v.lives[s.ID]
	if of == nil {
		if k != update && k != login || n != 1 {
			told(strange, "session %v at version %d", s.ID, n)
			return w
		}
		of = &life{id: s.ID, wrote: make(map[int64]int64)}
		v.lives[s.ID] = of
	}
	if last, known := of.wrote[n]; known && last != s.Data.Last {
		told(strange, "version %d has %d, and had %d", n, s.Data.Last, last)
	}
	of.wrote[n] = s.Data.Last
	switch {
	case s.ID != old.id:
		if sec != nil && k != login {
			told(mistaken, "session %v", s.ID)
		}
	case k == get && marked && n < floor:
		told(goesBack, "version %d, and the mark told of %d", n, floor)
	case (k == fresh || k == get && !marked) && n < old.acked:
		told(forgets, "version %d, and %d was acknowledged", n, old.acked)
	case (k == update || k == login) && n <= old.acked:
		told(forgets, "made version %d, and %d was acknowledged", n, old.acked)
	}
	if k != update && k != login {
		return w
	}
	if s.Data.Last != item {
		told(strange, "wrote %d and got %d", item, s.Data.Last)
	}
	of.acked = max(of.acked, n)
	token := with.token
	mark := with.mark
	for _, line := range w.Header()["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err != nil {
			told(strange, "%v", err)
		} else if c.Name == tokenCookie {
			token = c.Value
		} else {
			mark = c.Value
		}
	}
	if token != with.token {
		made := &secret{of: of}
		if k == login {
			made.user, made.level = user, level
			if sec != nil {
				sec.replaced, sec.by = time.Now(), web
				if sec.of != of && sec.user != "" && sec.user != user && sec.of.ended.IsZero() {
					sec.of.ended, sec.of.by = time.Now(), web
				}
			}
		}
		v.secrets[token] = made
	}
	if v.secrets[token] == nil || v.secrets[token].of != of {
		told(mistaken, "a cookie of another session")
	}
	v.marks[mark] = seen{token, n}
	return w
}

// belated notes that what is over was served.
func (v *shopper) belated(since time.Duration) {
	v.late.Add(1)
	atomicMax(&v.latest, int64(since))
}

func atomicMax(a *atomic.Int64, v int64) {
	for old := a.Load(); v > old && !a.CompareAndSwap(old, v); old = a.Load() {
	}
}

// run has so many visitors send so many requests, and returns when they are
// done.
func (r *routing) run(visitors int, requests int64) {
	r.requests.Store(requests)
	parallel(visitors, func(i int) { r.visit(fmt.Sprint("visitor ", i)) })
}

// turns changes the weather of each server's feed all the time, until ctx is
// done, and every other time has another server take one's place.
func (r *routing) turns(ctx context.Context, every time.Duration) {
	parallel(webServers, func(i int) {
		for ctx.Err() == nil {
			if rand.IntN(2) == 0 {
				r.start(i)
			}
			r.server(i).feed.set([]weather{nil, nil, cut, lossy, disorder(), delayed(300*time.Millisecond, 3*time.Second), delayed(5*time.Second, 7*time.Second)}[rand.IntN(7)])
			select {
			case <-time.After(every/2 + rand.N(every)):
			case <-ctx.Done():
			}
		}
		r.server(i).feed.set(nil)
	})
}

// tell prints what was checked.
func (r *routing) tell(t *testing.T) {
	t.Helper()
	var kinds []string
	for k, name := range kindNames {
		kinds = append(kinds, fmt.Sprintf("%d %s", r.kinds[k].Load(), name))
	}
	t.Logf("%d requests checked (%s), %d sessions ended; %d answers were for a session that was over or a token that was replaced, the latest %v after; %d of them by Identify at the login's own server, up to %v",
		r.checked.Load(), strings.Join(kinds, ", "), r.deaths.Load(), r.late.Load(), time.Duration(r.latest.Load()).Round(time.Microsecond), r.own.Load(), time.Duration(r.ownLate.Load()).Round(time.Microsecond))
}

// A distant store is one with a network before it, in which what is sent takes
// a time of its own.
type distant struct{ roam.Store }

func (distant) travel() {
	d := rand.N(10 * time.Millisecond)
	if rand.IntN(10) == 0 {
		d = rand.N(1500 * time.Millisecond)
	}
	time.Sleep(d)
}

func (s distant) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	s.travel()
	defer s.travel()
	return s.Store.Load(ctx, id, want)
}

func (s distant) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	s.travel()
	defer s.travel()
	return s.Store.Insert(ctx, rec)
}

func (s distant) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	s.travel()
	defer s.travel()
	return s.Store.Update(ctx, rec)
}

func (s distant) Touch(ctx context.Context, seen []roam.Touch) error {
	s.travel()
	defer s.travel()
	return s.Store.Touch(ctx, seen)
}

func (s distant) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	s.travel()
	defer s.travel()
	return s.Store.End(ctx, id, why)
}

func (s distant) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	s.travel()
	defer s.travel()
	return s.Store.Ends(ctx, after)
}

// routeInMemory runs visitors in a bubble of its own time, where a second costs
// nothing and the bound is exact.
func routeInMemory(t *testing.T, visitors int, requests int64, cache func(i int, s roam.Store) roam.Store, want string) *routing {
	var r *routing
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		r = &routing{want: want, bound: identifyBound, rest: func() { time.Sleep(rand.N(1500 * time.Millisecond)) }}
		r.fleet = newFleet(t, func(int) roam.Store { return distant{store} }, cache)
		defer r.stop()
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var sky sync.WaitGroup
		sky.Go(func() { r.turns(ctx, 8*time.Second) })
		r.run(visitors, requests)
		cancel()
		sky.Wait()
	})
	return r
}

// Law 3: whoever is sent to any server reads what they wrote and never goes back
// in time, relative to the mark that they send; and law 2, what has ended stays
// so on every server, within the bound: with near caches, with feeds that are
// cut, late, lossy and in disorder, with servers that start meanwhile.
func TestLaw3UnderRandomRouting(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		r := routeInMemory(t, 200, 100_000, nil, "")
		r.judge(t)
		if n := r.checked.Load(); n < 95_000 {
			t.Errorf("%d requests were checked", n)
		}
	})
	real := func(t *testing.T, requests int64, address string) {
		r := &routing{bound: identifyBound + machine}
		var stores [webServers]roam.Store
		for i := range stores {
			stores[i] = openShared(t, address)
		}
		r.fleet = newFleet(t, func(i int) roam.Store { return stores[i] }, nil)
		defer r.stop()
		ctx, cancel := context.WithCancel(t.Context())
		var sky sync.WaitGroup
		sky.Go(func() { r.turns(ctx, time.Second) })
		r.run(50, requests)
		cancel()
		sky.Wait()
		r.judge(t)
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		real(t, 5_000, filepath.Join(t.TempDir(), "sessions.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url, table := tables(t, plainPostgres(t).Primary.URL())
		real(t, 10_000, url+"#"+table)
	})
}

// machine is how late a busy machine may be with what it was to do, where the
// time is the real one.
const machine = 3 * time.Second

func (r *routing) judge(t *testing.T) {
	t.Helper()
	r.tell(t)
	if found := r.found(); found != "" {
		t.Errorf("%s%s", found, strings.Join(r.says, "\n"))
	}
}

// A hoard is a near cache such as one might write in an afternoon. Without bugs
// it does what is asked of it.
type hoard struct {
	roam.Store
	bugs bugs

	feed sync.Mutex

	mu    sync.Mutex
	read  time.Time // when the log was
	ends  int       // entries that were read
	known map[roam.ID]roam.Record
}

type bugs struct{ staleFill, noBound, markIgnored bool }

func (h *hoard) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	h.mu.Lock()
	rec, ok := h.known[id]
	young := h.bugs.noBound && !h.read.IsZero() || time.Since(h.read) < identifyBound
	ends := h.ends
	h.mu.Unlock()
	if ok && young && want.Version > 0 && (rec.Version >= want.Version || h.bugs.markIgnored) {
		return rec, nil
	}
	rec, err := h.Store.Load(ctx, id, roam.Want{})
	if err == nil {
		h.fill(rec, ends)
	}
	return rec, err
}

func (h *hoard) fill(rec roam.Record, ends int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.bugs.staleFill && (ends != h.ends || h.known[rec.ID].Version > rec.Version) {
		return
	}
	h.known[rec.ID] = rec
}

func (h *hoard) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	got, err := h.Store.Update(ctx, rec)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.known, rec.ID)
	h.ends++
	return got, err
}

func (h *hoard) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	err := h.Store.End(ctx, id, why)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.known, id)
	h.ends++
	return err
}

func (h *hoard) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	h.feed.Lock()
	defer h.feed.Unlock()
	began := time.Now()
	log, err := h.Store.Ends(ctx, after)
	if err != nil {
		return log, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range log.Ends {
		if h.known[e.ID].Version < e.Version {
			delete(h.known, e.ID)
		}
	}
	h.ends += len(log.Ends)
	h.read = began
	return log, nil
}

// A deaf store's caller asks for any version, whatever the visitor has seen.
type deaf struct{ roam.Store }

func (s deaf) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	want.Version = min(want.Version, 1)
	return s.Store.Load(ctx, id, want)
}

// A hopeful store takes a log that cannot be read for one without news.
type hopeful struct{ roam.Store }

func (s hopeful) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	log, err := s.Store.Ends(ctx, after)
	if err != nil {
		now, _ := s.Load(ctx, roam.ID{}, roam.Want{})
		return roam.Log{Next: after, Now: now.Now, Epoch: now.Epoch}, nil
	}
	return log, nil
}

// A hasty store's caller reads the log that there is, and then begins to follow
// it.
type hasty struct{ roam.Store }

func (s hasty) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	log, err := s.Store.Ends(ctx, after)
	if err != nil || after != "" {
		return log, err
	}
	time.Sleep(100 * time.Millisecond)
	now, err := s.Store.Ends(ctx, log.Next)
	log.Next, log.Now, log.Epoch = now.Next, now.Now, now.Epoch
	return log, err
}

// Each of these bugs is one that law 3 under random routing must find out, and
// a cache without them is fine.
func TestTheLaw3CheckerCanFail(t *testing.T) {
	hoarding := func(b bugs) func(int, roam.Store) roam.Store {
		return func(_ int, s roam.Store) roam.Store {
			return &hoard{Store: s, bugs: b, known: make(map[roam.ID]roam.Record)}
		}
	}
	near := func(s roam.Store) roam.Store { return roam.Must(nearcache.New(s, nil)) }
	for name, test := range map[string]struct {
		cache func(i int, s roam.Store) roam.Store
		want  string // "" for nothing
	}{
		"a cache without bugs":        {cache: hoarding(bugs{})},
		"mark ignored by the cache":   {cache: hoarding(bugs{markIgnored: true}), want: goesBack},
		"mark ignored by the manager": {cache: func(_ int, s roam.Store) roam.Store { return deaf{near(s)} }, want: goesBack},
		"stale fill":                  {cache: hoarding(bugs{staleFill: true}), want: revives},
		"no bound of the cache":       {cache: hoarding(bugs{noBound: true}), want: revives},
		"no bound of anything":        {cache: func(_ int, s roam.Store) roam.Store { return near(hopeful{s}) }, want: revives},
		"replay before follow":        {cache: func(_ int, s roam.Store) roam.Store { return near(hasty{s}) }, want: revives},
	} {
		t.Run(name, func(t *testing.T) {
			most := int64(100_000) // a tenth of that is usually more than enough
			if test.want == "" {
				most /= 5
			}
			r := routeInMemory(t, 50, most, test.cache, test.want)
			r.tell(t)
			found := r.found()
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q\n%s", found, test.want, strings.Join(r.says, "\n"))
			}
		})
	}
}
