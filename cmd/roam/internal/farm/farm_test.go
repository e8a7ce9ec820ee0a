//go:build unix

package farm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestEveryServerIsAProcessOfItsOwn(t *testing.T) {
	s := open(t, Options{})
	pids := map[int]bool{os.Getpid(): true}
	for _, v := range s.Status() {
		if pids[v.PID] || v.State != Up || v.Restarts != 0 {
			t.Errorf("%+v: want a new process that is up", v)
		}
		pids[v.PID] = true
	}
	if got, want := fmt.Sprint(s.round(9)), "map[web1:3 web2:3 web3:3]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
	for _, v := range s.Status() {
		if v.Requests != 3 || v.InFlight != 0 || v.Failed != 0 {
			t.Errorf("%+v: want 3 requests, none in flight or failed", v)
		}
	}
}

func TestKilledServerCostsNoGetAndStaysDown(t *testing.T) {
	s := open(t, Options{})
	s.round(3) // so that the balancer has connections to all
	before := s.server("web2")
	if n, err := s.Kill("web2"); n != 0 || err != nil {
		t.Fatalf("Kill: got %d, %v; want 0, nil", n, err)
	}
	if !dead(before.PID) {
		t.Error("Kill returned before the process was dead")
	}
	if c, err := net.Dial("tcp", before.Address); !errors.Is(err, syscall.ECONNREFUSED) {
		// A connection that waits for a dead server could not go elsewhere.
		t.Errorf("its port: got %v, %v; want it to refuse", c, err)
	}
	if got := s.round(10); got["web2"] != 0 || len(got) != 2 {
		t.Errorf("answered by %v, want web1 and web3", got)
	}
	if v := s.server("web2"); v.State != Down || v.PID != 0 || v.Exit != "signal: killed" {
		t.Errorf("%+v: want it down, without a process, killed", v)
	}
	if strings.Contains(s.log.String(), "WARN") {
		t.Errorf("a kill that was asked for is no reason to warn:\n%s", s.log)
	}
	if _, err := s.Kill("web2"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a second Kill: got %v, want ErrNotRunning", err)
	}

	if err := s.StartServer(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	after := s.server("web2")
	if after.State != Up || after.Address != before.Address || after.PID == before.PID || after.Restarts != 1 || after.Exit != "" {
		t.Errorf("before %+v, after %+v: want it up, another process at the same address", before, after)
	}
	if got, want := fmt.Sprint(s.round(9)), "map[web1:3 web2:3 web3:3]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
	if err := s.StartServer(t.Context(), "web2"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second StartServer: got %v, want ErrRunning", err)
	}
}

func TestStartedServerGetsRequestsAlsoIfItWasDrained(t *testing.T) {
	s := open(t, Options{Servers: 2})
	if err := s.Drain(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	s.Kill("web1")
	if err := s.StartServer(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	s.wantStates(Up, Up)
}

// The result of Kill is what a drill holds lost requests against.
func TestKillTellsWhatWasInFlight(t *testing.T) {
	s := open(t, Options{Servers: 2})
	posts := []*slow{s.post(), s.post(), s.post(), s.post()}
	n, err := s.Kill("web1")
	if err != nil {
		t.Fatal(err)
	}
	if n != 2 {
		t.Errorf("Kill returned %d, want 2", n)
	}
	failed := 0
	for _, p := range posts {
		p.finish()
		if p.code != http.StatusOK {
			failed++
		}
	}
	if failed != n {
		t.Errorf("%d requests failed, want the %d that were in flight", failed, n)
	}
}

// Under load, too: of the requests that come while a server dies, no more fail
// than Kill tells, and all of them are POSTs.
func TestKillBoundsWhatIsLost(t *testing.T) {
	s := open(t, Options{})
	total, deadly := 0, 0
	for round := range 9 {
		var done, lost atomic.Int64
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for i := range 8 {
			method := http.MethodPost
			if i == 0 {
				method = http.MethodGet
			}
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					code, text, err := s.try(method, "/", strings.NewReader("x"))
					if code != http.StatusOK && method == http.MethodGet {
						t.Errorf("a GET was lost: %d %q, %v", code, text, err)
					} else if code != http.StatusOK {
						lost.Add(1)
					}
					done.Add(1)
				}
			})
		}
		name := fmt.Sprintf("web%d", round%3+1)
		s.until("there is load", func() bool { return done.Load() >= 30 })
		n, err := s.Kill(name)
		if err != nil {
			t.Error(err)
		}
		before := done.Load()
		s.until("it goes on", func() bool { return done.Load() >= before+30 })
		close(stop)
		clients.Wait()
		if got := lost.Load(); got > int64(n) {
			t.Errorf("%d requests were lost, more than the %d that were in flight", got, n)
		} else if got > 0 {
			deadly++
		}
		total += n
		if err := s.StartServer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d requests in flight, %d of 9 kills cost something", total, deadly)
}

func TestCrashIsNoticed(t *testing.T) {
	s := open(t, Options{Servers: 2})
	if code, _, err := s.try(http.MethodPost, "/crash", nil); err != nil || code != http.StatusBadGateway {
		t.Errorf("the request that crashed its server: got %d, %v; want 502", code, err)
	}
	s.until("the crash is noticed", func() bool { return s.server("web1").State == Down })
	if v := s.server("web1"); v.Exit != "exit status 3" {
		t.Errorf("%+v: want exit status 3", v)
	}
	if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "server=web1") {
		t.Errorf("the log has no warning about web1:\n%s", log)
	}
	if got, want := fmt.Sprint(s.round(4)), "map[web2:4]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
}

