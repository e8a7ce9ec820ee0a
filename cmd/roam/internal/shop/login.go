package shop

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roam-web/roam"
)

// remember is how long "remember me" lasts.
const remember = 30 * 24 * time.Hour

// passwordOnly is the level of a login by password, in the sense of NIST
// SP 800-63B: a second factor would make it 2.
const passwordOnly roam.Level = 1

// A loginPage is the form, empty or with what was wrong.
type loginPage struct {
	Next, User string
	Remember   bool
	Wrong      bool
	Accounts   []string
	Password   string
}

// loginForm does not look at the session: those who come here have none, or
// want another.
func (s *Shop) loginForm(w http.ResponseWriter, r *http.Request) error {
	return s.showLogin(w, r, http.StatusOK, loginPage{Next: r.FormValue("next")})
}

func (s *Shop) login(w http.ResponseWriter, r *http.Request) error {
	form := loginPage{Next: r.PostFormValue("next"), User: r.PostFormValue("user"), Remember: r.PostFormValue("remember") != ""}
	ok, err := s.accounts.check(r.Context(), form.User, r.PostFormValue("password"))
	if err != nil {
		return err
	}
	if !ok {
		form.Wrong = true
		return s.showLogin(w, r, http.StatusUnprocessableEntity, form)
	}
	in := roam.Login{User: form.User, Level: passwordOnly}
	if form.Remember {
		in.Persist = remember
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
	return s.show(w, r, status, page{Name: "login", Body: form})
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
