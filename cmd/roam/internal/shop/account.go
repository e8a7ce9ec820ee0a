package shop

import (
	"errors"
	"net/http"
	"time"

	"github.com/roam-web/roam"
)

func (s *Shop) account(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.certain(w, r)
	if errors.Is(err, roam.ErrUnavailable) {
		return s.greet(w, r, err)
	}
	if err != nil {
		return err
	}
	return s.private(w, r, "account", visit.User, visit)
}

// lately is how old the answer to "who is it" may be in an outage.
const lately = 15 * time.Minute

// greet is what is left of the account while the database does not answer: the
// name. For a greeting it is no harm if the session was ended a moment ago on
// another server, which nobody can know now; so this is the one page that asks
// for what was known lately. It shows nothing else of the account, and it is a
// 503, because what was asked for is not there. What this server knows to have
// ended it does not greet.
func (s *Shop) greet(w http.ResponseWriter, r *http.Request, outage error) error {
	who, err := s.web.IdentifyStale(w, r, lately)
	if errors.Is(err, roam.ErrEnded) {
		return err
	}
	if err != nil || who.User == "" {
		return outage
	}
	w.Header().Set("Retry-After", "1")
	return s.show(w, r, http.StatusServiceUnavailable, page{Name: "greeting", Outcome: errBusy.Outcome, Body: who})
}

// A device is a place where the user is logged in.
type device struct {
	roam.Session[Visit]
	This bool // the one that asks
}

func (s *Shop) devices(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.certain(w, r)
	if err != nil {
		return err
	}
	var all []device
	for other, err := range s.sessions.List(r.Context(), visit.User) {
		if err != nil && !errors.Is(err, roam.ErrUndecodable) { // a cart we cannot read is a device all the same
			return err
		}
		all = append(all, device{other, other.ID == visit.ID})
	}
	return s.private(w, r, "devices", visit.User, all)
}

// logoutDevice ends one session, if it is the user's own. The other device
// gets to know with its next request, on whichever server, or on its live page
// by itself. Whoever has found this browser open must not lock its owner out of
// all others, so it takes a password that was given a short while ago.
func (s *Shop) logoutDevice(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.recent(w, r)
	if err != nil {
		return err
	}
	id, err := roam.ParseID(r.PostFormValue("id"))
	if err != nil {
		return errNoDevice
	}
	err = s.sessions.RevokeOwn(r.Context(), visit.Token, id, roam.Revoked)
	if gone := (*roam.EndedError)(nil); errors.As(err, &gone) && gone.ID == id && id != visit.ID {
		err = errNoDevice // it is that session that is missing, not the visitor's
	}
	if err != nil {
		return unconfirmed(err)
	}
	return seeOther(w, r, "/devices")
}

func (s *Shop) logoutOthers(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.recent(w, r)
	if err != nil {
		return err
	}
	if _, err := s.sessions.RevokeUser(r.Context(), visit.User, roam.Revoked, visit.ID); err != nil {
		return unconfirmed(err)
	}
	return seeOther(w, r, "/devices")
}
