package shop

import "net/http"

// The pages of this file need no session. They do not call roam, so they cost
// no trip to a database and any cache may keep them.

func (s *Shop) home(w http.ResponseWriter, r *http.Request) error {
	return s.public(w, r, "home", catalogue)
}

func (s *Shop) product(w http.ResponseWriter, r *http.Request) error {
	p, ok := findProduct(r.PathValue("id"))
	if !ok {
		return errNoProduct
	}
	return s.public(w, r, "product", p)
}

func (s *Shop) about(w http.ResponseWriter, r *http.Request) error {
	return s.public(w, r, "about", nil)
}

// live is public too: it is its JavaScript that asks who you are; see api.go.
func (s *Shop) live(w http.ResponseWriter, r *http.Request) error {
	return s.public(w, r, "live", catalogue)
}

// public shows a page that is the same for everyone who reads the language. A
// shared cache may keep it for a minute. A browser asks each time, so that the
// page tells the truth about which server answered.
func (s *Shop) public(w http.ResponseWriter, r *http.Request, name string, body any) error {
	w.Header().Set("Cache-Control", "public, max-age=0, s-maxage=60")
	return s.show(w, r, http.StatusOK, page{Name: name, Body: body})
}

// chooseLanguage keeps a choice that is no secret and worth no session in a
// plain cookie.
func (s *Shop) chooseLanguage(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, &http.Cookie{
		Name: "lang", Value: languageNamed(r.PostFormValue("lang")), Path: "/", MaxAge: 365 * 24 * 60 * 60,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return seeOther(w, r, local(r.PostFormValue("next"), "/"))
}
