//go:build unix

package balancer

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A kill -9 under load costs no GET, and of the POSTs only those that the
// killed server was working on.
func TestKill(t *testing.T) {
	t.Parallel()
	posts := filepath.Join(t.TempDir(), "posts")
	b, address := start(t, patient())
	names := []string{"web1", "web2", "web3"}
	procs := make(map[string]*process)
	for _, name := range names {
		procs[name] = startProcess(t, posts)
		set(t, b, name, procs[name].address)
	}
	l := startLoad(t, address, 8, "GET", "POST")
	type window struct{ from, to time.Time }
	var kills []window
	for _, name := range names {
		l.more(t, 100)
		eventually(t, "a POST in flight on "+name, func() bool { return b.UnsafeInFlight(name) > 0 })
		var w window
		w.from = time.Now()
		procs[name].kill()
		w.to = time.Now()
		kills = append(kills, w)
		eventually(t, name+" down", func() bool { return statusOf(t, b, name).State == Down })
		l.more(t, 100)

		procs[name] = startProcess(t, posts)
		set(t, b, name, procs[name].address)
		before := statusOf(t, b, name).Requests
		eventually(t, name+" in use again", func() bool { return statusOf(t, b, name).Requests > before+10 })
	}
	results := l.wait()

	lost := 0
	for _, r := range results {
		if r.ok() {
			continue
		}
		if r.method == "GET" || r.err != nil || r.status != 502 {
			t.Errorf("lost %v", r)
			continue
		}
		lost++
		// The count of requests in flight at the kill, without a race: each lost
		// one was under way while its server died.
		inFlight := false
		for _, w := range kills {
			inFlight = inFlight || r.begun.Before(w.to) && r.ended.After(w.from)
		}
		if !inFlight {
			t.Errorf("lost %v, which was not in flight at a kill", r)
		}
	}
	if most := 8 * len(kills); lost > most {
		t.Errorf("lost %d POSTs, more than clients can have in flight at the kills: %d", lost, most)
	}
	counted := 0
	for _, s := range b.Status() {
		counted += int(s.Failed)
		eventually(t, s.Name+" empty", func() bool {
			s := statusOf(t, b, s.Name)
			return s.InFlight == 0 && s.InFlightUnsafe == 0
		})
	}
	if counted != lost {
		t.Errorf("failed requests counted: %d, seen by clients: %d", counted, lost)
	}
	onceEach(t, posts, results)
	t.Logf("%d requests, %d kills, %d POSTs lost", len(results), len(kills), lost)
}

// Replacing each server by a new process loses nothing at all, even when the
// old one ends by kill -9, if it was drained before.
func TestRollingReplace(t *testing.T) {
	t.Parallel()
	posts := filepath.Join(t.TempDir(), "posts")
	b, address := start(t, patient())
	names := []string{"web1", "web2", "web3"}
	procs := make(map[string]*process)
	for _, name := range names {
		procs[name] = startProcess(t, posts)
		set(t, b, name, procs[name].address)
	}
	l := startLoad(t, address, 5, "GET", "POST")
	for _, name := range names {
		l.more(t, 50)
		drainAndWait(t, b, name)
		procs[name].kill()
		procs[name] = startProcess(t, posts)
		set(t, b, name, procs[name].address)
		if s := statusOf(t, b, name).State; s != Draining {
			t.Errorf("%s is %s after Set, want draining", name, s)
		}
		if err := b.Undrain(name); err != nil {
			t.Fatal(err)
		}
		before := statusOf(t, b, name).Requests
		eventually(t, name+" in use again", func() bool { return statusOf(t, b, name).Requests > before+10 })
	}
	results := l.wait()
	noneFailed(t, results)
	onceEach(t, posts, results)
}

// A hung server accepts connections and answers nothing. A GET that was sent to
// it goes to another one after ResponseHeaderTimeout, a POST gets 504.
func TestHang(t *testing.T) {
	t.Parallel()
	posts := filepath.Join(t.TempDir(), "posts")
	b, address := start(t, &Options{
		ResponseHeaderTimeout: 2 * time.Second,
		CheckInterval:         50 * time.Millisecond,
		CheckTimeout:          2 * time.Second,
	})
	for _, name := range []string{"web1", "web3"} {
		set(t, b, name, startProcess(t, posts).address)
	}
	hung := startProcess(t, posts)
	set(t, b, "web2", hung.address)

	l := startLoad(t, address, 4, "GET", "POST")
	l.more(t, 50)
	eventually(t, "a POST in flight on web2", func() bool { return b.UnsafeInFlight("web2") > 0 })
	if err := hung.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "web2 down", func() bool { return statusOf(t, b, "web2").State == Down })
	eventually(t, "web2 empty", func() bool { return statusOf(t, b, "web2").InFlight == 0 })
	l.more(t, 50)
	if err := hung.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	before := statusOf(t, b, "web2").Requests
	eventually(t, "web2 in use again", func() bool { return statusOf(t, b, "web2").Requests > before+10 })

	results := l.wait()
	for _, r := range results {
		if !r.ok() && (r.method == "GET" || r.err != nil || r.status != 504) {
			t.Errorf("lost %v", r)
		}
	}
	onceEach(t, posts, results)
}
