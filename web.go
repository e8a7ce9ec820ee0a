package roam

import (
	"context"
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

	// mark is the name of the cookie beside the token's, and what its seal is
	// bound to.
	mark string
	aad  []byte
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

	// Sealer seals the mark, the second cookie, which says how new the session
	// is that the visitor has seen. A sealed mark also says who the visitor is,
	// so that Identify need not ask the store, and it is a gate: a token
	// without a mark that opens is a stranger's, and costs no trip to the
	// store. Package sealed has a Sealer with keys that can be rotated. Who has
	// the keys can be anybody to Identify, though not to Get, Fresh and
	// RequireLogin. nil means a plain mark, which saves no trip and gives no
	// protection.
	Sealer Sealer

	// AllowUnsealed lets tokens through whose mark is missing, plain or under
	// a key that is not known. It is for the time after a Sealer was added to
	// a running site, until the sessions from before are over, or for the
	// moment when keys were lost and people should stay.
	AllowUnsealed bool

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
	web := &Web[T]{m: m, opts: o, mark: o.Cookie + "-mark"}
	web.aad = []byte(web.mark)
	return web, nil
}

// Get returns the visitor's session: the zero Session and no error if the
// request brings none, which is a first visit, or one that cannot be a token.
// It makes no record and sets no cookie. Errors are those of [Manager.Get];
// with an [ErrEnded] the cookie stays until the handler calls Forget.
func (web *Web[T]) Get(w http.ResponseWriter, r *http.Request) (Session[T], error) {
	tok, _ := web.visitor(w, r, nil)
	return web.m.Get(r.Context(), tok)
}

// Fresh is Get with certainty: it always asks the store for the newest. It is
// for pages that must not be shown a moment after a logout.
func (web *Web[T]) Fresh(w http.ResponseWriter, r *http.Request) (Session[T], error) {
	tok, _ := web.visitor(w, r, nil)
	return web.m.Fresh(r.Context(), tok)
}

// Identify says who the visitor is: the zero Identity and no error for a first
// visit. It asks no store while the visitor's sealed mark, or what this server
// has learned itself, is not old and the log of ends names no end of the
// session; see [Manager.Identify].
func (web *Web[T]) Identify(w http.ResponseWriter, r *http.Request) (Identity, error) {
	var seal fact
	tok, _ := web.visitor(w, r, &seal)
	who, _, err := web.m.identify(r.Context(), tok, &seal)
	return who, err
}

// IdentifyStale is Identify for pages that would rather be shown to somebody
// who was logged out meanwhile than not at all: if the store does not answer,
// it says who the visitor was at most so long ago, and at most [LogKept], and
// that it is Stale. No session that this server knows to have ended is ever
// stale, only gone.
func (web *Web[T]) IdentifyStale(w http.ResponseWriter, r *http.Request, atMost time.Duration) (Identity, error) {
	var seal fact
	tok, _ := web.visitor(w, r, &seal)
	who, _, err := web.m.identify(r.Context(), tok, &seal)
	if errors.Is(err, ErrUnavailable) {
		if who, ok := web.m.stale(tok, &seal, atMost); ok {
			return who, nil
		}
	}
	return who, err
}

// RequireLogin is Fresh for pages that need a login: one not longer than
// within ago, if that is not 0, and of this level at least. Otherwise its error
// is [ErrLogin], also for a session that has ended, whose [*EndedError] it
// wraps; lead the visitor to a login, which raises the level, and back.
func (web *Web[T]) RequireLogin(w http.ResponseWriter, r *http.Request, within time.Duration, level Level) (Session[T], error) {
	s, err := web.Fresh(w, r)
	switch {
	case errors.Is(err, ErrEnded):
		return s, fmt.Errorf("%w: %w", ErrLogin, err)
	case err != nil:
		return s, err
	case s.User == "":
		return s, fmt.Errorf("%w: nobody is logged in", ErrLogin)
	case within > 0 && s.Now.Sub(s.LoggedIn) > within:
		return s, fmt.Errorf("%w: the login is %v old, and this needs one within %v", ErrLogin, s.Now.Sub(s.LoggedIn).Round(time.Second), within)
	case s.Level < level:
		return s, fmt.Errorf("%w: the login is of level %d, and this needs level %d", ErrLogin, s.Level, level)
	}
	return s, nil
}

// Watch returns a context that ends with the request or with the visitor's
// session, whichever is first; see [Manager.Watch].
func (web *Web[T]) Watch(w http.ResponseWriter, r *http.Request) (context.Context, Identity, error) {
	var seal fact
	tok, _ := web.visitor(w, r, &seal)
	return web.m.watch(r.Context(), tok, &seal)
}

