package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/roam-web/roam/internal/servers"
)

// TestMain lets the test's own program be a site's process, as bench is.
func TestMain(m *testing.M) {
	if name := os.Getenv(envSite); name != "" {
		exit(child(context.Background(), name))
	}
	os.Exit(m.Run())
}

// open starts the stores for one test.
func open(t *testing.T) *stores {
	t.Helper()
	s, err := openStores(t.Context())
	if errors.Is(err, servers.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// site makes the candidate's site in this process.
func (s *stores) site(t *testing.T, c candidate) *site {
	t.Helper()
	e := s.env(c, nil)
	e.Idle = c.idle
	x, err := c.make(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if x.close != nil {
		t.Cleanup(x.close)
	}
	return x
}

// What is measured is the same work: every site answers every page alike, and
// those with sessions count, know who is there, and let a visitor out.
func TestEverySiteDoesWhatThePagesSay(t *testing.T) {
	s := open(t)
	for _, c := range candidates {
		t.Run(c.name, func(t *testing.T) {
			x := s.site(t, c)
			call := x.caller()
			v, err := arrive(call, x, "u7")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pages {
				if !c.has(p) {
					continue
				}
				for range 2 {
					if err := v.visit(call, p); err != nil {
						t.Errorf("%s: %v", p.name, err)
					}
				}
			}
			if c.store == "none" || c.pages != nil {
				return
			}
			says := func(method, path, want string) {
				t.Helper()
				a, err := call.ask(method, path, v.own)
				if err != nil {
					t.Fatal(err)
				}
				if got := string(a.body); got != want || a.status != 200 {
					t.Errorf("%s %s: %d %q, want 200 %q", method, path, a.status, got, want)
				}
				v.take(append([]string(nil), a.set...))
			}
			says("GET", "/who", "user u7")
			for n := 3; n < 6; n++ { // the pages above have made it 2
				says("POST", "/add", fmt.Sprintf("count %d", n))
				says("GET", "/cart", fmt.Sprintf("count %d", n))
				says("GET", "/fresh", fmt.Sprintf("count %d", n))
			}
			says("POST", "/login/u8", "user u8")
			says("GET", "/who", "user u8")
			says("POST", logout, "bye")
			says("GET", "/who", "guest")
		})
	}
}

// The sites are their own processes, and their clients speak enough HTTP for
// net/http and for fasthttp.
func TestASiteIsAProcessOfItsOwn(t *testing.T) {
	s := open(t)
	b := &bench{results: new(results), ctx: t.Context(), stores: s, begin: time.Now()}
	all, err := b.start([]string{"net/http", "roam memory", "fiber memory"}, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(all)
	for _, f := range all {
		name := f[0].candidate.name
		if name != "net/http" { // sessions in memory are one server's alone
			f = f[:1]
		}
		for _, p := range pages {
			if err := b.served("test", f, p.name, 3, time.Millisecond, false, func(int) page { return p }); err != nil {
				t.Fatal(err)
			}
			if err := b.handler("test", f, p, 2, time.Millisecond, true); err != nil {
				t.Fatal(err)
			}
			got := b.cell("test", name, p.name, 3).Samples[0]
			if got.Failed != 0 || got.Rate <= 0 || got.P50 <= 0 || got.P99 < got.P50 {
				t.Errorf("%s, %s: %+v", name, p.name, got)
			}
		}
	}
}
