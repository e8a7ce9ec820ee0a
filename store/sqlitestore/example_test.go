package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/store/sqlitestore"
)

func Example() {
	dir, err := os.MkdirTemp("", "shop")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := sqlitestore.Open(filepath.Join(dir, "sessions.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	type Cart struct{ Items []string }
	sessions, err := roam.New[Cart](store, nil)
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	s, err := sessions.Update(ctx, roam.Token{}, func(c *Cart) error {
		c.Items = append(c.Items, "teapot")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	// Any other process on this host that opens the file has the session too.
	again, err := sessions.Get(ctx, s.Token)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(again.Data.Items)
	// Output: [teapot]
}

// After a backup was put back, and before the servers start.
func ExampleStore_Restored() {
	dir, err := os.MkdirTemp("", "shop")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := sqlitestore.Open(filepath.Join(dir, "sessions.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ctx := context.Background()
	if err := store.Check(ctx); err != nil {
		log.Fatal(err)
	}
	first, err := store.Restored(ctx)
	if err != nil {
		log.Fatal(err)
	}
	second, err := store.Restored(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(second > first)
	// Output: true
}
