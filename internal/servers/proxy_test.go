package servers

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An echo is a server that answers each line with itself.
type echo struct {
	ln    net.Listener
	wg    sync.WaitGroup
	conns chan net.Conn // each that came
	lines chan string   // each that came
	ends  chan error    // of each connection
}

func newEcho(t *testing.T) *echo {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	e := &echo{ln: ln, conns: make(chan net.Conn, 100), lines: make(chan string, 2000), ends: make(chan error, 100)}
	e.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			e.conns <- c
			e.wg.Go(func() {
				defer c.Close()
				in := bufio.NewScanner(c)
				for in.Scan() {
					e.lines <- in.Text()
					io.WriteString(c, in.Text()+"\n")
				}
				e.ends <- in.Err()
			})
		}
	})
	t.Cleanup(func() { ln.Close(); e.wg.Wait() })
	return e
}

// behind returns an echo and a proxy before it.
func behind(t *testing.T) (*Proxy, *echo) {
	e := newEcho(t) // is waited for after the proxy has let go of it
	p, err := StartProxy(e.ln.Addr().String())
	do(t, err)
	t.Cleanup(p.Stop)
	return p, e
}

type client struct {
	t *testing.T
	*net.TCPConn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	do(t, err)
	t.Cleanup(func() { c.Close() })
	return &client{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *client) say(line string) {
	c.t.Helper()
	_, err := io.WriteString(c, line+"\n")
	do(c.t, err)
}

func (c *client) hear(want string) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if got, err := c.in.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Errorf("heard %q, %v; want %q", got, err, want)
	}
}

// hearNothing fails if something comes within a moment. What must never come
// cannot be waited for longer.
func (c *client) hearNothing() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if got, err := c.in.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("heard %q, %v; want nothing", got, err)
	}
}

// hearEnd returns how the connection ended.
func (c *client) hearEnd() error {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	got, err := c.in.ReadString('\n')
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("heard %q, %v; want the end", got, err)
	}
	return err
}

func TestProxyPassesWhatIsSent(t *testing.T) {
	p, _ := behind(t)
	c := dial(t, p)
	c.say("hello")
	c.hear("hello")
	go func() {
		for range 1000 {
			io.WriteString(c, strings.Repeat("x", 9999)+"\n")
		}
		c.CloseWrite() // the answers still come
	}()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := io.Copy(io.Discard, c.in); n != 1000*10000 || err != nil {
		t.Errorf("%d bytes came back, %v; want %d", n, err, 1000*10000)
	}
}

func TestCutHoldsBothDirectionsUntilRestore(t *testing.T) {
	p, e := behind(t)
	c := dial(t, p)
	c.say("before")
	c.hear("before")
	<-e.lines
	server := <-e.conns
	gone := dial(t, p) // only now, so that server is c's
	gone.say("hello")
	gone.hear("hello")
	<-e.lines

	p.Cut()
	c.say("request")
	_, err := io.WriteString(server, "answer\n")
	do(t, err)
	late := dial(t, p) // hangs like the others
	late.say("late")
	gone.SetLinger(0)
	gone.Close()
	c.hearNothing()
	late.hearNothing()
	if len(e.lines) != 0 {
		t.Errorf("the server heard %q", <-e.lines)
	}
	if len(e.ends) != 0 {
		t.Fatalf("the server heard of a reset: %v", <-e.ends)
	}

	do(t, p.Restore())
	c.hear("answer")
	c.hear("request")
	late.hear("late")
	<-e.ends
	c.say("after")
	c.hear("after")
}

func TestDropAnswersLosesOnlyAnswers(t *testing.T) {
	p, e := behind(t)
	c, unhurt := dial(t, p), dial(t, p)
	unhurt.say("warm")
	unhurt.hear("warm")
	<-e.lines
	p.DropAnswers()
	c.say("commit")
	if got := <-e.lines; got != "commit" {
		t.Errorf("the server heard %q", got)
	}
	c.hearNothing()
	p.Reset()
	if err := c.hearEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after Reset: %v", err)
	}
	again := dial(t, p) // Reset restores nothing
	again.say("again")
	if got := <-e.lines; got != "again" {
		t.Errorf("the server heard %q", got)
	}
	again.hearNothing()
	// What has lost a byte in the middle must not go on as if it had not.
	do(t, p.Restore())
	again.hearEnd()
	fresh := dial(t, p)
	fresh.say("fresh")
	fresh.hear("fresh")
}

