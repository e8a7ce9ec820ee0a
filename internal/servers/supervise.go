package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// A supervisor is our end of the process that runs one group of servers; see
// supervise_linux.go for the other end. It starts one goroutine, which ends in stop.
type supervisor struct {
	dir string   // the group's folder; gone after stop
	as  *account // whose servers they are

	cmd *exec.Cmd
	in  io.WriteCloser

	asking  sync.Mutex // one request at a time
	answers chan answer
	gone    chan struct{} // closed when the supervisor has gone

	stopping sync.Once
}

// A process is one that the supervisor has started.
type process struct {
	pid    int
	done   chan struct{} // closed when it has ended
	status string        // how; set before done is closed
}

// A request is for the supervisor; one field is set.
type request struct {
	Folder *folder
	Start  *spec
}

// A folder is to be made in Parent and given to As.
type folder struct {
	Parent string
	As     *account
}

// A spec says how to start a program.
type spec struct {
	Path string
	Args []string
	Env  []string
	Log  string // file for both outputs, in the group's folder
	As   *account
	End  syscall.Signal // ends it at once, but not without it noticing
}

// An event is from the supervisor.
type event struct {
	Folder  string // made
	Started int    // pid
	Err     string // why it was not
	Exited  int    // pid
	Status  string
}

// An answer is the event that a request waits for.
type answer struct {
	event
	process *process // of Started
}

// supervised starts a supervisor with an empty folder for servers that run as
// as, or as ourselves if that is nil.
func supervised(as *account) (*supervisor, error) {
	parent, err := tempParent(as)
	if err != nil {
		return nil, err
	}
	cmd, err := spawn()
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the supervisor of the servers: %w", err)
	}
	s := &supervisor{
		as: as, cmd: cmd, in: in,
		answers: make(chan answer, 1),
		gone:    make(chan struct{}),
	}
	go s.listen(out)
	a, err := s.ask(request{Folder: &folder{Parent: parent, As: as}})
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("making a folder for the servers in %s: %w", parent, err)
	}
	s.dir = a.Folder
	return s, nil
}

// listen hands out the events until the supervisor has gone.
func (s *supervisor) listen(out io.Reader) {
	defer close(s.gone)
	running := make(map[int]*process)
	for in := json.NewDecoder(out); ; {
		var e event
		if in.Decode(&e) != nil {
			break
		}
		if p := running[e.Exited]; p != nil {
			delete(running, e.Exited)
			p.status = e.Status
			close(p.done)
			continue
		}
		a := answer{event: e}
		if e.Started != 0 {
			a.process = &process{pid: e.Started, done: make(chan struct{})}
			running[e.Started] = a.process
		}
		s.answers <- a
	}
	for _, p := range running {
		p.status = "stopped"
		close(p.done)
	}
}

func (s *supervisor) ask(r request) (answer, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	json.NewEncoder(s.in).Encode(r) // if this fails, the supervisor has gone
	select {
	case a := <-s.answers:
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	case <-s.gone:
		return answer{}, errors.New("its supervisor has stopped")
	}
}

// start starts a program under the supervisor.
func (s *supervisor) start(sp spec) (*process, error) {
	sp.As = s.as
	sp.Env = environment(s.dir)
	a, err := s.ask(request{Start: &sp})
	return a.process, err
}

// run runs a program to its end. The error has the end of its output.
func (s *supervisor) run(ctx context.Context, path string, args ...string) error {
	name := filepath.Base(path)
	log := filepath.Join(s.dir, name+".log")
	p, err := s.start(spec{Path: path, Args: args, Log: log, End: syscall.SIGTERM})
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		kill(p.pid)
		<-p.done
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
	if p.status != "exit status 0" {
		return fmt.Errorf("%s: %s; its last words:\n%s", name, p.status, lastLines(log))
	}
	return nil
}

// write writes a file for the servers to read and own.
func (s *supervisor) write(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	if s.as == nil {
		return nil
	}
	return os.Chown(path, int(s.as.UID), int(s.as.GID))
}

// stop ends every server of the group and removes the folder.
func (s *supervisor) stop() {
	s.stopping.Do(func() {
		s.in.Close()
		<-s.gone
		s.cmd.Wait()
		if s.dir != "" {
			os.RemoveAll(s.dir) // is gone, unless somebody has killed the supervisor
		}
	})
}

// environment is what servers get of ours: nothing, as a PGHOST or a LANG of the
// developer's must not change what a test does.
func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "TZ=UTC"}
}

// lastLines returns the end of a log, for an error.
func lastLines(path string) string {
	const most = 12
	data, err := os.ReadFile(path)
	if err != nil {
		return "(no log)"
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-most):], "\n\t")
}
