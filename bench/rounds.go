package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are all that a run has measured.
type results struct {
	Quick    bool
	When     time.Time
	Took     time.Duration
	Versions []string
	Cells    []*cell
	Verdicts []verdict
}

// A cell is what was measured of one page of one site, in one part.
type cell struct {
	Part    string
	Site    string
	Page    string
	Clients int
	Samples []sample // one a round
}

// A sample is a moment's. Its costs are those of one request, in microseconds.
type sample struct {
	Rate     float64 // requests a second
	P50, P99 float64
	CPU      float64 // of the site's processes
	StoreCPU float64
	Trips    float64 // to the store; for SQLite, calls
	Allocs   float64
	Bytes    float64
	Failed   int
	Failure  string
}

func (r *results) cell(part, site, page string, clients int) *cell {
	for _, c := range r.Cells {
		if c.Part == part && c.Site == site && c.Page == page && c.Clients == clients {
			return c
		}
	}
	return nil
}

func (r *results) add(part, site, page string, clients int, s sample) {
	c := r.cell(part, site, page, clients)
	if c == nil {
		c = &cell{Part: part, Site: site, Page: page, Clients: clients}
		r.Cells = append(r.Cells, c)
	}
	c.Samples = append(c.Samples, s)
}

// A part is a table, or a few.
type part struct {
	name string
	run  func(*bench) error
}

var parts = []part{
	{"handlers", (*bench).handlers},
	{"callers", (*bench).callers},
	{"servers", (*bench).servers},
	{"far", (*bench).far},
	{"touch", (*bench).touch},
	{"shop", (*bench).shop},
	{"correctness", (*bench).correctness},
}

func partNames() string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// A bench is a run.
type bench struct {
	*results
	ctx    context.Context
	stores *stores
	begin  time.Time
}

