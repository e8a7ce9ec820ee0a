package balancer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is two programs: the tests, and the web server that they kill.
// The tests fail if they leave a goroutine behind.
func TestMain(m *testing.M) {
	if os.Getenv("BALANCER_TEST_LOG") != "" {
		child()
		return
	}
	code := m.Run()
	if code == 0 {
		if left := leaked(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked waits for goroutines to end and returns the stacks of those that do not.
func leaked() string {
	var left []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left = left[:0]
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		for i, stack := range strings.Split(string(buf), "\n\n") {
			if i > 0 && !strings.Contains(stack, "os/signal.") { // 0 is this one
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

// child is a web server that writes the id of each POST that it begins to work
// on to a log that outlives it. It ends with its parent.
func child() {
	posts, err := os.OpenFile(os.Getenv("BALANCER_TEST_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/buy", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fmt.Fprintln(posts, r.URL.Query().Get("id"))
		}
		io.Copy(io.Discard, r.Body)
		time.Sleep(10 * time.Millisecond)
		io.WriteString(w, "done\n")
	})
	fmt.Println(ln.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(ln, nil))
}

// A process is a child as its parent sees it.
type process struct {
	*exec.Cmd
	address string
	reap    func()
}

func startProcess(t *testing.T, posts string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BALANCER_TEST_LOG="+posts)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, reap: sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		stdin.Close()
	})}
	t.Cleanup(p.reap)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("child did not say its address: %v", err)
	}
	p.address = strings.TrimSpace(line)
	return p
}

// kill is kill -9; the process is gone when it returns.
func (p *process) kill() { p.reap() }

// patient are options for tests that are not about time: on a machine that is
// busy with other things, no check of a living server fails.
func patient() *Options {
	return &Options{CheckInterval: 20 * time.Millisecond, CheckTimeout: 20 * time.Second}
}

// start serves a balancer with its Run, and returns it with its address.
func start(t *testing.T, opts *Options) (*Balancer, string) {
	t.Helper()
	b := New(opts)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	front := quietServer(b)
	t.Cleanup(func() {
		front.Close()
		cancel()
		run.Wait()
		removeAll(b)
	})
	return b, front.Listener.Addr().String()
}

// startUnchecked is start without Run.
func startUnchecked(t *testing.T, opts *Options) (*Balancer, string) {
	t.Helper()
	b := New(opts)
	front := quietServer(b)
	t.Cleanup(func() {
		front.Close()
		removeAll(b)
	})
	return b, front.Listener.Addr().String()
}

func removeAll(b *Balancer) {
	for _, s := range b.Status() {
		b.Remove(s.Name)
	}
}

func quietServer(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	return s
}

// backend adds a web server in this process to b.
func backend(t *testing.T, b *Balancer, name string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := quietServer(h)
	t.Cleanup(s.Close)
	set(t, b, name, s.Listener.Addr().String())
	return s
}

func set(t *testing.T, b *Balancer, name, address string) {
	t.Helper()
	if err := b.Set(name, address); err != nil {
		t.Fatal(err)
	}
}

// closedAddress returns an address that refuses connections.
func closedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// rawBackend adds a server that does with each connection what serve does, and
// returns a function that closes its listener. Checks are answered for it.
func rawBackend(t *testing.T, b *Balancer, name string, serve func(c net.Conn, req *http.Request, br *bufio.Reader) bool) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { c.Close() })
			conns.Go(func() {
				defer stop()
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if req.URL.Path == "/readyz" {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
						return
					}
					if !serve(c, req, br) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	set(t, b, name, ln.Addr().String())
}

// A client is a strict HTTP/1.1 client: it sends what it is told once, on one
// connection that it keeps, and repeats nothing. net/http's client would send a
// GET again and hide the faults that these tests look for.
type client struct {
	t       testing.TB
	address string
	conn    net.Conn
	br      *bufio.Reader
}

func newClient(t testing.TB, address string) *client {
	c := &client{t: t, address: address}
	t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) dial() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	c.conn, c.br = conn, bufio.NewReader(conn)
	return nil
}

// A reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// try sends one request, given as header lines and a body.
func (c *client) try(method, target, body string, header ...string) (reply, error) {
	if err := c.dial(); err != nil {
		return reply{}, err
	}
	var req bytes.Buffer
	fmt.Fprintf(&req, "%s %s HTTP/1.1\r\nHost: site.test\r\n", method, target)
	for _, line := range header {
		req.WriteString(line + "\r\n")
	}
	if body != "" || method == http.MethodPost {
		fmt.Fprintf(&req, "Content-Length: %d\r\n", len(body))
	}
	req.WriteString("\r\n" + body)
	ans, err := c.exchange(method, req.Bytes())
	if err != nil {
		c.close()
	}
	return ans, err
}

func (c *client) exchange(method string, request []byte) (reply, error) {
	if _, err := c.conn.Write(request); err != nil {
		return reply{}, err
	}
	return c.read(method)
}

func (c *client) read(method string) (reply, error) {
	res, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if res.Close {
		c.close()
	}
	return reply{res.StatusCode, res.Header, string(text)}, err
}

// do is try for requests that must be answered with that status.
func (c *client) do(want int, method, target, body string, header ...string) reply {
	c.t.Helper()
	ans, err := c.try(method, target, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	if ans.status != want {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, target, ans.status, want, ans.body)
	}
	return ans
}

func statusOf(t *testing.T, b *Balancer, name string) ServerStatus {
	t.Helper()
	for _, s := range b.Status() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no server %s", name)
	panic("unreachable")
}

// eventually waits for what must happen, however slow the machine is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
