package balancer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/roam-web/roam/cmd/roam/internal/balancer"
)

// Two servers take turns. One of them is drained for an upgrade: when it is
// empty it can be stopped, and no visitor has noticed.
func Example() {
	b := balancer.New(nil)
	for _, name := range []string{"web1", "web2"} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "hello from %s\n", name)
		}))
		defer web.Close()
		b.Set(name, web.Listener.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	checks := make(chan error)
	go func() { checks <- b.Run(ctx) }()

	front := httptest.NewServer(b)
	defer front.Close()
	visit := func() {
		res, err := front.Client().Get(front.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		fmt.Print(string(text))
	}
	visit()
	visit()

	b.Drain("web1")
	if err := b.Empty(ctx, "web1"); err != nil {
		fmt.Println(err)
	}
	visit()
	visit()
	for _, s := range b.Status() {
		fmt.Println(s.Name, s.State, s.Requests)
	}

	cancel()
	<-checks
	// Output:
	// hello from web1
	// hello from web2
	// hello from web2
	// hello from web2
	// web1 draining 1
	// web2 up 3
}
