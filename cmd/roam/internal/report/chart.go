package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// bucket is how much time a bar of a chart stands for.
const bucket = 100 * time.Millisecond

// The geometry of a chart, in the units of its viewBox.
const (
	chartWidth  = 400.0
	chartHeight = 190.0
	plotLeft    = 30.0
	plotRight   = 396.0
	plotTop     = 20.0
	baseline    = 112.0 // requests above it, losses below
	plotBottom  = 166.0
	labelRoom   = 34.0 // between the middles of two labels of bands
	least       = 4.0  // the height of the smallest loss, so that one is seen
)

// A chart shows one run second by second: above the line the requests that
// were answered, in a colour for each server, below it what visitors lost.
type chart struct {
	Design, Scenario string
	Label            string // the whole chart in words, for those who do not see it
	Result           string
	Clean            bool

	Bars    []path // by server
	Failed  string
	Waiting string
	Lost    string
	Bands   []band
	Ticks   []tick
	Ceiling string // what the top of the plot stands for
	Top     float64
	Base    float64
	Bottom  float64
	Left    float64
	Right   float64
}

type path struct {
	Server int
	D      string
}

type band struct {
	X, W, Mid float64
	Label     string
}

type tick struct {
	X     float64
	Label string
}

// A scale is what the charts of a report have in common, so that they can be
// compared: how many there are in a bucket, at most.
type scale struct {
	up, down int
	buckets  int
}

func losses(b shoppers.Bucket) int { return b.LoggedOut + b.Missing + b.Intruders }

func answered(b shoppers.Bucket) (n int) {
	for _, k := range b.Served {
		n += k
	}
	return n + b.Waiting
}

func scaleOf(runs []Run, rate int) scale {
	s := scale{up: 1, down: 1, buckets: 1}
	for _, r := range runs {
		s.buckets = max(s.buckets, len(r.Timeline))
		for _, b := range r.Timeline {
			s.up = max(s.up, answered(b)+b.Failed)
			s.down = max(s.down, losses(b))
		}
	}
	// A burst after a stall may be many times the rate, and would leave the
	// rest too small to see.
	if usual := rate * int(bucket/time.Millisecond) / 1000; usual > 0 {
		s.up = min(s.up, 2*usual)
	}
	return s
}

func draw(r Run, s scale) chart {
	c := chart{
		Design: r.Design, Scenario: r.Scenario, Clean: len(r.Losses()) == 0, Result: "nothing lost",
		Ceiling: thousands(s.up * int(time.Second/bucket)),
		Top:     plotTop, Base: baseline, Bottom: plotBottom, Left: plotLeft, Right: plotRight,
	}
	if !c.Clean {
		var said []string
		for _, l := range r.Losses() {
			said = append(said, l.short())
		}
		c.Result = strings.Join(said[:min(2, len(said))], ", ")
	}
	width := (plotRight - plotLeft) / float64(s.buckets)
	unit := (baseline - plotTop) / float64(s.up)
	bars := make([]strings.Builder, len(r.Servers))
	var failed, waiting, lost strings.Builder
	box := func(b *strings.Builder, i int, top, height float64) {
		fmt.Fprintf(b, "M%.1f %.1fh%.1fv%.1fh-%.1fz", plotLeft+float64(i)*width, top, width*0.86, height, width*0.86)
	}
	for i, b := range r.Timeline {
		y := baseline
		room := s.up
		for k, n := range b.Served {
			if n = min(n, room); n > 0 && k < len(bars) {
				y -= float64(n) * unit
				room -= n
				box(&bars[k], i, y, float64(n)*unit)
			}
		}
		if n := min(b.Waiting, room); n > 0 {
			y -= float64(n) * unit
			box(&waiting, i, y, float64(n)*unit)
		}
		if b.Failed > 0 {
			h := max(least, float64(b.Failed)*unit)
			box(&failed, i, max(plotTop, y-h), h)
		}
		if n := losses(b); n > 0 {
			// The square root shows the single ones beside the many.
			h := max(least, (plotBottom-baseline-3)*math.Sqrt(float64(n)/float64(s.down)))
			box(&lost, i, baseline+2, h)
		}
	}
	for k := range bars {
		c.Bars = append(c.Bars, path{k, bars[k].String()})
	}
	c.Failed, c.Waiting, c.Lost = failed.String(), waiting.String(), lost.String()
	at := func(d time.Duration) float64 {
		return min(plotRight, plotLeft+float64(d)/float64(bucket)*width)
	}
	for _, o := range r.Outages {
		x := at(o.From)
		w := max(2, at(o.To)-x)
		c.Bands = append(c.Bands, band{x, w, min(max(x+w/2, plotLeft+22), plotRight-22), o.Server + " " + o.Why})
	}
	last := 0.0
	if len(c.Bands) > 1 { // no room for more words
		for i, o := range r.Outages {
			c.Bands[i].Label = o.Server
			if i > 0 && c.Bands[i].Mid-last < labelRoom {
				c.Bands[i].Label = ""
				continue
			}
			last = c.Bands[i].Mid
		}
	}
	step := 1
	for s.buckets/(step*10) > 8 {
		step *= 2
	}
	for sec := 0; sec*10 <= s.buckets; sec += step {
		c.Ticks = append(c.Ticks, tick{at(time.Duration(sec) * time.Second), fmt.Sprintf("%d s", sec)})
	}
	c.Label = fmt.Sprintf("%s, %s: %s requests in %.0f seconds; %s.", r.Design, r.Scenario, thousands(r.Requests), r.Seconds, c.Result)
	return c
}
