package shop

import (
	"encoding/json"
	"net/http"

	"github.com/roam-web/roam"
)

// The calls of this file and of live.go answer in JSON. The page /live is public
// and knows nobody; its small JavaScript calls these.

// An identity says whose session it is.
type identity struct {
	Server string      `json:"server"`
	User   string      `json:"user"`  // "" for a guest
	Ended  roam.Reason `json:"ended"` // why the session is over, "" if it is not
}

// An answer says what is in the cart, too.
type answer struct {
	identity
	Cart  map[string]int `json:"cart"`
	Count int            `json:"count"`
}

// whoami asks no database; see member.go.
func (s *Shop) whoami(w http.ResponseWriter, r *http.Request) error {
	who, err := s.web.Identify(w, r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, identity{Server: s.server, User: who.User})
}

func (s *Shop) apiCart(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.web.Get(w, r)
	if err != nil {
		return err
	}
	return s.answer(w, visit)
}

// apiAdd answers when the change is durable.
func (s *Shop) apiAdd(w http.ResponseWriter, r *http.Request) error {
	line, err := lineOf(r, 1)
	if err != nil {
		return err
	}
	visit, err := s.web.Update(w, r, func(v *Visit) error { return v.Cart.Add(line) })
	if err != nil {
		return err
	}
	return s.answer(w, visit)
}

func (s *Shop) apiSet(w http.ResponseWriter, r *http.Request) error {
	line, err := lineOf(r, 0)
	if err != nil {
		return err
	}
	visit, err := s.web.Update(w, r, func(v *Visit) error { return v.Cart.Set(line) })
	if err != nil {
		return err
	}
	return s.answer(w, visit)
}

func (s *Shop) apiOrders(w http.ResponseWriter, r *http.Request) error {
	_, all, err := s.history(w, r)
	if err != nil {
		return err
	}
	type order struct {
		ID    string         `json:"id"`
		Lines map[string]int `json:"lines"`
	}
	list := []order{}
	for _, o := range all {
		lines := make(map[string]int)
		for _, i := range o.Lines {
			lines[i.Product] = i.Qty
		}
		list = append(list, order{o.ID, lines})
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Shop) answer(w http.ResponseWriter, visit roam.Session[Visit]) error {
	a := answer{identity{Server: s.server, User: visit.User}, map[string]int{}, visit.Data.Cart.Count()}
	for _, l := range visit.Data.Cart.Lines {
		a.Cart[l.Product] = l.Qty
	}
	return writeJSON(w, http.StatusOK, a)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
	return nil
}
