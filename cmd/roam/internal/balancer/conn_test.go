//go:build unix

package balancer

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// conn.Write looks at the peer before it begins a request.
func TestPeerGone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{Conn: nc, bytesOut: new(atomic.Int64)}
	c.first.Store(true)
	if _, err := c.Write([]byte("a")); err != nil {
		t.Fatalf("to a living peer: %v", err)
	}
	peer.Close()
	eventually(t, "seen closed", func() bool { return peerGone(nc) })
	c.first.Store(true)
	if n, err := c.Write([]byte("b")); n != 0 || err != errPeerGone || c.written.Load() != 1 {
		t.Errorf("to a closed one: %d bytes, error %v, %d counted", n, err, c.written.Load())
	}
}

// A deafConn does not tell the Transport that the server has closed it, as if
// the goroutine that reads were never given a processor.
type deafConn struct {
	*net.TCPConn
	deaf   chan bool // told of the close instead
	closed chan struct{}
	once   sync.Once
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err == io.EOF {
		c.deaf <- true
		<-c.closed
	}
	return n, err
}

func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.TCPConn.Close()
}

// The Transport may learn too late that a kept connection is closed. A POST is
// not lost on it all the same.
func TestKeptConnectionClosedUnnoticed(t *testing.T) {
	t.Parallel()
	b, address := startUnchecked(t, &Options{ResponseHeaderTimeout: 5 * time.Second})
	deaf := make(chan bool)
	rawBackend(t, b, "web1", func(c net.Conn, req *http.Request, _ *bufio.Reader) bool {
		io.Copy(io.Discard, req.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return false
	})
	transport := b.find("web1").transport
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		if err == nil {
			c := nc.(*conn)
			c.Conn = &deafConn{TCPConn: c.Conn.(*net.TCPConn), deaf: deaf, closed: make(chan struct{})}
		}
		return nc, err
	}
	c := newClient(t, address)
	for range 3 {
		c.do(200, "POST", "/", "x")
		<-deaf // the server has closed it, and only this test knows
	}
}
