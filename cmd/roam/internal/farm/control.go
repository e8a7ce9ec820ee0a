package farm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Control speaks HTTP and JSON over a Unix socket, so that curl can do what
// the commands do:
//
//	curl --unix-socket DIR/control/socket http://farm/
//	curl --unix-socket DIR/control/socket -X POST http://farm/servers/web2/drain
//
// The socket is its owner's alone: it has mode 0600 in a folder of mode 0700,
// and on Linux the kernel is asked who is calling.

// maxSocketPath is what the address of a Unix socket has room for: 108 bytes
// on Linux and 104 elsewhere, with a zero at the end.
const maxSocketPath = 103

func socketPath(dir string) (string, error) {
	path := filepath.Join(dir, "control", "socket")
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("%s is too long for the address of a Unix socket, %d bytes of at most %d: choose a data folder with a shorter name",
			path, len(path), maxSocketPath)
	}
	return path, nil
}

// serveControl serves the control socket until Close.
func (f *Farm) serveControl() error {
	path, err := socketPath(f.opts.Dir)
	if err != nil {
		return err
	}
	// What is there is left from a farm that was killed: this one has the lock.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return err
	}
	srv := &http.Server{
		Handler:           f.control(),
		BaseContext:       func(net.Listener) context.Context { return f.ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(f.opts.Logger.Handler(), slog.LevelWarn),
	}
	stop := func() {
		// The requests in flight end because f.ctx has; their callers hear why.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
	}
	f.keep(stop, func() error {
		if err := srv.Serve(ownersOnly{ln.(*net.UnixListener), f.opts.Logger}); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// ownersOnly accepts connections of this program's own user.
type ownersOnly struct {
	*net.UnixListener
	logger *slog.Logger
}

func (l ownersOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if sameUser(c) {
			return c, nil
		}
		l.logger.Warn("control connection of another user refused")
		c.Close()
	}
}

func (f *Farm) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, f.Info(), nil)
	})
	// Apart from the rest, so that whoever shows or keeps the rest keeps no
	// password with it.
	mux.HandleFunc("GET /store", func(w http.ResponseWriter, r *http.Request) {
		reply(w, f.opts.Store, nil)
	})
	mux.HandleFunc("POST /servers/{name}/drain", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, f.Drain(r.Context(), r.PathValue("name")))
	})
	mux.HandleFunc("POST /servers/{name}/undrain", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, f.Undrain(r.PathValue("name")))
	})
	mux.HandleFunc("POST /servers/{name}/start", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, f.StartServer(r.Context(), r.PathValue("name")))
	})
	mux.HandleFunc("POST /servers/{name}/kill", func(w http.ResponseWriter, r *http.Request) {
		n, err := f.Kill(r.PathValue("name"))
		reply(w, killed{n}, err)
	})
	mux.HandleFunc("POST /roll", func(w http.ResponseWriter, r *http.Request) {
		lines := json.NewEncoder(w)
		say := func(s step) {
			lines.Encode(s)
			http.NewResponseController(w).Flush()
		}
		err := f.Roll(r.Context(), func(text string) { say(step{Step: text}) })
		say(step{Done: err == nil, fault: faultOf(err)})
	})
	return mux
}

// The bodies of answers.
type (
	killed struct {
		InFlightUnsafe int `json:"in_flight_unsafe"`
	}
	step struct {
		Step string `json:"step,omitempty"`
		Done bool   `json:"done,omitempty"`
		fault
	}
	fault struct {
		Error string `json:"error,omitempty"`
		Code  string `json:"code,omitempty"`
	}
)

// codes carry the errors that callers tell apart over the socket.
var codes = map[string]error{
	"unknown_server": ErrUnknownServer,
	"running":        ErrRunning,
	"not_running":    ErrNotRunning,
}

func faultOf(err error) fault {
	if err == nil {
		return fault{}
	}
	for code, target := range codes {
		if errors.Is(err, target) {
			return fault{err.Error(), code}
		}
	}
	return fault{err.Error(), "failed"}
}

// err is the error that faultOf was given, as far as it can be told.
func (f fault) err() error {
	if f.Error == "" {
		return nil
	}
	return &remoteError{f.Error, codes[f.Code]}
}

type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func reply(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusConflict
		if errors.Is(err, ErrUnknownServer) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		body = faultOf(err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(body)
}
