package roam

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// Tickets are for a site that keeps nothing but who is it, and has no store:
// what a login says is sealed into a cookie, and every server that has the keys
// reads it there. The field's name for that is a ticket, as in TLS, whose
// servers resume sessions so without keeping them (RFC 8446, section 2.2).
// Servers share nothing but the keys, so any of them can die, and no database
// can.
//
//	tickets := roam.Must(roam.NewTickets(&roam.WebOptions{Sealer: s}, nil))
//
// The verbs are those of [Web], with the same [Identity] and [ErrLogin], so that
// a handler which asks Identify moves to a store when the site does, by the line
// above. Nothing here asks a store, so nothing here fails for one.
//
// # What it gives up
//
// Nothing that a server knows can end a ticket. It is good until its deadline,
// for whoever has it:
//
//   - Logout deletes the cookie of this browser. A copy that was stolen before
//     goes on until the deadline. A new login does not end the ticket from
//     before it either.
//   - Nobody can be logged out: there is no Revoke, and no list of sessions. To
//     drop a key (package sealed) ends all tickets that it has sealed, which is
//     everybody's since it came into use. A handler can compare the time of
//     the login with the user's own row, say with when the password was
//     changed; then that row is the store.
//   - There is no session data, and no guest has a session.
//   - There is no idle timeout. The cookie would be the only place to note use
//     in, so a read would write it, and an answer that comes late would put the
//     ticket back after a logout. Lifetime should be short instead.
//   - The servers' clocks are all the time there is. One that is wrong by an
//     hour is wrong by an hour about deadlines.
//
// Package roam is otherwise built so that a cookie which opens authorises
// nothing by itself. This does. It fits an intranet's wiki, a members' page, a
// preview: where a stolen cookie is a nuisance until tonight. It does not fit
// where money moves, where somebody must be able to lock a lost phone out, or
// where a rule asks for logouts that count (OWASP ASVS 5.0, 7.4.1): use a
// [Manager] there; its Identify asks no store either.
type Tickets struct {
	web      *Web[struct{}] // of which only what concerns cookies is used
	name     string
	aad      []byte
	lifetime time.Duration
	log      *slog.Logger
	users    users
}

// TicketOptions are the settings of [Tickets]. A nil *TicketOptions and the
// zero value are ready to use.
type TicketOptions struct {
	// Lifetime ends a ticket so long after its login, used or not, by the
	// clock of the server that is asked. It is also how long a stolen one
	// lasts. 0 means 12 hours (NIST SP 800-63B-4, section 2.3.3, for the
	// highest level); at most 400 days. A login with [Login.Persist] has its
	// own. A ticket keeps the lifetime that it was given.
	Lifetime time.Duration

	// Logger gets a line for each login and logout, and a warning for a request
	// with several of the cookie. nil means no log. No line ever has a ticket.
	Logger *slog.Logger
}

const (
	// ticketLayout is the first byte of what is sealed, so that another layout
	// can be told from this one:
	//
	//	layout 1 | ID 16 | level 1 | logged in 8 | expires 8 | user
	//
	// The times are in microseconds since 1970, big-endian.
	ticketLayout = 1
	ticketLen    = 1 + 16 + 1 + 8 + 8
	maxTicket    = maxMark // of the cookie, in bytes; ours are under 512

	ticketLifetime = 12 * time.Hour

	// maxAhead is how far the clock of the server that sealed a ticket may be
	// ahead of the one that opens it.
	maxAhead = time.Hour
)

// ticketText has one text for each ticket.
var ticketText = base64.RawURLEncoding.Strict()

