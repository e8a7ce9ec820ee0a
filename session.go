package roam

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A Session is one visitor's session as of one moment: a value, not a handle.
// Changing it changes nothing; use [Manager.Update].
type Session[T any] struct {
	Token Token  // proves the session; in a list it only names it
	ID    ID     // names it; zero if there is no session
	User  string // "" until login
	Data  T

	// The times are the store's. Now is when it gave this answer: compare
	// with it rather than with the web server's clock. Seen is the last use
	// before this one, give or take the touch window. Expires is when the
	// session ends, counted from Seen.
	Created, LoggedIn, Seen, Expires, Now time.Time

	From  Client // of the login
	Level Level  // of the login
}

// A Login says who logs in, and how.
type Login struct {
	User  string // required: the name or key by which List and RevokeUser know the user
	From  Client // Web fills it from the request if it is zero
	Level Level

	// Persist is for "remember me": the session lives so long, used or not,
	// and its cookie outlives the browser. At most 400 days. 0 means a
	// browser-session cookie and the limits of Options, also when a session
	// that was remembered logs in again.
	Persist time.Duration
}

func (in *Login) check() error {
	switch {
	case in.User == "":
		return fmt.Errorf("roam: Login.User is empty: a login needs a user; to change a guest's session use Update")
	case !plain(in.User, 255):
		return fmt.Errorf("roam: Login.User has %d bytes: want at most 255, valid UTF-8 and no NUL", len(in.User))
	case in.Persist < 0 || in.Persist > maxPersist:
		return fmt.Errorf("roam: Login.Persist is %v: want 0 to 400 days (9600h)", in.Persist)
	}
	return nil
}

// plain reports whether s is text that every store can keep.
func plain(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// clip shortens s to n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for !utf8.ValidString(s) && len(s) > n-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}
