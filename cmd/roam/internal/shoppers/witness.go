package shoppers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Witness asks each web server by itself, past the balancer, how long it goes
// on to serve sessions that were ended through another one. It is somebody who
// has copied the cookies: the browser itself has none after a logout.
type Witness struct {
	Servers  map[string]string // host and port by name
	Account  string            // that nobody else uses
	Password string
	Product  string
	Every    time.Duration // between two questions to the same server; 0 means 10 ms

	mu   sync.Mutex
	seen []ending
}

// An ending is what one server did after one end.
type ending struct {
	server string
	alive  time.Duration // the last request that was served was sent so long after the end; -1 if none was
	dead   time.Duration // the first answer that said that it is over came so long after it; -1 if none did
}

// Endings sum up what a witness has seen.
type Endings struct {
	Sessions int `json:"sessions"`

	// P99 and Max are the times from the end until a server said so, over all
	// sessions and servers that had a store, in milliseconds.
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`

	// Longest is how long after the end a request was sent that was still
	// served, by server, in milliseconds; 0 if there was none.
	Longest map[string]float64 `json:"longest_alive_ms"`

	// Beyond counts the sessions and servers for which that was longer than
	// the bound; Unseen those for which no server ever said that it was over.
	Beyond int `json:"beyond_bound"`
	Unseen int `json:"unseen"`
}

// LoggedIn returns n new sessions that every server has seen.
func (w *Witness) LoggedIn(ctx context.Context, n int) ([][]*http.Cookie, error) {
	keys, errs := make([][]*http.Cookie, n), make([]error, n)
	slots := make(chan struct{}, loginsAtOnce)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			keys[i], errs[i] = w.loggedIn(ctx, i)
		})
	}
	all.Wait()
	return keys, errors.Join(errs...)
}

func (w *Witness) loggedIn(ctx context.Context, i int) ([]*http.Cookie, error) {
	names := w.names()
	_, in, err := w.ask(ctx, names[i%len(names)], post("/login", "user", w.Account, "password", w.Password), nil)
	if err != nil {
		return nil, err
	}
	a, add, err := w.ask(ctx, names[(i+1)%len(names)], post("/api/cart/add", "product", w.Product, "qty", "1"), in)
	if err != nil {
		return nil, err
	}
	key := newer(in, add)
	if token, _ := sessionCookies(key); token == "" || a.status != http.StatusOK {
		return nil, fmt.Errorf("%s could not log in: status %d", w.Account, a.status)
	}
	for _, name := range names {
		for _, path := range witnessed {
			a, _, err := w.ask(ctx, name, get(path), key)
			if err != nil {
				return nil, err
			}
			if !alive(a, path) {
				return nil, fmt.Errorf("%s does not know a new session: status %d at %s", name, a.status, path)
			}
		}
	}
	return key, nil
}

// witnessed are a page that asks who it is and one that shows the session.
var witnessed = []string{"/api/whoami", "/api/cart"}

// End logs the session out through one server and asks all of them until each
// has said that it is over, or until the time is up.
func (w *Witness) End(ctx context.Context, key []*http.Cookie, through string, until time.Duration) error {
	a, _, err := w.ask(ctx, through, post("/logout"), key)
	if err == nil && a.leads() != "/" {
		err = fmt.Errorf("%s answered a logout with status %d", through, a.status)
	}
	if err != nil {
		return err
	}
	every := w.Every
	if every == 0 {
		every = 10 * time.Millisecond
	}
	ended := a.at
	var all sync.WaitGroup
	for _, name := range w.names() {
		all.Go(func() {
			e := ending{name, -1, -1}
			for e.dead < 0 && time.Since(ended) < until && ctx.Err() == nil {
				dead := 0
				for _, path := range witnessed {
					sent := time.Now()
					a, _, err := w.ask(ctx, name, get(path), key)
					switch {
					case err != nil || a.failed(): // it cannot tell
					case alive(a, path):
						e.alive = sent.Sub(ended)
					default:
						dead++
					}
				}
				if dead == len(witnessed) { // before, one kind may know and the other not yet
					e.dead = time.Since(ended)
					break
				}
				time.Sleep(every)
			}
			w.mu.Lock()
			w.seen = append(w.seen, e)
			w.mu.Unlock()
		})
	}
	all.Wait()
	return ctx.Err()
}

// Endings sums up what was seen since it was asked last.
func (w *Witness) Endings(bound time.Duration) *Endings {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &Endings{Longest: map[string]float64{}}
	var times []time.Duration
	for _, e := range w.seen {
		r.Longest[e.server] = max(r.Longest[e.server], round(float64(max(0, e.alive))/float64(time.Millisecond), 1))
		if e.alive >= bound {
			r.Beyond++
		}
		if e.dead < 0 {
			r.Unseen++
		} else {
			times = append(times, e.dead)
		}
	}
	slices.Sort(times)
	r.Sessions = len(w.seen) / max(1, len(w.Servers))
	r.P99, r.Max = percentile(times, 99), percentile(times, 100)
	w.seen = nil
	return r
}

func (w *Witness) names() (names []string) {
	for name := range w.Servers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ask sends a request to one server, as the balancer would.
func (w *Witness) ask(ctx context.Context, server string, r request, key []*http.Cookie) (answer, []*http.Cookie, error) {
	req, err := r.http(&url.URL{Scheme: "http", Host: w.Servers[server]})
	if err != nil {
		return answer{}, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req.Header.Set("X-Forwarded-Proto", "https")
	if r.method == "POST" {
		req.Header.Set("Origin", "https://"+req.Host)
	}
	for _, c := range key {
		req.AddCookie(c)
	}
	res, err := http.DefaultTransport.RoundTrip(req.WithContext(ctx)) // which follows no redirect
	if err != nil {
		return answer{}, nil, fmt.Errorf("asking %s: %w", server, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	a := answer{status: res.StatusCode, header: res.Header, body: body, at: time.Now(), err: err}
	return a, own(res.Cookies()), err
}

// newer returns the cookies that a browser has after an answer.
func newer(had, got []*http.Cookie) (have []*http.Cookie) {
	for _, c := range had {
		if !slices.ContainsFunc(got, func(g *http.Cookie) bool { return g.Name == c.Name }) {
			have = append(have, c)
		}
	}
	return append(have, got...)
}

// alive says that the answer is that of a session which has not ended.
func alive(a answer, path string) bool {
	if a.failed() || strings.HasPrefix(a.leads(), "/login") {
		return false
	}
	p, err := a.page(path)
	return err == nil && (p.user != "" || len(p.cart) > 0)
}
