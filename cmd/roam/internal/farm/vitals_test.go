//go:build unix

package farm

import (
	"os"
	"strings"
	"testing"
)

func TestServersSayHowTheyAre(t *testing.T) {
	s := open(t, Options{Servers: 2})
	for _, name := range []string{"web1", "web2"} {
		until(t, name+" has said how it is", func() bool { return s.server(name).Vitals != nil })
		if v := s.server(name).Vitals; v.StoreConns != 7 || v.Goroutines < 1 {
			t.Errorf("%s: got %+v", name, v)
		}
	}
	if _, err := s.Kill("web1"); err != nil {
		t.Fatal(err)
	}
	if v := s.server("web1").Vitals; v != nil {
		t.Errorf("a dead server says %+v", v)
	}
}

// Also a server's next process may get another environment.
func TestEnvironmentIsAskedForAtEachStart(t *testing.T) {
	stores := map[string]string{"web1": "sqlite:a", "web2": "sqlite:b"}
	s := open(t, Options{Servers: 2, Env: func(name string) []string { return []string{EnvStore + "=" + stores[name]} }})
	got := map[string]int{}
	for range 2 {
		got[s.get("/store")]++
	}
	if got["sqlite:a"] != 1 || got["sqlite:b"] != 1 {
		t.Errorf("the servers' stores: got %v, want one each", got)
	}
	if _, err := s.Kill("web2"); err != nil {
		t.Fatal(err)
	}
	stores["web2"] = "sqlite:c"
	if err := s.StartServer(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	if got := s.get("/store") + s.get("/store"); !strings.Contains(got, "sqlite:c") {
		t.Errorf("after a restart: got %s, want sqlite:c among them", got)
	}
}

// The password is for those who ask for the store, not for all who look.
func TestInfoHasNoPassword(t *testing.T) {
	const url = "postgres://shop:hunter2@db/sessions"
	s := open(t, Options{Servers: 1, Store: url})
	c := dialFarm(t, s)
	info, err := c.Info(t.Context())
	if err != nil || info.Store != "postgres://shop:xxxxx@db/sessions" {
		t.Errorf("got %q, %v", info.Store, err)
	}
	if got, err := c.Store(t.Context()); got != url || err != nil {
		t.Errorf("asked for the store: got %q, %v; want %q", got, err, url)
	}
	for _, name := range []string{"web1", "balancer"} {
		if log, err := os.ReadFile(s.logFile(name)); err != nil || strings.Contains(string(log), "hunter2") {
			t.Errorf("log of %s: %v\n%s", name, err, log)
		}
	}
}
