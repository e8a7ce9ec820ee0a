package postgresstore

import (
	"net"
	"syscall"
	"time"
)

// giveUpOn makes the kernel give a connection up whose other end has not even
// taken notice of what was sent for this long: the network is gone, or a
// firewall has forgotten the connection. A server that is only slow, or frozen,
// does take notice.
func giveUpOn(nc net.Conn) {
	const tcpUserTimeout = 0x12
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3})
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, 10_000)
		})
	}
}
