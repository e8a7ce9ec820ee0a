//go:build unix

package farm

import (
	"errors"
	"strings"
	"testing"
)

func dialFarm(t *testing.T, s *site) *Client {
	t.Helper()
	c, err := Dial(t.Context(), s.opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientOperatesTheFarm(t *testing.T) {
	s := open(t, Options{Servers: 2})
	c := dialFarm(t, s)
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.URL != s.URL() || info.Store != s.opts.Store || len(info.Servers) != 2 || info.Servers[0].PID != s.server("web1").PID {
		t.Errorf("got %+v, want what the farm is", info)
	}
	if _, err := Pool(info.RootCert); err != nil {
		t.Error(err)
	}

	if err := c.Drain(t.Context(), "web1"); err != nil {
		t.Error(err)
	}
	s.wantStates(Drained, Up)
	if err := c.Undrain(t.Context(), "web1"); err != nil {
		t.Error(err)
	}
	s.wantStates(Up, Up)

	post := s.post()
	name := "web1"
	if s.server("web2").InFlightUnsafe > 0 {
		name = "web2"
	}
	if n, err := c.Kill(t.Context(), name); n != 1 || err != nil {
		t.Errorf("Kill: got %d, %v; want 1, nil", n, err)
	}
	post.finish()
	if _, err := c.Kill(t.Context(), name); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a second Kill: got %v, want ErrNotRunning", err)
	}
	if err := c.StartServer(t.Context(), name); err != nil {
		t.Error(err)
	}
	if err := c.StartServer(t.Context(), name); !errors.Is(err, ErrRunning) {
		t.Errorf("a second StartServer: got %v, want ErrRunning", err)
	}
	s.wantStates(Up, Up)

	var steps []string
	if err := c.Roll(t.Context(), func(step string) { steps = append(steps, step) }); err != nil {
		t.Error(err)
	}
	if len(steps) != 8 {
		t.Errorf("steps of the roll: got %q, want 8", steps)
	}
	for _, err := range []error{
		c.Drain(t.Context(), "web3"), c.Undrain(t.Context(), "web3"), c.StartServer(t.Context(), "../web1"),
	} {
		if !errors.Is(err, ErrUnknownServer) || !strings.Contains(err.Error(), "web1, web2") {
			t.Errorf("got %v, want ErrUnknownServer with the names there are", err)
		}
	}
}

func TestRollErrorReachesTheClient(t *testing.T) {
	s := open(t, Options{Servers: 1})
	err := dialFarm(t, s).Roll(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "no other server is up") {
		t.Errorf("got %v, want the refusal", err)
	}
}

func TestCommandsEndWithTheFarm(t *testing.T) {
	s := open(t, Options{Servers: 2})
	c := dialFarm(t, s)
	post := s.post()
	drained := make(chan error, 1)
	go func() { drained <- c.Drain(t.Context(), "web1") }()
	s.until("web1 drains", func() bool { return s.server("web1").State == Draining })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	if err := <-drained; err == nil || !strings.Contains(err.Error(), closeNotice) {
		t.Errorf("Drain: got %v, want %q", err, closeNotice)
	}
	post.finish()
	<-closed
	if _, err := Dial(t.Context(), s.opts.Dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial after Close: got %v, want ErrNotRunning", err)
	}
}
