package shop

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roam-web/roam"
)

// Remember is how long "remember me" lasts.
const Remember = 30 * 24 * time.Hour

// passwordOnly is the level of a login by password, in the sense of NIST
// SP 800-63B: a second factor would make it 2.
const passwordOnly roam.Level = 1

// A loginPage is the form, empty or with what was wrong.
type loginPage struct {
	Next, User string
	Remember   bool
	Again      bool // of somebody who is logged in, and is to prove it once more
	Wrong      bool
	Accounts   []string
	Password   string
}

// loginForm does not look at the session: those who come here have none, or
// want another. Only who is led here to prove it once more finds the name filled
// in, and that is a question of who it is and of nothing else.
func (s *Shop) loginForm(w http.ResponseWriter, r *http.Request) error {
	form := loginPage{Next: r.FormValue("next"), Again: r.FormValue("again") != ""}
	if form.Again {
		who, err := s.web.Identify(w, r)
		if err != nil {
			return err
		}
		form.User, form.Again = who.User, who.User != ""
	}
	return s.showLogin(w, r, http.StatusOK, form)
}

// login makes the visitor a member. It does the same for somebody who is one:
// that is what "prove it once more" comes to, with a new secret, a new login
// time, and the same cart. "Remember me" has to be asked again, because a login
// decides anew how long its session lives.
func (s *Shop) login(w http.ResponseWriter, r *http.Request) error {
	form := loginPage{Next: r.PostFormValue("next"), User: r.PostFormValue("user"), Remember: r.PostFormValue("remember") != "", Again: r.PostFormValue("again") != ""}
	ok, err := s.accounts.Check(r.Context(), form.User, r.PostFormValue("password"))
	if err != nil {
		return err
	}
	if !ok {
		form.Wrong = true
		return s.showLogin(w, r, http.StatusUnprocessableEntity, form)
	}
	in := roam.Login{User: form.User, Level: passwordOnly}
	if form.Remember {
		in.Persist = Remember
	}
	if _, err := s.web.Login(w, r, in, nil); err != nil {
		return err
	}
	return seeOther(w, r, local(form.Next, "/account"))
}

func (s *Shop) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.web.Logout(w, r); err != nil {
		return unconfirmed(err)
	}
	return seeOther(w, r, "/")
}

func (s *Shop) showLogin(w http.ResponseWriter, r *http.Request, status int, form loginPage) error {
	form.Next = local(form.Next, "")
	form.Accounts, form.Password = Accounts(), Password
	p := page{Name: "login", Body: form}
	if form.Again && safe(r) { // it has asked who it is
		p.Asked, p.User = true, form.User
	}
	return s.show(w, r, status, p)
}

// local returns next if it is a path on this site, else other: a link that
// goes through our login must not lead anywhere else. Browsers take both // and
// /\ for the start of another host, and drop tabs and newlines in between.
func local(next, other string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" ||
		!strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return other
	}
	return next
}
