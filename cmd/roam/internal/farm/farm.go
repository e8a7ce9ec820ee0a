// Package farm runs a farm of web servers on one machine: each server is an
// operating system process of its own, a builtin balancer with TLS stands in
// front of them, and each server can be drained, killed, started and replaced
// while the site goes on.
//
// [Start] starts a [Farm]. [Dial] connects to one that another process runs,
// over a Unix socket that only its owner can use. [Serve] is the other side of
// the bargain: what the program of a web server does to be part of a farm.
//
// What it promises: no child outlives the farm, even one that is killed with
// SIGKILL; a server's port is its own again after a restart; [Farm.Close] loses
// no request; nothing is written outside of [Options.Dir], and no certificate
// authority is put into a trust store.
//
// What it leaves out: a server that dies stays down until somebody starts it.
// Here, where servers die to be looked at, a supervisor would hide what there
// is to see; in production systemd or Kubernetes is better at it.
package farm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/balancer"
	"github.com/roam-web/roam/graceful"
	"github.com/roam-web/roam/sealed"
)

// Errors that callers tell apart. All others explain themselves.
var (
	ErrUnknownServer = errors.New("no such server")
	ErrRunning       = errors.New("already running") // a server, or a farm in the same folder
	ErrNotRunning    = errors.New("not running")     // a server, or a farm in the folder
)

// Options configure a [Farm]. Only Dir is required.
type Options struct {
	Servers int    // how many web servers; 0 means 3
	Dir     string // data folder, made if missing: authority, databases, logs, control socket
	Store   string // store URL for the sessions, or NoStore; "" means sqlite in Dir; ignored with Local
	Local   bool   // each server keeps its sessions in its own memory: the design that loses them
	Policy  string // "round-robin", the default, or "sticky-cookie"
	Seal    string // SealOn, the default, SealAllow or SealOff; always off without a database
	Listen  string // address of the balancer; "" means 127.0.0.1:0, a free port

	// Exe and Args start the program of a web server, which calls [Serve].
	// "" means this program, and nil means "serve". The name of the server,
	// "--name web1", is added to Args, so that ps tells the servers apart;
	// all else is in the environment, because a store URL may have a password.
	Exe  string
	Args []string

	// Env is called at each start of a server's process and returns what to add
	// to its environment, in place of what the farm sets: so servers may
	// differ, and a server from its predecessor. nil means nothing.
	Env func(server string) []string

	// Logger gets what happens to servers: one line when a process starts or
	// ends, at level Warn if nobody had asked for its end. nil discards it.
	// What servers and balancer log themselves is in Dir/logs.
	Logger *slog.Logger
}

// The environment of a web server.
const (
	EnvStore  = "ROAM_STORE"  // the store URL, MemoryStore if sessions are local, NoStore if there are none
	EnvOrders = "ROAM_ORDERS" // the database file of the shop's orders
	EnvKeys   = "ROAM_KEYS"   // the key file of the sealed marks, "" if marks are plain
	EnvSeal   = "ROAM_SEAL"   // what Options.Seal says
	EnvKey    = "ROAM_KEY"    // the fingerprint of a key that it must have to be ready, "" for none
)

// Whether the marks of sessions are sealed. The key file is made in the farm's
// folder when it is first needed. That a farm does so by itself is for one
// operator on one machine: servers on several machines need the same file, so
// somebody has to hand it out, and a server that made its own would let nobody
// in whom another one has logged in.
const (
	SealOn    = "on"    // sessions with a plain mark are not let in
	SealAllow = "allow" // they are: for the time after it was switched on
	SealOff   = "off"
)

// MemoryStore is the store URL of sessions in each server's own memory.
const MemoryStore = "memory:"

// NoStore is in place of a store URL if there is no store: who is logged in is
// sealed into cookies and nowhere else, so servers share the keys alone.
const NoStore = "none"

