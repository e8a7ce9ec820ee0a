package shoppers

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A shopper is one person with one browser, which has several tabs and one
// cookie jar.
type shopper struct {
	c    *crowd
	own  string // the account
	tabs []*tab
	jar  *cookiejar.Jar
	next int // which tab is due, for the schedule alone

	mu   sync.Mutex
	calm *sync.Cond // signalled when asking falls to zero

	user     string    // as whom the shopper is logged in, by the last that the site acknowledged; "" a guest
	ticket   bool      // the next login has been paid for out of the budget
	lost     bool      // was logged out by mistake
	turn     int       // changes when a login, a logout or a checkout begins or ends, and with a loss
	moving   bool      // one of these is going on
	quiet    bool      // the tabs keep to public pages, so that a session can end in peace
	starting bool      // the add that starts a session is on its way
	asking   int       // looks and adds on their way that bring the session's cookie
	unsure   bool      // a login or logout was never answered, or not to the point
	parting  bool      // it was a logout
	excused  bool      // nor may the cart be what it was, because it was a login
	since    time.Time // when the last login was acknowledged
	dead     []deadKey
	cart     *ledger
	dirty    bool // a checkout has happened that has not been seen among the orders
	orders   map[string]map[string]int
	ordered  map[string]bool // acknowledged, and not yet seen among the orders

	ended    time.Time // when the last end of a session was acknowledged
	remote   bool      // another device has ended it, so this browser still has the key
	marked   bool      // the site gives its visitors marks
	bursting bool      // one tab makes many calls at once
	crew     []*tab    // which make them
	late     []arrival // what the browser will learn after the next login
}

// A tab does one thing after the other.
type tab struct {
	s    *shopper
	n    int
	line line
	jobs *jobs
	rng  *rand.Rand
	next string      // where a form's answer leads to
	away atomic.Bool // at an errand of several steps; the shopper uses the other tabs meanwhile

	defers  bool      // what the browser learns from this tab's answers waits in arrived
	arrived []arrival // guarded by s.mu
}

func newShopper(c *crowd, user string, i, n int) *shopper {
	jar, _ := cookiejar.New(nil) // has no errors
	s := &shopper{
		c: c, own: user, jar: jar, cart: newLedger(),
		orders: map[string]map[string]int{}, ordered: map[string]bool{},
	}
	s.calm = sync.NewCond(&s.mu)
	for k := range n {
		s.tabs = append(s.tabs, &tab{
			s: s, n: k, jobs: newJobs(),
			line: line{addr: c.site.Host, config: c.tls},
			rng:  rand.New(rand.NewPCG(c.opts.Seed, uint64(2+i*1000+k))),
		})
	}
	return s
}

func (t *tab) run(ctx context.Context) {
	defer t.line.close()
	if t.n == 0 {
		defer t.s.dismiss()
	}
	for {
		j, ok := t.jobs.pop()
		if !ok {
			return
		}
		j.do(ctx, t, j.at)
	}
}

// dismiss closes the connections of bursts, of which there are none any more.
func (s *shopper) dismiss() {
	for _, o := range s.crew {
		o.line.close()
	}
}

// A request is what a tab sends.
type request struct {
	method, path string
	form         url.Values
	key          []*http.Cookie // instead of the jar's, which then learns nothing from the answer
	hold         *hold
	puts         *entry // into the cart
}

// get is a request of a page.
func get(path string) request { return request{method: "GET", path: path} }

// post is a form that was sent.
func post(path string, fields ...string) request {
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return request{method: "POST", path: path, form: form}
}

// public says that the page is the same for everyone.
func (r request) public() bool {
	return r.method == "GET" && (r.path == "/" || r.path == "/about" || r.path == "/live" ||
		strings.HasPrefix(r.path, "/product/") || strings.HasPrefix(r.path, "/login"))
}

