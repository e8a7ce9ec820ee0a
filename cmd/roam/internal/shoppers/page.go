package shoppers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/html"
)

// A page is what a shopper makes out of an answer. The site's pages carry what
// matters in data attributes beside what they show, so that a witness need not
// guess from the words.
type page struct {
	server  string
	name    string         // data-page
	session bool           // the page looked at the session
	user    string         // whom it took the shopper for, "" a guest
	ended   string         // why the session that the request brought is over
	cart    map[string]int // nil if the page does not show the cart
}

// parsePage reads an HTML page.
func parsePage(body []byte) (page, error) {
	var p page
	found := false
	lines := map[string]int{}
	z := html.NewTokenizer(bytes.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !found {
				return p, fmt.Errorf("a page without <body data-server=…>: %.80q", body)
			}
			if p.name == "cart" {
				p.cart = lines
			}
			return p, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			tag, more := z.TagName()
			isBody := string(tag) == "body"
			var product, qty string
			for more {
				var k, v []byte
				k, v, more = z.TagAttr()
				switch key := string(k); {
				case key == "data-product":
					product = string(v)
				case key == "data-qty":
					qty = string(v)
				case !isBody:
				case key == "data-server":
					p.server, found = string(v), true
				case key == "data-page":
					p.name = string(v)
				case key == "data-user":
					p.user, p.session = string(v), true
				case key == "data-ended":
					p.ended = string(v)
				}
			}
			if product != "" && qty != "" {
				n, err := strconv.Atoi(qty)
				if err != nil {
					return p, fmt.Errorf("data-qty is %q: want a number", qty)
				}
				lines[product] += n
			}
		}
	}
}

// parseState reads the answer of the small JSON calls, of which only some tell
// the cart.
func parseState(body []byte) (page, error) {
	var s struct {
		Server string
		User   *string
		Ended  string
		Cart   map[string]int
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return page{}, fmt.Errorf("%w in %.80q", err, body)
	}
	if s.User == nil {
		return page{}, fmt.Errorf("no user in %.80q", body)
	}
	return page{server: s.Server, session: true, user: *s.User, ended: s.Ended, cart: s.Cart}, nil
}

// An order is what became of a cart.
type order struct {
	ID    string
	Lines map[string]int
}

func parseOrders(body []byte) ([]order, error) {
	var raw []struct {
		ID    json.RawMessage
		Lines map[string]int
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("%w in %.80q", err, body)
	}
	orders := make([]order, len(raw))
	for i, o := range raw {
		orders[i] = order{strings.Trim(string(o.ID), `"`), o.Lines}
	}
	return orders, nil
}
