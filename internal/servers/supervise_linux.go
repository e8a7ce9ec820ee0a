package servers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor is this program once more, started under another name. It is the
// parent of the servers and of whatever they leave behind (Linux calls that a
// child subreaper, prctl(2)), so it always knows what there is to kill. Nothing
// but a process of its own can do this: whoever shares a process with the tests
// dies with them.
//
// It reads requests on standard input and writes events on standard output, one
// JSON object each. The end of its input is its order to finish: [supervisor.stop]
// closes the pipe, and the kernel does when the process at its other end dies
// however it dies. So the way a test cleans up is the way a crash does.
const supervisorName = "roam-servers-supervisor"

// init runs the supervisor if that is what this process was started to be. No
// user can come here by accident: the name is argv[0], not an argument or a
// variable that a child would inherit.
func init() {
	if len(os.Args) > 0 && os.Args[0] == supervisorName {
		supervise()
		os.Exit(0)
	}
}

// supervise is the main function of the supervisor.
func supervise() {
	runtime.LockOSThread() // a Pdeathsig follows the thread that forked
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // an event for a parent that has gone must not kill us

	events := json.NewEncoder(os.Stdout)
	requests := make(chan request)
	go func() {
		defer close(requests)
		for in := json.NewDecoder(os.Stdin); ; {
			var r request
			if in.Decode(&r) != nil {
				return
			}
			requests <- r
		}
	}()

	var dir string
	started := make(map[int]spec) // the servers, without what they forked
	reap := func() {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				return
			}
			if _, ok := started[pid]; ok {
				delete(started, pid)
				events.Encode(event{Exited: pid, Status: describe(status)})
			}
		}
	}
	for open := true; open; {
		select {
		case r, ok := <-requests:
			var err error
			switch {
			case !ok:
				open = false
			case r.Folder != nil:
				dir, err = makeFolder(r.Folder)
				events.Encode(event{Folder: dir, Err: text(err)})
			case r.Start != nil:
				var pid int
				if pid, err = fork(r.Start); err == nil {
					started[pid] = *r.Start
				}
				events.Encode(event{Started: pid, Err: text(err)})
			}
		case <-died:
			reap()
		}
	}

	// First the way that lets a server put away what lies outside its folder:
	// PostgreSQL its System V shared memory. A frozen one has to be woken for it.
	for _, pid := range descendants(os.Getpid()) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	for pid, s := range started {
		syscall.Kill(pid, s.End)
	}
	for deadline := time.Now().Add(5 * time.Second); len(started) > 0 && time.Now().Before(deadline); reap() {
		select {
		case <-died:
		case <-time.After(20 * time.Millisecond):
		}
	}
	for {
		reap()
		left := descendants(os.Getpid())
		if len(left) == 0 {
			break
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
	if dir != "" {
		os.RemoveAll(dir)
	}
}

// makeFolder makes the folder of one group of servers.
func makeFolder(f *folder) (string, error) {
	dir, err := os.MkdirTemp(f.Parent, "roam-servers-")
	if err != nil {
		return "", err
	}
	if f.As != nil {
		if err := os.Chown(dir, int(f.As.UID), int(f.As.GID)); err != nil {
			os.Remove(dir)
			return "", err
		}
	}
	return dir, nil
}

// fork starts one server.
func fork(s *spec) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	log, err := os.OpenFile(s.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	attr := &syscall.ProcAttr{
		Dir:   filepath.Dir(s.Log),
		Env:   s.Env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		// A session of its own keeps ^C in a terminal away from it. If somebody
		// kills the supervisor, its servers die too, and only the folder is left.
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if s.As != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: s.As.UID, Gid: s.As.GID, Groups: s.As.Groups}
	}
	pid, err := syscall.ForkExec(s.Path, append([]string{s.Path}, s.Args...), attr)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.Path, err)
	}
	return pid, nil
}

func describe(w syscall.WaitStatus) string {
	if w.Signaled() {
		return "killed by " + w.Signal().String()
	}
	return "exit status " + strconv.Itoa(w.ExitStatus())
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// spawn starts the supervisor process.
func spawn() (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", // there even after go test or go run has removed the file
		Args: []string{supervisorName},
		Env:  []string{"GORACE=atexit_sleep_ms=0"}, // in a race build, a second to wait at each stop
		Dir:  "/",
		// A ^C in the terminal is for the test; the supervisor learns of the
		// test's end, not of the key.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	return cmd, nil
}

// What follows looks at processes and signals them, from either side.

// A proc is one line of the kernel's table of processes.
type proc struct {
	parent int
	state  byte
}

// dead tells whether nothing of the process runs any more. A zombie only waits
// for somebody to ask for its status.
func (p proc) dead() bool { return p.state == 'Z' || p.state == 'X' }

// stopped tells whether SIGSTOP has taken effect.
func (p proc) stopped() bool { return p.state == 'T' || p.state == 't' }

// processes reads the kernel's table. A process that ends meanwhile is absent.
func processes() map[int]proc {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	procs := make(map[int]proc, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		if p, ok := readProc(name); ok {
			procs[pid] = p
		}
	}
	return procs
}

func readProc(stat string) (proc, bool) {
	data, err := os.ReadFile(stat)
	if err != nil {
		return proc{}, false
	}
	// "PID (NAME) STATE PARENT ...", and a name may hold anything (proc(5)).
	_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest))
	if len(fields) < 2 {
		return proc{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return proc{parent, fields[0][0]}, err == nil
}

// descendants lists the living processes below pid.
func descendants(pid int) []int {
	procs := processes()
	var found []int
	for p, info := range procs {
		if info.dead() {
			continue
		}
		for up := info.parent; up > 1; up = procs[up].parent {
			if up == pid {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// freeze stops pid and everything below it, and returns them when none of them
// runs. A process may fork while its relatives are being stopped, hence the loop.
func freeze(pid int) []int {
	for {
		tree := append(descendants(pid), pid)
		running := false
		for _, p := range tree {
			info, ok := readProc(fmt.Sprintf("/proc/%d/stat", p))
			if ok && !info.dead() && !info.stopped() {
				running = true
				syscall.Kill(p, syscall.SIGSTOP)
			}
		}
		if !running {
			return tree
		}
		time.Sleep(time.Millisecond)
	}
}

func thaw(pid int) {
	for _, p := range append(descendants(pid), pid) {
		syscall.Kill(p, syscall.SIGCONT)
	}
}

// kill ends pid and everything below it at one stroke: as all are stopped first,
// none sees another die and tidies up, as in a crash of the machine.
func kill(pid int) {
	tree := freeze(pid)
	for _, p := range tree {
		syscall.Kill(p, syscall.SIGKILL)
	}
	for _, p := range tree {
		for {
			if info, ok := readProc(fmt.Sprintf("/proc/%d/stat", p)); !ok || info.dead() {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func signalProcess(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// removeSharedMemory removes a System V segment, which no process's end does.
func removeSharedMemory(id int) { unix.SysvShmCtl(id, unix.IPC_RMID, nil) }

func ownerOf(info os.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}