func TestWhatLostNothingOutlivesDropAnswers(t *testing.T) {
	p, _ := behind(t)
	c := dial(t, p)
	c.say("before")
	c.hear("before")
	p.DropAnswers()
	do(t, p.Restore())
	c.say("after")
	c.hear("after")
}

func TestRefuseClosesAndRefuses(t *testing.T) {
	p, _ := behind(t)
	c := dial(t, p)
	c.say("before")
	c.hear("before")
	addr := p.Addr()
	p.Refuse()
	p.Refuse()
	c.hearEnd()
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial after Refuse: %v, %v", c, err)
	}
	do(t, p.Restore())
	again := dial(t, p)
	again.say("again")
	again.hear("again")
}

func TestSlowDelaysAnswers(t *testing.T) {
	p, e := behind(t)
	c := dial(t, p)
	c.say("before")
	c.hear("before")
	<-e.lines
	const delay = 150 * time.Millisecond
	p.Slow(delay)
	begin := time.Now()
	c.say("slow")
	<-e.lines
	c.hear("slow")
	if got := time.Since(begin); got < delay {
		t.Errorf("answered after %v, want at least %v", got, delay)
	}
	// What waits is let go when the delay is.
	p.Slow(time.Hour)
	c.say("stuck")
	<-e.lines
	c.hearNothing()
	do(t, p.Restore())
	c.hear("stuck")
}

func TestProxyStopsInAnyState(t *testing.T) {
	for name, set := range map[string]func(*Proxy){
		"cut": (*Proxy).Cut, "refuse": (*Proxy).Refuse, "drop answers": (*Proxy).DropAnswers, "reset": (*Proxy).Reset,
		"slow": func(p *Proxy) { p.Slow(time.Hour) }, "restored": func(p *Proxy) { p.Restore() },
	} {
		p, _ := behind(t)
		c := dial(t, p)
		c.say("x")
		set(p)
		c.Write([]byte("y\n"))
		p.Stop()
		p.Stop()
		buf := make([]byte, 1<<20)
		if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "servers.(*Proxy)") || strings.Contains(stacks, "servers.(*link)") {
			t.Errorf("%s: a goroutine of the proxy outlives Stop:\n%s", name, stacks)
		}
		if _, err := net.Dial("tcp", p.Addr()); err == nil {
			t.Errorf("%s: the stopped proxy takes connections", name)
		}
		if err := p.Restore(); err == nil {
			t.Errorf("%s: Restore after Stop is no error", name)
		}
	}
}

// A target that is not there, or that reads nothing, holds nobody up.
func TestVerbsDoNotWaitForTheTarget(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	defer ln.Close()
	p, err := StartProxy(ln.Addr().String())
	do(t, err)
	defer p.Stop()
	c := dial(t, p)
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	<-filled
	p.Cut()
	p.Slow(time.Second)
	p.DropAnswers()
	do(t, p.Restore())
	p.Refuse()

	gone, err := StartProxy("127.0.0.1:1")
	do(t, err)
	defer gone.Stop()
	dial(t, gone).hearEnd()
	if _, err := StartProxy("nowhere"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("a target without a port: %v", err)
	}
}

// The case that the proxy is for: the row is there and its client cannot know.
func TestALostReplyOfACommit(t *testing.T) {
	t.Parallel()
	pg := postgres(t, nil)
	do(t, pg.Primary.Exec(t.Context(), "CREATE TABLE t (a int)"))
	p, err := StartProxy(pg.Primary.Addr())
	do(t, err)
	defer p.Stop()
	through := &Node{Server: &Server{name: "PostgreSQL through a proxy", addr: p.Addr()}, access: pg.access}
	s := connect(t, through.AdminURL())
	s.send("SELECT 'connected';")
	s.line()
	p.DropAnswers()
	s.send("INSERT INTO t VALUES (1);")
	do(t, pg.Primary.wait(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t%' AND state = 'idle' AND application_name = 'psql'", "1"))
	wantRows(t, pg.Primary, "1")
	p.Reset()
	if got := s.line(); !strings.Contains(got, "server closed the connection") && !strings.Contains(got, "Connection reset") && !strings.Contains(got, "could not receive") {
		t.Errorf("the client was told %q", got)
	}
}
