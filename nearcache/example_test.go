package nearcache_test

import (
	"context"
	"fmt"
	"log"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

type Cart struct{ Items []string }

// Clone lets readers of a cached cart share what was decoded once.
func (c *Cart) Clone() Cart { return Cart{Items: append([]string(nil), c.Items...)} }

func Example() {
	database := roam.NewMemStore() // for instance; then the next line is of little use
	store := roam.Must(nearcache.New(database, nil))
	sessions := roam.Must(roam.New[Cart](store, nil))

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- sessions.Run(ctx) }() // reads the log of ends; without it the database is asked each time

	s, err := sessions.Login(ctx, roam.Token{}, roam.Login{User: "ann"}, func(c *Cart) error {
		c.Items = append(c.Items, "tea")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	s, err = sessions.Get(ctx, s.Token)
	fmt.Println(s.User, s.Data.Items, err)

	stop()
	<-done
	// Output: ann [tea] <nil>
}
