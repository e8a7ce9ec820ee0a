package graceful_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/roam-web/roam/graceful"
)

// A whole program: it stops on Ctrl-C and on SIGTERM, which is what
// Kubernetes, systemd and Docker send.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills at once

	mux := http.NewServeMux()
	web := graceful.New(&http.Server{Handler: mux}, &graceful.Options{
		Notice: 5 * time.Second, // probed every 2 s, out after 2 failures
	})
	mux.Handle("GET /livez", graceful.Livez())
	mux.Handle("GET /readyz", web.Readyz())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") })

	ln, err := graceful.Listener(":8080")
	if err != nil {
		log.Fatal(err)
	}
	if err := web.Run(ctx, ln); err != nil {
		log.Fatal(err)
	}
}

func ExampleServer_Run() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	ln, err := graceful.Listener(":8080")
	if err != nil {
		log.Fatal(err)
	}
	err = graceful.New(&http.Server{}, nil).Run(ctx, ln)

	var cut *graceful.CutError
	if errors.As(err, &cut) {
		log.Printf("%d requests need more than %v; raise Timeout or find out why", cut.Requests, cut.Limit)
	}
}

func ExampleServer_RunTLS() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	ln, err := graceful.Listener(":8443")
	if err != nil {
		log.Fatal(err)
	}
	log.Print(graceful.New(&http.Server{}, nil).RunTLS(ctx, ln, "cert.pem", "key.pem"))
}

// A stream of server-sent events ends when the server drains, and the browser
// opens it again on another one.
func ExampleServer_Draining() {
	mux := http.NewServeMux()
	web := graceful.New(&http.Server{Handler: mux}, nil)

	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-web.Draining():
				return
			case <-r.Context().Done():
				return
			case now := <-tick.C:
				fmt.Fprintf(w, "data: %s\n\n", now)
				http.NewResponseController(w).Flush()
			}
		}
	})
}

func ExampleServer_Readyz() {
	cold := errors.New("the catalogue is not loaded yet")
	web := graceful.New(&http.Server{}, &graceful.Options{
		Check: func(context.Context) error { return cold },
	})
	probe := func() {
		w := httptest.NewRecorder()
		web.Readyz().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	probe()
	cold = nil
	probe()
	// Output:
	// 503 not ready
	// 200 ok
}

func ExampleLivez() {
	w := httptest.NewRecorder()
	graceful.Livez().ServeHTTP(w, httptest.NewRequest("GET", "/livez", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 200 ok
}

// The number of requests in flight is a useful gauge, and what an operator
// wants to see fall to zero.
func ExampleServer_InFlight() {
	web := graceful.New(&http.Server{}, nil)
	http.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "http_requests_in_flight", web.InFlight())
	})
}

// The same line serves on a socket from a parent or from systemd, and on one of
// its own.
func ExampleListener() {
	ln, err := graceful.Listener("localhost:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	fmt.Println(ln.Addr().Network())
	// Output:
	// tcp
}

// A parent holds the socket and restarts its web server. Requests that come in
// between wait in the kernel's queue; none is refused.
func ExamplePass() {
	ln, err := graceful.Listener(":8080")
	if err != nil {
		log.Fatal(err)
	}
	for {
		cmd := exec.Command("./web")
		if err := graceful.Pass(cmd, ln); err != nil {
			log.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			log.Fatal(err)
		}
		cmd.ExtraFiles[0].Close() // the child has its own
		log.Print("web ended: ", cmd.Wait())
	}
}
