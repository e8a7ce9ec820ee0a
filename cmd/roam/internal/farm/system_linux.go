package farm

import (
	"net"
	"os"
	"syscall"
)

// attributes give a child its own process group, so that ^C in the terminal
// reaches the farm alone, which then stops its children in good order; and have
// the kernel kill it when the farm dies, even if it hangs. It may be killed: that a session survives
// this is what the farm is there to show.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// sameUser reports whether the process at the other end of a Unix socket is
// this user's, by what the kernel says. The socket's folder is private; this
// holds even if somebody opens it up.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	same := false
	raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		same = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return same
}
