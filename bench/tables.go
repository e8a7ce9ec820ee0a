package main

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A table is one of Markdown.
type table struct{ strings.Builder }

func newTable(head ...string) *table {
	t := new(table)
	t.row(head...)
	t.WriteString("|" + strings.Repeat("---|", len(head)) + "\n")
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintf(t, "| %s |\n", strings.Join(cells, " | ")) }

// number writes three digits, which is more than any of them is worth.
func number(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case x != 0 && math.Abs(x) < 0.0005:
		return "0"
	case math.Abs(x) < 9.995:
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(x, 'f', 2, 64), "0"), ".")
	case math.Abs(x) < 99.95:
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	}
	digits := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-2)
	s := strconv.FormatFloat(math.Round(x/digits)*digits, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// only is the median of a cell's metric, and spread has the range too.
func (c *cell) only(m metric) string {
	if c == nil {
		return ""
	}
	return c.warning() + number(median(c.all(m)))
}

func (c *cell) spread(m metric) string {
	if c == nil {
		return ""
	}
	all := c.all(m)
	return fmt.Sprintf("%s%s (%s–%s)", c.warning(), number(median(all)), number(slices.Min(all)), number(slices.Max(all)))
}

func (c *cell) all(m metric) []float64 {
	var all []float64
	for _, s := range c.Samples {
		all = append(all, m.of(s))
	}
	return all
}

// warning marks a cell in which answers were not what they should be.
func (c *cell) warning() string {
	for _, s := range c.Samples {
		if s.Failed > 0 {
			return "⚠ "
		}
	}
	return ""
}

// byPage has a row for each site and a column for each page.
func (r *results) byPage(part string, clients int, m metric) string {
	head := []string{""}
	var shown []page
	for _, p := range pages {
		if slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Part == part && c.Page == p.name && c.Clients == clients }) {
			shown = append(shown, p)
			head = append(head, p.name)
		}
	}
	t := newTable(head...)
	for _, c := range candidates {
		row := []string{c.name}
		some := false
		for _, p := range shown {
			x := r.cell(part, c.name, p.name, clients)
			some = some || x != nil
			row = append(row, x.only(m))
		}
		if some {
			t.row(row...)
		}
	}
	return t.String()
}

// inFull has a row for each site and all that is known of one page.
func (r *results) inFull(part, page string, clients int) string {
	t := newTable("", "requests/s", "p50, µs", "p99, µs", "server CPU, µs", "store CPU, µs", "trips")
	for _, c := range candidates {
		if x := r.cell(part, c.name, page, clients); x != nil {
			t.row(c.name, x.spread(rate), x.only(p50), x.only(p99), x.only(cpu), x.only(storeCPU), x.only(trips))
		}
	}
	return t.String()
}

// ladder has a row for each site and a column for each number of clients.
func (r *results) ladder(part, page string, m metric) string {
	var steps []int
	head := []string{""}
	for _, n := range []int{1, 8, 64, 256} {
		if slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Part == part && c.Page == page && c.Clients == n }) {
			steps = append(steps, n)
			head = append(head, strconv.Itoa(n))
		}
	}
	t := newTable(head...)
	for _, c := range candidates {
		row := []string{c.name}
		some := false
		for _, n := range steps {
			x := r.cell(part, c.name, page, n)
			some = some || x != nil
			row = append(row, x.only(m))
		}
		if some {
			t.row(row...)
		}
	}
	return t.String()
}

func (r *results) ratioTable() string {
	t := newTable("load", "page", "at once", "times better in", "roam on", "than", "middle (range of the rounds)", "wanted", "")
	for _, q := range ratios {
		all := q.values(r)
		if all == nil {
			continue
		}
		want, mark := "", ""
		if q.wish != 0 {
			want, mark = "≥ "+number(q.wish), "yes"
			if middle(all) < q.wish {
				mark = "**no**"
			}
		}
		t.row(q.part, q.page, strconv.Itoa(q.clients), q.metric.name, strings.TrimPrefix(q.us, "roam "), q.them,
			fmt.Sprintf("%s (%s–%s)", number(middle(all)), number(slices.Min(all)), number(slices.Max(all))), want, mark)
	}
	return t.String()
}

// failures lists the answers that were wrong, which no figure may hide.
func (r *results) failures() string {
	var b strings.Builder
	for _, c := range r.Cells {
		failed, why := 0, ""
		for _, s := range c.Samples {
			if failed += s.Failed; why == "" {
				why = s.Failure
			}
		}
		if failed > 0 {
			fmt.Fprintf(&b, "- %s, %s, %s, %d at once: %d wrong answers, the first: %s\n", c.Part, c.Site, c.Page, c.Clients, failed, why)
		}
	}
	if b.Len() == 0 {
		return "Every answer of every site was the right one.\n"
	}
	return b.String()
}

