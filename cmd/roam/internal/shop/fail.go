package shop

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/roam-web/roam"
)

// A refusal is an error that the visitor can understand.
type refusal struct {
	Status      int
	Title, Text string

	// Outcome says to programs what became of what was asked for: "none" if
	// certainly nothing, "unknown" if nobody can tell. "" speaks for itself.
	Outcome string
}

func (e *refusal) Error() string { return "shop: " + e.Text }

var (
	errNoPage     = &refusal{Status: http.StatusNotFound, Title: "No such page", Text: "There is nothing at this address."}
	errMethod     = &refusal{Status: http.StatusMethodNotAllowed, Title: "That does not work here", Text: "This address does something when a form is sent to it; there is no page to look at."}
	errForeign    = &refusal{Status: http.StatusForbidden, Title: "Not from here", Text: "That form was sent by another site. Nothing has changed."}
	errNoProduct  = &refusal{Status: http.StatusNotFound, Title: "No such product", Text: "We do not sell that."}
	errQty        = &refusal{Status: http.StatusBadRequest, Title: "How many?", Text: "The quantity must be a whole number that makes sense."}
	errTooMany    = &refusal{Status: http.StatusUnprocessableEntity, Title: "That is a lot", Text: "We do not have so many of one kind. Nothing has changed."}
	errNoOrder    = &refusal{Status: http.StatusNotFound, Title: "No such order", Text: "You have no order with this number."}
	errNoDevice   = &refusal{Status: http.StatusNotFound, Title: "No such device", Text: "You are not logged in there any more."}
	errLoginFirst = &refusal{Status: http.StatusUnauthorized, Title: "Log in first", Text: "This needs a login."}
	errLoginAgain = &refusal{Status: http.StatusUnauthorized, Title: "Log in once more", Text: "This needs a login that is not long ago."}

	errRequest = &refusal{Status: http.StatusBadRequest, Title: "We cannot tell who you are", Text: "This request cannot carry a session: it came without encryption, or with two session cookies. Deleting this site's cookies helps."}
	errBusy    = &refusal{Status: http.StatusServiceUnavailable, Title: "One moment, please", Text: "Our database does not answer. That logs nobody out and empties no cart; please try again.", Outcome: "none"}
	errTill    = &refusal{Status: errBusy.Status, Title: errBusy.Title, Text: errBusy.Text} // the orders' database; it may have taken the order
	errDoubt   = &refusal{Status: http.StatusServiceUnavailable, Title: "One moment, please", Text: "Our database stopped answering in the middle. Your last change may have arrived; please look before you repeat it.", Outcome: "unknown"}
	errStay    = &refusal{Status: http.StatusServiceUnavailable, Title: "You may still be logged in", Text: "Our database does not confirm that the session has ended. Please log out once more in a moment.", Outcome: "unknown"}
	errBroken  = &refusal{Status: http.StatusInternalServerError, Title: "Something broke", Text: "That is our fault, and it is in our log."}
)

// errOrders says that the orders database failed. Placing an order again is
// harmless, so the visitor is asked to.
var errOrders = errors.New("shop: orders database")

// explain decides what an error means to the visitor.
func explain(err error) *refusal {
	var known *refusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, roam.ErrRequest):
		return errRequest
	case errors.Is(err, errOrders):
		return errTill
	case errors.Is(err, roam.ErrUnknown):
		return errDoubt
	case errors.Is(err, roam.ErrUnavailable), errors.Is(err, roam.ErrConflict):
		return errBusy
	}
	return errBroken
}

// fail answers a request whose handler gave up. Whatever happened, only a
// session that has ended costs the visitor the cookie: a database that does
// not answer has logged nobody out.
func (s *Shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	if ended := (*roam.EndedError)(nil); errors.As(err, &ended) {
		s.ended(w, r, ended)
		return
	}
	why := explain(err)
	if why.Status >= 500 && r.Context().Err() == nil { // else the visitor has left, which is no fault of ours
		s.log.LogAttrs(r.Context(), slog.LevelError, "shop: request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	if why.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	switch {
	case forScript(r):
		problem := map[string]string{"server": s.server, "error": why.Text}
		if why.Outcome != "" {
			problem["outcome"] = why.Outcome
		}
		err = writeJSON(w, why.Status, problem)
	case why == errLoginFirst:
		err = seeOther(w, r, "/login?"+url.Values{"next": {wanted(r, "/cart")}}.Encode())
	case why == errLoginAgain: // and then to the page whose form was sent: the visitor decides anew
		err = seeOther(w, r, "/login?"+url.Values{"again": {"yes"}, "next": {wanted(r, "/devices")}}.Encode())
	default:
		w.Header().Set("Cache-Control", "no-store")
		err = s.show(w, r, why.Status, page{Name: "problem", Outcome: why.Outcome, Body: why})
	}
	if err != nil {
		http.Error(w, errBroken.Text, http.StatusInternalServerError)
	}
}

// unconfirmed is what the end of a session returns that the store has not
// confirmed. It may have ended all the same, so the page must not say that
// nothing has happened, and still less that it is done.
func unconfirmed(err error) error {
	if errors.Is(err, roam.ErrUnavailable) {
		return fmt.Errorf("%w: %w", errStay, err)
	}
	return err
}

// ended tells the visitor why the session is over, and forgets the cookie, so
// that the visitor goes on as a guest. Calls of a script leave that to the next
// page: they run beside each other and beside a login, whose new cookie a late
// answer must not wipe out.
func (s *Shop) ended(w http.ResponseWriter, r *http.Request, ended *roam.EndedError) {
	status := http.StatusOK
	if !safe(r) {
		status = http.StatusConflict // what was asked for has not been done
	}
	var err error
	if forScript(r) {
		err = writeJSON(w, status, answer{identity{Server: s.server, Ended: ended.Reason}, map[string]int{}, 0})
	} else {
		s.web.Forget(w, ended)
		err = s.show(w, r, status, page{Name: "ended", Asked: true, Ended: ended.Reason, Body: wanted(r, "/cart")})
	}
	if err != nil {
		http.Error(w, errBroken.Text, http.StatusInternalServerError)
	}
}

// farewell says to people why a session ended.
func farewell(why roam.Reason) string {
	switch why {
	case roam.LoggedOut:
		return "You logged out in this browser."
	case roam.Revoked:
		return "You were logged out from another device, or by the shop."
	case roam.PasswordChanged:
		return "Your password was changed, so everybody who used the old one was logged out."
	case roam.OverLimit:
		return "You are logged in on many devices, and this was the oldest login."
	case roam.Replaced:
		return "Somebody else has logged in with this browser."
	case roam.Idle:
		return "You have been away for a while, so we closed your session."
	case roam.Lifetime:
		return "Your login was old enough that we ask you to log in again."
	case roam.Rotated:
		return "You have just logged in once more, perhaps in another tab. Load the page again."
	case roam.Missing, roam.Forged:
		return "We do not know this session. It may have ended long ago."
	}
	return "The shop has ended your session."
}

func forScript(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

func safe(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// wanted is the page that the visitor wanted to see, or instead if it was a
// form that was sent.
func wanted(r *http.Request, instead string) string {
	if !safe(r) {
		return instead
	}
	return local(r.URL.RequestURI(), instead)
}

// statusOnly is a ResponseWriter that keeps the status and the header.
type statusOnly struct {
	status int
	header http.Header
}

func (w *statusOnly) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }

// refusal turns the mux's answer to what it has no pattern for into ours.
func (w *statusOnly) refusal(to http.ResponseWriter) error {
	if w.status != http.StatusMethodNotAllowed {
		return errNoPage
	}
	to.Header()["Allow"] = w.Header()["Allow"]
	return errMethod
}
