// Package report says what a drill has found: to people as a table, in words
// and as a page, to programs as JSON.
//
// A [Report] is made of [Run] values, one for each design and scenario. What
// counts as a loss is decided here and nowhere else, by [Run.Losses], so that
// table, page, words and exit status cannot disagree.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// Roam is the design whose losses are errors. The others are there to compare.
const Roam = "roam"

// A Report is all of a drill.
type Report struct {
	Runs []Run `json:"runs"`

	When    time.Time `json:"-"`
	Machine string    `json:"-"` // in general terms
	Command string    `json:"-"` // that repeats it
	Rate    int       `json:"-"` // requests per second that were asked for
	Servers int       `json:"-"`
	People  int       `json:"-"`

	Designs   map[string]Design `json:"-"`
	Scenarios map[string]string `json:"-"` // what each is
}

// A Design is a way to keep sessions, in words.
type Design struct {
	About string // what it is, half a sentence
	Why   string // why it loses what it loses, a sentence
}

// A Run is one design in one scenario.
type Run struct {
	Design   string `json:"design"`
	Scenario string `json:"scenario"`

	// InFlightPosts is how many requests other than GET, HEAD and OPTIONS the
	// killed server had in hand, by the balancer's count: those at the moment
	// of the kill and those that it was given until its sockets were closed.
	// Nobody can tell whether they took effect, so as many may fail.
	InFlightPosts int `json:"in_flight_posts"`

	shoppers.Result

	// Strain is what an outage of the store did to the web servers, nil if
	// there was none.
	Strain *Strain `json:"strain,omitempty"`

	// Heard and Unheard are how soon each server knew of the end of sessions,
	// while all of them heard of it and while one was cut off; nil if nobody
	// looked.
	Heard   *shoppers.Endings `json:"ends_heard,omitempty"`
	Unheard *shoppers.Endings `json:"ends_unheard,omitempty"`

	// Queries is what all servers' start cost the store, nil if it was not, or
	// could not be, measured.
	Queries *Queries `json:"queries,omitempty"`

	Outages []Outage `json:"-"`
}

// Queries are a store's transactions per second, at most.
type Queries struct {
	Before int `json:"before_per_s"`
	Peak   int `json:"peak_per_s"` // while and after all servers started
}

// A Strain is what web servers say of themselves around an outage of their
// store. Numbers of goroutines and connections are those of the server that has
// most.
type Strain struct {
	GoroutinesBefore int `json:"goroutines_before"`
	GoroutinesMax    int `json:"goroutines_max"`   // until the store was back
	GoroutinesAfter  int `json:"goroutines_after"` // when the load was over

	// Connections to the store, -1 if its driver does not tell.
	ConnsBefore int `json:"store_conns_before"`
	ConnsMax    int `json:"store_conns_max"` // also in the time after

	// LostWrites is how many writes that they had acknowledged the servers
	// themselves have missed.
	LostWrites uint64 `json:"lost_writes"`
}

// An Outage is a time in which a server, or the store, answered nobody.
type Outage struct {
	Server   string
	Why      string        // one word: killed, replaced
	From, To time.Duration // since the load began
}

// A Loss is one kind of what went wrong in a run.
type Loss struct {
	Name  string // as in the JSON
	Count int
}

// Losses returns what visitors lost in this run, nothing if they lost nothing.
func (r Run) Losses() []Loss {
	owed := func(n int) int { // of what was not put at risk on purpose
		if r.lossy() {
			return 0
		}
		return n
	}
	all := []Loss{
		{"logged_out", r.LoggedOut},
		{"cart_items_lost", owed(r.CartItemsLost)},
		{"served_after_end", r.ServedAfterEnd},
		{"acked_writes_lost", owed(r.AckedWritesLost)},
		{"written_after_end", r.WrittenAfterEnd},
		{"cart_items_twice", owed(r.CartItemsTwice)},
		{"went_back", owed(r.WentBack)},
		{"idle_carts_lost", r.HerdLost},
		{"served_beyond_bound", r.beyond()},
		{"wrong_user", r.WrongUser},
		{"failed_get", r.FailedGet},
		{"failed_post beyond in_flight_posts", max(0, r.FailedPost-r.InFlightPosts)},
		{"wrong_answers", r.WrongAnswers},
		{"unaudited", r.Unaudited},
		{"public_failed", r.PublicFailed},
		{"cookies_cleared", r.CookiesCleared},
		{"logouts_claimed", r.LogoutsClaimed},
		{"late_return", one(r.late())},
		{"slower_after", one(r.slower())},
		{"pile_up", one(r.piledUp())},
	}
	losses := all[:0]
	for _, l := range all {
		if l.Count > 0 {
			losses = append(losses, l)
		}
	}
	return losses
}

