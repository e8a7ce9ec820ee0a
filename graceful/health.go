package graceful

import (
	"io"
	"net/http"
)

// Livez answers 200 for as long as the process can answer at all. Mount it at
// "GET /livez". Kubernetes restarts a container whose liveness probe fails, so
// no dependency belongs in it: restarting every web server does not bring a
// database back.
func Livez() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report(w, http.StatusOK, "ok\n")
	})
}

// Readyz answers 200 while the server wants traffic, and 503 from the moment in
// which Run's context ends, or while [Options].Check returns an error. Mount it
// at "GET /readyz". Balancers take a server out of rotation while its readiness
// probe fails, and leave it running. The status is the contract (Kubernetes,
// "Configure Liveness, Readiness and Startup Probes"); the text is for people.
//
// Let Check speak of this server: has it loaded what it needs, is its queue
// full. A dependency that all servers share belongs there with care, say when
// it has not answered this server for many seconds: it fails everywhere at
// once, and a balancer with no server left answers nobody, not even with the
// pages that need no database. The text of the error is not sent, because
// readyz is often public; Check may log it.
func (s *Server) Readyz() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.leaving.Load() {
			report(w, http.StatusServiceUnavailable, "draining\n")
			return
		}
		if s.opts != nil && s.opts.Check != nil && s.opts.Check(r.Context()) != nil {
			report(w, http.StatusServiceUnavailable, "not ready\n")
			return
		}
		report(w, http.StatusOK, "ok\n")
	})
}

// report forbids caches to keep the answer: a stale "ok" is worse than none.
func report(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text)
}