// NewTickets returns tickets, or an error if the options contradict each other.
// They are the same options that a [Web] takes, of which Sealer is required;
// the cookie has their name with "-ticket" added, "__Host-roam-ticket" if they
// name none, so that a site can have both for a while. A nil opts is ready to
// use.
//
// Seal with a Sealer of its own: keys.Sealer("__Host-roam-ticket", "shop.example",
// "ticket"). But no ticket opens as anything else of this package, nor anything
// else as a ticket, even if they share one.
func NewTickets(web *WebOptions, opts *TicketOptions) (*Tickets, error) {
	var o TicketOptions
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	inner, err := NewWeb(&Manager[struct{}]{opts: Options{Logger: o.Logger}}, web)
	switch {
	case err != nil:
		return nil, err
	case inner.opts.Sealer == nil:
		return nil, errors.New("roam: NewTickets: WebOptions.Sealer is nil: anybody could make a ticket that is not sealed; package sealed has a Sealer")
	case inner.opts.AllowUnsealed:
		return nil, errors.New("roam: NewTickets: WebOptions.AllowUnsealed is set: there are no unsealed tickets to allow")
	case o.Lifetime < 0 || o.Lifetime > maxPersist:
		return nil, fmt.Errorf("roam: TicketOptions.Lifetime is %v: want 0 to 400 days (9600h); 0 means %v", o.Lifetime, ticketLifetime)
	case o.Lifetime == 0:
		o.Lifetime = ticketLifetime
	}
	t := &Tickets{web: inner, name: inner.opts.Cookie + "-ticket", lifetime: o.Lifetime, log: o.Logger}
	// A mark's associated data is a cookie's name, which has no slash.
	t.aad = []byte("roam/ticket\x00" + t.name)
	t.users.seed = maphash.MakeSeed()
	return t, nil
}

// Identify says who the visitor is: the zero Identity for a first visit, and
// for whatever is no ticket of ours, is past its deadline, or came over plain
// HTTP. Which of these it is, nobody is told. It asks nothing and writes no
// cookie.
//
// The error is always nil. It is there so that a handler reads the same with a
// [Web], whose store may not answer.
func (t *Tickets) Identify(w http.ResponseWriter, r *http.Request) (Identity, error) {
	text, _ := t.read(w, r)
	who, _ := t.open(text)
	return who, nil
}

// RequireLogin is Identify for pages that need a login: one not longer than
// within ago, if that is not 0, and of this level at least. Otherwise its error
// is [ErrLogin]: lead the visitor to a login, which raises the level, and back.
//
// It is as certain as Identify and no more. A login within a few minutes is the
// best there is here against a ticket that was stolen long ago.
func (t *Tickets) RequireLogin(w http.ResponseWriter, r *http.Request, within time.Duration, level Level) (Identity, error) {
	text, _ := t.read(w, r)
	who, now := t.open(text)
	switch age := now.Sub(who.LoggedIn); {
	case who.User == "":
		return who, fmt.Errorf("%w: nobody is logged in", ErrLogin)
	case within > 0 && age > within:
		return who, fmt.Errorf("%w: the login is %v old, and this needs one within %v", ErrLogin, age.Round(time.Second), within)
	case who.Level < level:
		return who, fmt.Errorf("%w: the login is of level %d, and this needs level %d", ErrLogin, who.Level, level)
	}
	return who, nil
}

// Login logs the visitor in and sets the cookie: a new ticket with an ID of its
// own, which is for logs. in.From is not kept. The error is an [ErrRequest], or
// says that in is wrong or that there is no key to seal with; then no cookie is
// set.
func (t *Tickets) Login(w http.ResponseWriter, r *http.Request, in Login) (Identity, error) {
	if _, err := t.read(w, r); err != nil {
		return Identity{}, err
	}
	if err := in.check(); err != nil {
		return Identity{}, fmt.Errorf("roam: Tickets.Login: %w", err)
	}
	life := t.lifetime
	if in.Persist > 0 {
		life = in.Persist
	}
	now := time.Now().Truncate(time.Microsecond).UTC()
	who := Identity{ID: newID(), User: in.User, Level: in.Level, LoggedIn: now, Expires: now.Add(life)}
	text := t.seal(&who)
	if text == "" || len(text) > maxTicket {
		return Identity{}, errors.New("roam: Tickets.Login: the Sealer sealed nothing, or far too much: is there a key that may seal?")
	}
	t.web.set(w, t.web.cookie(t.name, text, int(in.Persist/time.Second)))
	t.event(r.Context(), "logged in", who)
	return who, nil
}