// ask sends a request once and counts what comes of it.
func (t *tab) ask(ctx context.Context, at time.Time, r request) answer {
	s := t.s
	req, err := r.http(s.c.site)
	if err != nil {
		return answer{err: err, at: time.Now()}
	}
	own := r.key == nil
	if own {
		r.key = s.jar.Cookies(s.c.site)
	}
	for _, c := range r.key {
		req.AddCookie(c)
	}
	token, mark := sessionCookies(r.key)
	s.mu.Lock()
	newest := s.cart.glance()
	proved := s.cart.proven(token, mark)
	s.mu.Unlock()
	sent := time.Now()
	a := t.line.send(ctx, req, r.hold)
	a.sent, a.proved = sent, proved
	if r.hold != nil {
		at = time.Time{} // it was the shopper that took its time
	}
	x := sighting{
		method: r.method, path: r.path, public: r.public(), scheduled: at, answer: a,
		excused: s.c.trouble.excuses(a.at), gone: s.c.trouble.nobody(sent, a.at),
		cleared: a.clears() && (a.failed() || s.c.trouble.dark(sent, a.at)),
	}
	switch good, waiting := s.c.tally.exchanged(x); {
	case good:
		s.c.trouble.served(r.method, a.header.Get("X-Server"), a.at)
	case waiting:
		s.c.trouble.missed(a.at)
	}
	if own && a.err == nil {
		s.learn(r, a, token, newest)
		if !t.puts(a) {
			s.jar.SetCookies(s.c.site, a.cookies())
		}
	}
	return a
}

