// Package shop is a small tea and coffee shop. It shows how a site uses roam,
// with each kind of page here once; "roam up" and "roam drill" run it on every
// web server of their farm.
//
// Read it in this order:
//
//	visit.go      what a session holds: identifiers and unfinished work
//	public.go     pages that need no session, and so never call roam
//	cart.go       Get to look, Update to change; a session starts by itself
//	login.go      Login and Logout; the cart comes along
//	member.go     Identify, Get, Fresh or RequireLogin: which page needs how much
//	account.go    who you are, where else you are logged in, and ending that
//	checkout.go   from the session into another database, exactly once
//	api.go        the same for a page whose JavaScript alone needs a session
//	live.go       Watch: telling a browser that its session has ended elsewhere
//	fail.go       what each error of roam means to a visitor
//	version.go    a second version, which shares its sessions with the first
//
// A handler returns its error, and [Shop.fail] is the only one that answers
// errors. There is no middleware for sessions: a handler that needs one calls
// roam, and the others cost nothing.
//
// What a real shop has and this one leaves out: payment, registering, changing
// a password, and slowing down those who guess passwords.
package shop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// A Config says where a shop keeps what it knows. Server, Sessions and Orders
// are required.
type Config struct {
	// Server is the web server's name, such as "web1". Every page shows it,
	// and every response has it in the header X-Server.
	Server string

	// Sessions is where sessions live: a database that all servers share.
	// With a MemStore each server knows only the sessions that it started.
	Sessions roam.Store

	// NearCache puts this server's memory in front of Sessions, so that
	// looking at a cart that has not changed asks no database. It needs Run.
	NearCache bool

	// Sealer seals the mark, so that "who is it" asks no database either; see
	// [roam.WebOptions]. nil means plain marks. AllowUnsealed lets sessions in
	// that have one.
	Sealer        roam.Sealer
	AllowUnsealed bool

	// Orders is the path of the orders database, an SQLite file that all
	// servers on this machine share. It is made if it is missing.
	Orders string

	// TrustedProxies are the balancers whose word on the visitor's address
	// and protocol is taken. nil means none.
	TrustedProxies []netip.Prefix

	// SessionOptions are the limits of sessions. nil means roam's defaults.
	SessionOptions *roam.Options

	// Version is 1 or 2, which store sessions in different forms; see
	// version.go. 0 means 1.
	Version int

	// Stopping is closed when the server is to stop. Streams end then, and
	// their browsers ask another server. nil means never.
	Stopping <-chan struct{}

	// Logger gets what an operator should know, never a secret. nil means no
	// log.
	Logger *slog.Logger
}

// A Shop is the site on one web server.
type Shop struct {
	server   string
	sessions *roam.Manager[Visit]
	web      *roam.Web[Visit]
	orders   *orders
	accounts *Passwords
	stopping <-chan struct{}
	log      *slog.Logger
}

// New opens the orders database and returns the shop. Background work is Run.
func New(cfg Config) (*Shop, error) {
	if cfg.Server == "" {
		return nil, errors.New(`shop: Config.Server is empty: want the web server's name, such as "web1"`)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var opts roam.Options
	if cfg.SessionOptions != nil {
		opts = *cfg.SessionOptions
	}
	if opts.Logger == nil {
		opts.Logger = log
	}
	switch cfg.Version {
	case 0, 1:
	case 2:
		secondVersion(&opts)
	default:
		return nil, fmt.Errorf("shop: Config.Version is %d: want 1 or 2", cfg.Version)
	}
	// A near cache is a store like any other: the manager does not know of it,
	// and drives it all the same, by reading the log of ends through it in Run.
	store := cfg.Sessions
	if cfg.NearCache {
		near, err := nearcache.New(store, nil)
		if err != nil {
			return nil, err
		}
		store = near
	}
	sessions, err := roam.New[Visit](store, &opts)
	if err != nil {
		return nil, err
	}
	web, err := roam.NewWeb(sessions, &roam.WebOptions{
		TrustedProxies: cfg.TrustedProxies, Sealer: cfg.Sealer, AllowUnsealed: cfg.AllowUnsealed,
	})
	if err != nil {
		return nil, err
	}
	orders, err := openOrders(cfg.Orders)
	if err != nil {
		return nil, err
	}
	return &Shop{cfg.Server, sessions, web, orders, NewPasswords(), cfg.Stopping, log}, nil
}

// Run does the background work of the sessions until ctx is done; see
// [roam.Manager.Run].
func (s *Shop) Run(ctx context.Context) error { return s.sessions.Run(ctx) }

// Lost returns how many acknowledged changes of sessions the store was found to
// have lost; see [roam.Manager.Lost].
func (s *Shop) Lost() uint64 { return s.sessions.Lost() }

// Close closes the orders database. The store of the sessions is the caller's.
func (s *Shop) Close() error { return s.orders.close() }

// Handler returns the site. State changes by POST alone, and only by one that
// comes from the site itself.
func (s *Shop) Handler() http.Handler {
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(s.page(func(http.ResponseWriter, *http.Request) error { return errForeign }))
	return Headers(s.server, http.MaxBytesHandler(own.Handler(s.routes()), maxForm))
}

// maxForm is far above the largest form here, in bytes.
const maxForm = 64 << 10

func (s *Shop) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /{$}":          s.home,
		"GET /product/{id}": s.product,
		"GET /about":        s.about,
		"GET /live":         s.live,
		"POST /language":    s.chooseLanguage,

		"GET /cart":      s.cart,
		"POST /cart/add": s.addToCart,
		"POST /cart/set": s.setInCart,

		"GET /login":   s.loginForm,
		"POST /login":  s.login,
		"POST /logout": s.logout,

		"GET /account":                s.account,
		"GET /devices":                s.devices,
		"POST /devices/logout":        s.logoutDevice,
		"POST /devices/logout-others": s.logoutOthers,

		"POST /checkout":   s.checkout,
		"GET /orders":      s.listOrders,
		"GET /orders/{id}": s.order,

		"GET /api/whoami":    s.whoami,
		"GET /api/cart":      s.apiCart,
		"GET /api/live":      s.watch,
		"GET /api/orders":    s.apiOrders,
		"POST /api/cart/add": s.apiAdd,
		"POST /api/cart/set": s.apiSet,

		"GET /static/{file}": s.static,
	} {
		mux.Handle(pattern, s.page(h))
	}
	return s.page(func(w http.ResponseWriter, r *http.Request) error {
		h, pattern := mux.Handler(r)
		if pattern == "" { // the mux knows whether this is a 404 or a 405; the page is ours
			var status statusOnly
			h.ServeHTTP(&status, r)
			return status.refusal(w)
		}
		mux.ServeHTTP(w, r)
		return nil
	})
}

// A handler answers a request, or returns an error before it has written
// anything.
type handler func(http.ResponseWriter, *http.Request) error

// page makes an http.Handler of a handler.
func (s *Shop) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// Headers sets what every response of a server has. Strict-Transport-Security is missing
// on purpose: on a developer's machine it would bind all other programs that
// listen on the same host.
func Headers(server string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Server", server)
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // no-referrer would also hide the Origin of our own forms
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// seeOther ends a POST: the browser fetches the page at path, and reloading
// that page posts nothing again.
func seeOther(w http.ResponseWriter, r *http.Request, path string) error {
	http.Redirect(w, r, path, http.StatusSeeOther)
	return nil
}
