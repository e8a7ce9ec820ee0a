package servers

import (
	"strings"
	"testing"
)

// In transaction mode a client has the server's connection for a transaction
// and not for longer.
func TestPgBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	b := bouncer(t, p.Primary, &PgBouncerOptions{Settings: map[string]string{"default_pool_size": "1"}})
	one, two := connect(t, b.URL()), connect(t, b.URL())
	one.send("SELECT pg_backend_pid();")
	pid := one.line()
	two.send("SELECT pg_backend_pid();") // while one is still connected
	if got := two.line(); got != pid {
		t.Errorf("two clients had the backends %s and %s of a pool of one", pid, got)
	}

	one.send("BEGIN; SELECT 'mine';")
	if got := one.line(); got != "mine" {
		t.Fatalf("got %q", got)
	}
	two.send("SELECT 'yours';")
	b.waitForWaiting(t)
	select {
	case got := <-two.lines:
		t.Errorf("the second client got %q during the first one's transaction", got)
	default:
	}
	one.send("COMMIT;")
	if got := two.line(); got != "yours" {
		t.Errorf("got %q", got)
	}
}

func TestPgBouncerBreaksLikeAnyServer(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	proxy, err := StartProxy(p.Primary.Addr())
	do(t, err)
	defer proxy.Stop()
	b := bouncer(t, p.Primary, &PgBouncerOptions{Target: proxy.Addr()})
	works := func() {
		t.Helper()
		s := connect(t, b.URL())
		s.send("SELECT 'works';")
		if got := s.line(); got != "works" {
			t.Errorf("got %q\nlog:\n%s", got, b.Log())
		}
	}
	works()
	do(t, b.Kill())
	do(t, b.Start(t.Context()))
	works()
	do(t, b.Restart(t.Context()))
	works()
	do(t, b.Freeze())
	s := connect(t, b.URL())
	s.send("SELECT 'late';")
	do(t, b.Thaw())
	if got := s.line(); got != "late" {
		t.Errorf("after Thaw: %q", got)
	}
	// It goes to the target that it was given, and with that way closed it waits.
	proxy.Refuse()
	s = connect(t, b.URL())
	s.send("SELECT 'open';")
	b.waitForWaiting(t)
	do(t, proxy.Restore())
	if got := s.line(); got != "open" {
		t.Errorf("after Restore: %q", got)
	}
}

// waitForWaiting waits until one client waits for a connection to the server.
func (b *PgBouncer) waitForWaiting(t *testing.T) {
	t.Helper()
	for {
		pools, err := b.Query(t.Context(), "SHOW POOLS")
		do(t, err)
		for line := range strings.Lines(pools) {
			// database, user, active clients, waiting ones
			if fields := strings.Split(line, "|"); len(fields) > 3 && fields[0] == "roam" && fields[3] == "1" {
				return
			}
		}
	}
}