// learn notes what the cookies in an answer prove.
func (s *shopper) learn(r request, a answer, token string, newest glance) {
	cookies := a.cookies()
	if _, mark := sessionCookies(cookies); mark != "" {
		s.mu.Lock()
		s.marked = true
		s.mu.Unlock()
	} else if len(cookies) == 0 {
		return
	}
	g := newest
	if r.method == http.MethodGet {
		g = a.proved
	}
	var taken *entry
	var shown map[string]int
	if r.puts != nil && a.takes(r) {
		taken = r.puts
		if p, err := a.page(r.path); err == nil && a.status == http.StatusOK {
			shown = p.cart
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cart.learn(cookies, token, g, taken, shown)
}

// takes says that the site has put into the cart what it was asked to.
func (a answer) takes(r request) bool {
	if strings.HasPrefix(r.path, "/api/") {
		return a.err == nil && a.status == http.StatusOK
	}
	return a.leads() == "/cart"
}

func (a answer) cookies() []*http.Cookie { return (&http.Response{Header: a.header}).Cookies() }

// failed says that nobody knows what became of the request.
func (a answer) failed() bool { return a.err != nil || a.status >= 500 }

// nothing says that the site has not done what was asked for, in its own words.
// An error without them may have happened on the way back.
func (a answer) nothing() bool {
	return a.err == nil && a.status == http.StatusServiceUnavailable &&
		(bytes.Contains(a.body, []byte(`data-outcome="none"`)) || bytes.Contains(a.body, []byte(`"outcome":"none"`)))
}

// clears says that the answer deletes the cookie of the session.
func (a answer) clears() bool {
	if a.err != nil {
		return false
	}
	for _, c := range a.cookies() {
		if c.Name == cookieName && (c.Value == "" || c.MaxAge < 0) {
			return true
		}
	}
	return false
}

// leads returns the path that a form's answer leads to, "" if to none.
func (a answer) leads() string {
	if a.status != http.StatusSeeOther {
		return ""
	}
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.RequestURI()
}

// turnedAway says that the page was for those who are logged in, and that the
// site took the shopper for somebody who is not.
func (a answer) turnedAway() bool { return strings.HasPrefix(a.leads(), "/login") }

// page reads an answer that tells whom the site took the shopper for.
func (a answer) page(path string) (page, error) {
	guest := page{session: true}
	api := strings.HasPrefix(path, "/api/")
	switch {
	case a.turnedAway(), api && a.status == http.StatusUnauthorized:
		return guest, nil
	case a.status != http.StatusOK && a.status != http.StatusConflict:
		return guest, fmt.Errorf("status %d", a.status)
	case api:
		return parseState(a.body)
	}
	return parsePage(a.body)
}

// What was known when a request was sent.
type before struct {
	turn   int
	moving bool
	dirty  bool
	glance glance
}

// before returns it. The shopper is locked.
func (s *shopper) before() before { return before{s.turn, s.moving, s.dirty, s.cart.glance()} }

// answered ends a look or an add, whose beginning has counted it in asking.
func (s *shopper) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking--; s.asking == 0 {
		s.calm.Broadcast()
	}
}

// see holds what a page says against what the shopper knew when it asked. A
// page that was on its way while a session began or ended proves nothing.
//
// A change is made to the newest there is, and its answer shows that. A page
// need only be as new as the cookies prove.
func (s *shopper) see(b before, read bool, a answer, p page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.session || b.moving || b.turn != s.turn {
		return
	}
	if s.recognised(p.user, read, a.sent) && p.cart != nil && !b.dirty && !s.unsure {
		g := b.glance
		if read && s.marked {
			g = a.proved
		}
		s.compare(g, a, p.cart)
	}
}

// recognised judges whom the site took the shopper for, in the answer to what
// was sent at that time, and reports whether the rest of the answer is worth a
// look. A login or logout of which nothing is known may still
// arrive at the store, until the trouble is over.
func (s *shopper) recognised(as string, read bool, sent time.Time) bool {
	note := s.c.tally.note
	switch {
	case as != "" && as != s.own:
		note(func(r *Result, _ *Bucket) { r.WrongUser++ })
	case s.unsure && !s.c.trouble.settled(sent):
	case s.unsure:
		if s.parting && as == "" { // it did end, and took the cart along
			s.cart.clear()
		}
		s.unsure, s.parting = false, false
		s.user = as
	case as == s.user:
	case as == "" && s.c.trouble.loses(s.since):
		s.user, s.lost = "", true
		s.turn++
		s.c.tally.noteTrouble(func(r *Trouble) { r.LoginsLost++ })
	case as == "":
		s.user, s.lost = "", true
		s.turn++
		note(func(r *Result, b *Bucket) { r.LoggedOut++; b.LoggedOut++ })
	case s.lost: // found again: it was on another server all the time
		s.user, s.lost = as, false
		s.turn++
	case read && s.remote && s.c.outlives(s.ended, sent):
		return false
	default:
		s.intruded("the browser that had logged out, asked %v after that,", sent.Sub(s.ended).Round(time.Millisecond))
	}
	return true
}

// outlives notes that a session was served although it had ended, and reports
// whether the site may do that for so long.
func (c *crowd) outlives(ended, sent time.Time) bool {
	past := sent.Sub(ended)
	if ended.IsZero() || past >= c.opts.Bound {
		return false
	}
	c.tally.note(func(r *Result, _ *Bucket) {
		r.ServedInBound++
		r.ServedLongest = max(r.ServedLongest, round(float64(past)/float64(time.Millisecond), 1))
	})
	return true
}

// intruded notes that a session which should be over has been served.
func (s *shopper) intruded(who string, args ...any) {
	s.cart.survived()
	s.c.tally.strange(who+" was taken for "+s.own, args...)
	s.c.tally.note(func(r *Result, b *Bucket) { r.ServedAfterEnd++; b.Intruders++ })
}

func (s *shopper) compare(g glance, a answer, cart map[string]int) {
	excused := s.excused
	back := s.cart.behind(a.proved, cart)
	missing, extra := s.cart.compare(g, cart)
	s.c.tally.note(func(r *Result, _ *Bucket) { r.Law3Checked++ })
	if back > 0 && !excused {
		s.c.tally.back(a, back)
	}
	if g.page == s.cart.page || missing > 0 {
		s.excused = false
	}
	if missing+extra == 0 {
		return
	}
	if excused {
		s.cart.forgive(cart)
	}
	s.c.tally.note(func(r *Result, b *Bucket) {
		r.CartItemsTwice += extra
		if excused {
			r.CartItemsUnsure += missing
			return
		}
		r.CartItemsLost += missing
		b.Missing += missing
	})
}

// hasSession says that the jar has a session's cookie, dead or alive.
func (s *shopper) hasSession() bool {
	for _, c := range s.jar.Cookies(s.c.site) {
		if c.Name == cookieName {
			return true
		}
	}
	return false
}
