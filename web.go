package roam

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Web is a Manager's verbs over HTTP requests: it reads the token's cookie,
// calls the manager, and sets the cookie if there is a new token. It wraps no
// ResponseWriter and needs no middleware; a handler that does not call it pays
// nothing.
//
// Every verb marks the response with Vary: Cookie and, unless the handler has
// chosen a Cache-Control, with no-store (OWASP ASVS 5.0, 14.3.2). Every verb
// that changes something has made it durable when it returns. Call it before
// the first byte of the response, as the cookie is a header.
type Web[T any] struct {
	m    *Manager[T]
	opts WebOptions
}

// WebOptions are the settings of a [Web]. A nil *WebOptions and the zero value
// are ready to use: a cookie that is Secure, HttpOnly and SameSite=Lax, for
// this host alone.
type WebOptions struct {
	// Cookie is the cookie's name. "" means "__Host-roam". The prefix __Host-
	// is required: with it browsers let neither a subdomain nor plain HTTP
	// set the cookie (RFC 6265bis, section 4.1.3.2). Two programs on one host
	// need two names, also if they listen on different ports.
	Cookie string

	// SameSite is Lax if zero. Strict also hides the session from the first
	// page that a link elsewhere leads to. None is refused.
	SameSite http.SameSite

	// TrustedProxies are the balancers in front of this server. Only from
	// their addresses are X-Forwarded-For and X-Forwarded-Proto believed.
	// Without them a server that speaks plain HTTP behind a balancer
	// refuses to log anybody in. If there are any, whoever connects by a Unix
	// socket, and so has no address, is trusted too.
	TrustedProxies []netip.Prefix

	// InsecureHTTP is for development without TLS. It drops Secure and the
	// prefix from the cookie, whose default name is then "roam-insecure".
	InsecureHTTP bool
}

// NewWeb returns the HTTP side of a manager, or an error if the options
// contradict each other. A nil opts is ready to use.
func NewWeb[T any](m *Manager[T], opts *WebOptions) (*Web[T], error) {
	var o WebOptions
	if opts != nil {
		o = *opts
	}
	if o.Cookie == "" {
		o.Cookie = "__Host-roam"
		if o.InsecureHTTP {
			o.Cookie = "roam-insecure"
		}
	}
	host := strings.HasPrefix(o.Cookie, "__Host-")
	switch {
	case m == nil:
		return nil, errors.New("roam: NewWeb: the manager is nil")
	case (&http.Cookie{Name: o.Cookie, Value: "v"}).Valid() != nil || len(o.Cookie) > 64:
		return nil, fmt.Errorf("roam: WebOptions.Cookie is %.80q: want a cookie name of at most 64 bytes", o.Cookie)
	case !host && !o.InsecureHTTP:
		return nil, fmt.Errorf("roam: WebOptions.Cookie is %q: the name must begin with __Host-, as in %q", o.Cookie, "__Host-"+o.Cookie)
	case o.InsecureHTTP && strings.HasPrefix(o.Cookie, "__"):
		return nil, fmt.Errorf("roam: WebOptions.Cookie is %q with InsecureHTTP: browsers refuse that prefix on a cookie that is not Secure; leave the name empty", o.Cookie)
	case o.SameSite == 0 || o.SameSite == http.SameSiteDefaultMode:
		o.SameSite = http.SameSiteLaxMode
	case o.SameSite != http.SameSiteLaxMode && o.SameSite != http.SameSiteStrictMode:
		return nil, errors.New("roam: WebOptions.SameSite: want Lax or Strict; with None every site could send the cookie along")
	}
	o.TrustedProxies = slices.Clone(o.TrustedProxies)
	for _, p := range o.TrustedProxies {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("roam: WebOptions.TrustedProxies has %v, which contains no address: write IPv4 prefixes as in 10.0.0.0/8", p)
		}
	}
	return &Web[T]{m: m, opts: o}, nil
}