// markdown is docs/performance.md.
func (r *results) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	command := "make bench"
	if r.Quick {
		command = "make bench-quick"
	}
	p("# Performance and correctness, beside other libraries\n")
	p("Written by `%s`, which takes %v here; do not edit. The same small site is made with each library, as", command, r.Took.Round(time.Minute))
	p("its own documentation says, and all are measured in turns on one machine: %d processors, %s/%s,", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	p("%s. How, and what to distrust, is [below](#how-it-is-measured).\n", strings.Join(r.Versions, ", "))
	p("## In short\n")
	p("How many times better roam is. A ratio is taken within a round; the figure is the mean of the middle half of the rounds.\n")
	p("%s", r.ratioTable())
	p("## What each does\n")
	p("Costs are speed; this is what is paid for it. Each was run, by the same command.\n")
	p("%s", r.verdictTable())
	p("%s", legend)
	p("## The sites\n")
	t := newTable("", "what it is")
	for _, c := range candidates {
		t.row(c.name, c.note)
	}
	p("%s", t)
	t = newTable("page", "what it is")
	for _, x := range pages {
		t.row(x.name, x.what)
	}
	p("%s", t)
	if r.has("handlers") {
		p("## One request, without a network to the browser\n")
		p("The handler is called by one goroutine. Processor time of the web server for one request, in microseconds:\n")
		p("![Processor time per page](performance-pages.svg)\n")
		p("%s", r.byPage("handlers", 1, cpu))
		p("Time until the answer, in microseconds (p50, each the mean of eight):\n")
		p("%s", r.byPage("handlers", 1, p50))
		p("Processor time of the store, in microseconds:\n")
		p("%s", r.byPage("handlers", 1, storeCPU))
		p("Trips to the store (for SQLite: calls of the store; roam's own of its log, twice a second, are in it):\n")
		p("%s", r.byPage("handlers", 1, trips))
		p("Allocations, of which 2 are the measurement's, or 3 where the cookies change:\n")
		p("%s", r.byPage("handlers", 1, allocs))
		p("Bytes allocated, of which about 330 are the measurement's, or 840 where the cookies change:\n")
		p("%s", r.byPage("handlers", 1, heap))
	}
	if r.has("callers") {
		p("## Many requests at once, without a network to the browser\n")
		p("Only the pages that cannot do without the store, called by many goroutines. Requests a second:\n")
		for _, page := range []string{"cold", "update"} {
			p("**%s**\n\n%s", page, r.ladder("callers", page, rate))
		}
		for _, page := range []string{"cold", "update"} {
			p("**%s, 64 at once**\n\n%s", page, r.inFull("callers", page, 64))
		}
		if x := r.cell("callers", "raw PostgreSQL", "cold", 256); x != nil {
			p("**cold, 256 at once**\n\n%s", r.inFull("callers", "cold", 256))
		}
	}
	if r.has("far") {
		p("## With 2.4 ms between the web server and the store\n")
		for _, page := range []string{"identify", "cold", "update"} {
			p("**%s, 64 at once**\n\n%s", page, r.inFull("far", page, 64))
		}
	}
	if x := r.cell("touch", touching, "touch", crowdSize); x != nil {
		p("## Touches\n")
		p("%d visitors who ask who they are ten times a second, with the shortest idle timeout that roam has, 10 s. Touches are", crowdSize)
		p("written beside the requests, in batches: %s a second, which cost the store %s µs of processor time and %s trips each,",
			x.spread(rate), x.spread(storeCPU), x.only(trips))
		p("all else that roam asks in the background included. An UPDATE of one row in the same rounds costs it %s µs, and %s µs",
			r.cell("touch", "raw PostgreSQL", "update", 1).spread(storeCPU), r.cell("touch", "raw PostgreSQL", "update", 64).spread(storeCPU))
		p("if 64 come at once and share commits.")
		p("A request made %s trips.\n", r.cell("touch", touching, "identify", crowdSize).only(trips))
	}
	if r.has("servers") {
		p("## Over HTTP\n")
		p("A server of one process, and clients that keep their connections. Clients and server share the processors,")
		p("so that the fastest pages are held up by the clients. 64 clients, requests a second:\n")
		p("%s", r.byPage("servers", 64, rate))
		p("Processor time of the web server for one request, in microseconds:\n")
		p("%s", r.byPage("servers", 64, cpu))
		p("Time until the answer, p99 in microseconds:\n")
		p("%s", r.byPage("servers", 64, p99))
		for _, page := range []string{"identify", "cold", "update"} {
			p("**%s, requests a second by the number of clients**\n\n%s", page, r.ladder("servers", page, rate))
		}
	}
	if r.has("shop") {
		p("## A shop: 3 servers, 64 clients\n")
		p("70 of 100 requests are for pages that need no session, 20 ask who is it, 8 read the session, 2 change it.")
		p("Each client goes round all servers.\n")
		p("![Requests a second of a shop on three servers](performance-shop.svg)\n")
		p("%s", r.inFull("shop", "mixed", 64))
		p("With 2.4 ms between the servers and the store:\n")
		p("%s", r.inFull("shop, far", "mixed", 64))
	}
	p("## Wrong answers\n")
	p("%s", r.failures())
	p("%s", method)
	t = newTable("module", "version")
	for _, line := range modules() {
		t.row(line[0], line[1])
	}
	p("%s", t)
	return b.String()
}

