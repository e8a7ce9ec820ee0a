//go:build !linux

package postgresstore

import (
	"net"
	"time"
)

// giveUpOn makes the kernel find out that the other end of a connection is
// gone.
func giveUpOn(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3})
	}
}
