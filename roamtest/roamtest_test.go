package roamtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/roamtest"
)

type cart struct{ Items []string }

func (c *cart) Add(item string) error { c.Items = append(c.Items, item); return nil }

func TestLogicInTwoLines(t *testing.T) {
	sessions := roamtest.New[cart](t)
	ann := roamtest.Login(t, sessions, "ann", func(c *cart) error { return c.Add("tea") })
	if ann.User != "ann" || ann.Data.Items[0] != "tea" {
		t.Errorf("got %+v", ann)
	}
}

func TestHandlerInTwoLines(t *testing.T) {
	sessions := roamtest.New[cart](t)
	web := roam.Must(roam.NewWeb(sessions, nil))
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := web.Get(w, r)
		fmt.Fprintf(w, "hello %q", s.User)
	})
	ann := roamtest.Login(t, sessions, "ann", nil)
	for want, s := range map[string]roam.Session[cart]{`hello "ann"`: ann, `hello ""`: {}} {
		r := roamtest.Request(t, web, s, "GET", "/", nil)
		resp := roamtest.Serve(t, hello, r)
		if got, _ := io.ReadAll(resp.Body); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A spy is a testing.TB that keeps what is reported to it.
type spy struct {
	testing.TB
	errors []string
}

func (s *spy) Helper()                      {}
func (s *spy) Errorf(f string, args ...any) { s.errors = append(s.errors, fmt.Sprintf(f, args...)) }
func (s *spy) Fatalf(f string, args ...any) { s.Errorf(f, args...); panic(s) }

func TestServeReportsACookieThatCameTooLate(t *testing.T) {
	sessions := roamtest.New[cart](t)
	web := roam.Must(roam.NewWeb(sessions, nil))
	for late, want := range map[bool]int{false: 0, true: 2} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if late {
				io.WriteString(w, "too early a byte")
			}
			if _, err := web.Update(w, r, func(c *cart) error { return c.Add("tea") }); err != nil {
				t.Error(err)
			}
		})
		s := &spy{TB: t}
		roamtest.Serve(s, h, roamtest.Request(t, web, roam.Session[cart]{}, "POST", "/", nil))
		if len(s.errors) != want || late && !strings.Contains(s.errors[0], "__Host-roam was set after") {
			t.Errorf("late=%v: reported %q, want %d", late, s.errors, want)
		}
		for _, e := range s.errors {
			if strings.Contains(e, "=") {
				t.Errorf("the report may hold a secret: %s", e)
			}
		}
	}
}

func TestServeReportsAPublicCookie(t *testing.T) {
	web := roam.Must(roam.NewWeb(roamtest.New[cart](t), nil))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.Update(w, r, func(c *cart) error { return c.Add("tea") })
		w.Header().Set("Cache-Control", "public, max-age=60")
	})
	s := &spy{TB: t}
	roamtest.Serve(s, h, roamtest.Request(t, web, roam.Session[cart]{}, "POST", "/", nil))
	if len(s.errors) != 1 || !strings.Contains(s.errors[0], "a shared cache may give the cookie") {
		t.Errorf("reported %q, want one error", s.errors)
	}
}

func TestRequestNeedsTheSecret(t *testing.T) {
	sessions := roamtest.New[cart](t)
	web := roam.Must(roam.NewWeb(sessions, nil))
	ann := roamtest.Login(t, sessions, "ann", nil)
	var listed roam.Session[cart]
	for listed = range sessions.List(t.Context(), ann.User) {
	}
	s := &spy{TB: t}
	defer func() {
		if recover() != any(s) || len(s.errors) != 1 {
			t.Errorf("reported %q, want one error", s.errors)
		}
	}()
	roamtest.Request(s, web, listed, "GET", "/", nil)
}
