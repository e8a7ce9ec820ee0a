package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A child is one site in a process of its own, so that its processor time is
// its own and its garbage is collected by itself. The parent gives orders on
// its standard input, a line of JSON each, and when that closes it ends.

// An order is to call a page in the child itself, without a network, or just to
// say what it has used so far.
type order struct {
	Page    string        // "" for the usage alone
	Callers int           // goroutines, each a visitor
	For     time.Duration // how long
	Pause   time.Duration // of each caller after each call
}

// A report is the child's answer.
type report struct {
	Addr   string  // of its HTTP server; in the first report only
	Forged string  // a Cookie header that nobody gave out; in the first report only
	Error  string  // why the order was not carried out
	Usage  usage   // in all, since it started
	Run    stretch // what the order did
}

// A usage is what a process has used.
type usage struct {
	CPU     time.Duration
	Allocs  uint64
	Bytes   uint64
	Trips   int64 // to the store
	Touches int64 // that roam has written
}

func (u usage) minus(v usage) usage {
	return usage{u.CPU - v.CPU, u.Allocs - v.Allocs, u.Bytes - v.Bytes, u.Trips - v.Trips, u.Touches - v.Touches}
}

// A stretch is how a page was asked for during a moment.
type stretch struct {
	Requests int
	Took     time.Duration
	P50, P99 time.Duration
	Failed   int
	Failure  string // the first
}

// child is the main function of a child.
func child(ctx context.Context, name string) error {
	c, err := candidateNamed(name)
	if err != nil {
		return err
	}
	e, err := envFromSetup()
	if err != nil {
		return err
	}
	s, err := c.make(ctx, e)
	if err != nil {
		return err
	}
	if s.close != nil {
		defer s.close()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if s.serve == nil {
		s.serve = (&http.Server{Handler: s.handler}).Serve
	}
	go s.serve(ln)

	w := &wire{port: portOf(e.Store), seen: make(map[uint64]uint32)}
	use := func() usage {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return usage{ownCPU(), m.Mallocs, m.TotalAlloc, w.sent() + e.calls.Load(), e.touches.Load()}
	}
	out := json.NewEncoder(os.Stdout)
	first, err := arrive(s.caller(), s, "u0")
	if err != nil {
		return err
	}
	if err := out.Encode(report{Addr: ln.Addr().String(), Forged: first.forged, Usage: use()}); err != nil {
		return err
	}
	crowd := &crowd{site: s}
	for in := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		var o order
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var r report
		if o.Page != "" {
			before := use()
			run, err := crowd.run(o)
			if err != nil {
				r.Error = err.Error()
			}
			r.Run, r.Usage = run, use().minus(before)
		} else {
			r.Usage = use()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// A crowd is the visitors of a child's own calls.
type crowd struct {
	site     *site
	visitors []*visitor
	callers  []caller
}

func (c *crowd) run(o order) (stretch, error) {
	for len(c.visitors) < o.Callers {
		call := c.site.caller()
		v, err := arrive(call, c.site, fmt.Sprintf("u%d", len(c.visitors)))
		if err != nil {
			return stretch{}, err
		}
		c.visitors, c.callers = append(c.visitors, v), append(c.callers, call)
	}
	p := pageNamed(o.Page)
	return together(o.Callers, o.For, func(i int) error {
		err := c.visitors[i].visit(c.callers[i], p)
		time.Sleep(o.Pause)
		return err
	}), nil
}

// together has n goroutines call visit again and again for a while. One alone is
// not timed call by call, as that would cost as much as the fastest pages do.
func together(n int, d time.Duration, visit func(i int) error) stretch {
	var s stretch
	var mu sync.Mutex
	var all []uint32 // tenths of microseconds
	var running sync.WaitGroup
	begin := time.Now()
	for i := range n {
		running.Go(func() {
			var took []uint32
			count, failed, failure := 0, 0, ""
			last := begin
			for last.Sub(begin) < d {
				batch := 1
				if n == 1 {
					batch = 8
				}
				for range batch {
					if err := visit(i); err != nil {
						if failed++; failure == "" {
							failure = err.Error()
						}
					}
				}
				now := time.Now()
				took = append(took, uint32(min(now.Sub(last)/time.Duration(batch)/100, 1<<32-1)))
				count += batch
				last = now
			}
			mu.Lock()
			defer mu.Unlock()
			s.Requests += count
			s.Failed += failed
			if s.Failure == "" {
				s.Failure = failure
			}
			all = append(all, took...)
		})
	}
	running.Wait()
	s.Took = time.Since(begin)
	slices.Sort(all)
	s.P50 = time.Duration(all[len(all)/2]) * 100
	s.P99 = time.Duration(all[len(all)*99/100]) * 100
	return s
}

// A process is the parent's end of a child.
type process struct {
	candidate candidate
	addr      string
	forged    string
	cmd       *exec.Cmd
	in        io.WriteCloser
	enc       *json.Encoder
	dec       *json.Decoder

	clients []*client // see load.go
}

// start starts a child with a site.
func start(c candidate, e *env) (*process, error) {
	e.Idle = c.idle
	setup, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{candidate: c, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), envSite+"="+c.name, envSetup+"="+string(setup))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.enc, p.dec = json.NewEncoder(p.in), json.NewDecoder(out)
	var r report
	if err := p.dec.Decode(&r); err != nil {
		p.stop()
		return nil, fmt.Errorf("the site %s did not start: %w", c.name, err)
	}
	p.addr, p.forged = r.Addr, r.Forged
	return p, nil
}

func (p *process) do(o order) (report, error) {
	var r report
	if err := p.enc.Encode(o); err != nil {
		return r, fmt.Errorf("the site %s has gone: %w", p.candidate.name, err)
	}
	if err := p.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the site %s has gone: %w", p.candidate.name, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s: %s", p.candidate.name, r.Error)
	}
	return r, nil
}

func (p *process) stop() {
	for _, c := range p.clients {
		c.close()
	}
	p.in.Close()
	p.cmd.Wait()
}