const (
	maxServers = 20
	startLimit = time.Minute

	// checkTimeout is generous, because all servers share this machine: when it
	// is busy with something else, all of them are slow to answer a check, and
	// taking them out would make a slow site an absent one. A dead server is
	// found at once by its refused connections; only one that hangs is found
	// this late.
	checkTimeout = 3 * time.Second

	stopLimit   = 30 * time.Second // graceful gives up before
	pollEvery   = 20 * time.Millisecond
	maxLog      = 10 << 20
	privateDir  = 0o700
	closeNotice = "the farm is closing"
)

// A Farm is a running farm. All methods may be called concurrently.
type Farm struct {
	opts      Options
	url       string
	authority *authority
	balancer  *balancer.Balancer
	granted   *grants
	nursery   *nursery
	closers   []func() // in the order of Start
	rolling   sync.Mutex
	closed    sync.Once

	balancerLog *slog.Logger

	ctx    context.Context // ends when Close begins: no process starts after that
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what is in servers
	servers []*server
}

// Start starts a farm and returns when every server is ready, or when ctx
// ends, which afterwards has no more influence. On an error nothing is left
// running. The farm runs until [Farm.Close].
func Start(ctx context.Context, o Options) (_ *Farm, err error) {
	if err := o.resolve(); err != nil {
		return nil, err
	}
	f := &Farm{opts: o}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.settle(); err != nil {
		return nil, err
	}
	front, err := net.Listen("tcp", o.Listen) // early, because it is what may well be taken
	if err != nil {
		return nil, err
	}
	f.later(func() { front.Close() })
	policy, err := balancer.NewPolicy(o.Policy)
	if err != nil {
		return nil, err
	}
	log, err := openLog(f.logFile("balancer"))
	if err != nil {
		return nil, err
	}
	f.later(func() { log.Close() })
	f.balancerLog = slog.New(slog.NewTextHandler(log, nil))
	f.granted = newGrants()
	f.balancer = balancer.New(&balancer.Options{
		Policy:       f.granted.counting(policy),
		Logger:       f.balancerLog,
		CheckTimeout: checkTimeout,
	})
	f.nursery = newNursery()
	f.later(f.nursery.close)

	checks, stopChecks := context.WithCancel(context.Background())
	f.keep(stopChecks, func() error { return f.balancer.Run(checks) })
	for i := range o.Servers {
		f.servers = append(f.servers, newServer(fmt.Sprintf("web%d", i+1)))
	}
	f.later(f.stopAll)
	if err := f.startAll(ctx); err != nil {
		return nil, err
	}
	f.serveFront(front)
	if err := f.serveControl(); err != nil {
		return nil, err
	}
	return f, nil
}