// measure runs all parts, or one.
func measure(ctx context.Context, quick bool, only string) (*results, error) {
	s, err := openStores(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	b := &bench{results: &results{Quick: quick, When: time.Now()}, ctx: ctx, stores: s, begin: time.Now()}
	b.Versions = append(slices.Clone(s.versions), runtime.Version())
	found := false
	for _, p := range parts {
		if only == "" || only == p.name {
			found = true
			if err := p.run(b); err != nil {
				return nil, err
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("there is no part %q; the parts are %s", only, partNames())
	}
	b.Took = time.Since(b.begin)
	return b.results, nil
}

// say shows how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.0fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

// A farm is the servers of one site.
type farm []*process

// start starts farms of these sites, or of all but the extra ones.
func (b *bench) start(names []string, size int, via *network) ([]farm, error) {
	var all []farm
	for _, c := range candidates {
		if names == nil && c.extra || names != nil && !slices.Contains(names, c.name) {
			continue
		}
		var f farm
		for range size {
			p, err := start(c, b.stores.env(c, via))
			if err != nil {
				stop(append(all, f))
				return nil, err
			}
			f = append(f, p)
		}
		all = append(all, f)
	}
	return all, nil
}

func stop(all []farm) {
	for _, f := range all {
		for _, p := range f {
			p.stop()
		}
	}
}

// rounds has each farm work for a moment in each round. Who begins changes from
// round to round, so that nobody always comes after the same one. work is also
// called once for each farm before the first round, to warm up.
func (b *bench) rounds(what string, n int, all []farm, work func(f farm, warm bool) error) error {
	for round := range n + 1 {
		b.say("%s, %s", what, map[bool]string{true: "warming up", false: fmt.Sprintf("round %d of %d", round, n)}[round == 0])
		for i := range all {
			if b.ctx.Err() != nil {
				return errStopped
			}
			if err := work(all[(i+round)%len(all)], round == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// handler measures a page called in its own process by n goroutines.
func (b *bench) handler(part string, f farm, p page, n int, d time.Duration, warm bool) error {
	c := f[0].candidate
	if !c.has(p) {
		return nil
	}
	store := b.stores.families[c.store]
	before := store.cpu()
	r, err := f[0].do(order{Page: p.name, Callers: n, For: d})
	if err != nil {
		return err
	}
	if !warm {
		b.add(part, c.name, p.name, n, newSample(r.Run, r.Usage, store.cpu()-before))
	}
	return nil
}

func newSample(s stretch, u usage, store time.Duration) sample {
	n := float64(s.Requests)
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return sample{
		Rate: n / s.Took.Seconds(), P50: us(s.P50), P99: us(s.P99),
		CPU: us(u.CPU) / n, StoreCPU: us(store) / n, Trips: float64(u.Trips) / n,
		Allocs: float64(u.Allocs) / n, Bytes: float64(u.Bytes) / n, Failed: s.Failed, Failure: s.Failure,
	}
}

// served measures what clients get from a farm over HTTP.
func (b *bench) served(part string, f farm, name string, n int, d time.Duration, warm bool, next func(i int) page) error {
	c := f[0].candidate
	if have := len(f[0].clients); have < n {
		more, err := dial(f, have, n-have)
		f[0].clients = append(f[0].clients, more...)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	used := func() (sum usage, err error) {
		for _, p := range f {
			r, err := p.do(order{})
			if err != nil {
				return sum, err
			}
			sum.CPU += r.Usage.CPU
			sum.Allocs += r.Usage.Allocs
			sum.Bytes += r.Usage.Bytes
			sum.Trips += r.Usage.Trips
		}
		return sum, nil
	}
	store := b.stores.families[c.store]
	before, err := used()
	if err != nil {
		return err
	}
	storeBefore := store.cpu()
	s := together(n, d, func(i int) error { return f[0].clients[i].visit(next(i)) })
	storeAfter := store.cpu()
	after, err := used()
	if err != nil {
		return err
	}
	if !warm {
		b.add(part, c.name, name, n, newSample(s, after.minus(before), storeAfter-storeBefore))
	}
	return nil
}

// pick is n in a full run and quick in a quick one.
func pick[T any](b *bench, n, quick T) T {
	if b.Quick {
		return quick
	}
	return n
}

// handlers calls every page of every site from one goroutine.
func (b *bench) handlers() error {
	all, err := b.start(nil, 1, nil)
	if err != nil {
		return err
	}
	defer stop(all)
	slice := 40 * time.Millisecond
	return b.rounds("handlers, one goroutine", pick(b, 13, 3), all, func(f farm, warm bool) error {
		for _, p := range pages {
			if err := b.handler("handlers", f, p, 1, slice, warm); err != nil {
				return err
			}
		}
		return nil
	})
}

// stored are the sites whose store is a database, and those without a library
// that say what the driver can do.
var stored = []string{"roam SQLite", "scs SQLite", "raw SQLite", "roam PostgreSQL", "scs PostgreSQL", "raw PostgreSQL", "scs Redis", "raw Redis"}

// callers calls the pages that cannot do without the store from many goroutines
// and without HTTP, which would otherwise hide most of the difference.
func (b *bench) callers() error {
	all, err := b.start(stored, 1, nil)
	if err != nil {
		return err
	}
	defer stop(all)
	slice := 120 * time.Millisecond
	for _, n := range pick(b, []int{1, 8, 64, 256}, []int{64}) {
		if err := b.rounds(fmt.Sprintf("callers, %d goroutines", n), pick(b, 11, 3), all, func(f farm, warm bool) error {
			for _, p := range []string{"cold", "update"} {
				if err := b.handler("callers", f, pageNamed(p), n, slice, warm); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// servers asks every site over HTTP.
func (b *bench) servers() error {
	all, err := b.start(nil, 1, nil)
	if err != nil {
		return err
	}
	defer stop(all)
	slice := 80 * time.Millisecond
	few := []string{"identify", "cold", "update"}
	some := []string{"net/http", "roam SQLite", "roam PostgreSQL", "scs PostgreSQL", "raw PostgreSQL", "scs Redis", "gorilla Redis", "fiber Redis"}
	for _, n := range pick(b, []int{1, 8, 64, 256}, []int{64}) {
		if err := b.rounds(fmt.Sprintf("servers, %d clients", n), pick(b, 9, 2), all, func(f farm, warm bool) error {
			for _, p := range pages {
				if !f[0].candidate.has(p) || n != 64 && !(slices.Contains(few, p.name) && slices.Contains(some, f[0].candidate.name)) {
					continue
				}
				if err := b.served("servers", f, p.name, n, slice, warm, func(int) page { return p }); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// far calls the pages that need the store with a network before it.
func (b *bench) far() error {
	via, err := b.stores.network(far)
	if err != nil {
		return err
	}
	defer via.close()
	all, err := b.start([]string{"roam PostgreSQL", "scs PostgreSQL", "raw PostgreSQL", "scs Redis", "gorilla Redis"}, 1, via)
	if err != nil {
		return err
	}
	defer stop(all)
	slice := 150 * time.Millisecond
	for _, n := range pick(b, []int{8, 64}, []int{64}) {
		if err := b.rounds(fmt.Sprintf("callers, %d goroutines, 2.4 ms to the store", n), pick(b, 9, 2), all, func(f farm, warm bool) error {
			for _, p := range []string{"identify", "cold", "update"} {
				if err := b.handler("far", f, pageNamed(p), n, slice, warm); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// crowdSize is how many visitors touch has.
const crowdSize = 1000

// touch has visitors ask who they are ten times a second, each of whom is
// touched as often as the options allow, and tells what a touch costs the store
// beside what an update costs it at its best.
func (b *bench) touch() error {
	all, err := b.start([]string{touching, "raw PostgreSQL"}, 1, nil)
	if err != nil {
		return err
	}
	defer stop(all)
	return b.rounds("touches", pick(b, 3, 1), all, func(f farm, warm bool) error {
		c := f[0].candidate
		if c.name != touching {
			for _, n := range []int{1, 64} {
				if err := b.handler("touch", f, pageNamed("update"), n, 300*time.Millisecond, warm); err != nil {
					return err
				}
			}
			return nil
		}
		store := b.stores.families[c.store]
		before := store.cpu()
		r, err := f[0].do(order{Page: "identify", Callers: crowdSize, For: 4 * time.Second, Pause: 100 * time.Millisecond})
		if err != nil {
			return err
		}
		if !warm {
			s := newSample(r.Run, r.Usage, store.cpu()-before)
			requests, touches := float64(r.Run.Requests), float64(r.Usage.Touches)
			b.add("touch", c.name, "identify", crowdSize, s)
			s.Rate, s.StoreCPU, s.Trips = touches/r.Run.Took.Seconds(), s.StoreCPU*requests/touches, s.Trips*requests/touches
			b.add("touch", c.name, "touch", crowdSize, s)
		}
		return nil
	})
}

// shop is the mixed load on three servers, with the store near and far.
func (b *bench) shop() error {
	names := []string{"roam PostgreSQL", "scs PostgreSQL", "scs PostgreSQL, idle", wrapped, "scs Redis", "scs Redis, idle", "gorilla Redis"}
	for _, where := range []string{"shop", "shop, far"} {
		var via *network
		if where != "shop" {
			var err error
			if via, err = b.stores.network(far); err != nil {
				return err
			}
			defer via.close()
		}
		all, err := b.start(names, 3, via)
		if err != nil {
			return err
		}
		const clients = 64
		luck := make([]*rand.Rand, clients)
		for i := range luck {
			luck[i] = rand.New(rand.NewPCG(uint64(i), 1))
		}
		err = b.rounds(where+", 64 clients on 3 servers", pick(b, 9, 3), all, func(f farm, warm bool) error {
			return b.served(where, f, "mixed", clients, 400*time.Millisecond, warm,
				func(i int) page { return shopPage(luck[i].IntN(100)) })
		})
		stop(all)
		if err != nil {
			return err
		}
	}
	return nil
}