// Update changes the visitor's session as [Manager.Update] does. It starts a
// new one if there is none: no cookie, an idle session, one past its lifetime
// or pruned. One that was logged out, revoked, rotated or opened with a wrong
// secret was ended on purpose, or goes on elsewhere: then Update changes
// nothing and returns the [*EndedError].
func (web *Web[T]) Update(w http.ResponseWriter, r *http.Request, fn func(*T) error) (Session[T], error) {
	tok, err := web.visitor(w, r, nil)
	if err != nil {
		return Session[T]{}, err
	}
	s, err := web.update(r.Context(), tok, fn)
	if ended := (*EndedError)(nil); errors.As(err, &ended) {
		switch ended.Reason {
		case Idle, Lifetime, Missing:
			s, err = web.update(r.Context(), Token{}, fn)
		}
	}
	web.give(w, s, tok, 0)
	return s, own(err)
}

func (web *Web[T]) update(ctx context.Context, tok Token, fn func(*T) error) (Session[T], error) {
	if tok.IsZero() {
		if err := web.sealable(); err != nil {
			return Session[T]{}, err
		}
	}
	return web.m.update(ctx, tok, fn)
}

// sealable fails if what is started now would be a stranger's with the next
// request.
func (web *Web[T]) sealable() error {
	if web.opts.Sealer == nil || web.opts.AllowUnsealed || web.opts.Sealer.Seal(nil, []byte{0}, web.aad) != nil {
		return nil
	}
	return fmt.Errorf("%w: WebOptions.Sealer has no key to seal with, so no session can be started; add a key", ErrUnavailable)
}

// Login logs the visitor in as [Manager.Login] does, and sets a cookie with
// the new secret. A zero in.From is filled in from the request.
func (web *Web[T]) Login(w http.ResponseWriter, r *http.Request, in Login, fn func(*T) error) (Session[T], error) {
	tok, err := web.visitor(w, r, nil)
	if err != nil {
		return Session[T]{}, err
	}
	if err := web.sealable(); err != nil {
		return Session[T]{}, err
	}
	if in.From == (Client{}) {
		in.From = web.Client(r)
	}
	s, err := web.m.Login(r.Context(), tok, in, fn)
	web.give(w, s, tok, in.Persist)
	return s, err
}

// Logout ends the visitor's session and then deletes the cookie. If the store
// cannot confirm the end it returns the error and leaves the cookie, so that
// nobody is told of a logout that did not happen.
func (web *Web[T]) Logout(w http.ResponseWriter, r *http.Request) error {
	tok, err := web.read(w, r, false, nil) // also one whose mark does not open: this must not fail for a lost cookie
	if err != nil {
		return err
	}
	if err := web.m.Logout(r.Context(), tok); err != nil {
		return err
	}
	web.drop(w)
	return nil
}

// Forget deletes the visitor's cookie if err says that its session ended. A
// handler calls it when it tells the visitor why. It does nothing for other
// errors, nor if the reason is [Rotated] or [Forged]: then a newer login's
// cookie may already be in the browser, and the answer to an older request
// must not wipe it out.
func (web *Web[T]) Forget(w http.ResponseWriter, err error) {
	if ended := (*EndedError)(nil); errors.As(err, &ended) && ended.Reason != Rotated && ended.Reason != Forged {
		web.drop(w)
	}
}

// RevealCookies returns the two cookies that open a session which was just
// started or logged in, or nil for any other Session, whose secret is not known
// here. They are for tests, and for programs that speak HTTP by other means,
// and last until the browser closes.
func (web *Web[T]) RevealCookies(s Session[T]) []*http.Cookie {
	if text := s.Token.Reveal(); text != "" {
		return []*http.Cookie{web.cookie(web.opts.Cookie, text, 0), web.cookie(web.mark, web.encode(s), 0)}
	}
	return nil
}

// Client returns the address and user agent that a request came from, looking
// behind trusted proxies only.
func (web *Web[T]) Client(r *http.Request) Client {
	return Client{Addr: web.origin(r), Agent: clip(r.UserAgent(), 256)}
}

// Header values that every answer shares. Their capacity is their length, so
// that whoever appends to one gets a copy.
var (
	varyCookie = []string{"Cookie"}
	noStore    = []string{"no-store"}
)

// visitor returns the visitor's token, and in seal, unless that is nil, what a
// sealed mark says of its session. With a Sealer a token counts only beside a mark that opens. The
// error is for verbs that would set a cookie.
func (web *Web[T]) visitor(w http.ResponseWriter, r *http.Request, seal *fact) (Token, error) {
	return web.read(w, r, web.opts.Sealer != nil && !web.opts.AllowUnsealed, seal)
}

func (web *Web[T]) read(w http.ResponseWriter, r *http.Request, strict bool, seal *fact) (Token, error) {
	token, mark, err := web.cookies(w, r, web.opts.Cookie, web.mark)
	if err != nil {
		return Token{}, err
	}
	return parse(web.opts.Sealer, web.aad, token, mark, strict, seal, &web.m.past.facts), nil
}

