package graceful

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// EnvListenFD is the environment variable by which a parent tells its child the
// descriptors of the listening sockets that it passes, in decimal and separated
// by commas: ROAM_LISTEN_FD=3. [Pass] sets it and [Listener] reads it.
//
// It exists beside systemd's LISTEN_FDS because that needs LISTEN_PID, the
// child's process ID, which a Go parent learns only after the child has
// started.
const EnvListenFD = "ROAM_LISTEN_FD"

// Listener returns a listening TCP socket for addr, for example ":8080". If the
// process was given listening sockets by [Pass] or by systemd (LISTEN_FDS and
// LISTEN_PID, see sd_listen_fds(3)), it returns these instead, the first call
// the first one, whatever addr is: who passes a socket chose its address. When
// all are taken, it listens on addr.
//
// While the parent holds the socket, too, no connection is ever refused:
// connections made between two servers wait in the kernel's queue. (Servers
// that each listen with SO_REUSEPORT have a queue each, and closing one resets
// what is in it.)
//
// The first call removes the variables from the environment, so that children
// do not take the sockets for theirs. The error is that of [net.Listen], or
// names a descriptor that was given and is no listening socket.
func Listener(addr string) (net.Listener, error) {
	given, err := inherited()
	if err != nil {
		return nil, err
	}
	select {
	case ln := <-given:
		return ln, nil
	default:
		return net.Listen("tcp", addr)
	}
}

// inherited opens all at once, because until then they would leak into
// whatever this process starts.
var inherited = sync.OnceValues(func() (<-chan net.Listener, error) {
	fds, from := listenFDs(os.Getenv, os.Getpid())
	for _, name := range []string{EnvListenFD, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	given := make(chan net.Listener, len(fds))
	for _, fd := range fds {
		ln, err := fromFD(fd)
		if err != nil {
			return nil, fmt.Errorf("graceful: %s names descriptor %q, which is no listening socket: %w", from, fd, err)
		}
		given <- ln
	}
	return given, nil
})

// listenFDs returns the descriptors that the environment names, and the
// variable that names them. Our own goes first: it is the nearer parent's.
func listenFDs(getenv func(string) string, pid int) (fds []string, from string) {
	if own := getenv(EnvListenFD); own != "" {
		return strings.Split(own, ","), EnvListenFD
	}
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, ""
	}
	n, _ := strconv.Atoi(getenv("LISTEN_FDS"))
	for i := range n {
		fds = append(fds, strconv.Itoa(3+i)) // SD_LISTEN_FDS_START
	}
	return fds, "LISTEN_FDS"
}

func fromFD(text string) (net.Listener, error) {
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return nil, os.ErrInvalid
	}
	defer f.Close() // FileListener keeps a duplicate of its own, which children do not inherit
	return net.FileListener(f)
}

// Pass gives the listening socket of ln to the child that cmd will start, which
// takes it with [Listener]. Call it before cmd.Start, once for each socket. It
// adds a duplicate to cmd.ExtraFiles, which the caller may close after Start,
// and sets [EnvListenFD] in cmd.Env. The parent keeps ln, and may hand it to
// the next child or serve on it.
//
// It returns an error if ln has no descriptor (a TLS listener has none: wrap it
// in the child), and on systems other than Unix, which cannot pass one.
func Pass(cmd *exec.Cmd, ln net.Listener) error {
	f, err := duplicate(ln)
	if err != nil {
		return fmt.Errorf("graceful: cannot pass on the socket of a %T: %w", ln, err)
	}
	value := strconv.Itoa(3 + len(cmd.ExtraFiles)) // see exec.Cmd.ExtraFiles
	for _, kv := range cmd.Env {
		// Only what Pass itself has set before goes on: without ExtraFiles the
		// variable is a leftover of this process's own parent.
		if before, ok := strings.CutPrefix(kv, EnvListenFD+"="); ok && len(cmd.ExtraFiles) > 0 {
			value = before + "," + strconv.Itoa(3+len(cmd.ExtraFiles))
		}
	}
	cmd.Env = append(cmd.Environ(), EnvListenFD+"="+value) // the last one counts
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	return nil
}
