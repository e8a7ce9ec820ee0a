package shop

import (
	"errors"
	"net/http"

	"github.com/roam-web/roam"
)

// member returns the visit of somebody who is logged in.
func (s *Shop) member(w http.ResponseWriter, r *http.Request) (roam.Session[Visit], error) {
	visit, err := s.web.Get(w, r)
	if err == nil && visit.User == "" {
		err = errLoginFirst
	}
	return visit, err
}

func (s *Shop) account(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.member(w, r)
	if err != nil {
		return err
	}
	return s.private(w, r, "account", visit, visit)
}

// A device is a place where the user is logged in.
type device struct {
	roam.Session[Visit]
	This bool // the one that asks
}

func (s *Shop) devices(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.member(w, r)
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
	return s.private(w, r, "devices", visit, all)
}

// logoutDevice ends one session, if it is the user's own. The other device
// gets to know with its next request, on whichever server.
func (s *Shop) logoutDevice(w http.ResponseWriter, r *http.Request) error {
	visit, err := s.member(w, r)
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
	visit, err := s.member(w, r)
	if err != nil {
		return err
	}
	if _, err := s.sessions.RevokeUser(r.Context(), visit.User, roam.Revoked, visit.ID); err != nil {
		return unconfirmed(err)
	}
	return seeOther(w, r, "/devices")
}
