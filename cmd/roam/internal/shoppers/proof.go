package shoppers

import "net/http"

// Whoever changes something gets a cookie with the answer that proves it: no
// later answer to a request that brings this cookie may be older than the
// change. That is all a site without sticky servers can promise, and shoppers
// hold it to that. They do not hold it to more: if the answers of two changes
// arrive in the other order, the browser keeps the older cookie, and what the
// newer one would have proved is not known to the site.
//
// A proof is what a cookie of the session proves.
type proof struct {
	page    int    // of the ledger
	token   string // the session's key that it belongs to; beside another it proves nothing
	least   count  // what had been acknowledged when the change was asked for, and the change
	ordered count  // what had been in orders by then
}

// The two cookies of a session.
func sessionCookies(key []*http.Cookie) (token, mark string) {
	for _, c := range key {
		switch c.Name {
		case cookieName:
			token = c.Value
		case markName:
			mark = c.Value
		}
	}
	return token, mark
}

// own leaves out the cookies that are not the session's, such as the balancer's.
func own(key []*http.Cookie) (bare []*http.Cookie) {
	for _, c := range key {
		if c.Name == cookieName || c.Name == markName {
			bare = append(bare, c)
		}
	}
	return bare
}

// proven returns what these cookies prove.
func (l *ledger) proven(token, mark string) glance {
	g := glance{l.page, count{}, count{}}
	for i, value := range [...]string{token, mark} {
		p, ok := l.proofs[value]
		if !ok || p.page != l.page || i == 1 && p.token != token {
			continue
		}
		g.least.raise(p.least)
		g.ordered.raise(p.ordered)
	}
	return g
}

// learn notes what the cookies of an answer prove. For a change, g is all that
// was known when it was sent: a change is made to the newest there is. taken is
// what it has put into the cart, nil if nothing; shown is the cart in the
// answer, nil if there is none.
func (l *ledger) learn(cookies []*http.Cookie, token string, g glance, taken *entry, shown map[string]int) {
	given, mark := sessionCookies(cookies)
	if given == "" && mark == "" || g.page != l.page {
		return
	}
	if given != "" {
		token = given
	}
	p := proof{g.page, token, g.least, g.ordered}
	if taken != nil && taken.page == l.page {
		p.least[taken.product] += taken.qty
	}
	for product, n := range shown { // and what other tabs have put in
		p.least[product] = max(p.least[product], n+g.ordered[product])
	}
	for _, value := range [...]string{given, mark} {
		if value != "" {
			l.proofs[value] = p
		}
	}
}

// behind returns how many items a cart lacks that were proven.
func (l *ledger) behind(g glance, cart map[string]int) (missing int) {
	if g.page != l.page {
		return 0
	}
	for p, n := range g.least {
		missing += max(0, n-cart[p]-l.ordered[p])
	}
	return missing
}

func (c count) raise(other count) {
	for p, n := range other {
		c[p] = max(c[p], n)
	}
}
