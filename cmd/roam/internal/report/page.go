package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"thousands": thousands,
}).Parse(pageText))

// HTML writes the report as one page that needs nothing else: no script, no
// font, no picture from anywhere.
func (r *Report) HTML(w io.Writer) error {
	return pageTemplate.Execute(w, r.page())
}

// A page is what the template gets.
type page struct {
	*Report
	Good        bool // roam took part and lost nothing
	Bad         bool // roam took part and lost something
	Headline    string
	Words       []string
	Cards       []card
	Rows        []row // of charts, one for each scenario
	Servers     []string
	Columns     []column
	Table       []tableRow
	Away        []column // what the outages of the store are told in, none without one
	AwayTable   []tableRow
	Memory      []column // likewise, of the runs that look at what servers remember
	MemoryTable []tableRow
	Date        string
	Seconds     int
	ScaleUp     int // requests per second at the top of the charts
	ScaleDown   int // losses in a tenth of a second at their bottom
}

type card struct {
	Name string
	Design
	LoggedOut, Items, Intruders int
	Clean                       bool
	InMemory                    bool
	Sticky                      bool
}

type row struct {
	Scenario, About string
	Charts          []chart
}

type tableRow struct {
	Design, Scenario string
	First            bool // of its design
	Cells            []cell
}

type cell struct {
	Text string
	Bad  bool
}

// Name, Says and Head show a column to the template.
func (c column) Name() string { return c.name }

// Says returns what the column means, for a newcomer.
func (c column) Says() string { return c.says }

func (r *Report) page() page {
	p := page{Report: r, Columns: columns, Words: r.Verdict(), Date: r.When.Format("2 January 2006, 15:04 MST")}
	runs := r.of(Roam)
	switch {
	case len(runs) == 0:
		p.Headline = "What visitors lost"
	case r.Err() == nil:
		p.Good, p.Headline = true, "roam lost nothing"
	default:
		p.Bad, p.Headline = true, "roam lost something"
	}
	for _, name := range r.designs() {
		c := card{Name: name, Design: r.Designs[name], InMemory: name != Roam, Sticky: strings.HasPrefix(name, "sticky"), Clean: true}
		for _, run := range r.of(name) {
			c.LoggedOut += run.LoggedOut
			c.Items += run.CartItemsLost
			c.Intruders += run.ServedAfterEnd
			c.Clean = c.Clean && len(run.Losses()) == 0
		}
		p.Cards = append(p.Cards, c)
	}

	scale := scaleOf(r.Runs, r.Rate)
	p.ScaleUp, p.ScaleDown = scale.up*int(time.Second/bucket), scale.down
	for _, s := range r.scenarios() {
		line := row{Scenario: s, About: r.Scenarios[s]}
		for _, run := range r.Runs {
			if run.Scenario == s {
				line.Charts = append(line.Charts, draw(run, scale))
			}
		}
		p.Rows = append(p.Rows, line)
	}
	last := ""
	for _, run := range r.Runs {
		if len(run.Servers) > len(p.Servers) {
			p.Servers = run.Servers
		}
		p.Seconds = max(p.Seconds, int(run.Seconds+0.5))
		line := tableRow{Design: run.Design, Scenario: run.Scenario, First: run.Design != last}
		last = run.Design
		line.Cells = cells(columns, run)
		p.Table = append(p.Table, line)
	}
	last = ""
	for _, run := range r.away() {
		p.Away = outageColumns
		p.AwayTable = append(p.AwayTable, tableRow{Design: run.Design, Scenario: run.Scenario, First: run.Design != last, Cells: cells(outageColumns, run)})
		last = run.Design
	}
	last = ""
	for _, run := range r.remembered() {
		p.Memory = memoryColumns
		p.MemoryTable = append(p.MemoryTable, tableRow{Design: run.Design, Scenario: run.Scenario, First: run.Design != last, Cells: cells(memoryColumns, run)})
		last = run.Design
	}
	return p
}

func cells(columns []column, run Run) (row []cell) {
	for _, c := range columns {
		row = append(row, cell{c.text(run), c.wrong(run)})
	}
	return row
}

// Hosts says how many web servers there were.
func (p page) Hosts() string { return plural(p.Report.Servers, "web server", "web servers") }

// Load says how much was asked of them.
func (p page) Load() string { return fmt.Sprintf("%s requests a second", thousands(p.Rate)) }
