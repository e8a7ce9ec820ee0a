package shop

import (
	"crypto/rand"
	"slices"
)

// A Visit is what the session of a visitor holds. Names and prices are not in
// it: they are the catalogue's, and may change while a cart waits.
type Visit struct {
	Cart Cart `json:"cart,omitzero"`
}

// A Cart is what a visitor means to buy. The empty cart is the zero Cart.
type Cart struct {
	// ID names this filling of the cart and becomes the order's. That is
	// what makes checkout happen once, however often it is asked for.
	ID    string `json:"id"`
	Lines []Line `json:"lines"`
}

// A Line is a product and how many of it.
type Line struct {
	Product string `json:"product"`
	Qty     int    `json:"qty"`
}

// maxQty is the most of one product in a cart. More is refused rather than
// cut: nobody is told that something is in the cart when it is not.
const maxQty = 9999

// Qty returns how many of a product are in the cart.
func (c Cart) Qty(product string) int {
	for _, l := range c.Lines {
		if l.Product == product {
			return l.Qty
		}
	}
	return 0
}

// Count returns how many things are in the cart.
func (c Cart) Count() (n int) {
	for _, l := range c.Lines {
		n += l.Qty
	}
	return n
}

// Cents returns what the cart costs today.
func (c Cart) Cents() (sum int) {
	for _, l := range c.Lines {
		sum += l.Qty * productNamed(l.Product).Cents
	}
	return sum
}

// Add puts more of a product into the cart.
func (c *Cart) Add(more Line) error {
	return c.Set(Line{more.Product, c.Qty(more.Product) + more.Qty})
}

// Set puts so many of a product into the cart, in place of what was there.
func (c *Cart) Set(line Line) error {
	if line.Qty > maxQty {
		return errTooMany
	}
	i := slices.IndexFunc(c.Lines, func(l Line) bool { return l.Product == line.Product })
	switch {
	case i >= 0 && line.Qty > 0:
		c.Lines[i].Qty = line.Qty
	case i >= 0:
		c.Lines = slices.Delete(c.Lines, i, i+1)
	case line.Qty > 0:
		c.Lines = append(c.Lines, line)
	}
	switch {
	case len(c.Lines) == 0:
		*c = Cart{}
	case c.ID == "":
		c.ID = rand.Text()
	}
	return nil
}

// Take removes what was ordered, if this is still the cart that was ordered.
// What was put in since then stays, in a cart of its own.
func (c *Cart) Take(o Order) {
	if c.ID != o.ID {
		return
	}
	var rest Cart
	for _, l := range c.Lines {
		rest.Set(Line{l.Product, l.Qty - o.Qty(l.Product)})
	}
	*c = rest
}