func (r *results) has(part string) bool {
	return slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Part == part })
}

// measured are the modules whose versions matter.
var measured = []string{"alexedwards/scs", "gorilla/sessions", "boj/redistore", "gofiber/fiber", "gofiber/storage", "jackc/pgx/v5", "redis/go-redis", "mattn/go-sqlite3", "ncruces/go-sqlite3"}

func modules() [][2]string {
	var list [][2]string
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, d := range info.Deps {
		if slices.ContainsFunc(measured, func(m string) bool { return strings.Contains(d.Path, m) }) {
			list = append(list, [2]string{d.Path, d.Version})
		}
	}
	return list
}

const legend = `The 50 updates raise one counter. "Beside" and "after" are a page that has looked at the session, waits while somebody else
writes or logs out, and goes on. Whoever is logged out asks once more with the cookie from before, as another tab would, or a
thief; a site that keeps all in the cookie cannot know. The pages asked while a store is down are "identify" (who) and "warm"
(cart), at once and six seconds later; roam answers from memory for as long as it documents, five seconds, and then says
that it does not know. The end of life is an absolute lifetime of ten seconds, asked after at twelve, with a page under way
from nine to eleven. gorilla/sessions counts it from the last write and says so.
`

const method = `## How it is measured

- Each site is a process of its own. In each round every site runs for a moment, one after another, and who begins
  changes from round to round. Figures are medians of the rounds, with the range where there is room; ratios are
  taken within a round, as the machine is then the same for both, and their figure is the mean of the middle half of the
  rounds. ⚠ marks a figure with wrong answers in it.
- How far two runs differ, "go run ./bench -compare" with the bench.json of the first tells. What the store makes of a
  bare statement of its driver, without the rest of a page, "make bench-stores" does.
- Every answer is checked. Clients take every cookie that they are given, as browsers do.
- Processor time is the kernel's, of the processes of the web server or of the database, and does not grow when
  others use the machine. Prefer it to requests a second, which do.
- A trip is a TCP segment with data that the web server sent to the store, counted by the kernel (TCP_INFO): no driver
  has to be trusted or changed, and the raw sites show that it counts one for one statement. SQLite has no wire; there
  a trip is a call of the store by the library.
- PostgreSQL runs as installed (fsync and synchronous_commit on), so a commit is on the disk when it returns, and so does
  SQLite with synchronous=FULL, for roam and for the others. Redis runs as installed but for snapshots: it keeps what it
  was told in memory, and loses it when it is killed. Compare what is durable with what is durable.
- roam has its default of 16 connections. The pools of the others have 40, with which they are faster than with their
  drivers' defaults; boj/redistore has 256 idle ones, as it dials anew otherwise. The others' SQLite has one
  connection for which callers queue, with which it writes many times faster than with several.
- The raw sites do one statement and no session. They are the limit of whoever asks the store once for a page.
- scs and fiber are put around the whole site, as their documentation does it, so that pages without a session pay as
  well. Whoever puts scs around some pages only spares the others; in the shop there is a row for that.
- roam caches, and the others do not: that is a difference of what they are, and the page kind "cold" is there to see
  roam without. A session of roam's is served from memory for at most the bounds that its documentation states.
- roam always has an idle timeout, and so has fiber; scs is shown without and with one; gorilla/sessions has none.

What to distrust: the clients, the servers and the stores share the same processors, so requests a second are what is
left when all have had their share. Sessions are small (about 250 bytes). The disk is a virtual machine's, and its
commits may be faster or slower than yours by a lot, which moves every figure of updates. A quick run is for a look: its
rounds are few and short.
`
