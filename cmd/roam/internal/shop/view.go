package shop

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/roam-web/roam"
)

// A page is what a template gets.
type page struct {
	Name string // which page: its template is templates/NAME.html
	Body any    // what is special to it

	// Asked says that the page asked roam for the session. A public page has
	// not, so it knows neither the user nor whether there is one.
	Asked bool
	User  string
	Ended roam.Reason

	Outcome string // of what failed; see refusal

	Server string
	Lang   string
	Path   string // where choosing a language leads back to
}

// private shows a page that asked for the session. roam has seen to it that
// no cache keeps it.
func (s *Shop) private(w http.ResponseWriter, r *http.Request, name, user string, body any) error {
	return s.show(w, r, http.StatusOK, page{Name: name, Body: body, Asked: true, User: user})
}

// show renders the whole page before it sends the first byte, so that a
// template which fails leaves no half page behind.
func (s *Shop) show(w http.ResponseWriter, r *http.Request, status int, p page) error {
	p.Server, p.Lang, p.Path = s.server, languageOf(r), wanted(r, "/")
	var html bytes.Buffer
	if err := templates[p.Name].ExecuteTemplate(&html, "layout", p); err != nil {
		return fmt.Errorf("shop: page %s: %w", p.Name, err)
	}
	h := w.Header()
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	if h.Get("Vary") == "" {
		h.Set("Vary", "Cookie") // every page depends on the cookie of the language
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(html.Bytes())
	return nil
}

//go:embed templates
var templateFiles embed.FS

// templates has one set per page: the layout, the drawings and the page's own.
var templates = parseTemplates()

func parseTemplates() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(template.FuncMap{
		"asset":   AssetPath,
		"product": productNamed,
		"add":     func(a, b int) int { return a + b },
		"mul":     func(a, b int) int { return a * b },
	}).ParseFS(templateFiles, "templates/layout.html", "templates/art.html"))
	pages, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic(err)
	}
	sets := make(map[string]*template.Template)
	for _, file := range pages {
		set := template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, file))
		sets[strings.TrimSuffix(path.Base(file), ".html")] = set
	}
	return sets
}

// T returns a text in the page's language.
func (p page) T(text string, args ...any) string { return translate(p.Lang, text, args...) }

// Farewell says why the session has ended.
func (p page) Farewell() string { return p.T(farewell(p.Ended)) }

// Rotated says that there is a newer login in this browser.
func (p page) Rotated() bool { return p.Ended == roam.Rotated }

// Price writes euro cents as people in that language do.
func (p page) Price(cents int) string {
	if p.Lang == "de" {
		return fmt.Sprintf("%d,%02d\u00a0€", cents/100, cents%100)
	}
	return fmt.Sprintf("€%d.%02d", cents/100, cents%100)
}

// Items counts things in words.
func (p page) Items(n int) string {
	if n == 1 {
		return p.T("1 item")
	}
	return p.T("%d items", n)
}

// Tint is the number of the colour by which one tells servers apart at a
// glance.
func (p page) Tint() int { return Tint(p.Server) }

// Tint is that number of any server.
func Tint(server string) int {
	sum := 0
	for _, b := range []byte(server) {
		sum += int(b)
	}
	return sum % 6
}

// Ago says how long ago, or in how long, t is. The clock that stamped t is the
// store's; that this server's may differ by a little does not matter to
// people.
func (p page) Ago(t time.Time) string { return p.span(time.Since(t)) }

func (p page) span(d time.Duration) string {
	past := d >= 0
	d = d.Abs()
	for _, unit := range []struct {
		of               time.Duration
		oneAgo, manyAgo  string
		oneThen, manyThn string
	}{
		{24 * time.Hour, "a day ago", "%d days ago", "in a day", "in %d days"},
		{time.Hour, "an hour ago", "%d hours ago", "in an hour", "in %d hours"},
		{time.Minute, "a minute ago", "%d minutes ago", "in a minute", "in %d minutes"},
	} {
		n := int((d + unit.of/2) / unit.of)
		switch {
		case n == 0 || d < unit.of-unit.of/60:
			continue
		case past && n == 1:
			return p.T(unit.oneAgo)
		case past:
			return p.T(unit.manyAgo, n)
		case n == 1:
			return p.T(unit.oneThen)
		}
		return p.T(unit.manyThn, n)
	}
	if past {
		return p.T("a moment ago")
	}
	return p.T("in a moment")
}

// Clock writes t for people who want to know exactly.
func (p page) Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Machine writes t for the datetime attribute.
func (p page) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }
