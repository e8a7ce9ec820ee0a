package shoppers

import (
	"maps"
	"testing"
)

func TestPagesAreReadFromTheirAttributes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       page
		fails      bool
	}{
		{"a public page", `<html><body data-server="web1" data-page="home"><p data-product="mug">`,
			page{server: "web1", name: "home"}, false},
		{"a cart", `<body data-page=cart data-user="ann" data-server=web2><li data-product="tea" data-qty="3"><b data-qty="1" data-product="mug"></b>`,
			page{server: "web2", name: "cart", session: true, user: "ann", cart: map[string]int{"tea": 3, "mug": 1}}, false},
		{"an empty cart", `<body data-page=cart data-user="" data-server=web2>`,
			page{server: "web2", name: "cart", session: true, cart: map[string]int{}}, false},
		{"an end", `<body data-page=ended data-user="" data-ended="logged out" data-server=web3>`,
			page{server: "web3", name: "ended", session: true, ended: "logged out"}, false},
		{"something else", `<p>Bad gateway`, page{}, true},
		{"a quantity that is none", `<body data-page=cart data-server=web2><li data-product="tea" data-qty="lots">`, page{}, true},
	} {
		got, err := parsePage([]byte(c.text))
		if (err != nil) != c.fails {
			t.Errorf("%s: error %v", c.name, err)
			continue
		}
		if c.fails {
			continue
		}
		cart, want := got.cart, c.want.cart
		got.cart, c.want.cart = nil, nil
		if got.server != c.want.server || got.name != c.want.name || got.session != c.want.session ||
			got.user != c.want.user || got.ended != c.want.ended || !maps.Equal(cart, want) || (cart == nil) != (want == nil) {
			t.Errorf("%s: got %+v and cart %v, want %+v and %v", c.name, got, cart, c.want, want)
		}
	}
}
