package members

import (
	"bytes"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/shop"
)

// A page is what a template gets.
type page struct {
	Name string // which page: its template is templates/NAME.html
	Body any    // what is special to it

	Asked  bool   // whether the page asked who it is
	User   string // and who it was
	Server string
}

// A problem is what the page of that name shows.
type problem struct {
	Status      int
	Title, Text string
}

func (s *Site) problem(w http.ResponseWriter, status int, title, text string) {
	w.Header().Set("Cache-Control", "no-store")
	s.show(w, status, page{Name: "problem", Body: problem{status, title, text}})
}

// show renders the whole page before it sends the first byte.
func (s *Site) show(w http.ResponseWriter, status int, p page) {
	p.Server = s.server
	var html bytes.Buffer
	if err := templates[p.Name].ExecuteTemplate(&html, "layout", p); err != nil {
		s.log.Error("members: a page cannot be shown", slog.String("page", p.Name), slog.Any("error", err))
		http.Error(w, "Something broke.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(html.Bytes())
}

//go:embed templates
var templateFiles embed.FS

// templates has one set per page: the layout and the page's own.
var templates = func() map[string]*template.Template {
	layout := template.Must(template.New("").Funcs(template.FuncMap{"asset": shop.AssetPath}).ParseFS(templateFiles, "templates/layout.html"))
	sets := make(map[string]*template.Template)
	for _, name := range []string{"home", "members", "hut", "login", "problem"} {
		sets[name] = template.Must(template.Must(layout.Clone()).ParseFS(templateFiles, "templates/"+name+".html"))
	}
	return sets
}()

// Tint is the number of the colour by which one tells servers apart.
func (p page) Tint() int { return shop.Tint(p.Server) }

// Clock writes t for people.
func (p page) Clock(t time.Time) string { return t.UTC().Format("2 January, 15:04 UTC") }

// Machine writes t for the datetime attribute.
func (p page) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }
