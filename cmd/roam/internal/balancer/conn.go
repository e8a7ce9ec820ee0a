package balancer

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// errPeerGone says that the server had closed a connection before anything
// of a request was written to it.
var errPeerGone = errors.New("server closed a kept connection")

// A conn is a connection to a server that knows how many bytes it took.
type conn struct {
	net.Conn
	written  atomic.Int64  // bytes that the kernel took, or is being offered
	bytesOut *atomic.Int64 // of the server: all that it sent
	first    atomic.Bool   // the next Write begins a request
	stall    atomic.Int64  // nanoseconds that a Write may take; 0 is no limit
}

// Write first looks whether the server has closed the connection. A kill -9
// closes all connections of a process at once, but the Transport learns of it
// only when its reading goroutine runs, and the kernel takes bytes for a dead
// connection without complaint. Without the look, requests would be lost that
// began after the server had died.
func (c *conn) Write(p []byte) (int, error) {
	if c.first.Swap(false) && peerGone(c.Conn) {
		return 0, errPeerGone
	}
	if d := c.stall.Load(); d > 0 {
		// The Transport starts its timer after the whole request is written,
		// which a server that has stopped reading would never let happen.
		c.SetWriteDeadline(time.Now().Add(time.Duration(d)))
	}
	c.written.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n - len(p)))
	return n, err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytesOut.Add(int64(n))
	return n, err
}

// CloseWrite lets ReverseProxy pass on the half close of an upgraded connection.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// upgraded lifts the limit on writing: a WebSocket may be idle or slow.
func (c *conn) upgraded() {
	c.stall.Store(0)
	c.SetWriteDeadline(time.Time{})
}