// What is asked of the time after an outage of the store.
const (
	returnLimit = 2000 // milliseconds until the first answer that needed it
	rateLimit   = 0.8  // of the rate before
	pileLimit   = 150  // goroutines that may be left of it
)

// lossy says that acknowledged writes were put at risk on purpose.
func (r Run) lossy() bool { return r.Trouble != nil && r.Trouble.Lossy }

// beyond counts the servers that served a session for too long after its end,
// or never said that it was over.
func (r Run) beyond() (n int) {
	for _, e := range []*shoppers.Endings{r.Heard, r.Unheard} {
		if e != nil {
			n += e.Beyond + e.Unseen
		}
	}
	return n
}

func (r Run) late() bool {
	return r.Trouble != nil && (r.Trouble.FirstSuccess < 0 || r.Trouble.FirstSuccess > returnLimit)
}

func (r Run) slower() bool {
	return r.Trouble != nil && r.Trouble.RateAfter < rateLimit*r.Trouble.RateBefore
}

// piledUp says that an outage has left goroutines behind. While it lasts there
// may be as many as there are requests; afterwards those must be gone.
func (r Run) piledUp() bool {
	return r.Strain != nil && r.Strain.GoroutinesAfter > r.Strain.GoroutinesBefore+pileLimit
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// said has the words for each loss: of one, of many, and, if it is often seen,
// where there is little room.
var said = map[string]struct{ one, many, short string }{
	"logged_out":          {"1 logout that nobody asked for", "%s logouts that nobody asked for", "%s logged out"},
	"cart_items_lost":     {"1 cart item gone", "%s cart items gone", "%s items lost"},
	"acked_writes_lost":   {"1 acknowledged write lost", "%s acknowledged writes lost", "%s writes lost"},
	"served_after_end":    {"1 request served after the logout", "%s requests served after the logout", "%s served after logout"},
	"written_after_end":   {"1 change made after the logout", "%s changes made after the logout", "%s written after it"},
	"cart_items_twice":    {"1 cart item too many", "%s cart items too many", ""},
	"went_back":           {"1 answer older than the cookies proved", "%s answers older than the cookies proved", "%s went back"},
	"idle_carts_lost":     {"1 idle cart gone", "%s idle carts gone", ""},
	"served_beyond_bound": {"1 session served for too long after its end elsewhere", "%s sessions served for too long after their end elsewhere", ""},
	"wrong_user":          {"1 page of somebody else", "%s pages of somebody else", ""},
	"failed_get":          {"1 failed GET", "%s failed GETs", ""},
	"failed_post beyond in_flight_posts": {"1 failed POST that could have been saved",
		"%s failed POSTs that could have been saved", ""},
	"public_failed":   {"1 public page not shown", "%s public pages not shown", ""},
	"cookies_cleared": {"1 cookie deleted without need", "%s cookies deleted without need", ""},
	"logouts_claimed": {"1 logout claimed that was none", "%s logouts claimed that were none", ""},
	"late_return":     {"no answer within 2 s of the store's return", "", ""},
	"slower_after":    {"less than 80 % of the old rate after the store's return", "", ""},
	"pile_up":         {"goroutines left behind by the outage", "", ""},
	"wrong_answers":   {"1 answer that made no sense", "%s answers that made no sense", ""},
	"unaudited":       {"1 account that could not be settled", "%s accounts that could not be settled", ""},
}

// short says a loss where there is little room.
func (l Loss) short() string {
	if w := said[l.Name]; w.short != "" {
		return fmt.Sprintf(w.short, thousands(l.Count))
	}
	return l.words()
}

// words says a loss to people.
func (l Loss) words() string {
	w, ok := said[l.Name]
	switch {
	case !ok:
		return fmt.Sprintf("%s: %d", l.Name, l.Count)
	case l.Count == 1:
		return w.one
	}
	return fmt.Sprintf(w.many, thousands(l.Count))
}

// Err returns an error that names what roam lost, nil if it lost nothing or
// was not part of the drill.
func (r *Report) Err() error {
	var all []string
	for _, run := range r.Runs {
		if run.Design != Roam {
			continue
		}
		for _, l := range run.Losses() {
			all = append(all, fmt.Sprintf("%s: %s = %d", run.Scenario, l.Name, l.Count))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("roam lost something: %s", strings.Join(all, "; "))
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// designs returns the names of the designs, in the order in which they ran.
func (r *Report) designs() []string { return r.names(func(run Run) string { return run.Design }) }

func (r *Report) scenarios() []string { return r.names(func(run Run) string { return run.Scenario }) }

func (r *Report) names(of func(Run) string) (names []string) {
	seen := map[string]bool{}
	for _, run := range r.Runs {
		if name := of(run); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
