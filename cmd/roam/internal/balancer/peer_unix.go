//go:build unix

package balancer

import (
	"net"
	"syscall"
)

// peerGone reports whether the peer has closed the connection, or sent what it
// was not asked for, without taking anything from it. It uses Control because
// the Transport's pending Read holds what RawConn.Read would wait for.
func peerGone(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	rc.Control(func(fd uintptr) {
		var b [1]byte
		// The descriptor is non-blocking: a live and silent peer is EAGAIN.
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		gone = err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone
}