// cookies reads two cookies, the second of which counts only if it is there
// once, and tells shared caches that the answer depends on them. A cookie that
// this response already sets counts before the request's, so that two verbs of
// one handler speak of the same session.
func (web *Web[T]) cookies(w http.ResponseWriter, r *http.Request, a, b string) (va, vb string, err error) {
	h := w.Header()
	set := h["Set-Cookie"]
	vary, varies := h["Vary"]
	_, chosen := h["Cache-Control"]
	switch {
	case !varies:
		h["Vary"] = varyCookie
	case !slices.Contains(vary, "Cookie"):
		h.Add("Vary", "Cookie")
	}
	if !chosen {
		h["Cache-Control"] = noStore
	}
	if !web.opts.InsecureHTTP && !web.secure(r) {
		return "", "", fmt.Errorf("%w: it came over plain HTTP from %s; serve TLS, name the balancer in WebOptions.TrustedProxies so that its X-Forwarded-Proto is believed, or for development set InsecureHTTP", ErrRequest, r.RemoteAddr)
	}
	va, na, vb, nb := findCookies(r.Header["Cookie"], a, b)
	if nb > 1 {
		vb = ""
	}
	for _, line := range set {
		line, _, _ = strings.Cut(line, ";")
		if value, ok := valueOf(line, a); ok {
			va, na = value, 1
		} else if value, ok := valueOf(line, b); ok {
			vb = value
		}
	}
	if na > 1 {
		web.m.opts.Logger.LogAttrs(r.Context(), slog.LevelWarn, "session: duplicate cookie", slog.Int("cookies", na))
		return "", "", fmt.Errorf("%w: it has %d cookies named %s, and nobody can tell which is the visitor's; delete this site's cookies", ErrRequest, na, a)
	}
	return va, vb, nil
}

// findCookies returns the values of the cookies with exactly these two names,
// of which one may begin with the other, and how often each occurs. It reads
// the header as RFC 6265bis section 5.8 writes it and takes no quotes away,
// because a token has only one form.
func findCookies(lines []string, a, b string) (va string, na int, vb string, nb int) {
	for _, line := range lines {
		for line != "" {
			var pair string
			if i := strings.IndexByte(line, ';'); i >= 0 {
				pair, line = line[:i], line[i+1:]
			} else {
				pair, line = line, ""
			}
			for pair != "" && (pair[0] == ' ' || pair[0] == '\t') {
				pair = pair[1:]
			}
			if value, ok := valueOf(pair, a); ok {
				va = value
				na++
			} else if value, ok := valueOf(pair, b); ok {
				vb = value
				nb++
			}
		}
	}
	return va, na, vb, nb
}

func valueOf(pair, name string) (value string, ok bool) {
	if len(pair) <= len(name) || pair[len(name)] != '=' || pair[:len(name)] != name {
		return "", false
	}
	value = pair[len(name)+1:]
	for value != "" && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	return value, true
}

// give sets the cookies of a session after a change: the token's if it was just
// made, and the mark if it is another one than the visitor's.
func (web *Web[T]) give(w http.ResponseWriter, s Session[T], was Token, maxAge time.Duration) {
	if s.Token.hand == nil {
		return
	}
	r := &s.Token.hand.rec
	if text := s.Token.Reveal(); text != "" {
		web.set(w, web.cookie(web.opts.Cookie, text, int(maxAge/time.Second)))
	} else if was.mark.version == r.Version && was.mark.epoch == r.Epoch {
		return
	}
	age := 0
	if r.Idle == r.Lifetime { // remembered, so the token has an age too
		until, _ := r.Deadline()
		age = max(int((until.Sub(r.Now)+time.Second-1)/time.Second), 1)
	}
	if text := web.encode(s); text != "" {
		web.set(w, web.cookie(web.mark, text, age))
	}
}

func (web *Web[T]) encode(s Session[T]) string {
	return encodeMark(web.opts.Sealer, web.aad, s.Token, &s.Token.hand.rec)
}

// drop deletes the cookies.
func (web *Web[T]) drop(w http.ResponseWriter) {
	web.set(w, web.cookie(web.opts.Cookie, "", -1))
	web.set(w, web.cookie(web.mark, "", -1))
}

func (web *Web[T]) cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, MaxAge: maxAge,
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
		h["Cache-Control"] = noStore
	}
}

// secure reports whether a request came by TLS, which a trusted proxy says of
// the connection that it has ended.
func (web *Web[T]) secure(r *http.Request) bool {
	if len(web.opts.TrustedProxies) == 0 {
		return r.TLS != nil
	}
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
