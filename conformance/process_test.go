package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/store/sqlitestore"
)

// A basket is what the processes change: each of them adds items of its own.
type basket struct {
	Items []string `json:",omitempty"`
	N     int      `json:",omitempty"`
}

// TestMain runs the tests, or, in a process that a test has started, one of
// the children below. It fails if a goroutine is left.
func TestMain(m *testing.M) {
	if child := children[os.Getenv("CONFORMANCE_CHILD")]; child != nil {
		if err := serve(child); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	stopServers()
	for start := time.Now(); code == 0 && runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			if !strings.Contains(string(stacks), "roam-web/roam/store") {
				break // the fuzzing engine's own
			}
			fmt.Fprintf(os.Stderr, "goroutines outlive the tests:\n%s\n", stacks)
			code = 1
		}
	}
	os.Exit(code)
}

// A worker is a web server in a process of its own. It says on standard output
// what it has done, one line each, as soon as it knows that it is done: that
// is what its visitors would have seen.
type worker struct {
	m      *roam.Manager[basket]
	name   string
	tokens []roam.Token

	mu sync.Mutex
}

func (w *worker) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(os.Stdout, format+"\n", args...) // one write, and short enough for a pipe not to split it
}

// parallel runs do in n goroutines and waits for them.
func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// serve opens the store in a child, says so, and waits for the word to go.
func serve(child func(w *worker)) error {
	store, err := openAddress(context.Background(), os.Getenv("CONFORMANCE_STORE"))
	if err != nil {
		return err
	}
	m, err := roam.New[basket](store, nil)
	if err != nil {
		return err
	}
	w := &worker{m: m, name: os.Getenv("CONFORMANCE_NAME")}
	for _, text := range strings.Fields(os.Getenv("CONFORMANCE_TOKENS")) {
		tok, err := roam.ParseToken(text)
		if err != nil {
			return err
		}
		w.tokens = append(w.tokens, tok)
	}
	w.say("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	child(w)
	return store.Close()
}

var children = map[string]func(w *worker){
	// Eight updates at once of one session.
	"add": func(w *worker) {
		parallel(8, func(i int) {
			item := fmt.Sprint(w.name, "-", i)
			_, err := w.m.Update(context.Background(), w.tokens[0], func(b *basket) error { b.Items = append(b.Items, item); return nil })
			if err != nil {
				w.say("error %s: %v", item, err)
				return
			}
			w.say("added %s", item)
		})
	},

	// Updates by four goroutines, until the session has another secret.
	"add until rotated": func(w *worker) {
		parallel(4, func(i int) {
			for k := 0; ; k++ {
				item := fmt.Sprint(w.name, "-", i, "-", k)
				_, err := w.m.Update(context.Background(), w.tokens[0], func(b *basket) error { b.Items = append(b.Items, item); return nil })
				var ended *roam.EndedError
				switch {
				case errors.As(err, &ended) && ended.Reason == roam.Rotated:
					w.say("rotated")
					return
				case err != nil:
					w.say("error %s: %v", item, err)
					return
				}
				w.say("added %s", item)
			}
		})
	},

	// Logins and their ends until the process is killed: what of them must be
	// in the store's log.
	"end": func(w *worker) {
		ctx := context.Background()
		parallel(4, func(i int) {
			for k := 0; ; k++ {
				user := fmt.Sprint(w.name, "-", i)
				s, err := w.m.Update(ctx, roam.Token{}, func(b *basket) error { b.N++; return nil })
				if err == nil {
					s, err = w.m.Login(ctx, s.Token, roam.Login{User: user}, nil)
				}
				if err == nil {
					w.say("logged %v 2", s.ID)
					why := roam.LoggedOut
					if k%2 == 0 {
						err = w.m.Logout(ctx, s.Token)
					} else {
						why = roam.PasswordChanged
						_, err = w.m.RevokeUser(ctx, user, why)
					}
					if err == nil {
						w.say("logged %v 3 %s", s.ID, why)
					}
				}
				if err != nil {
					w.say("error: %v", err)
					return
				}
			}
		})
	},

	// Work of all kinds that goes on until the process is killed: counts in
	// the sessions given, and sessions that are started, logged in and
	// logged out.
	"work": func(w *worker) {
		ctx := context.Background()
		var wg sync.WaitGroup
		for i, tok := range w.tokens {
			wg.Go(func() {
				for {
					s, err := w.m.Update(ctx, tok, func(b *basket) error { b.N++; return nil })
					if err != nil {
						w.say("error: %v", err)
						return
					}
					w.say("count %d %d", i, s.Data.N)
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for k := 0; ; k++ {
					s, err := w.m.Update(ctx, roam.Token{}, func(b *basket) error { b.N = 7; return nil })
					if err == nil {
						w.say("started %s", s.Token.Reveal())
						s, err = w.m.Login(ctx, s.Token, roam.Login{User: "ann"}, nil)
					}
					if err == nil {
						w.say("loggedin %s", s.Token.Reveal())
						if k%2 == 0 {
							if err = w.m.Logout(ctx, s.Token); err == nil {
								w.say("loggedout %s", s.Token.Reveal())
							}
						}
					}
					if err != nil {
						w.say("error: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
	},
}

// A process is a child that runs.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	done  bool
}

// spawn starts a child and returns when it has the store open.
func spawn(t *testing.T, child, address, name string, tokens ...roam.Token) *process {
	t.Helper()
	var texts []string
	for _, tok := range tokens {
		texts = append(texts, tok.Reveal())
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONFORMANCE_CHILD="+child, "CONFORMANCE_STORE="+address, "CONFORMANCE_NAME="+name,
		"CONFORMANCE_TOKENS="+strings.Join(texts, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	t.Cleanup(func() { p.kill() })
	if !p.lines.Scan() || p.lines.Text() != "ready" {
		t.Fatalf("the child %q is not ready: %q, %v", child, p.lines.Text(), p.lines.Err())
	}
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		t.Fatal(err)
	}
}

// line returns the next line, false when the child has said its last.
func (p *process) line(t *testing.T) (string, bool) {
	t.Helper()
	if !p.lines.Scan() {
		return "", false
	}
	line := p.lines.Text()
	if strings.HasPrefix(line, "error") {
		t.Errorf("a child says: %s", line)
	}
	return line, true
}

// rest returns what the child says until its end.
func (p *process) rest(t *testing.T) (lines []string) {
	t.Helper()
	for line, ok := p.line(t); ok; line, ok = p.line(t) {
		lines = append(lines, line)
	}
	return lines
}

// wait waits for the child's own end, after its last line.
func (p *process) wait(t *testing.T) {
	t.Helper()
	p.done = true
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("a child failed: %v", err)
	}
}

// kill ends the child as a power cut would, if it runs.
func (p *process) kill() {
	if !p.done {
		p.cmd.Process.Kill()
		for p.lines.Scan() {
		}
		p.cmd.Wait()
		p.done = true
	}
}

// added returns the items that the lines say were added.
func added(lines []string) (items []string) {
	for _, line := range lines {
		if item, ok := strings.CutPrefix(line, "added "); ok {
			items = append(items, item)
		}
	}
	return items
}

// same compares items in any order: each once.
func same(t *testing.T, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("the session has %d items, %d were acknowledged:\n got %q\nwant %q", len(got), len(want), got, want)
	}
}

func manage(t *testing.T, store roam.Store) *roam.Manager[basket] {
	t.Helper()
	m, err := roam.New[basket](store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func begin(t *testing.T, m *roam.Manager[basket]) roam.Token {
	t.Helper()
	s, err := m.Update(t.Context(), roam.Token{}, func(b *basket) error { b.Items = []string{"first"}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return s.Token
}

func TestNoUpdateIsLostAmongProcesses(t *testing.T) { eachShared(t, noUpdateIsLostAmongProcesses) }

func noUpdateIsLostAmongProcesses(t *testing.T, address string) {
	m := manage(t, openShared(t, address))
	tok := begin(t, m)
	var processes []*process
	for i := range 4 {
		processes = append(processes, spawn(t, "add", address, fmt.Sprint(i), tok))
	}
	for _, p := range processes {
		p.start(t)
	}
	want := []string{"first"}
	for _, p := range processes {
		want = append(want, added(p.rest(t))...)
		p.wait(t)
	}
	if len(want) != 1+32 {
		t.Errorf("%d of 32 updates from 4 processes were acknowledged", len(want)-1)
	}
	s, err := m.Get(t.Context(), tok)
	if err != nil {
		t.Fatal(err)
	}
	same(t, s.Data.Items, want)
}

func TestALoginLosesNoUpdateOfOtherProcesses(t *testing.T) {
	eachShared(t, aLoginLosesNoUpdateOfOtherProcesses)
}

func aLoginLosesNoUpdateOfOtherProcesses(t *testing.T, address string) {
	store := openShared(t, address)
	m := manage(t, store)
	r := rand.New(rand.NewPCG(6, 6))
	for range rounds(4) {
		tok := begin(t, m)
		var processes []*process
		for i := range 3 {
			processes = append(processes, spawn(t, "add until rotated", address, fmt.Sprint(i), tok))
		}
		for _, p := range processes {
			p.start(t)
		}
		want := []string{"first"}
		for range r.IntN(30) {
			line, _ := processes[0].line(t)
			want = append(want, added([]string{line})...)
		}
		parsed, err := roam.ParseToken(tok.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		in, err := m.Login(t.Context(), parsed, roam.Login{User: "ann"}, nil)
		if err != nil {
			t.Fatalf("Login while other processes update: %v", err)
		}
		for _, p := range processes {
			want = append(want, added(p.rest(t))...)
			p.wait(t)
		}
		s, err := m.Get(t.Context(), in.Token)
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.Data.Items, want)
		t.Logf("%d updates landed before the login", len(want)-1)
	}
}

// What one process has ended is in the log that another reads, as soon as
// anybody can know of it, and after a kill too.
func TestEveryProcessHearsOfEnds(t *testing.T) { eachShared(t, everyProcessHearsOfEnds) }

func everyProcessHearsOfEnds(t *testing.T, address string) {
	store := openShared(t, address)
	hear := func(store roam.Store, log map[string]bool, next *roam.Cursor) {
		got, err := store.Ends(t.Context(), *next)
		if err != nil {
			t.Errorf("Ends: %v", err)
		}
		for _, e := range got.Ends {
			log[strings.TrimSpace(fmt.Sprintf("logged %v %d %s", e.ID, e.Version, e.Why))] = true
		}
		*next = got.Next
	}
	var processes []*process
	for i := range 3 {
		processes = append(processes, spawn(t, "end", address, fmt.Sprint(i)))
	}
	said := make([][]string, len(processes))
	parallel(len(processes), func(i int) {
		p := processes[i]
		p.start(t)
		log, next := make(map[string]bool), roam.Cursor("")
		for range 10 * rounds(20) {
			line, ok := p.line(t)
			if !ok {
				t.Errorf("process %d ended by itself", i)
				return
			}
			if hear(store, log, &next); !log[line] {
				t.Errorf("process %d said %q, and after that it is not in the log", i, line)
				return
			}
			said[i] = append(said[i], line)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		said[i] = append(said[i], p.rest(t)...)
		p.kill()
	})
	with(t, address, func(store shared, _ *roam.Manager[basket]) {
		log, next := make(map[string]bool), roam.Cursor("")
		hear(store, log, &next)
		n := 0
		for _, line := range slices.Concat(said...) {
			if !log[line] {
				t.Errorf("the log has no %q, which a killed process had said", line)
			}
			n++
		}
		t.Logf("%d entries were told of, the log has %d", n, len(log))
		if len(log) > n+len(processes)*4*2 {
			t.Errorf("the log has %d entries, %d were told of, and each of 12 goroutines had two under way at most", len(log), n)
		}
	})
}

// A write that was acknowledged is there after the process that made it was
// killed, whether others had the file open or not; and nobody who was logged
// out is back.
func TestAKilledWriterLosesNothing(t *testing.T) { eachShared(t, aKilledWriterLosesNothing) }

func aKilledWriterLosesNothing(t *testing.T, address string) {
	var toks []roam.Token
	with(t, address, func(_ shared, m *roam.Manager[basket]) {
		for range 4 {
			toks = append(toks, begin(t, m))
		}
	})
	said := acknowledged{counts: make([]int, len(toks)), started: make(map[string]bool), out: make(map[string]bool)}
	r := rand.New(rand.NewPCG(7, 7))
	kills := rounds(30)
	server := strings.Contains(address, "://")
	if server {
		kills = rounds(8) // the files are another process's
	}
	for round := range kills {
		kill := func() {
			p := spawn(t, "work", address, "", toks...)
			p.start(t)
			for range 1 + r.IntN(250) {
				line, ok := p.line(t)
				if !ok {
					t.Fatal("the writer ended by itself")
				}
				said.hear(t, line)
			}
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for _, line := range p.rest(t) { // said before it died, heard after
				said.hear(t, line)
			}
			p.kill()
			// What a dead process had sent to a server may land later, even
			// after we have looked.
			said.late = make([]bool, len(toks))
			for i := range said.late {
				said.late[i] = server
			}
		}
		if round%2 == 0 {
			kill() // the only one that had the file open
		}
		with(t, address, func(store shared, m *roam.Manager[basket]) {
			if round%2 != 0 {
				kill()
			}
			if file, ok := store.(*sqlitestore.Store); ok { // the one whose files the writer itself writes
				if err := file.Check(t.Context()); err != nil {
					t.Fatalf("after a kill: %v", err)
				}
			}
			for i, tok := range toks {
				s, err := m.Get(t.Context(), tok)
				if err != nil {
					t.Fatal(err)
				}
				most := said.counts[i] + 1
				if server {
					most++ // one of this writer's and a late one of the last
				}
				if n := s.Data.N; n < said.counts[i] || n > most {
					t.Errorf("session %d has count %d, acknowledged were %d", i, n, said.counts[i])
				}
				said.counts[i] = s.Data.N // one more may have landed without having been said
			}
		})
		if t.Failed() {
			return
		}
	}
	// A login made the secret before it void, a logout the session. None may
	// be missing.
	with(t, address, func(_ shared, m *roam.Manager[basket]) {
		for text := range said.started {
			tok, err := roam.ParseToken(text)
			if err != nil {
				t.Fatal(err)
			}
			s, err := m.Get(t.Context(), tok)
			var ended *roam.EndedError
			switch {
			case err == nil && said.out[text]:
				t.Errorf("a session that was logged out lives")
			case err == nil && s.Data.N != 7:
				t.Errorf("a session that was started has lost its data: %+v", s.Data)
			case err == nil:
			case errors.As(err, &ended) && (ended.Reason == roam.LoggedOut || ended.Reason == roam.Rotated):
			default:
				t.Errorf("a session that was started: %v", err)
			}
		}
	})
	t.Logf("%d kills, %d writes acknowledged, %d of them logouts", kills, said.total, len(said.out))
}

// acknowledged is what killed writers had said was done.
type acknowledged struct {
	counts       []int           // of the sessions that count
	started, out map[string]bool // tokens of sessions started or logged in, and logged out
	total        int
	late         []bool // a write of the last one killed may have landed after its count was read
}

func (a *acknowledged) hear(t *testing.T, line string) {
	t.Helper()
	a.total++
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "count":
		var i, n int
		if _, err := fmt.Sscan(rest, &i, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if n != a.counts[i]+1 && !(a.late != nil && a.late[i] && n == a.counts[i]+2) {
			t.Errorf("session %d was counted from %d to %d", i, a.counts[i], n)
		}
		a.counts[i] = n
		if a.late != nil {
			a.late[i] = false
		}
	case "started", "loggedin":
		a.started[rest] = true
	case "loggedout":
		a.out[rest] = true
	}
}

// with opens the store for a while.
func with(t *testing.T, address string, do func(shared, *roam.Manager[basket])) {
	t.Helper()
	store, err := openAddress(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	do(store, manage(t, store))
}

func rounds(all int) int {
	if testing.Short() {
		return max(all/10, 1)
	}
	return all
}
