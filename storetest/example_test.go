package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/storetest"
)

type cart struct{ Items []string }

// In a store's own tests: func TestLaw(t *testing.T) { storetest.Run(t, open) }.
func ExampleRun() {
	open := func(tb testing.TB) roam.Store {
		return roam.NewMemStore() // here the store under test, and tb.Cleanup to close it
	}
	TestLaw := func(t *testing.T) { storetest.Run(t, open) }
	_ = TestLaw
}

func ExampleCounting() {
	store := &storetest.Counting{Store: roam.NewMemStore()}
	sessions := roam.Must(roam.New[cart](store, nil))

	ctx := context.Background()
	sessions.Get(ctx, roam.Token{})
	fmt.Println("a first visit:", store)

	s, _ := sessions.Update(ctx, roam.Token{}, func(c *cart) error { c.Items = []string{"tea"}; return nil })
	fmt.Println("a first item: ", store)

	store.Reset()
	sessions.Update(ctx, s.Token, func(c *cart) error { c.Items = append(c.Items, "milk"); return nil })
	fmt.Println("a second one: ", store)
	// Output:
	// a first visit: no calls
	// a first item:  Insert 1
	// a second one:  Update 1
}

func ExampleFaulty() {
	network := &storetest.Faulty{Store: roam.NewMemStore()}
	sessions := roam.Must(roam.New[cart](network, nil))

	ctx := context.Background()
	s, _ := sessions.Update(ctx, roam.Token{}, func(c *cart) error { c.Items = []string{"tea"}; return nil })

	network.Faults = storetest.Faults{LostRequest: 1} // from now on nothing arrives
	_, err := sessions.Get(ctx, s.Token)
	fmt.Println("unavailable:", errors.Is(err, roam.ErrUnavailable), "ended:", errors.Is(err, roam.ErrEnded))

	network.Heal()
	s, err = sessions.Get(ctx, s.Token)
	fmt.Println(s.Data.Items, err)
	// Output:
	// unavailable: true ended: false
	// [tea] <nil>
}
