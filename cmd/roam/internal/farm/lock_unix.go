//go:build unix && !solaris && !aix

package farm

import (
	"os"
	"syscall"
)

// lockFile makes sure that one farm runs in a folder. The kernel gives the
// lock back when its process dies, however it dies. The file stays: to remove
// it while another waits for it would make two locks.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return func() { f.Close() }, nil
	case syscall.EWOULDBLOCK:
		f.Close()
		return nil, ErrRunning
	default:
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
}
