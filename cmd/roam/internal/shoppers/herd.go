package shoppers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// herders is how many connections look after a herd, and gatherers how many
// bring it: that is preparation, so it takes its time and asks again when the
// site is busy.
const (
	herders   = 32
	gatherers = 4
	asksAgain = 5
)

// A Herd is many visitors who have put something into a cart and do nothing
// more: the sessions that a site has besides those that are busy.
type Herd struct {
	c       *crowd
	product string
	keys    [][]*http.Cookie
}

// Gather has n more visitors come. They are not part of the load.
func (s *Stage) Gather(ctx context.Context, n int) (*Herd, error) {
	h := &Herd{c: s.c, product: s.c.opts.Products[0], keys: make([][]*http.Cookie, n)}
	err := h.each(ctx, gatherers, func(l *line, i int) error {
		var a answer
		for range asksAgain {
			if a = h.ask(ctx, l, post("/api/cart/add", "product", h.product, "qty", "1")); a.err != nil || a.status != http.StatusServiceUnavailable {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		switch h.keys[i] = own(a.cookies()); {
		case a.err != nil:
			return a.err
		case a.status != http.StatusOK || len(h.keys[i]) == 0:
			return fmt.Errorf("a visitor's first add was answered with status %d and %d cookies", a.status, len(h.keys[i]))
		}
		return nil
	})
	return h, err
}

// Count looks at each visitor's cart once and counts those that are not what
// they were.
func (h *Herd) Count(ctx context.Context) error {
	return h.each(ctx, herders, func(l *line, i int) error {
		r := get("/api/cart")
		r.key = h.keys[i]
		a := h.ask(ctx, l, r)
		h.c.tally.note(func(r *Result, _ *Bucket) { r.Herd++ })
		if a.failed() {
			h.c.tally.note(func(r *Result, _ *Bucket) { r.FailedGet++ })
			h.c.tally.strange("GET %s of an idle visitor: status %d, %v", r.path, a.status, a.err)
			return ctx.Err()
		}
		if p, err := a.page(r.path); err != nil || p.cart[h.product] != 1 {
			h.c.tally.note(func(r *Result, _ *Bucket) { r.HerdLost++ })
			h.c.tally.strange("an idle visitor's cart is %v, ended %q, %v; want 1 %s", p.cart, p.ended, err, h.product)
		}
		return nil
	})
}

// each calls do for each visitor, many at once.
func (h *Herd) each(ctx context.Context, n int, do func(l *line, i int) error) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	next := 0
	for range n {
		all.Go(func() {
			l := &line{addr: h.c.site.Host, config: h.c.tls}
			defer l.close()
			for {
				mu.Lock()
				i := next
				next++
				stop := i >= len(h.keys) || len(errs) > 0 || ctx.Err() != nil
				mu.Unlock()
				if stop {
					return
				}
				if err := do(l, i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func (h *Herd) ask(ctx context.Context, l *line, r request) answer {
	req, err := r.http(h.c.site)
	if err != nil {
		return answer{err: err, at: time.Now()}
	}
	for _, c := range r.key {
		req.AddCookie(c)
	}
	return l.send(ctx, req, nil)
}

// http writes the request as a browser would, without its cookies.
func (r request) http(site *url.URL) (*http.Request, error) {
	req, err := http.NewRequest(r.method, site.Scheme+"://"+site.Host+r.path, strings.NewReader(r.form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	if r.method == "POST" { // what a browser says of a form on the site itself
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://"+site.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return req, nil
}
