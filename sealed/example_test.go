package sealed_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/roam-web/roam/sealed"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keys.json")

	// Once, by the operator: roam key new.
	if _, err := sealed.Create(path); err != nil {
		log.Fatal(err)
	}

	// On every server.
	keys, err := sealed.New(ctx, sealed.FromFile(path), nil)
	if err != nil {
		log.Fatal(err)
	}
	go keys.Run(ctx)
	marks := keys.Sealer("__Host-roam-mark", "shop.example", "mark")
	value := marks.Seal(nil, []byte("alice"), []byte("session 1"))

	// On any other one.
	who, err := marks.Open(nil, value, []byte("session 1"))
	fmt.Printf("%s %v\n", who, err)
	_, err = marks.Open(nil, value, []byte("session 2"))
	fmt.Println(err)

	// Now and then, by the operator: roam key rotate.
	list, err := sealed.Rotate(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range list {
		fmt.Println(key.State)
	}
	// Output:
	// alice <nil>
	// sealed: cannot be opened
	// next
	// current
}
