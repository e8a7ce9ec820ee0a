//go:build unix

package farm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestRollReplacesAllAndLosesNothing(t *testing.T) {
	s := open(t, Options{})
	before := s.Status()

	// POSTs, because nobody sends these twice: neither this client nor the
	// balancer, once a server has seen them.
	var sent, done, lost atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				if code, text, err := s.try(http.MethodPost, "/", strings.NewReader("x")); code != http.StatusOK {
					lost.Add(1)
					t.Errorf("a request was lost: %d %q, %v", code, text, err)
				}
				done.Add(1)
			}
		})
	}
	var steps []string
	err := s.Roll(t.Context(), func(step string) {
		steps = append(steps, step)
		before := done.Load() // no step goes by without load
		until(t, "requests are answered", func() bool { return done.Load() >= before+20 || t.Failed() })
	})
	if err != nil {
		t.Error(err)
	}
	close(stop)
	clients.Wait()
	t.Logf("%d requests, %d lost", sent.Load(), lost.Load())
	for i, after := range s.Status() {
		if after.State != Up || after.PID == before[i].PID || after.Address != before[i].Address || after.Restarts != 1 || after.Failed != 0 {
			t.Errorf("before %+v, after %+v: want it up, replaced, nothing failed", before[i], after)
		}
	}
	var got []string
	for _, step := range steps {
		step, _, _ = strings.Cut(step, ",")
		got = append(got, step)
	}
	want := []string{
		"[1/3] web1: draining", "[1/3] web1: empty", "[1/3] web1: stopped (exit status 0)", "[1/3] web1: up again",
		"[2/3] web2: draining", "[2/3] web2: empty", "[2/3] web2: stopped (exit status 0)", "[2/3] web2: up again",
		"[3/3] web3: draining", "[3/3] web3: empty", "[3/3] web3: stopped (exit status 0)", "[3/3] web3: up again",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("steps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRollStartsTheDeadAndKeepsTheDrainedDrained(t *testing.T) {
	s := open(t, Options{})
	if _, err := s.Kill("web1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Drain(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	before := s.server("web2").PID
	if err := s.Roll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.wantStates(Up, Drained, Up)
	if s.server("web2").PID == before {
		t.Error("the drained server was not replaced")
	}
}

func TestRollStopsAtTheFirstServerThatDoesNotComeBack(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	t.Setenv(badEnv, bad)
	s := open(t, Options{})
	before := s.Status()
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.Roll(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "stopped at web1") || !strings.Contains(err.Error(), "the new version is bad") {
		t.Errorf("got %v, want it to name web1 and the end of its log", err)
	}
	s.wantStates(Down, Up, Up)
	for i, after := range s.Status()[1:] {
		if after.PID != before[i+1].PID {
			t.Errorf("%s was replaced, too", after.Name)
		}
	}
	s.round(4)

	// Repaired, the next roll mends it all.
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	if err := s.Roll(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.wantStates(Up, Up, Up)
}

func TestRollLeavesSomebodyToAnswer(t *testing.T) {
	s := open(t, Options{Servers: 2})
	if _, err := s.Kill("web2"); err != nil {
		t.Fatal(err)
	}
	before := s.server("web1").PID
	if err := s.Roll(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no other server is up") {
		t.Errorf("got %v, want a refusal", err)
	}
	if got := s.server("web1").PID; got != before {
		t.Error("the last server was replaced")
	}
	s.get("/")
}

func TestInterruptedRollLeavesNobodyBehind(t *testing.T) {
	s := open(t, Options{Servers: 2})

	// While web1 still has requests in flight, it goes back into rotation.
	post := s.post()
	ctx, cancel := context.WithCancel(t.Context())
	rolled := make(chan error, 1)
	go func() { rolled <- s.Roll(ctx, nil) }()
	s.until("web1 drains", func() bool { return s.server("web1").State == Draining })
	if err := s.Roll(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another roll") {
		t.Errorf("a second roll: got %v, want a refusal", err)
	}
	cancel()
	if err := <-rolled; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	post.finish()
	s.wantStates(Up, Up)
	if n := s.server("web1").Restarts; n != 0 {
		t.Errorf("web1 was restarted %d times, want 0", n)
	}

	// Once it is being stopped, it is replaced, and nobody after it.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err := s.Roll(ctx, func(step string) {
		if strings.Contains(step, "stopping") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	s.wantStates(Up, Up)
	if got, want := fmt.Sprint(s.server("web1").Restarts, s.server("web2").Restarts), "1 0"; got != want {
		t.Errorf("restarts %s, want %s", got, want)
	}
}

func TestKillDuringARollStopsTheRoll(t *testing.T) {
	s := open(t, Options{})
	// The server that is next dies before it is started anew: the roll starts it.
	err := s.Roll(t.Context(), func(step string) {
		if strings.HasPrefix(step, "[1/3] web1: up again") {
			s.Kill("web2")
		}
	})
	if err != nil {
		t.Error(err)
	}
	s.wantStates(Up, Up, Up)
}
