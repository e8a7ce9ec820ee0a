package shoppers

import (
	"net/http"
	"sync"
	"time"
)

// A Stage is where [Options.During] plays. It tells the time, and announces
// trouble with the store of sessions. Shoppers forgive what nobody can help
// then, a 503 that says when to come back, and count it; and they look at what
// a site must not do even then.
type Stage struct {
	c     *crowd
	began time.Time
}

// Clock returns the time since the load began.
func (s *Stage) Clock() time.Duration { return time.Since(s.began) }

// An Outage is trouble with the store.
type Outage struct {
	// Server is the one web server that does not reach the store. "" is all.
	Server string

	// All says that it is the web servers that are gone, all of them: there is
	// nobody to answer.
	All bool

	// Reads says that the store still answers reads.
	Reads bool

	// Lossy says that what the store acknowledges from now on until it is
	// over may be lost, as when a replica takes over that lags behind. What is
	// lost is counted. It is no excuse for a session that has ended and lives
	// again.
	Lossy bool
}

// Trouble announces an outage. There may be one in a run.
func (s *Stage) Trouble(o Outage) { s.c.trouble.begin(o) }

// Dark says that from now on no server can reach the store at all: whatever a
// site claims, nobody can have confirmed it.
func (s *Stage) Dark() { s.c.trouble.setDark(true) }

// Light ends what Dark began. Call it before the store can be reached again.
func (s *Stage) Light() { s.c.trouble.setDark(false) }

// Over says that the store is within reach of all servers again.
func (s *Stage) Over() { s.c.trouble.end() }

const (
	// grace is how long it takes after an outage until what was on its way to
	// the store has arrived there or never will.
	grace = 3 * time.Second

	// excuse is how long servers may still say that the store does not answer.
	// It is long, for a machine that is busy; how soon it does answer again is
	// measured.
	excuse = 10 * time.Second
)

// trouble is what is known of the outage.
type trouble struct {
	mu sync.Mutex
	Outage
	from, to   time.Time   // zero if it has not begun or not ended
	darkFrom   time.Time   // zero if it is not dark
	darkPast   []timeRange // ended
	firstAfter time.Time   // the first good answer after it
	lastAway   time.Time   // the last that said that the store was away
}

type timeRange struct{ from, to time.Time }

func (t *trouble) begin(o Outage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Outage, t.from, t.to, t.firstAfter = o, time.Now(), time.Time{}, time.Time{}
}

func (t *trouble) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to = time.Now()
}

func (t *trouble) setDark(dark bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dark {
		t.darkFrom = time.Now()
	} else if !t.darkFrom.IsZero() {
		t.darkPast = append(t.darkPast, timeRange{t.darkFrom, time.Now()})
		t.darkFrom = time.Time{}
	}
}

// excuses reports whether a server may have had no store when it gave this
// answer.
func (t *trouble) excuses(at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.from.IsZero() && at.After(t.from) && (t.to.IsZero() || at.Before(t.to.Add(excuse)))
}

// nobody reports whether there was a time without a server between when a
// request was sent and when it was answered.
func (t *trouble) nobody(sent, answered time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.All && answered.After(t.from) && (t.to.IsZero() || sent.Before(t.to))
}

// dark reports whether no server could reach the store from when a request was
// sent until it was answered.
func (t *trouble) dark(sent, answered time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.darkFrom.IsZero() && sent.After(t.darkFrom) {
		return true
	}
	for _, r := range t.darkPast {
		if sent.After(r.from) && answered.Before(r.to) {
			return true
		}
	}
	return false
}

// settled reports whether what a request showed that was sent at that time is
// final: nothing that was in doubt can still arrive.
func (t *trouble) settled(sent time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.from.IsZero() || !t.to.IsZero() && sent.After(t.to.Add(grace))
}

// loses reports whether what was acknowledged at that time may be lost.
func (t *trouble) loses(acked time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Lossy && acked.After(t.from) && (t.to.IsZero() || acked.Before(t.to))
}

// served notes an answer that needed the store and got it.
func (t *trouble) served(method, server string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.to.IsZero() || !t.firstAfter.IsZero() || at.Before(t.to) ||
		t.Server != "" && t.Server != server || t.Reads && method == http.MethodGet {
		return
	}
	t.firstAfter = at
}

// missed notes an answer that said that the store was away.
func (t *trouble) missed(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.After(t.lastAway) {
		t.lastAway = at
	}
}

// wait returns how long it takes until everything is settled.
func (t *trouble) wait() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.to.IsZero() {
		return 0
	}
	return time.Until(t.to.Add(grace)) + time.Millisecond
}

// A Trouble is what an outage of the store did to visitors.
type Trouble struct {
	Seconds float64 `json:"seconds"` // from its beginning until the store was back

	// UnavailableGet and UnavailablePost were answered by a web server with 503
	// and Retry-After.
	UnavailableGet  int `json:"unavailable_get"`
	UnavailablePost int `json:"unavailable_post"`

	// FirstSuccess is the time from the store's return to the first answer
	// that needed it, in milliseconds; -1 if there was none.
	FirstSuccess float64 `json:"first_success_ms"`

	// Last503 is the time from the store's return to the last answer that
	// said that it was away, in milliseconds.
	Last503 float64 `json:"last_503_ms"`

	// RateBefore and RateAfter are the good answers per second that needed
	// the store, before the outage and in the ten seconds after it.
	RateBefore float64 `json:"rate_before"`
	RateAfter  float64 `json:"rate_after"`

	// Lossy says that acknowledged writes were put at risk on purpose.
	// LoginsLost are the acknowledged logins that are gone because of it; they
	// are among the acknowledged writes that were lost.
	Lossy      bool `json:"lossy"`
	LoginsLost int  `json:"logins_lost"`
}

// afterwards is how long the rate after an outage is looked at.
const afterwards = 10 * time.Second

// result completes what was counted. The tally is locked.
func (t *trouble) result(y *tally) *Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.from.IsZero() {
		return nil
	}
	r := y.trouble
	r.Lossy = t.Lossy
	to := t.to
	if to.IsZero() {
		to = y.began.Add(time.Duration(y.r.Seconds * float64(time.Second)))
	}
	r.Seconds = round(to.Sub(t.from).Seconds(), 2)
	r.FirstSuccess = -1
	if !t.firstAfter.IsZero() {
		r.FirstSuccess = round(float64(t.firstAfter.Sub(t.to))/float64(time.Millisecond), 1)
	}
	if t.lastAway.After(t.to) && !t.to.IsZero() {
		r.Last503 = round(float64(t.lastAway.Sub(t.to))/float64(time.Millisecond), 1)
	}
	good := func(from, to time.Time) float64 {
		n, first, last := 0, int(from.Sub(y.began)/bucketWidth)+1, int(to.Sub(y.began)/bucketWidth)
		first, last = max(0, first), min(last, len(y.r.Timeline))
		for i := first; i < last; i++ {
			n += y.r.Timeline[i].Good
		}
		if last <= first {
			return 0
		}
		return round(float64(n)/(float64(last-first)*bucketWidth.Seconds()), 1)
	}
	r.RateBefore = good(y.began, t.from)
	end := y.began.Add(time.Duration(y.r.Seconds * float64(time.Second)))
	if after := to.Add(afterwards); after.Before(end) {
		end = after
	}
	r.RateAfter = good(to, end)
	return &r
}
