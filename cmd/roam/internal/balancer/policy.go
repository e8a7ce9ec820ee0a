package balancer

import (
	"fmt"
	"net/http"
)

// A Policy chooses the server of a request.
//
// It is offered only servers that are up, not draining, and not tried before
// for this request. A policy that keeps clients on one server therefore moves
// them as soon as that server drains. With roam this is what one wants, since
// any server serves any session; where sessions live in the memory of one
// server, they are lost then, and no policy can save them.
type Policy interface {
	// Pick returns the index of the chosen server in from, which has at least
	// one entry, is in the order in which the servers were set, and must not be
	// kept. Pick is called by one goroutine at a time, must not block, and must
	// not call the Balancer.
	Pick(r *http.Request, from []Candidate) int
}

// A Marker is a Policy that also marks answers, as with a cookie.
type Marker interface {
	// Mark may add to the header of the answer that the named server gave to
	// r. It is called once for a request, and only when the server answered
	// with a status below 500. It may be called concurrently.
	Mark(r *http.Request, server string, header http.Header)
}

// A Candidate is a server that may take a request.
type Candidate struct {
	Name     string
	InFlight int   // requests that it is working on
	BytesOut int64 // bytes that it has sent since it was first set
}

// NewPolicy returns the policy of that name: "round-robin" or "sticky-cookie".
func NewPolicy(name string) (Policy, error) {
	switch name {
	case "round-robin":
		return new(RoundRobin), nil
	case "sticky-cookie":
		return new(StickyCookie), nil
	}
	return nil, fmt.Errorf("balancer: policy %q: want round-robin or sticky-cookie", name)
}

// RoundRobin is the Policy that gives each server its turn: while the servers
// stay the same, their numbers of requests differ by at most one. The zero
// value is ready to use.
type RoundRobin struct {
	next uint64
}

// Pick implements [Policy].
func (p *RoundRobin) Pick(_ *http.Request, from []Candidate) int {
	i := p.next % uint64(len(from))
	p.next++
	return int(i)
}

// StickyCookie is the Policy that keeps a browser on one server by a cookie
// that the balancer sets and that names the server. The first choice, and the
// next when that server is gone, is by turns. The zero value is ready to use.
//
// roam does not need it; it is here to compare with. The cookie proves nothing
// and hides nothing: whoever forges one chooses a server, no more.
type StickyCookie struct {
	// Cookie is the name of the cookie. Empty means "roam-server".
	Cookie string

	turns RoundRobin
}

// Pick implements [Policy].
func (p *StickyCookie) Pick(r *http.Request, from []Candidate) int {
	if name := p.named(r); name != "" {
		for i := range from {
			if from[i].Name == name {
				return i
			}
		}
	}
	return p.turns.Pick(r, from)
}

// Mark implements [Marker]: it sets the cookie unless the client has it.
func (p *StickyCookie) Mark(r *http.Request, server string, header http.Header) {
	if p.named(r) == server {
		return
	}
	c := http.Cookie{
		Name:     p.cookie(),
		Value:    server,
		Path:     "/",
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		Secure:   r.TLS != nil,
	}
	header.Add("Set-Cookie", c.String())
}

func (p *StickyCookie) named(r *http.Request) string {
	c, err := r.Cookie(p.cookie())
	if err != nil {
		return ""
	}
	return c.Value
}

func (p *StickyCookie) cookie() string {
	if p.Cookie == "" {
		return "roam-server"
	}
	return p.Cookie
}
