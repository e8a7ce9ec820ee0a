package shoppers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// shopFarm is the real shop on three servers of this process, each asked in
// turn.
func shopFarm(t *testing.T, store func() roam.Store) Options {
	t.Helper()
	orders := filepath.Join(t.TempDir(), "orders.db")
	var names []string
	var servers []http.Handler
	for i := range 3 {
		names = append(names, fmt.Sprintf("web%d", i+1))
		s, err := shop.New(shop.Config{Server: names[i], Sessions: store(), Orders: orders})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		servers = append(servers, s.Handler())
	}
	var n atomic.Uint64
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		servers[n.Add(1)%3].ServeHTTP(w, r)
	}))
	t.Cleanup(site.Close)
	return Options{
		URL: site.URL, RootCAs: site.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
		Servers: names, Rate: 200, Duration: 1500 * time.Millisecond,
		Accounts: shop.Accounts()[:5], Password: shop.Password, Products: shop.Products(), Seed: 1,
		Bound: 5 * time.Second,
	}
}

func TestTheShopLosesNothing(t *testing.T) {
	t.Parallel()
	for _, leave := range []bool{false, true} {
		shared := roam.NewMemStore()
		opts := shopFarm(t, func() roam.Store { return shared })
		opts.Leave = leave
		r, err := Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := faults(r); len(got) > 0 {
			t.Errorf("leave %v: %v\n%q", leave, got, r.Samples)
		}
	}
}

// Nothing fails here, and all the same nobody can shop: the server that a
// visitor meets next does not know the session.
func TestTheShopWithAMemoryPerServerLosesSessions(t *testing.T) {
	t.Parallel()
	opts := shopFarm(t, func() roam.Store { return roam.NewMemStore() })
	r, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if r.LoggedOut == 0 || r.CartItemsLost == 0 || r.AckedWritesLost == 0 {
		t.Errorf("logged_out %d, cart_items_lost %d, acked_writes_lost %d; want none of them 0", r.LoggedOut, r.CartItemsLost, r.AckedWritesLost)
	}
	if r.WrongAnswers+r.WrongUser+r.CartItemsTwice > 0 {
		t.Errorf("faults that this design does not have: %v\n%q", faults(r), r.Samples)
	}
}