// Logout deletes the cookie in this browser, and does nothing else: a copy of
// the ticket is good until its deadline. The error is an [ErrRequest]; then the
// cookie stays.
func (t *Tickets) Logout(w http.ResponseWriter, r *http.Request) error {
	text, err := t.read(w, r)
	if err != nil {
		return err
	}
	if who, _ := t.open(text); who.User != "" {
		t.event(r.Context(), "logged out", who)
	}
	t.web.set(w, t.web.cookie(t.name, "", -1))
	return nil
}

// read returns the cookie's text. The error is for verbs that would set one.
func (t *Tickets) read(w http.ResponseWriter, r *http.Request) (string, error) {
	text, _, err := t.web.cookies(w, r, t.name, t.name)
	return text, err
}

// seal returns the text of a ticket, "" if there is no key.
func (t *Tickets) seal(who *Identity) string {
	b := make([]byte, 0, ticketLen+len(who.User))
	b = append(b, ticketLayout)
	b = append(b, who.ID[:]...)
	b = append(b, byte(who.Level))
	b = binary.BigEndian.AppendUint64(b, uint64(who.LoggedIn.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(who.Expires.UnixMicro()))
	b = append(b, who.User...)
	return ticketText.EncodeToString(t.web.opts.Sealer.Seal(nil, b, t.aad))
}

// open returns what a ticket says, and the time at which it was looked at; the
// zero Identity if it is not one of ours or its time is over.
func (t *Tickets) open(text string) (who Identity, now time.Time) {
	if text == "" || len(text) > maxTicket {
		return who, now
	}
	buf := halves.Get().(*[2 * maxMark]byte)
	defer halves.Put(buf)
	n, err := ticketText.Decode(buf[:maxTicket], []byte(text))
	if err != nil || n != ticketText.DecodedLen(len(text)) { // newlines are skipped, and so missing
		return who, now
	}
	b, err := t.web.opts.Sealer.Open(buf[maxTicket:maxTicket], buf[:n], t.aad)
	if err != nil || len(b) <= ticketLen || b[0] != ticketLayout {
		return who, now
	}
	now = time.Now()
	loggedIn := int64(binary.BigEndian.Uint64(b[18:]))
	expires := int64(binary.BigEndian.Uint64(b[26:]))
	if at := now.UnixMicro(); at >= expires || at < loggedIn-maxAhead.Microseconds() {
		return who, now
	}
	return Identity{
		ID: ID(b[1:17]), Level: Level(b[17]), User: t.users.named(b[ticketLen:]),
		LoggedIn: time.UnixMicro(loggedIn).UTC(), Expires: time.UnixMicro(expires).UTC(),
	}, now
}

// event writes a line to the log.
func (t *Tickets) event(ctx context.Context, event string, who Identity) {
	t.log.LogAttrs(ctx, slog.LevelInfo, "ticket: "+event, slog.Any("session", who.ID), slog.String("user", who.User))
}

// users are the names of users that were read lately, so that reading one again
// makes no garbage. It forgets by overwriting, and takes 32 KiB beside the
// names. Only a ticket that opens gets in.
type users struct {
	seed  maphash.Seed
	known [4096]atomic.Pointer[string]
}

func (u *users) named(text []byte) string {
	slot := &u.known[maphash.Bytes(u.seed, text)%uint64(len(u.known))]
	if name := slot.Load(); name != nil && *name == string(text) {
		return *name
	}
	name := string(text)
	slot.Store(&name)
	return name
}
