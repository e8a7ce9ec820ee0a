package shoppers

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// bucketWidth is how finely the timeline is divided.
const bucketWidth = 100 * time.Millisecond

// maxSamples bounds how many strange answers are kept for people to look at.
const maxSamples = 5

// A Result is what the shoppers have to tell. Requests, latencies, Servers and
// Timeline are of the load; the rest also counts what the audit found.
type Result struct {
	Requests   int `json:"requests"`    // sent
	FailedGet  int `json:"failed_get"`  // no answer, or one of 500 and above
	FailedPost int `json:"failed_post"` // the same; the visitor cannot know whether it took effect

	LoggedOut       int `json:"logged_out"`        // times that one who was logged in was taken for a guest
	CartItemsLost   int `json:"cart_items_lost"`   // items that a shopper had put in and missed when it looked
	AckedWritesLost int `json:"acked_writes_lost"` // acknowledged adds, orders and logins that were nowhere at the end
	ServedAfterEnd  int `json:"served_after_end"`  // requests sent after the logout was answered, and still answered as that user

	MaxOverMean float64 `json:"max_over_mean"` // the busiest server's share over the mean
	P50         float64 `json:"p50_ms"`        // from the scheduled time to the last byte of the answer
	P99         float64 `json:"p99_ms"`

	// WrittenAfterEnd counts changes that were in flight during a logout, were
	// completed by the shopper after it had been answered, and were made in
	// that user's name all the same.
	WrittenAfterEnd int `json:"written_after_end"`

	// WentBack counts answers that were older than the cookies of their own
	// requests proved, Law3Checked how many carts were held against these.
	WentBack    int `json:"went_back"`
	Law3Checked int `json:"law3_checked"`

	// ServedInBound counts pages shown to a session that had been ended
	// elsewhere, for no longer than Options.Bound; ServedLongest says how long
	// after the end the last of their requests was sent.
	ServedInBound int     `json:"served_in_bound"`
	ServedLongest float64 `json:"served_longest_ms"`

	Herd     int `json:"herd,omitempty"` // idle visitors that were looked after; see Stage.Gather
	HerdLost int `json:"herd_lost"`      // whose cart was not what it had been

	Bursts      int `json:"bursts,omitempty"`       // of many calls at once
	LateAnswers int `json:"late_answers,omitempty"` // that the browser learned from after a login or logout that came later

	CartItemsTwice int `json:"cart_items_twice"` // more in a cart than was ever put there
	WrongUser      int `json:"wrong_user"`       // taken for somebody else
	WrongAnswers   int `json:"wrong_answers"`    // neither what was asked for nor a failure
	PublicFailed   int `json:"public_failed"`    // pages that need no session and were not shown; failed GETs too
	CookiesCleared int `json:"cookies_cleared"`  // session cookies deleted by an answer that could not know that the session has ended
	LogoutsClaimed int `json:"logouts_claimed"`  // logouts that were answered as done and were not
	Unaudited      int `json:"unaudited"`        // accounts that could not be settled at the end

	// CartItemsUnsure are items that went missing after a login or logout of
	// the same shopper got no answer. If such a login took effect it has
	// replaced the key, and the new key was in the answer that never came: the
	// cart is where it was, and out of the shopper's reach. That is a loss to
	// the shopper, but none of what the site had promised.
	CartItemsUnsure int `json:"cart_items_unsure"`

	Logins   int            `json:"logins"` // acknowledged
	Logouts  int            `json:"logouts"`
	Orders   int            `json:"orders"`
	Replays  int            `json:"replays"` // tries with the key of an ended session
	Seconds  float64        `json:"seconds"` // how long the load ran
	Rate     float64        `json:"rate"`    // requests per second that were reached
	ServedBy map[string]int `json:"served_by"`

	// Trouble is what an announced outage of the store did, nil without one.
	Trouble *Trouble `json:"trouble,omitempty"`

	Servers  []string `json:"-"`
	Timeline []Bucket `json:"-"`
	Samples  []string `json:"-"` // of wrong answers and failures
}

// A Bucket is a tenth of a second of the load, by when answers came.
type Bucket struct {
	Served    []int // by server, in the order of Result.Servers; without Waiting
	Failed    int
	Waiting   int // answered with 503 in an announced outage
	Good      int // answered by a server that needed the store for it, and had it
	LoggedOut int
	Missing   int // cart items
	Intruders int // served after end
}

type tally struct {
	mu        sync.Mutex
	r         Result
	trouble   Trouble
	measuring bool
	began     time.Time
	servers   map[string]int // index
	latencies []time.Duration
}

func newTally(servers []string) *tally {
	t := &tally{servers: map[string]int{}}
	t.r.ServedBy = map[string]int{}
	for _, s := range servers {
		t.server(s)
	}
	return t
}

// server returns the index of a server, a new one if it was not announced.
func (t *tally) server(name string) int {
	i, ok := t.servers[name]
	if !ok {
		i = len(t.r.Servers)
		t.servers[name] = i
		t.r.Servers = append(t.r.Servers, name)
		t.r.ServedBy[name] = 0
	}
	return i
}

