//go:build unix

package graceful

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func child(what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	// The race detector would keep each child for another second.
	cmd.Env = append(os.Environ(), "GRACEFUL_TEST_CHILD="+what, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// startChild returns when the child has the socket.
func startChild(t *testing.T, ln net.Listener) (stop func()) {
	t.Helper()
	cmd := child("serve")
	if err := Pass(cmd, ln); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles[0].Close()
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	if want := ln.Addr().String() + " \n"; err != nil || line != want {
		t.Errorf("the child said %q (%v), want the address of the socket and a clean environment: %q", line, err, want)
	}
	return func() {
		t.Helper()
		stdin.Close()
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child ended with %v: %s", err, rest)
		}
	}
}

func TestHandoverToChildrenLosesNothing(t *testing.T) {
	sock := newSocket(t)
	stop := startChild(t, sock.Listener)
	l := startLoad(sock.Addr().String(), 8)
	for range 5 {
		l.await(100)
		next := startChild(t, sock.Listener)
		stop()
		stop = next
		if t.Failed() || l.lost.Load() > 0 {
			break
		}
	}
	l.await(100)
	// The other order leaves a time without any server: the socket still does
	// not refuse, because the parent holds it.
	stop()
	stop = startChild(t, sock.Listener)
	l.await(100)
	l.finish()
	stop()
	l.check(t)
}

// What os/exec does to a plain File of the listener must not happen: with the
// socket in blocking mode, a server that shares it could hang in accept. And
// the child gets its descriptor once, not a second time by accident.
func TestPassLeavesTheSocketNonblocking(t *testing.T) {
	sock := newSocket(t)
	cmd := child("look")
	if err := Pass(cmd, sock.Listener); err != nil {
		t.Fatal(err)
	}
	defer cmd.ExtraFiles[0].Close()
	cmd.Env = append(cmd.Env, fmt.Sprintf("GRACEFUL_TEST_FD=%d", cmd.ExtraFiles[0].Fd()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	raw, err := sock.Listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var f *os.File
	raw.Control(func(fd uintptr) {
		dup, err := syscall.Dup(int(fd))
		if err != nil {
			t.Fatal(err)
		}
		f = os.NewFile(uintptr(dup), "socket")
	})
	defer f.Close()
	if err := f.SetDeadline(time.Time{}); err != nil { // possible only if it does not block
		t.Errorf("the socket was put into blocking mode: %v", err)
	}
}

func TestPassTwice(t *testing.T) {
	a, b := newSocket(t), newSocket(t)
	cmd := exec.Command("true")
	cmd.Env = []string{EnvListenFD + "=9", "A=b"} // a leftover of our own parent
	for _, sock := range []socket{a, b} {
		if err := Pass(cmd, sock.Listener); err != nil {
			t.Fatal(err)
		}
	}
	env := cmd.Environ() // without duplicates
	if !slices.Contains(env, EnvListenFD+"=3,4") || !slices.Contains(env, "A=b") || len(cmd.ExtraFiles) != 2 {
		t.Errorf("environment %v with %d files, want descriptors 3,4", env, len(cmd.ExtraFiles))
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if err := Pass(cmd, listenMem()); err == nil || !strings.Contains(err.Error(), "memListener") {
		t.Errorf("a listener without a descriptor: %v", err)
	}
}

func TestListenFDs(t *testing.T) {
	for _, test := range []struct{ env, want string }{
		{"", " from "},
		{"ROAM_LISTEN_FD=3", "3 from ROAM_LISTEN_FD"},
		{"ROAM_LISTEN_FD=3,7", "3 7 from ROAM_LISTEN_FD"},
		{"LISTEN_FDS=2 LISTEN_PID=42", "3 4 from LISTEN_FDS"},
		{"LISTEN_FDS=2 LISTEN_PID=41", " from "}, // meant for our parent
		{"LISTEN_FDS=2", " from "},
		{"LISTEN_FDS=-1 LISTEN_PID=42", " from LISTEN_FDS"},
		{"LISTEN_FDS=2 LISTEN_PID=42 ROAM_LISTEN_FD=5", "5 from ROAM_LISTEN_FD"},
	} {
		env := map[string]string{}
		for _, kv := range strings.Fields(test.env) {
			k, v, _ := strings.Cut(kv, "=")
			env[k] = v
		}
		fds, from := listenFDs(func(k string) string { return env[k] }, 42)
		if got := strings.Join(fds, " ") + " from " + from; got != test.want {
			t.Errorf("%s: got %q, want %q", test.env, got, test.want)
		}
	}
	for _, fd := range []string{"", "x", "-1", "987654"} {
		if _, err := fromFD(fd); err == nil {
			t.Errorf("descriptor %q was accepted", fd)
		}
	}
}

func TestListenerListensWhenNothingIsGiven(t *testing.T) {
	ln, err := Listener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}