// resolve fills in the defaults and refuses what cannot be.
func (o *Options) resolve() error {
	if o.Dir == "" {
		return errors.New("farm: Options.Dir is empty: want the folder for its data")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if o.Servers == 0 {
		o.Servers = 3
	}
	if o.Servers < 1 || o.Servers > maxServers {
		return fmt.Errorf("cannot run %d web servers: want 1 to %d", o.Servers, maxServers)
	}
	if o.Policy == "" {
		o.Policy = "round-robin"
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Local {
		o.Store = MemoryStore
	}
	if o.Store == "" {
		o.Store = DefaultStore(o.Dir)
	}
	switch o.Seal {
	case "":
		o.Seal = SealOn
	case SealOn, SealAllow, SealOff:
	default:
		return fmt.Errorf("farm: Options.Seal is %q: want %s, %s or %s", o.Seal, SealOn, SealAllow, SealOff)
	}
	if o.Store == NoStore && o.Seal != SealOn {
		return fmt.Errorf("farm: Options.Seal is %q without a store: there is nothing but what is sealed", o.Seal)
	}
	if o.Store == MemoryStore { // a sealed mark would speak for a session that only another server has
		o.Seal = SealOff
	}
	if o.Exe == "" {
		if o.Exe, err = os.Executable(); err != nil {
			return err
		}
	}
	if o.Args == nil {
		o.Args = []string{"serve"}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// DefaultStore returns the store URL of a farm in dir that was given none.
func DefaultStore(dir string) string {
	return "sqlite://" + filepath.ToSlash(filepath.Join(dir, "data", "sessions.db"))
}

// settle makes the data folder fit to hold secrets. What matters is in folders
// of its own, because dir itself may be the user's, and its mode is theirs.
func (f *Farm) settle() error {
	dir := f.opts.Dir
	if _, err := socketPath(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, privateDir); err != nil {
		return err
	}
	for _, name := range []string{"control", "data", "logs"} {
		sub := filepath.Join(dir, name)
		if err := os.MkdirAll(sub, privateDir); err != nil {
			return err
		}
		if err := os.Chmod(sub, privateDir); err != nil { // it may be older than this program's care
			return err
		}
	}
	unlock, err := lockFile(filepath.Join(dir, "control", "lock"))
	if errors.Is(err, ErrRunning) {
		return fmt.Errorf("a farm is %w in %s", ErrRunning, dir)
	}
	if err != nil {
		return err
	}
	f.later(unlock)
	if f.authority, err = openAuthority(dir); err != nil || f.opts.Seal == SealOff {
		return err
	}
	if _, err := os.Lstat(KeyFile(dir)); errors.Is(err, fs.ErrNotExist) {
		_, err := sealed.Create(KeyFile(dir))
		return err
	}
	return nil // the servers judge it
}

// KeyFile returns the key file of a farm in dir.
func KeyFile(dir string) string { return filepath.Join(dir, "keys.json") }

// later has Close call fn, after what was started later has been stopped.
func (f *Farm) later(fn func()) { f.closers = append(f.closers, fn) }

// keep runs fn in the background until Close, which calls stop and waits.
func (f *Farm) keep(stop func(), fn func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := fn(); err != nil {
			f.opts.Logger.Error("the farm lost a part of itself", "error", err)
		}
	}()
	f.later(func() {
		stop()
		<-done
	})
}

// serveFront puts the balancer on the net until Close.
func (f *Farm) serveFront(ln net.Listener) {
	f.url = "https://" + publicHost(ln.Addr().(*net.TCPAddr))
	srv := &http.Server{
		Handler:           f.balancer,
		TLSConfig:         f.authority.config(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(f.balancerLog.Handler(), slog.LevelInfo), // handshakes that browsers break off, mostly
	}
	ctx, stop := context.WithCancel(context.Background())
	front := graceful.New(srv, nil)
	f.keep(stop, func() error { return front.RunTLS(ctx, ln, "", "") })
}

// publicHost is the address as a browser on this machine writes it.
func publicHost(addr *net.TCPAddr) string {
	if addr.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", addr.Port)
	}
	return addr.String()
}

// Close stops the farm: first the balancer, which finishes what is in flight,
// then the servers. What is in Dir stays. The second Close does nothing.
func (f *Farm) Close() error {
	f.closed.Do(func() {
		f.cancel(errors.New(closeNotice))
		for _, fn := range slices.Backward(f.closers) {
			fn()
		}
	})
	return nil
}

// URL returns the address of the site, without a slash at the end.
func (f *Farm) URL() string { return f.url }

// RootCAs returns the pool that has the farm's own authority, and nothing else.
func (f *Farm) RootCAs() *x509.CertPool { return f.authority.pool() }

// An Info is what a farm says about itself.
type Info struct {
	URL      string   `json:"url"`
	PID      int      `json:"pid"` // of the process that runs the farm and its balancer
	Dir      string   `json:"dir"`
	RootCert string   `json:"root_cert"` // the file of the authority's certificate
	Store    string   `json:"store"`     // its URL, without a password
	Policy   string   `json:"policy"`
	Seal     string   `json:"seal"` // whether marks are sealed: on, allow or off
	Servers  []Server `json:"servers"`
}

// Info returns what the farm is, and the status of its servers.
func (f *Farm) Info() Info {
	return Info{
		URL: f.url, PID: os.Getpid(), Dir: f.opts.Dir, RootCert: f.authority.certFile,
		Store: Redact(f.opts.Store), Policy: f.opts.Policy, Seal: f.opts.Seal, Servers: f.Status(),
	}
}

// find returns the server of that name.
func (f *Farm) find(name string) (*server, error) {
	var names []string
	for _, s := range f.servers {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return nil, fmt.Errorf("%w: %q; the farm has %s", ErrUnknownServer, name, strings.Join(names, ", "))
}
