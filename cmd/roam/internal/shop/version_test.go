package shop

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/roam-web/roam"
)

// Servers of both versions change one session in turn, as in the middle of a
// roll and after a roll back.
func TestTwoVersionsShareSessions(t *testing.T) {
	store := roam.NewMemStore()
	first := roam.Must(roam.New[Visit](store, nil))
	var opts roam.Options
	secondVersion(&opts)
	second := roam.Must(roam.New[Visit](store, &opts))

	var tok roam.Token
	want := map[string]int{}
	for i, step := range []struct {
		by   *roam.Manager[Visit]
		line Line
	}{
		{first, Line{"teapot", 1}}, {second, Line{"green-tea", 2}}, {first, Line{"oolong", 3}}, {first, Line{"teapot", 0}},
		{second, Line{"teapot", 4}}, {second, Line{"gone", 5}}, {first, Line{"green-tea", 1}}, {second, Line{"oolong", 0}},
	} {
		s, err := step.by.Update(t.Context(), tok, func(v *Visit) error { return v.Cart.Set(step.line) })
		if err != nil {
			t.Fatal(err)
		}
		if want[step.line.Product] = step.line.Qty; step.line.Qty == 0 {
			delete(want, step.line.Product)
		}
		tok = s.Token
		var carts []Cart
		for _, m := range []*roam.Manager[Visit]{first, second} {
			s, err := m.Get(t.Context(), tok)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, l := range s.Data.Cart.Lines {
				got[l.Product] = l.Qty
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("after step %d: the cart is %v, want %v", i, got, want)
			}
			carts = append(carts, s.Data.Cart)
		}
		if carts[0].ID != carts[1].ID {
			t.Errorf("after step %d: the cart is %s to the first version and %s to the second", i, carts[0].ID, carts[1].ID)
		}
	}

	rec, err := store.Load(t.Context(), must(first.Get(t.Context(), tok))(t).ID, roam.Want{})
	if err != nil {
		t.Fatal(err)
	}
	var stored map[string]any
	if err := json.Unmarshal(rec.Data, &stored); err != nil || stored["by"] != 2.0 {
		t.Errorf("what only the second version knows is gone: %s, %v", rec.Data, err)
	}

	empty := func(v *Visit) error { v.Cart = Cart{}; return nil }
	if _, err := first.Update(t.Context(), tok, empty); err != nil {
		t.Fatal(err)
	}
	if s := must(second.Get(t.Context(), tok))(t); s.Data.Cart.Count() != 0 {
		t.Errorf("the first version has emptied the cart, and the second sees %+v", s.Data.Cart)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
