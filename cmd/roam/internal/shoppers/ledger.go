package shoppers

import "maps"

// A count is how many of each product.
type count map[string]int

func (c count) add(other map[string]int) {
	for p, n := range other {
		c[p] += n
	}
}

func (c count) sum() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// A ledger is what a shopper knows about its cart. The site may show what
// several tabs do at once in any order, so what a shopper can know about each
// product is a range: at least what was acknowledged before it looked, at most
// what was ever asked for. A request that was never answered may or may not
// have taken effect, and widens the range for good.
//
// What was ordered has left the cart, and still counts: nothing may vanish on
// the way from the cart to an order either.
type ledger struct {
	page    int   // a new one after a logout and after a loss, which settle what was before
	least   count // acknowledged and not yet missed
	most    count // asked for
	pending int   // adds that were sent and not answered yet

	acked   count // acknowledged since the last logout, whatever was missed since
	missed  int   // items that were found missing in earlier lives of the cart
	ordered count // in orders since the last logout
	past    count // what was asked for before that

	proofs map[string]proof // by the value of the cookie
}

func newLedger() *ledger {
	return &ledger{least: count{}, most: count{}, acked: count{}, ordered: count{}, proofs: map[string]proof{}}
}

// An entry is one add, from when it was sent until it was answered.
type entry struct {
	page    int
	product string
	qty     int
}

func (l *ledger) send(product string, qty int) entry {
	l.most[product] += qty
	l.pending++
	return entry{l.page, product, qty}
}

// confirm notes that the site took the add.
func (l *ledger) confirm(e entry) {
	l.pending--
	if e.page == l.page {
		l.least[e.product] += e.qty
		l.acked[e.product] += e.qty
	}
}

// refuse notes that the site said that it did not take the add.
func (l *ledger) refuse(e entry) {
	l.pending--
	if e.page == l.page {
		l.most[e.product] -= e.qty
	}
}

// doubt notes that nobody knows whether the site took the add.
func (l *ledger) doubt(entry) { l.pending-- }

// A glance is what the ledger says when a request is sent whose answer will
// show the cart.
type glance struct {
	page    int
	least   count
	ordered count
}

func (l *ledger) glance() glance { return glance{l.page, maps.Clone(l.least), maps.Clone(l.ordered)} }

// compare holds what the site shows in the cart against what was known when it
// was asked. It returns how many items are missing and how many too many there
// are, and from then on expects what it has seen, so that each loss is counted
// once.
func (l *ledger) compare(g glance, cart map[string]int) (missing, extra int) {
	if g.page != l.page {
		return 0, 0
	}
	for p := range keys(g.least, l.most, cart) {
		missing += max(0, g.least[p]-cart[p]-l.ordered[p])
		extra += max(0, cart[p]+g.ordered[p]-l.most[p]) // the site need not know of later orders
	}
	if missing+extra > 0 {
		l.settle(cart)
	}
	return missing, extra
}

// settle takes what was seen for what is. Adds on their way may be in it or
// not, so they are on the page before.
func (l *ledger) settle(cart map[string]int) {
	l.page++
	clear(l.proofs)
	for p := range keys(l.least, l.most, cart) {
		seen := cart[p] + l.ordered[p]
		l.least[p] = min(l.least[p], seen)
		l.most[p] = max(l.most[p], seen)
	}
}

// forgive takes what was seen for all that there ever was.
func (l *ledger) forgive(cart map[string]int) {
	for p := range l.acked {
		l.acked[p] = min(l.acked[p], cart[p]+l.ordered[p])
	}
}

// clear starts the ledger of a new session, after a logout, which takes the
// cart with it on purpose. What is still on its way may land in the new one.
func (l *ledger) clear() {
	l.missed += l.short(l.least, nil)
	l.page++
	clear(l.proofs)
	late := count{}
	if l.pending > 0 { // which of them is not worth knowing
		late = maps.Clone(l.most)
	}
	l.least, l.most, l.acked, l.ordered, l.past = count{}, late, count{}, count{}, l.most
}

// survived is for a session that should be over and is not: its cart is still
// what it was, and not too full.
func (l *ledger) survived() {
	l.most.add(l.past)
	l.past = nil
}

// short returns how many acknowledged items are not where they should be.
func (l *ledger) short(cart, orders map[string]int) (n int) {
	for p, acked := range l.acked {
		n += max(0, acked-cart[p]-orders[p])
	}
	return n
}

// lost returns how many of all the acknowledged items are nowhere, now that
// nothing is on its way any more and the site shows this cart.
func (l *ledger) lost(cart map[string]int) int {
	return l.missed + l.short(cart, l.ordered)
}

func keys(counts ...map[string]int) map[string]bool {
	all := map[string]bool{}
	for _, c := range counts {
		for p := range c {
			all[p] = true
		}
	}
	return all
}
