package farm

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asStranger connects to a Unix socket as another user and returns the error,
// or what can be read. On Linux a thread may have a user of its own, so it
// needs no other process; the thread ends with the goroutine.
func asStranger(path string) (got string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			err = errno
			return
		}
		var fd int
		if fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer syscall.Close(fd)
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
			return
		}
		// SIGPIPE is not raised for a closed peer with MSG_NOSIGNAL.
		syscall.Sendmsg(fd, []byte("GET / HTTP/1.1\r\nHost: farm\r\nConnection: close\r\n\r\n"), nil, nil, syscall.MSG_NOSIGNAL)
		buf := make([]byte, 1<<16)
		n, _ := syscall.Read(fd, buf)
		got = string(buf[:max(n, 0)])
	}()
	<-done
	return got, err
}

func TestControlSocketIsItsOwnersAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can try to be somebody else")
	}
	s := open(t, Options{Servers: 1})
	path, err := socketPath(s.opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	// The temporary folders above are private, too; let the stranger come near.
	for dir := s.opts.Dir; dir != "/" && strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := asStranger(path); err != syscall.EACCES {
		t.Errorf("another user: got %q, %v; want EACCES", got, err)
	}

	// Even if somebody opens folder and socket to all.
	os.Chmod(filepath.Dir(path), 0o755)
	os.Chmod(path, 0o666)
	if got, err := asStranger(path); err != nil || got != "" {
		t.Errorf("another user through an open socket: got %q, %v; want to be cut off", got, err)
	}
	if !strings.Contains(s.log.String(), "another user refused") {
		t.Errorf("the refusal is not logged:\n%s", s.log)
	}
	if _, err := Dial(t.Context(), s.opts.Dir); err != nil {
		t.Errorf("the owner: %v", err)
	}
}
