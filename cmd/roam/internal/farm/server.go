package farm

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/balancer"
	"github.com/roam-web/roam/graceful"
	"github.com/roam-web/roam/sealed"
)

// A State is what an operator wants to know first about a server.
type State string

// The states of a server.
const (
	Starting State = "starting" // its process runs and is not ready yet
	Up       State = "up"       // gets requests
	Unready  State = "unready"  // its process runs, but the balancer's checks fail
	Draining State = "draining" // gets no new requests, has some in flight
	Drained  State = "drained"  // gets no new requests, has none in flight
	Down     State = "down"     // has no process
)

// A Server is the status of one server at one moment. The counters are the
// balancer's and run from the start of the farm, across restarts.
type Server struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"` // when State last changed
	PID      int       `json:"pid"`   // 0 if it has no process
	Address  string    `json:"address"`
	Restarts int       `json:"restarts"`
	Exit     string    `json:"exit,omitempty"` // how its last process ended

	InFlight       int    `json:"in_flight"`
	InFlightUnsafe int    `json:"in_flight_unsafe"` // of those, neither GET, HEAD nor OPTIONS
	Requests       uint64 `json:"requests"`
	Failed         uint64 `json:"failed"`       // of those, an error for the client
	RetriedAway    uint64 `json:"retried_away"` // of those, answered by another server
	BytesOut       int64  `json:"bytes_out"`
	LastError      string `json:"last_error,omitempty"`

	// Vitals are what the process last said of itself, nil if it says nothing.
	Vitals *Vitals `json:"vitals,omitempty"`
}

// A server is one place in the farm, which one process after another fills.
type server struct {
	name string
	turn chan struct{} // held by whoever starts or stops a process here

	// The rest is guarded by Farm.mu.
	address string
	proc    *process // nil if there is none
	ready   bool     // proc was ready once
	since   time.Time
	starts  int
	exit    string
}

func newServer(name string) *server {
	s := &server{name: name, turn: make(chan struct{}, 1), since: time.Now()}
	s.turn <- struct{}{}
	return s
}

// take waits for the turn to start or stop the server's process.
func (s *server) take(ctx context.Context) (release func(), err error) {
	if ctx.Err() != nil { // of two open ways select takes any
		return nil, context.Cause(ctx)
	}
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s is being started or stopped: %w", s.name, context.Cause(ctx))
	}
}

// A process is one run of a web server.
type process struct {
	cmd  *exec.Cmd
	life *os.File      // the child reads the other end; its end is the order to stop
	done chan struct{} // closed when it is gone and everything it held is free
	err  error         // how it ended; read after done
	told bool          // somebody asked for its end; guarded by Farm.mu

	vitals atomic.Pointer[Vitals]
}

// Status returns the state of every server, in order.
func (f *Farm) Status() []Server {
	counters := make(map[string]balancer.ServerStatus)
	for _, b := range f.balancer.Status() {
		counters[b.Name] = b
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Server, 0, len(f.servers))
	for _, s := range f.servers {
		b := counters[s.name]
		v := Server{
			Name: s.name, Address: s.address, Since: s.since, Restarts: max(0, s.starts-1), Exit: s.exit,
			InFlight: b.InFlight, InFlightUnsafe: b.InFlightUnsafe, Requests: b.Requests,
			Failed: b.Failed, RetriedAway: b.RetriedAway, BytesOut: b.BytesOut, LastError: b.LastError,
		}
		if s.proc != nil {
			v.PID = s.proc.cmd.Process.Pid
			v.Vitals = s.proc.vitals.Load()
			if s.ready && b.Since.After(v.Since) {
				v.Since = b.Since
			}
		}
		switch {
		case s.proc == nil:
			v.State = Down
		case !s.ready:
			v.State = Starting
		case b.State == balancer.Draining && b.InFlight > 0:
			v.State = Draining
		case b.State == balancer.Draining:
			v.State = Drained
		case b.State == balancer.Up:
			v.State = Up
		default:
			v.State = Unready
		}
		list = append(list, v)
	}
	return list
}

// startAll starts all servers at once. The balancer gets to know them in order,
// so that the first request goes to the first one. If one fails, the others
// need not go on, and it is the one to hear of.
func (f *Farm) startAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var mu sync.Mutex
	var first error
	for _, s := range f.servers {
		all.Go(func() {
			if err := f.launch(ctx, s); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	if first != nil {
		return first
	}
	for _, s := range f.servers {
		if err := f.balancer.Set(s.name, s.address); err != nil {
			return err
		}
	}
	return nil
}

// StartServer starts a server that has no process, and returns when it is
// ready and gets requests, also if it was drained before.
func (f *Farm) StartServer(ctx context.Context, name string) error {
	s, err := f.find(name)
	if err != nil {
		return err
	}
	release, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if p := f.process(s); p != nil {
		return fmt.Errorf("%s is %w (pid %d)", name, ErrRunning, p.cmd.Process.Pid)
	}
	if err := f.relaunch(ctx, s); err != nil {
		return err
	}
	return f.balancer.Undrain(name)
}

func (f *Farm) process(s *server) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.proc
}

// relaunch starts a process for s, waits until it is ready, and tells the
// balancer. The caller has the server's turn.
func (f *Farm) relaunch(ctx context.Context, s *server) error {
	if err := f.launch(ctx, s); err != nil {
		return err
	}
	return f.balancer.Set(s.name, s.address)
}

// launch starts a process for s and waits until it is ready. The caller has
// the server's turn, or is Start.
func (f *Farm) launch(ctx context.Context, s *server) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	p, err := f.spawn(s)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", s.name, err)
	}
	if err := f.await(ctx, s, p); err != nil {
		f.end(p)
		p.cmd.Process.Kill()
		<-p.done
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.proc != p {
		return f.stillborn(s, p)
	}
	s.ready, s.since = true, time.Now()
	return nil
}

// spawn starts a process that listens on the server's address.
//
// The farm opens the socket and hands it over, so that nothing can take the
// port between choosing and using it, and a connection made early waits in the
// queue instead of being refused. Then the farm closes its own copy: if it kept
// one, connections to a dead server would wait in that queue instead of being
// refused, and only a refused one can go elsewhere.
func (f *Farm) spawn(s *server) (*process, error) {
	ln, err := f.listen(s)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	log, err := openLog(f.logFile(s.name))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()

	args := append(f.opts.Args[:len(f.opts.Args):len(f.opts.Args)], "--name", s.name)
	cmd := exec.Command(f.opts.Exe, args...)
	heard, says, err := os.Pipe()
	if err != nil {
		write.Close()
		return nil, err
	}
	defer says.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, says, log
	cmd.Env = append(os.Environ(),
		EnvStore+"="+f.opts.Store,
		EnvOrders+"="+filepath.Join(f.opts.Dir, "data", "orders.db"),
		EnvKeys+"="+f.keys(),
		EnvSeal+"="+f.opts.Seal,
		EnvKey+"="+f.fingerprint(),
	)
	if f.opts.Env != nil {
		cmd.Env = append(cmd.Env, f.opts.Env(s.name)...) // the last of a name counts
	}
	cmd.SysProcAttr = attributes()
	if err := graceful.Pass(cmd, ln); err != nil {
		write.Close()
		heard.Close()
		return nil, err
	}
	err = f.nursery.start(cmd)
	for _, file := range cmd.ExtraFiles {
		file.Close()
	}
	if err != nil {
		write.Close()
		heard.Close()
		return nil, err
	}

	p := &process{cmd: cmd, life: write, done: make(chan struct{})}
	f.mu.Lock()
	s.proc, s.ready, s.since, s.exit = p, false, time.Now(), ""
	s.address = ln.Addr().String()
	s.starts++
	f.mu.Unlock()
	f.opts.Logger.Info("server started", "server", s.name, "pid", cmd.Process.Pid, "address", s.address)
	go p.listen(heard)
	go f.bury(s, p)
	return p, nil
}

// keys is the key file of the servers, "" if they have none.
func (f *Farm) keys() string {
	if f.opts.Seal == SealOff {
		return ""
	}
	return KeyFile(f.opts.Dir)
}

// fingerprint names the key with which servers seal now, so that one with other
// keys can tell. It is "" without keys, and for a file that the servers refuse.
func (f *Farm) fingerprint() string {
	if f.opts.Seal == SealOff {
		return ""
	}
	keys, _ := sealed.List(KeyFile(f.opts.Dir))
	for _, k := range keys {
		if k.State == sealed.Current {
			return k.Fingerprint()
		}
	}
	return ""
}

// listen opens the server's address again, or a free one the first time. If
// somebody has taken the port since, a free one does too: the balancer learns
// of it before anybody asks there.
func (f *Farm) listen(s *server) (net.Listener, error) {
	f.mu.Lock()
	address := s.address
	f.mu.Unlock()
	if address != "" {
		if ln, err := net.Listen("tcp", address); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// bury waits for the end of a process. Every child is waited for, so that none
// becomes a zombie.
func (f *Farm) bury(s *server, p *process) {
	p.err = p.cmd.Wait()
	p.life.Close()
	exit := p.cmd.ProcessState.String()
	f.mu.Lock()
	told := p.told || !s.ready // who started it waits, and hears why it is not ready
	if s.proc == p {
		s.proc, s.ready, s.since, s.exit = nil, false, time.Now(), exit
	}
	f.mu.Unlock()
	if told {
		f.opts.Logger.Info("server ended", "server", s.name, "pid", p.cmd.Process.Pid, "exit", strings.TrimPrefix(exit, "exit "))
	} else {
		f.opts.Logger.Warn("server ended by itself and stays down until it is started",
			"server", s.name, "pid", p.cmd.Process.Pid, "exit", strings.TrimPrefix(exit, "exit "), "log", f.logFile(s.name))
	}
	close(p.done)
}

// end notes that the end of a process is wanted.
func (f *Farm) end(p *process) {
	f.mu.Lock()
	p.told = true
	f.mu.Unlock()
}

// await asks the server until it says that it is ready.
func (f *Farm) await(ctx context.Context, s *server, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %v", startLimit))
	defer cancel()
	stop := context.AfterFunc(f.ctx, cancel)
	defer stop()
	transport := &http.Transport{DisableKeepAlives: true}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := transport.RoundTrip(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return f.stillborn(s, p)
		case <-ctx.Done():
			if f.ctx.Err() != nil {
				return context.Cause(f.ctx)
			}
			return fmt.Errorf("%s is not ready: %w; the end of %s:\n%s", s.name, context.Cause(ctx), f.logFile(s.name), tail(f.logFile(s.name), 5))
		case <-time.After(pollEvery):
		}
	}
}

// stillborn says why a server did not come up, in the words of its log.
func (f *Farm) stillborn(s *server, p *process) error {
	return fmt.Errorf("%s ended before it was ready (%v); the end of %s:\n%s",
		s.name, p.cmd.ProcessState, f.logFile(s.name), tail(f.logFile(s.name), 5))
}

// halt asks the process to stop without losing a request, and waits for it.
// If it has not ended by the limit, it is killed, and that is an error. The
// caller has the server's turn.
func (f *Farm) halt(ctx context.Context, s *server, p *process) error {
	f.end(p)
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it is gone
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s (pid %d) is still stopping: %w", s.name, p.cmd.Process.Pid, context.Cause(ctx))
	case <-time.After(stopLimit):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %v and was killed", s.name, stopLimit)
	}
}

// stopAll is the end of the farm: the balancer takes no more requests.
func (f *Farm) stopAll() {
	var all sync.WaitGroup
	for _, s := range f.servers {
		all.Go(func() {
			// Whoever has the turn gives up soon, because f.ctx has ended.
			release, err := s.take(context.Background())
			if err != nil {
				return
			}
			defer release()
			if p := f.process(s); p != nil {
				f.balancer.Drain(s.name) // closes the connections that the server would wait for
				if err := f.halt(context.Background(), s, p); err != nil {
					f.opts.Logger.Error("server stopped late", "server", s.name, "error", err)
				}
			}
		})
	}
	all.Wait()
}
