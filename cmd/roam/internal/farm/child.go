package farm

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/roam-web/roam/graceful"
)

// A Site is what a web server's process serves. Handler and Logger are
// required.
type Site struct {
	Handler http.Handler
	Logger  *slog.Logger

	// Ready says why the server should get no requests if another one can
	// have them; see [graceful.Options]. nil means that it always may.
	Ready func(context.Context) error

	// Vitals tells what else the farm should know of the server than the
	// number of its goroutines. Report is where to write it, the standard
	// output that the farm has passed. nil means that nothing is told.
	Vitals func() Vitals
	Report io.Writer
}

// Serve is the main part of a web server's process: it serves the site, and
// GET /livez and GET /readyz beside it, on the socket that the farm has passed,
// until ctx ends (on SIGTERM, say) or the farm is no more, and then stops
// without losing a request.
//
// The farm holds the other end of life, standard input, and never writes. Its
// end is the farm's: also one that was killed cannot leave servers behind.
func Serve(ctx context.Context, life io.Reader, site Site) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, life) // nothing can wake this up but the farm's end, and it outlives Serve
		cancel()
	}()
	ln, err := graceful.Listener("127.0.0.1:0")
	if err != nil {
		return err
	}
	if site.Report != nil && site.Vitals != nil {
		signal.Ignore(syscall.SIGPIPE) // a farm that is killed must not take the requests in flight along
		var reports sync.WaitGroup
		telling, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while stopping
		reports.Go(func() { report(telling, site.Report, site.Vitals) })
		defer reports.Wait()
		defer stop()
	}
	mux := http.NewServeMux()
	srv := graceful.New(&http.Server{
		Handler:  mux,
		ErrorLog: slog.NewLogLogger(site.Logger.Handler(), slog.LevelWarn),
	}, &graceful.Options{Check: site.Ready})
	mux.Handle("GET /livez", graceful.Livez())
	mux.Handle("GET /readyz", srv.Readyz())
	mux.Handle("/", site.Handler)
	site.Logger.Info("serving", "address", ln.Addr().String(), "pid", os.Getpid())
	err = srv.Run(ctx, ln)
	site.Logger.Info("stopped", "pid", os.Getpid())
	return err
}
