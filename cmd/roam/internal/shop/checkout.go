package shop

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/roam-web/roam"
)

// checkout turns the cart into an order. Cart and order are in two databases
// and no transaction spans them, so the steps are in an order that can be cut
// off anywhere and repeated:
//
//  1. Read the cart.
//  2. Insert an order with the cart's ID. If there is one already, from a
//     second click or a try that was cut off, that one stands.
//  3. Take out of the cart what that order has, if it is still the same cart.
//
// The first step asks for certainty: the orders' database knows nothing of
// sessions, and would take an order from one that was ended a moment ago.
//
// What another tab adds meanwhile stays in the cart. Given up is the quantity
// that another tab lowers between steps 1 and 3: the order came first.
func (s *Shop) checkout(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.certain(w, r)
	if err != nil {
		return err
	}
	cart := visit.Data.Cart
	if shown := r.PostFormValue("cart"); shown != "" && shown != cart.ID {
		return seeOther(w, r, "/orders") // that cart has been ordered; this one the visitor has not seen
	}
	if cart.Count() == 0 {
		return seeOther(w, r, "/orders")
	}
	order, err := s.orders.place(r.Context(), newOrder(visit.User, cart))
	if err != nil {
		return err
	}
	err = s.settle(w, r, order)
	if errors.Is(err, roam.ErrUnavailable) { // the order stands, whatever the cart says
		err = fmt.Errorf("%w: %w", errDoubt, err)
	}
	if err != nil {
		return err
	}
	return seeOther(w, r, "/orders/"+order.ID)
}

// settle is the third step. It goes through web, which tells the browser of the
// new version by its mark: else another server, whose memory has the cart from
// before, would show it once more.
func (s *Shop) settle(w http.ResponseWriter, r *http.Request, placed Order) error {
	_, err := s.web.Update(w, r, func(v *Visit) error {
		v.Cart.Take(placed)
		return nil
	})
	return err
}

// history returns the visit of a member and their orders, newest first. If one
// of them is still in the cart, a checkout was cut off, for instance because its
// server was killed: it is settled here.
func (s *Shop) history(w http.ResponseWriter, r *http.Request) (roam.Session[Visit], []Order, error) {
	visit, err := s.member(w, r)
	if err != nil {
		return visit, nil, err
	}
	all, err := s.orders.list(r.Context(), visit.User)
	if err != nil {
		return visit, nil, err
	}
	for _, o := range all {
		if o.ID == visit.Data.Cart.ID {
			return visit, all, s.settle(w, r, o)
		}
	}
	return visit, all, nil
}

func (s *Shop) listOrders(w http.ResponseWriter, r *http.Request) error {
	visit, all, err := s.history(w, r)
	if err != nil {
		return err
	}
	return s.private(w, r, "orders", visit.User, all)
}

// order shows one order to the user who placed it. To all others there is no
// such order. It needs to know who that is, and nothing of the session.
func (s *Shop) order(w http.ResponseWriter, r *http.Request) error {
	who, err := s.named(w, r)
	if err != nil {
		return err
	}
	order, err := s.orders.find(r.Context(), who.User, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.private(w, r, "order", who.User, order)
}