// Get returns the visitor's session: the zero Session and no error if the
// request brings none, which is a first visit, or one that cannot be a token.
// It makes no record and sets no cookie. Errors are those of [Manager.Get];
// with an [ErrEnded] the cookie stays until the handler calls Forget.
func (web *Web[T]) Get(w http.ResponseWriter, r *http.Request) (Session[T], error) {
	tok, _ := web.token(w, r)
	return web.m.Get(r.Context(), tok)
}

// Update changes the visitor's session as [Manager.Update] does. It starts a
// new one if there is none: no cookie, an idle session, one past its lifetime
// or pruned. One that was logged out, revoked, rotated or opened with a wrong
// secret was ended on purpose, or goes on elsewhere: then Update changes
// nothing and returns the [*EndedError].
func (web *Web[T]) Update(w http.ResponseWriter, r *http.Request, fn func(*T) error) (Session[T], error) {
	tok, err := web.token(w, r)
	if err != nil {
		return Session[T]{}, err
	}
	s, err := web.m.update(r.Context(), tok, fn)
	if ended := (*EndedError)(nil); errors.As(err, &ended) {
		switch ended.Reason {
		case Idle, Lifetime, Missing:
			s, err = web.m.update(r.Context(), Token{}, fn)
		}
	}
	web.give(w, s, 0)
	return s, own(err)
}

// Login logs the visitor in as [Manager.Login] does, and sets a cookie with
// the new secret. A zero in.From is filled in from the request.
func (web *Web[T]) Login(w http.ResponseWriter, r *http.Request, in Login, fn func(*T) error) (Session[T], error) {
	tok, err := web.token(w, r)
	if err != nil {
		return Session[T]{}, err
	}
	if in.From == (Client{}) {
		in.From = web.Client(r)
	}
	s, err := web.m.Login(r.Context(), tok, in, fn)
	web.give(w, s, in.Persist)
	return s, err
}

// Logout ends the visitor's session and then deletes the cookie. If the store
// cannot confirm the end it returns the error and leaves the cookie, so that
// nobody is told of a logout that did not happen.
func (web *Web[T]) Logout(w http.ResponseWriter, r *http.Request) error {
	tok, err := web.token(w, r)
	if err != nil {
		return err
	}
	if err := web.m.Logout(r.Context(), tok); err != nil {
		return err
	}
	web.set(w, web.cookie("", -1))
	return nil
}

// Forget deletes the visitor's cookie if err says that its session ended. A
// handler calls it when it tells the visitor why. It does nothing for other
// errors, nor if the reason is [Rotated] or [Forged]: then a newer login's
// cookie may already be in the browser, and the answer to an older request
// must not wipe it out.
func (web *Web[T]) Forget(w http.ResponseWriter, err error) {
	if ended := (*EndedError)(nil); errors.As(err, &ended) && ended.Reason != Rotated && ended.Reason != Forged {
		web.set(w, web.cookie("", -1))
	}
}

// RevealCookie returns the cookie that opens a session which was just started
// or logged in, or nil for any other Session, whose secret is not known here.
// It is for tests, and for programs that speak HTTP by other means, and lasts
// until the browser closes.
func (web *Web[T]) RevealCookie(s Session[T]) *http.Cookie {
	if text := s.Token.Reveal(); text != "" {
		return web.cookie(text, 0)
	}
	return nil
}

// Client returns the address and user agent that a request came from, looking
// behind trusted proxies only.
func (web *Web[T]) Client(r *http.Request) Client {
	return Client{Addr: web.origin(r), Agent: clip(r.UserAgent(), 256)}
}

