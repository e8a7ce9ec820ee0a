//go:build unix

package graceful

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// duplicate is ln.File() without its trap. Asked for its descriptor, which is
// what os/exec does, the file that File returns puts it into blocking mode.
// That mode belongs to the socket and not to the descriptor, so every server
// that shares the socket may then block in accept, where closing its listener
// cannot wake it. A file made by os.NewFile stays as it is.
func duplicate(ln net.Listener) (*os.File, error) {
	sock, ok := ln.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var duperr error
	err = raw.Control(func(from uintptr) {
		syscall.ForkLock.RLock() // no child may start between these two
		defer syscall.ForkLock.RUnlock()
		if fd, duperr = syscall.Dup(int(from)); duperr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err = errors.Join(err, duperr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}
