package shop

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/roam-web/roam"
)

// A page asks for as much as it needs, because that is what it costs:
//
//	nothing       no call at all                               public.go
//	who is it     Identify      no trip to the database        one order, whoami
//	the session   Get           none if it has not changed     cart, orders
//	certainty     Fresh         one                            account, devices
//	               RequireLogin  one, and a login that is       paying, logging
//	                             recent or strong enough        out others
//
// The first three may serve a session for up to a second after it was ended on
// another server, and for five if the news cannot be read. Where that would be
// too long, or where what follows cannot be undone, ask for certainty.

// named returns who is logged in, without asking the database.
func (s *Shop) named(w http.ResponseWriter, r *http.Request) (roam.Identity, error) {
	who, err := s.web.Identify(w, r)
	if err == nil && who.User == "" {
		err = errLoginFirst
	}
	return who, err
}

// member returns the visit of somebody who is logged in.
func (s *Shop) member(w http.ResponseWriter, r *http.Request) (roam.Session[Visit], error) {
	visit, err := s.web.Get(w, r)
	if err == nil && visit.User == "" {
		err = errLoginFirst
	}
	return visit, err
}

// certain is member without a doubt.
func (s *Shop) certain(w http.ResponseWriter, r *http.Request) (roam.Session[Visit], error) {
	visit, err := s.web.RequireLogin(w, r, 0, passwordOnly)
	return visit, loginNeeded(visit, err)
}

// recently is how long a password counts for what an intruder at an unlocked
// screen would like to do.
const recently = 5 * time.Minute

// recent is certain, and asks for the password again if it was given long ago.
func (s *Shop) recent(w http.ResponseWriter, r *http.Request) (roam.Session[Visit], error) {
	visit, err := s.web.RequireLogin(w, r, recently, passwordOnly)
	return visit, loginNeeded(visit, err)
}

// loginNeeded tells a guest, who has to log in, from somebody who has to do so
// once more. A session that has ended stays an [roam.ErrEnded].
func loginNeeded(visit roam.Session[Visit], err error) error {
	switch {
	case !errors.Is(err, roam.ErrLogin) || errors.Is(err, roam.ErrEnded):
		return err
	case visit.User == "":
		return errLoginFirst
	}
	return fmt.Errorf("%w: %w", errLoginAgain, err)
}