// token returns the visitor's token, and marks the response as looking at it.
// A cookie that this response already sets counts before the request's, so
// that two verbs of one handler speak of the same session. The error is for
// verbs that would set a cookie.
func (web *Web[T]) token(w http.ResponseWriter, r *http.Request) (Token, error) {
	h := w.Header()
	if !slices.Contains(h["Vary"], "Cookie") {
		h.Add("Vary", "Cookie")
	}
	if _, chosen := h["Cache-Control"]; !chosen {
		h.Set("Cache-Control", "no-store")
	}
	if !web.opts.InsecureHTTP && !web.secure(r) {
		return Token{}, fmt.Errorf("%w: it came over plain HTTP from %s; serve TLS, name the balancer in WebOptions.TrustedProxies so that its X-Forwarded-Proto is believed, or for development set InsecureHTTP", ErrRequest, r.RemoteAddr)
	}
	for _, line := range h["Set-Cookie"] {
		if value, ok := strings.CutPrefix(line, web.opts.Cookie+"="); ok {
			value, _, _ = strings.Cut(value, ";")
			tok, _ := ParseToken(value)
			return tok, nil
		}
	}
	value, n := findCookie(r.Header["Cookie"], web.opts.Cookie)
	if n > 1 {
		web.m.opts.Logger.LogAttrs(r.Context(), slog.LevelWarn, "session: duplicate cookie", slog.Int("cookies", n))
		return Token{}, fmt.Errorf("%w: it has %d cookies named %s, and nobody can tell which is the visitor's; delete this site's cookies", ErrRequest, n, web.opts.Cookie)
	}
	tok, _ := ParseToken(value)
	return tok, nil
}

// findCookie returns the value of the cookie with exactly this name, and how
// often the name occurs. It reads the header as RFC 6265bis section 5.8 writes
// it and takes no quotes away, because a token has only one form.
func findCookie(lines []string, name string) (value string, n int) {
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			pair = strings.Trim(pair, " \t")
			if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
				value = pair[len(name)+1:]
				n++
			}
		}
	}
	return value, n
}

// give sets the cookie of a session whose token was just made.
func (web *Web[T]) give(w http.ResponseWriter, s Session[T], maxAge time.Duration) {
	if text := s.Token.Reveal(); text != "" {
		web.set(w, web.cookie(text, int(maxAge/time.Second)))
	}
}

func (web *Web[T]) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: web.opts.Cookie, Value: value, MaxAge: maxAge,
		Path: "/", Secure: !web.opts.InsecureHTTP, HttpOnly: true, SameSite: web.opts.SameSite,
	}
}

// set puts the cookie into the response in place of an earlier one of this
// name. A response with a cookie must not be stored by shared caches, whatever
// the handler chose.
func (web *Web[T]) set(w http.ResponseWriter, c *http.Cookie) {
	h := w.Header()
	h["Set-Cookie"] = slices.DeleteFunc(h["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, c.Name+"=")
	})
	http.SetCookie(w, c)
	cc := strings.ToLower(strings.Join(h["Cache-Control"], ","))
	if !strings.Contains(cc, "no-store") && (strings.Contains(cc, "public") || !strings.Contains(cc, "private")) {
		h.Set("Cache-Control", "no-store")
	}
}

// secure reports whether a request came by TLS, which a trusted proxy says of
// the connection that it has ended.
func (web *Web[T]) secure(r *http.Request) bool {
	proto := strings.Join(r.Header["X-Forwarded-Proto"], ",")
	if proto == "" || !web.trusted(peer(r)) {
		return r.TLS != nil
	}
	return strings.EqualFold(strings.TrimSpace(proto[strings.LastIndexByte(proto, ',')+1:]), "https")
}

// origin returns the client's address: the first hop that is not a trusted
// proxy, read from the right of X-Forwarded-For, because what stands further
// left is the client's own word.
func (web *Web[T]) origin(r *http.Request) netip.Addr {
	addr := peer(r)
	if !web.trusted(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil { // some proxies add the port
			port, err := netip.ParseAddrPort(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			next = port.Addr()
		}
		addr = next.Unmap().WithZone("")
		if !web.trusted(addr) {
			break
		}
	}
	return addr
}

// peer returns the address at the other end of the connection, the zero Addr
// if it has none.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap().WithZone("")
}

func (web *Web[T]) trusted(addr netip.Addr) bool {
	if !addr.IsValid() {
		return len(web.opts.TrustedProxies) > 0
	}
	for _, p := range web.opts.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
