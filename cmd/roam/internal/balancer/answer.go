package balancer

import (
	"errors"
	"io"
	"net/http"
)

var (
	errNoServer = errors.New("no server is available") // and none got anything of the request
	errBadBody  = errors.New("the client's body could not be read")
)

// answerError answers a request that no server did.
func answerError(w http.ResponseWriter, _ *http.Request, err error) {
	switch {
	case errors.Is(err, errNoServer):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "No web server is available right now. Please try again in a moment.\n")
	case errors.Is(err, errBadBody):
		answer(w, http.StatusBadRequest, "The request could not be read to its end.\n")
	case isTimeout(err):
		answer(w, http.StatusGatewayTimeout, "The web server took too long to answer."+unknown)
	default:
		answer(w, http.StatusBadGateway, "The web server stopped before it could answer."+unknown)
	}
}

// unknown is what a visitor has to be told about a request that a server had.
const unknown = " If you were sending something, please check whether it arrived before you send it again.\n"

// answer writes a page of the balancer's own.
func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// answered sees the answer of a server before the client does.
func (b *Balancer) answered(res *http.Response) error {
	ex := res.Request.Context().Value(exchangeKey{}).(*exchange)
	if m, ok := b.opts.Policy.(Marker); ok && res.StatusCode < 500 {
		m.Mark(ex.in, ex.held.server.name, res.Header)
	}
	// An upgraded connection ends as its two sides please; that is no failure.
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = &watched{ReadCloser: res.Body, b: b, ex: ex}
	}
	return nil
}

// watched is the body of an answer. The client has seen the beginning, so when
// the rest is missing there is nothing left to do but to break off, as the
// ReverseProxy does, and to count it.
type watched struct {
	io.ReadCloser
	b  *Balancer
	ex *exchange
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF && w.ex.in.Context().Err() == nil {
		w.b.cutOff(w.ex, err)
	}
	return n, err
}

// cutOff counts an answer that a server began and did not finish.
func (b *Balancer) cutOff(ex *exchange, err error) {
	s := ex.held.server
	b.mu.Lock()
	s.failed++
	s.lastError = describe(err)
	b.suspect(ex.held, false)
	b.mu.Unlock()
	b.opts.Logger.Warn("answer cut off", "server", s.name, "method", ex.in.Method, "error", describe(err))
}
