package main

import (
	"net/http"
	"strconv"
	"strings"
)

// A page is a kind of page, by what it needs of the session. Every site
// answers it with the same text, so that the difference in cost is the
// session's.
type page struct {
	name    string // in tables
	method  string
	path    string
	cookies whose
	says    string // how the answer begins
	what    string // for the reader of the tables
}

// whose says which cookies a request brings.
type whose int

const (
	own    whose = iota // of a visitor who is logged in
	none                // a first visit
	forged              // of the right form, and never given out
)

var pages = []page{
	{"untouched", "GET", "/untouched", own, "hello", "a logged-in user's page that does not look at the session"},
	{"anonymous", "GET", "/who", none, "guest", "who is it, asked of somebody without a cookie"},
	{"identify", "GET", "/who", own, "user", "who is it, and nothing else of the session"},
	{"warm", "GET", "/cart", own, "count", "the session is read; this server has seen it before"},
	{"cold", "GET", "/fresh", own, "count", "the session is read from the store in any case (roam: Fresh)"},
	{"update", "POST", "/add", own, "count", "a counter in the session is raised; the answer says that it is stored"},
	{"login", "POST", "/login/", own, "user", "somebody who has a session logs in, which gives it another key where the library can"},
	{"garbage", "GET", "/who", forged, "guest", "a cookie of the right form that was never given out"},
}

func pageNamed(name string) page {
	for _, p := range pages {
		if p.name == name {
			return p
		}
	}
	panic("no page is named " + name)
}

// url is the page's path for one visitor.
func (p page) url(user string) string {
	if p.path == "/login/" {
		return p.path + user
	}
	return p.path
}

// Paths that only correctness.go asks for. The slow ones look at the session,
// wait for gate.pass, and go on.
const (
	slowRead = "/slow-read"
	slowAdd  = "/slow-add"
	logout   = "/logout"
)

// A gate holds slow pages up. The nil gate holds nobody up.
type gate struct{ came, leave chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

// pass says that a request is here and waits until it may go on.
func (g *gate) pass() {
	if g != nil {
		g.came <- struct{}{}
		<-g.leave
	}
}

// A visit is what every site keeps in a session besides the user: a counter,
// and as much as a small cart takes.
type visit struct {
	Count int    `json:"count"`
	Cart  string `json:"cart"`
}

var cart = strings.Repeat("tea,green,100g;", 14)[:200]

var plain = []string{"text/plain"}

// say answers with a text. Its header is the same slice each time, so that
// what it costs is little and the same for all.
func say(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = plain
	w.WriteHeader(status)
	w.Write([]byte(text))
}

// sayUser answers who somebody is; nobody is a guest.
func sayUser(w http.ResponseWriter, user string) { say(w, http.StatusOK, userText(user)) }

func userText(user string) string {
	if user == "" {
		return "guest"
	}
	return "user " + user
}

func sayCount(w http.ResponseWriter, n int) { say(w, http.StatusOK, countText(n)) }

func countText(n int) string { return "count " + strconv.Itoa(n) }
