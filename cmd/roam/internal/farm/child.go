package farm

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/roam-web/roam/graceful"
)

// Serve is the main part of a web server's process: it serves handler, and
// GET /livez and GET /readyz beside it, on the socket that the farm has passed,
// until ctx ends (on SIGTERM, say) or the farm is no more, and then stops
// without losing a request.
//
// The farm holds the other end of life, standard input, and never writes. Its
// end is the farm's: also one that was killed cannot leave servers behind.
func Serve(ctx context.Context, life io.Reader, handler http.Handler, logger *slog.Logger) error {
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
	mux := http.NewServeMux()
	srv := graceful.New(&http.Server{
		Handler:  mux,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}, nil)
	mux.Handle("GET /livez", graceful.Livez())
	mux.Handle("GET /readyz", srv.Readyz())
	mux.Handle("/", handler)
	logger.Info("serving", "address", ln.Addr().String(), "pid", os.Getpid())
	err = srv.Run(ctx, ln)
	logger.Info("stopped", "pid", os.Getpid())
	return err
}
