package shop

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/roam-web/roam"
)

// A site changes while people shop: for some minutes servers of the old and of
// the new version answer the same visitors, and if the new one turns out bad,
// the old one must go on with what the new one wrote. This file is the
// shop's second version, as far as its sessions go; "roam drill --scenario
// upgrade" rolls a farm from the first to the second and back.
//
// The first version stores a [Visit] as it is:
//
//	{"cart":{"id":"…","lines":[{"product":"green-tea","qty":2}]}}
//
// The second one has a basket in its place, and reads nothing else:
//
//	{"basket":{"id":"…","items":{"green-tea":2}},"by":2}
//
// Three steps make the change one that nobody notices:
//
//   - [basketOf] brings what the first version stored into the new form
//     ([roam.Options.Upgrade]);
//   - the second version goes on writing the cart beside the basket, so that the
//     first one can read it, until no server of the first one is left and a
//     third version drops the cart;
//   - what the first version does not know it keeps: that is roam's part. So it
//     leaves an old basket beside its newer cart, which is why the cart counts
//     as long as there is one.
type visit2 struct {
	Cart   Cart   `json:"cart,omitzero"` // for the first version alone
	Basket basket `json:"basket,omitzero"`
	By     int    `json:"by"` // the first version does not know it, and must keep it
}

type basket struct {
	ID    string         `json:"id"`
	Items map[string]int `json:"items"`
}

// secondVersion makes options of the first version those of the second.
func secondVersion(opts *roam.Options) {
	opts.Upgrade = basketOf
	opts.Codec = codec2{}
}

// basketOf adds a basket to what the first version stored.
func basketOf(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return stored, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(stored, &all); err != nil {
		return nil, err
	}
	old, ok := all["cart"]
	if !ok { // an empty one is left out, by both
		delete(all, "basket")
		return json.Marshal(all)
	}
	var c Cart
	if err := json.Unmarshal(old, &c); err != nil {
		return nil, fmt.Errorf("shop: the cart of version 1: %w", err)
	}
	next, err := json.Marshal(basketFrom(c))
	if err != nil {
		return nil, err
	}
	all["basket"] = next
	return json.Marshal(all)
}

func basketFrom(c Cart) basket {
	b := basket{ID: c.ID, Items: make(map[string]int)}
	for _, l := range c.Lines {
		b.Items[l.Product] = l.Qty
	}
	if len(b.Items) == 0 {
		return basket{}
	}
	return b
}

// codec2 stores a Visit as the second version does. The pages are those of the
// first one, which is all that keeps them from being a second shop.
type codec2 struct{}

// Encode implements [roam.Codec].
func (codec2) Encode(v any, was []byte) ([]byte, error) {
	visit := v.(*Visit)
	return roam.JSON{}.Encode(&visit2{visit.Cart, basketFrom(visit.Cart), 2}, was)
}

// Decode implements [roam.Codec]. The basket has no order, so the page shows
// the catalogue's.
func (codec2) Decode(data []byte, v any) error {
	var stored visit2
	if err := (roam.JSON{}).Decode(data, &stored); err != nil {
		return err
	}
	visit := v.(*Visit)
	visit.Cart = Cart{ID: stored.Basket.ID}
	known := Products()
	place := func(id string) int { // what is no longer for sale comes last
		if i := slices.Index(known, id); i >= 0 {
			return i
		}
		return len(known)
	}
	for _, id := range slices.SortedFunc(maps.Keys(stored.Basket.Items), func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	}) {
		visit.Cart.Lines = append(visit.Cart.Lines, Line{id, stored.Basket.Items[id]})
	}
	return nil
}