func (t *tally) begin(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.measuring, t.began = true, at
}

func (t *tally) end(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.measuring = false
	t.r.Seconds = at.Sub(t.began).Seconds()
}

// bucket returns the present piece of the timeline.
func (t *tally) bucket(at time.Time) *Bucket {
	i := max(0, int(at.Sub(t.began)/bucketWidth))
	for len(t.r.Timeline) <= i {
		t.r.Timeline = append(t.r.Timeline, Bucket{})
	}
	return &t.r.Timeline[i]
}

// A sighting is a request and its answer, as the tally sees it.
type sighting struct {
	method, path string
	public       bool
	scheduled    time.Time // zero if the latency says nothing, because the shopper held it back
	excused      bool      // in an announced outage of the store
	gone         bool      // no server was up for some of the time
	cleared      bool      // the answer deletes the cookie, and could not know that it may
	answer
}

// exchanged counts a request and its answer, and reports whether it was one
// that needed the store and got it, or did not.
func (t *tally) exchanged(x sighting) (good, waiting bool) {
	a := x.answer
	t.mu.Lock()
	defer t.mu.Unlock()
	failed := a.failed()
	server := ""
	if a.err == nil {
		server = a.header.Get("X-Server")
	}
	// One without the name of a server is from a balancer that has none left.
	waiting = x.excused && !x.public && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" && server != ""
	waiting = waiting || x.gone && failed
	good = !failed && !x.public
	switch {
	case waiting && x.method == http.MethodGet:
		t.trouble.UnavailableGet++
	case waiting:
		t.trouble.UnavailablePost++
	case failed && x.method == http.MethodGet:
		t.r.FailedGet++
	case failed:
		t.r.FailedPost++
	}
	if failed && !waiting {
		if a.err != nil {
			t.sample("%s %s: no answer: %v", x.method, x.path, a.err)
		} else {
			t.sample("%s %s: %d %.100q", x.method, x.path, a.status, a.body)
		}
	}
	if x.public && a.status != http.StatusOK && !waiting {
		t.r.PublicFailed++
	}
	if x.cleared {
		t.r.CookiesCleared++
		t.sample("%s %s: %d, and the answer deletes the cookie of the session", x.method, x.path, a.status)
	}
	if !t.measuring {
		return good, waiting
	}
	t.r.Requests++
	b := t.bucket(a.at)
	switch {
	case waiting:
		b.Waiting++
	case failed:
		b.Failed++
	case good:
		b.Good++
	}
	if server != "" {
		i := t.server(server)
		t.r.ServedBy[server]++
		for len(b.Served) <= i {
			b.Served = append(b.Served, 0)
		}
		if !waiting {
			b.Served[i]++
		}
	}
	if !x.scheduled.IsZero() {
		t.latencies = append(t.latencies, a.at.Sub(x.scheduled))
	}
	return good, waiting
}

func (t *tally) sample(format string, args ...any) {
	if len(t.r.Samples) < maxSamples {
		t.r.Samples = append(t.r.Samples, fmt.Sprintf(format, args...))
	}
}

// note changes the counts, and the present bucket, which is one to throw away
// when nothing is measured.
func (t *tally) note(change func(r *Result, b *Bucket)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &Bucket{}
	if t.measuring {
		b = t.bucket(time.Now())
	}
	change(&t.r, b)
}

func (t *tally) noteTrouble(change func(r *Trouble)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.trouble)
}

// back notes an answer that was older than the cookies proved.
func (t *tally) back(a answer, missing int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.r.WentBack++
	t.sample("%s answered without %d items that the cookies of the request proved to be there", a.header.Get("X-Server"), missing)
}

// strange keeps a sample of something that is counted elsewhere.
func (t *tally) strange(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sample(format, args...)
}

func (t *tally) wrong(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.r.WrongAnswers++
	t.sample(format, args...)
}

func (t *tally) result(outage *trouble) *Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.r
	if r.Trouble = outage.result(t); r.Trouble != nil {
		r.AckedWritesLost += r.Trouble.LoginsLost
	}
	answered, most := 0, 0
	for _, n := range r.ServedBy {
		answered += n
		most = max(most, n)
	}
	if answered > 0 {
		r.MaxOverMean = round(float64(most)*float64(len(r.ServedBy))/float64(answered), 3)
	}
	if r.Seconds > 0 {
		r.Rate = round(float64(r.Requests)/r.Seconds, 1)
	}
	r.Seconds = round(r.Seconds, 2)
	slices.Sort(t.latencies)
	r.P50, r.P99 = percentile(t.latencies, 50), percentile(t.latencies, 99)
	return &r
}

// percentile returns the smallest of the sorted times, in milliseconds, that p
// percent of them do not exceed.
func percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return round(float64(sorted[max(0, i)])/float64(time.Millisecond), 2)
}

func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(x*scale) / scale
}
