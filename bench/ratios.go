package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A metric is one figure of a sample.
type metric struct {
	name string
	of   func(sample) float64
	less bool // less is better
}

var (
	rate     = metric{"requests a second", func(s sample) float64 { return s.Rate }, false}
	p50      = metric{"p50", func(s sample) float64 { return s.P50 }, true}
	p99      = metric{"p99", func(s sample) float64 { return s.P99 }, true}
	cpu      = metric{"CPU of the web server", func(s sample) float64 { return s.CPU }, true}
	storeCPU = metric{"CPU of the store", func(s sample) float64 { return s.StoreCPU }, true}
	work     = metric{"CPU of both", func(s sample) float64 { return s.CPU + s.StoreCPU }, true}
	trips    = metric{"trips to the store", func(s sample) float64 { return s.Trips }, true}
	allocs   = metric{"allocations", func(s sample) float64 { return s.Allocs }, true}
	heap     = metric{"bytes allocated", func(s sample) float64 { return s.Bytes }, true}
)

// A ratio says how many times better one site is than another. It is taken
// within each round, when both had the same machine; its value is the middle of
// the rounds.
type ratio struct {
	part, page string
	clients    int
	metric     metric
	us, them   string
	wish       float64 // what it is meant to be at least; 0 is nothing
}

// ratios are what two runs have to agree on, and what is promised. That a whole
// page of ours, with its cookies, clock and JSON, is as quick as a bare statement
// of the driver is not; what the store itself makes of such a statement is in
// the benchmarks of store/postgresstore.
var ratios = []ratio{
	{"handlers", "untouched", 1, cpu, "roam PostgreSQL", "net/http", 0.9},
	{"handlers", "anonymous", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "untouched", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "identify", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "warm", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "cold", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "update", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "garbage", 1, cpu, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"handlers", "identify", 1, cpu, "roam memory", "scs memory", 1},
	{"handlers", "identify", 1, cpu, "roam memory", "gorilla cookie", 1},
	{"handlers", "identify", 1, cpu, "roam memory", "fiber memory", 1},
	{"callers", "cold", 1, rate, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 8, rate, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 64, rate, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 64, work, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 64, p50, "roam PostgreSQL", "raw PostgreSQL", 1},
	{"callers", "cold", 64, p99, "roam PostgreSQL", "raw PostgreSQL", 1},
	{"callers", "cold", 64, storeCPU, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 256, rate, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 256, work, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 256, storeCPU, "roam PostgreSQL", "raw PostgreSQL", 0},
	{"callers", "cold", 256, p99, "roam PostgreSQL", "raw PostgreSQL", 1},
	{"far", "cold", 64, rate, "roam PostgreSQL", "raw PostgreSQL", 1.7},
	{"callers", "update", 64, rate, "roam PostgreSQL", "scs PostgreSQL", 5},
	{"callers", "update", 64, work, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"callers", "update", 64, trips, "roam PostgreSQL", "scs PostgreSQL", 10},
	{"callers", "update", 64, storeCPU, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"callers", "update", 64, rate, "roam SQLite", "scs SQLite", 6},
	{"servers", "untouched", 64, cpu, "roam PostgreSQL", "net/http", 0},
	{"servers", "identify", 64, rate, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"servers", "identify", 64, rate, "roam PostgreSQL", "scs Redis", 1},
	{"servers", "identify", 64, work, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"servers", "update", 64, rate, "roam PostgreSQL", "scs PostgreSQL", 5},
	{"shop", "mixed", 64, rate, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"shop", "mixed", 64, p99, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"shop", "mixed", 64, work, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"shop", "mixed", 64, trips, "roam PostgreSQL", "scs PostgreSQL", 10},
	{"shop", "mixed", 64, trips, "roam PostgreSQL", "scs PostgreSQL, idle", 10},
	{"shop", "mixed", 64, trips, "roam PostgreSQL", wrapped, 0},
	{"shop", "mixed", 64, rate, "roam PostgreSQL", wrapped, 1},
	{"shop", "mixed", 64, rate, "roam PostgreSQL", "scs Redis", 1},
	{"shop, far", "mixed", 64, rate, "roam PostgreSQL", "scs PostgreSQL", 1},
	{"shop, far", "mixed", 64, p99, "roam PostgreSQL", "scs PostgreSQL", 1},
}

func (q ratio) String() string {
	more := "as many"
	if q.metric.less {
		more = "as little"
	}
	at := "one goroutine"
	if q.clients > 1 || q.part != "handlers" {
		at = fmt.Sprintf("%d at once", q.clients)
	}
	return fmt.Sprintf("%s, %s, %s: %s has x times %s %s as %s", q.part, q.page, at, q.us, more, q.metric.name, q.them)
}

// values returns the ratio in each round.
func (q ratio) values(r *results) []float64 {
	us, them := r.cell(q.part, q.us, q.page, q.clients), r.cell(q.part, q.them, q.page, q.clients)
	if us == nil || them == nil {
		return nil
	}
	var all []float64
	for i := range min(len(us.Samples), len(them.Samples)) {
		a, b := q.metric.of(us.Samples[i]), q.metric.of(them.Samples[i])
		if q.metric.less {
			a, b = b, a
		}
		all = append(all, a/b)
	}
	return all
}

// middle is the mean of the middle half. It is as deaf as the median to a round
// that something else disturbed, and two runs of ten rounds agree better on it.
func middle(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	s = s[len(s)/4 : len(s)-len(s)/4]
	sum := 0.0
	for _, x := range s {
		sum += x
	}
	return sum / float64(len(s))
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// tolerance is how far the ratios of two runs may be apart.
const tolerance = 0.25

// agree compares the ratios of two runs, and fails if they tell two stories.
func agree(before, now *results) error {
	var far []string
	worst, which := 1.0, ""
	for _, q := range ratios {
		a, b := q.values(before), q.values(now)
		if a == nil || b == nil {
			continue
		}
		d := math.Max(middle(a)/middle(b), middle(b)/middle(a))
		if d > worst {
			worst, which = d, q.String()
		}
		mark := ""
		if d > 1+tolerance {
			far = append(far, q.String())
			mark = "  too far"
		}
		fmt.Printf("%6.2f and %6.2f, apart by %3.0f %%%s: %v\n", middle(a), middle(b), 100*(d-1), mark, q)
	}
	fmt.Printf("The worst, by %.0f %%: %s\n", 100*(worst-1), which)
	if far != nil {
		return fmt.Errorf("%d of %d ratios of the two runs are more than %.0f %% apart:\n%s", len(far), len(ratios), 100*tolerance, strings.Join(far, "\n"))
	}
	return nil
}
