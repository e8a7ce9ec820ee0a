package postgresstore_test

import (
	"context"
	"log"
	"os"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/store/postgresstore"
)

type Cart struct{ Items []string }

func Example() {
	ctx := context.Background()
	store, err := postgresstore.Open(ctx, os.Getenv("DATABASE_URL"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Check(ctx); err != nil {
		log.Print(err) // what is set in a way that loses sessions
	}
	sessions, err := roam.New[Cart](store, nil)
	if err != nil {
		log.Fatal(err)
	}
	go sessions.Run(ctx)
}

// Which tables there are is for whoever owns the database to say.
func ExampleInit() {
	opts := &postgresstore.Options{Schema: "sessions", Table: "web"}
	if err := postgresstore.Init(context.Background(), os.Getenv("OWNER_URL"), opts); err != nil {
		log.Fatal(err)
	}
}

// Reads that may be a little old go to replicas.
func ExampleOpen() {
	opts := &postgresstore.Options{Replicas: "postgres://shop:secret@replica1,replica2/shop?sslmode=verify-full"}
	store, err := postgresstore.Open(context.Background(), "postgres://shop:secret@db1,db2/shop?sslmode=verify-full", opts)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}
