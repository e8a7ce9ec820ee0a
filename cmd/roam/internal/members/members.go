// Package members is the site of a rambling club, which keeps nothing but who is
// logged in, and so has no store: a login is sealed into the visitor's cookie, and
// each web server that has the keys reads it there. "roam up --store none" runs it.
//
// Beside package shop it shows what is left without a store, and what is not:
//
//	home       nothing is asked
//	members    Identify: who is it
//	hut        RequireLogin: a password that was given a short while ago
//	logout     in this browser; no other can be logged out, and no page lists them
//
// It borrows the shop's sample accounts and dress.
package members

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// A Config is what a server has to know. Server and Sealer are required, and
// Sealer is all that the servers of a farm share.
type Config struct {
	Server         string // its name, such as "web1": each page shows it
	Sealer         roam.Sealer
	TrustedProxies []netip.Prefix // the balancers

	// Logger gets logins, logouts and failures, never a secret. nil means no log.
	Logger *slog.Logger
}

// A Site is the club's site on one web server.
type Site struct {
	server    string
	tickets   *roam.Tickets
	passwords *shop.Passwords
	log       *slog.Logger
}

// New returns the site, or an error if it cannot be told what is needed.
func New(cfg Config) (*Site, error) {
	if cfg.Server == "" {
		return nil, errors.New(`members: Config.Server is empty: want the web server's name, such as "web1"`)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tickets, err := roam.NewTickets(&roam.WebOptions{
		TrustedProxies: cfg.TrustedProxies, Sealer: cfg.Sealer,
	}, &roam.TicketOptions{Logger: log})
	if err != nil {
		return nil, err
	}
	return &Site{cfg.Server, tickets, shop.NewPasswords(), log}, nil
}

// maxForm is far above the largest form here, in bytes.
const maxForm = 4 << 10

// Handler returns the site. State changes by POST alone, and only by one that
// comes from the site itself.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /members", s.members)
	mux.HandleFunc("GET /hut", s.hut)
	mux.HandleFunc("GET /login", s.loginForm)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /static/{file}", func(w http.ResponseWriter, r *http.Request) {
		if !shop.ServeAsset(w, r) {
			s.absent(w, r)
		}
	})
	mux.HandleFunc("/", s.absent)
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, http.StatusForbidden, "Not from here", "That form was sent by another site. Nothing has changed.")
	}))
	return shop.Headers(s.server, http.MaxBytesHandler(own.Handler(mux), maxForm))
}

// home is the same for everyone, and asks nothing.
func (s *Site) home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=0, s-maxage=60")
	s.show(w, http.StatusOK, page{Name: "home"})
}

// members needs to know who it is, and no more.
func (s *Site) members(w http.ResponseWriter, r *http.Request) {
	who, err := s.tickets.Identify(w, r)
	if err == nil && who.User == "" {
		err = roam.ErrLogin
	}
	if err != nil {
		s.fail(w, r, who, err)
		return
	}
	s.show(w, http.StatusOK, page{Name: "members", Asked: true, User: who.User, Body: who})
}

// recently is how long a password counts for what a stranger at an unlocked
// screen would like to know.
const recently = 5 * time.Minute

// hut needs a login that is not long ago. That is as certain as this site can
// be: it bounds what a ticket is worth that was stolen, and does not end it.
func (s *Site) hut(w http.ResponseWriter, r *http.Request) {
	who, err := s.tickets.RequireLogin(w, r, recently, passwordOnly)
	if err != nil {
		s.fail(w, r, who, err)
		return
	}
	s.show(w, http.StatusOK, page{Name: "hut", Asked: true, User: who.User, Body: who})
}

// passwordOnly is the level of a login by password; a second factor would make
// it 2.
const passwordOnly roam.Level = 1

// A loginPage is the form, empty or with what was wrong.
type loginPage struct {
	Next, User, Password   string
	Remember, Again, Wrong bool
	Accounts               []string
}

func (s *Site) loginForm(w http.ResponseWriter, r *http.Request) {
	form := loginPage{Next: r.FormValue("next"), Again: r.FormValue("again") != ""}
	if form.Again {
		who, err := s.tickets.Identify(w, r)
		if err != nil {
			s.fail(w, r, who, err)
			return
		}
		form.User, form.Again = who.User, who.User != ""
	}
	s.showLogin(w, http.StatusOK, form, form.Again)
}

func (s *Site) login(w http.ResponseWriter, r *http.Request) {
	form := loginPage{Next: r.PostFormValue("next"), User: r.PostFormValue("user"), Remember: r.PostFormValue("remember") != "", Again: r.PostFormValue("again") != ""}
	ok, err := s.passwords.Check(r.Context(), form.User, r.PostFormValue("password"))
	if err == nil && !ok {
		form.Wrong = true
		s.showLogin(w, http.StatusUnprocessableEntity, form, false)
		return
	}
	in := roam.Login{User: form.User, Level: passwordOnly}
	if form.Remember {
		in.Persist = shop.Remember
	}
	if err == nil {
		_, err = s.tickets.Login(w, r, in)
	}
	if err != nil {
		s.fail(w, r, roam.Identity{}, err)
		return
	}
	http.Redirect(w, r, wanted(form.Next), http.StatusSeeOther)
}

func (s *Site) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.tickets.Logout(w, r); err != nil {
		s.fail(w, r, roam.Identity{}, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Site) showLogin(w http.ResponseWriter, status int, form loginPage, asked bool) {
	form.Next, form.Accounts, form.Password = wanted(form.Next), shop.Accounts(), shop.Password
	s.show(w, status, page{Name: "login", Asked: asked, User: form.User, Body: form})
}

// wanted is where a login leads to: one of the pages that ask for it.
func wanted(next string) string {
	if next == "/hut" {
		return next
	}
	return "/members"
}

// absent is for what is not here, which somebody may look for who knows the shop.
func (s *Site) absent(w http.ResponseWriter, _ *http.Request) {
	s.problem(w, http.StatusNotFound, "No such page", "There is nothing at this address. "+
		"This site keeps nothing but who you are: it has no carts, no orders and no list of your devices.")
}

// fail answers a request that could not be done as asked.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, who roam.Identity, err error) {
	switch {
	case errors.Is(err, roam.ErrLogin):
		query := url.Values{"next": {r.URL.Path}}
		if who.User != "" {
			query.Set("again", "yes")
		}
		http.Redirect(w, r, "/login?"+query.Encode(), http.StatusSeeOther)
	case errors.Is(err, roam.ErrRequest):
		s.problem(w, http.StatusBadRequest, "We cannot tell who you are", "This request cannot carry a login: it came without encryption, or with two of our cookies. Deleting this site's cookies helps.")
	default:
		if r.Context().Err() == nil { // else the visitor has left, which is no fault of ours
			s.log.LogAttrs(r.Context(), slog.LevelError, "members: request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		}
		s.problem(w, http.StatusInternalServerError, "Something broke", "That is our fault, and it is in our log.")
	}
}