func TestServerThatHangsIsUnready(t *testing.T) {
	s := open(t, Options{Servers: 2})
	pid := s.server("web1").PID
	syscall.Kill(pid, syscall.SIGSTOP)
	s.until("it is noticed", func() bool { return s.server("web1").State == Unready })
	if got, want := fmt.Sprint(s.round(4)), "map[web2:4]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
	syscall.Kill(pid, syscall.SIGCONT)
	s.until("it is back", func() bool { return s.server("web1").State == Up })
	if v := s.server("web1"); v.PID != pid || v.Restarts != 0 {
		t.Errorf("%+v: want the same process", v)
	}
}

func TestDrainReturnsWhenTheServerIsEmpty(t *testing.T) {
	s := open(t, Options{Servers: 2})
	post := s.post()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), "web1") }()
	s.until("web1 drains", func() bool { return s.server("web1").State == Draining })
	if got, want := fmt.Sprint(s.round(4)), "map[web2:4]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
	if len(drained) > 0 {
		t.Fatal("Drain returned with a request in flight")
	}
	post.finish()
	if post.code != http.StatusOK || post.on != "web1" {
		t.Errorf("the request in flight: got %d from %s, %v; want 200 from web1", post.code, post.on, post.err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	s.wantStates(Drained, Up)
	if err := s.Undrain("web1"); err != nil {
		t.Error(err)
	}
	s.wantStates(Up, Up)
	if got, want := fmt.Sprint(s.round(4)), "map[web1:2 web2:2]"; got != want {
		t.Errorf("answered by %v, want %v", got, want)
	}
}

func TestStickyCookieKeepsAVisitorUntilTheServerIsGone(t *testing.T) {
	s := open(t, Options{Policy: "sticky-cookie"})
	home := s.get("/")
	if got := s.round(6); got[home] != 6 {
		t.Errorf("answered by %v, want %s alone", got, home)
	}
	if _, err := s.Kill(home); err != nil {
		t.Fatal(err)
	}
	next := s.get("/")
	if got := s.round(6); next == home || got[next] != 6 {
		t.Errorf("after the kill of %s answered by %v, want one other server", home, got)
	}
}

func TestStoreIsTold(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "sqlite://DIR/data/sessions.db"},
		{Options{Store: "sqlite:///elsewhere/s.db"}, "sqlite:///elsewhere/s.db"},
		{Options{Store: "sqlite:///elsewhere/s.db", Local: true}, "memory:"},
	} {
		c.o.Servers = 1
		s := open(t, c.o)
		if got := strings.ReplaceAll(s.get("/store"), s.opts.Dir, "DIR"); got != c.want {
			t.Errorf("%+v: the server's store is %s, want %s", c.o, got, c.want)
		}
	}
}

// Everybody on the machine can see the arguments of a process.
func TestArgumentsHaveNoSecrets(t *testing.T) {
	s := open(t, Options{Servers: 1, Store: "postgres://shop:hunter2@db/sessions"})
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.server("web1").PID))
	if err != nil {
		t.Skip(err)
	}
	if got := string(args); strings.Contains(got, "hunter2") || !strings.HasSuffix(got, "\x00serve\x00--name\x00web1\x00") {
		t.Errorf("the arguments are %q", got)
	}
}

func TestCloseFinishesWhatIsInFlight(t *testing.T) {
	s := open(t, Options{})
	s.round(3)
	post := s.post()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	<-s.ctx.Done()
	post.finish()
	if post.code != http.StatusOK {
		t.Errorf("the request in flight: got %d, %v; want 200", post.code, post.err)
	}
	<-closed
	for _, v := range s.Status() {
		if v.State != Down || v.Exit != "exit status 0" {
			t.Errorf("%+v: want it down after a clean stop", v)
		}
	}
}

func TestCloseFreesEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.round(3)
	addresses := []string{strings.TrimPrefix(s.URL(), "https://")}
	var pids []int
	for _, v := range s.Status() {
		addresses = append(addresses, v.Address)
		pids = append(pids, v.PID)
	}
	s.client.CloseIdleConnections()
	s.Close()
	s.Close()
	for _, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			t.Errorf("the port is not free: %v", err)
			continue
		}
		ln.Close()
	}
	for _, pid := range pids {
		if !dead(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "control", "socket")); !os.IsNotExist(err) {
		t.Errorf("the control socket is left: %v", err)
	}
	if err := s.StartServer(t.Context(), "web1"); err == nil || !strings.Contains(err.Error(), closeNotice) {
		t.Errorf("StartServer after Close: got %v, want %q", err, closeNotice)
	}
	open(t, Options{Dir: dir}).round(3)
}

// Somebody may take a port while its server is down.
func TestTakenPortIsReplaced(t *testing.T) {
	s := open(t, Options{Servers: 1})
	if _, err := s.Kill("web1"); err != nil {
		t.Fatal(err)
	}
	before := s.server("web1").Address
	ln, err := net.Listen("tcp", before)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := s.StartServer(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	if after := s.server("web1"); after.State != Up || after.Address == before {
		t.Errorf("%+v: want it up at another address", after)
	}
	s.get("/")
}

func TestInterruptedStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	open(t, Options{Dir: dir, Servers: 1}).get("/")
}

func TestOneFarmInAFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Servers: 1})
	if _, err := Start(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second farm: got %v, want ErrRunning", err)
	}
	s.get("/") // the first one has not noticed
	if _, err := Dial(t.Context(), dir); err != nil {
		t.Errorf("the first farm's control socket: %v", err)
	}
}

func TestServersDieWithTheirFarm(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "hold", dir)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var info Info
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&info); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	for _, v := range info.Servers {
		if dead(v.PID) {
			t.Errorf("%+v: want it alive", v)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, v := range info.Servers {
		until(t, v.Name+" is dead", func() bool { return dead(v.PID) })
	}

	// What the dead farm has left behind is no obstacle for the next one.
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial of the dead farm: got %v, want ErrNotRunning", err)
	}
	open(t, Options{Dir: dir, Servers: 1}).get("/")
}

func TestServerStopsWhenItsInputEnds(t *testing.T) {
	// Where the kernel does not kill the children of the dead, this does it.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "serve", "--name", "web1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	if !lines.Scan() || !strings.Contains(lines.Text(), "serving") {
		t.Errorf("the log says %q, want that it serves", lines.Text())
	}
	in.Close()
	io.Copy(io.Discard, log)
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		name string
		o    Options
		bad  string
		want string
	}{
		{"bad program", Options{}, bad, "the new version is bad"},
		{"no program", Options{Exe: "/does/not/exist"}, "", "/does/not/exist"},
		{"not a server", Options{Exe: "/bin/true"}, "", "ended before it was ready (exit status 0)"},
		{"policy", Options{Policy: "random"}, "", "random"},
		{"servers", Options{Servers: 21}, "", "want 1 to 20"},
		{"less than none", Options{Servers: -1}, "", "want 1 to 20"},
		{"address in use", Options{Listen: busy.Addr().String()}, "", "address already in use"},
		{"long folder", Options{Dir: long}, "", "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(badEnv, c.bad)
			if c.o.Dir == "" {
				c.o.Dir = t.TempDir()
			}
			log := &record{}
			c.o.Logger = slog.New(slog.NewTextHandler(log, nil))
			f, err := Start(t.Context(), c.o)
			if strings.Contains(log.String(), "WARN") {
				t.Errorf("the log says it, too:\n%s", log)
			}
			if err == nil {
				f.Close()
				t.Fatal("got a farm")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to say %q", err, c.want)
			}
			if c.o.Dir == long {
				if _, err := os.Stat(long); !os.IsNotExist(err) {
					t.Errorf("the folder was made: %v", err)
				}
				return
			}
			t.Setenv(badEnv, "")
			open(t, Options{Dir: c.o.Dir, Servers: 1}).get("/")
		})
	}
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("a farm without a folder: got none")
	}
}

func TestPrivateThingsArePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir, Servers: 1})
	for name, want := range map[string]os.FileMode{
		".":       0o755, // the user's, and left alone
		"control": 0o700, "control/socket": 0o600, "data": 0o700, "logs": 0o700,
		"root.key": 0o600, "root.crt": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

func TestLogsAreKeptShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web1.log")
	if err := os.WriteFile(path, make([]byte, maxLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, _ := f.Stat(); info.Size() != 0 {
		t.Errorf("the log begins with %d bytes, want 0", info.Size())
	}
	if info, err := os.Stat(path + ".1"); err != nil || info.Size() != maxLog+1 {
		t.Errorf("the old log is not set aside: %v", err)
	}
}
