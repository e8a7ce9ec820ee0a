package shop

import (
	"net/http"
	"strconv"
)

// cart looks and changes nothing. It costs no trip to the store for those who
// have no session, and none while this server has the session in its memory at
// least as new as the visitor has seen it, whichever server changed it: the mark
// cookie tells. Else it costs one.
func (s *Shop) cart(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.web.Get(w, r)
	if err != nil {
		return err
	}
	return s.private(w, r, "cart", visit.User, visit.Data.Cart)
}

// addToCart starts a session if there is none yet. The function may run again
// if another tab was faster; neither tab's tea gets lost.
func (s *Shop) addToCart(w http.ResponseWriter, r *http.Request) error {
	line, err := lineOf(r, 1)
	if err != nil {
		return err
	}
	_, err = s.web.Update(w, r, func(v *Visit) error { return v.Cart.Add(line) })
	if err != nil {
		return err
	}
	return seeOther(w, r, "/cart")
}

func (s *Shop) setInCart(w http.ResponseWriter, r *http.Request) error {
	line, err := lineOf(r, 0)
	if err != nil {
		return err
	}
	_, err = s.web.Update(w, r, func(v *Visit) error { return v.Cart.Set(line) })
	if err != nil {
		return err
	}
	return seeOther(w, r, "/cart")
}

// lineOf reads product and qty from a form. Without a qty it is 1; least is
// the smallest that makes sense.
func lineOf(r *http.Request, least int) (Line, error) {
	line := Line{r.PostFormValue("product"), 1}
	if _, ok := findProduct(line.Product); !ok {
		return Line{}, errNoProduct
	}
	if qty := r.PostFormValue("qty"); qty != "" {
		n, err := strconv.Atoi(qty)
		if err != nil || n < least || n > maxQty {
			return Line{}, errQty
		}
		line.Qty = n
	}
	return line, nil
}
