package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plots are the pictures of docs/performance.md, by file name. A picture has a
// ground of its own and follows the reader's choice of light or dark, so that it
// can be read on any page.
func (r *results) plots() map[string]string {
	files := make(map[string]string)
	if r.has("handlers") {
		files["performance-pages.svg"] = r.pagesPlot()
	}
	if r.has("shop") {
		files["performance-shop.svg"] = r.shopPlot()
	}
	return files
}

// A picture is an SVG being drawn.
type picture struct {
	strings.Builder
	width, height int
}

const style = `<style>
.ground{fill:#fff}text{font:14px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:16px}.small{font-size:12px;fill:#59636e}
.line{stroke:#d1d9e0}.c0{fill:#0969da}.c1{fill:#bc4c00}.c2{fill:#8250df}.c3{fill:#1a7f37}.c4{fill:#818b98}.far{opacity:.45}.in{fill:#fff;font-size:12px}
@media(prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#f0f6fc}.small{fill:#9198a1}.line{stroke:#3d444d}
.c0{fill:#4493f8}.c1{fill:#f0883e}.c2{fill:#ab7df8}.c3{fill:#3fb950}.c4{fill:#818b98}.in{fill:#0d1117}}
</style>`

func draw(width, height int, title, what string) *picture {
	p := &picture{width: width, height: height}
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		width, height, width, height, html.EscapeString(title+". "+what))
	p.WriteString(style)
	fmt.Fprintf(p, `<rect class="ground" width="%d" height="%d" rx="6"/>`, width, height)
	p.text(20, 30, "title", "start", title)
	p.text(20, 50, "small", "start", what)
	return p
}

func (p *picture) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(s))
}

func (p *picture) line(x1, y1, x2, y2 float64) {
	fmt.Fprintf(p, `<line class="line" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x1, y1, x2, y2)
}

func (p *picture) dot(x, y float64, class, title string) {
	fmt.Fprintf(p, `<circle class="%s" cx="%.1f" cy="%.1f" r="6"><title>%s</title></circle>`, class, x, y, html.EscapeString(title))
}

func (p *picture) bar(x, y, w, h float64, class string) {
	fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"/>`, class, x, y, math.Max(w, 1), h)
}

func (p *picture) done() string { return p.String() + "</svg>\n" }

// pagesPlot shows a dot for each site on a line for each page, on a scale of
// powers of ten: the processor time of the web server and the store together.
func (r *results) pagesPlot() string {
	sites := []string{"roam PostgreSQL", "scs PostgreSQL", "gorilla Redis", "fiber Redis", "net/http"}
	const left, right, top, step = 110.0, 740.0, 108.0, 34.0
	bottom := top + step*float64(len(pages))
	p := draw(770, int(bottom)+50, "What one request costs", "processor time of the web server and the store together, without HTTP; each step is ten times as much")
	const low, high = 0.1, 1000.0
	at := func(us float64) float64 {
		return left + (right-left)*math.Log10(math.Max(us, low)/low)/math.Log10(high/low)
	}
	for us := low; us <= high*1.01; us *= 10 {
		p.line(at(us), top-14, at(us), bottom-8)
		label := number(us) + " µs"
		if us > 999 {
			label = "1 ms"
		}
		p.text(at(us), bottom+12, "small", "middle", label)
	}
	x := 20.0
	for i, name := range sites {
		class := fmt.Sprintf("c%d", i)
		p.dot(x+6, 75, class, name)
		p.text(x+17, 80, "small", "start", name)
		x += 40 + 7.2*float64(len(name))
	}
	for i, page := range pages {
		y := top + step*float64(i)
		p.line(left, y, right, y)
		p.text(left-12, y+5, "", "end", page.name)
		for j := len(sites) - 1; j >= 0; j-- { // the first is drawn last, on top
			if c := r.cell("handlers", sites[j], page.name, 1); c != nil {
				us := median(c.all(cpu)) + median(c.all(storeCPU))
				p.dot(at(us), y, fmt.Sprintf("c%d", j), fmt.Sprintf("%s, %s: %s µs", sites[j], page.name, number(us)))
			}
		}
	}
	return p.done()
}

// shopPlot shows how many requests a shop on three servers answers.
func (r *results) shopPlot() string {
	var names []string
	most := 0.0
	for _, c := range candidates {
		for _, part := range []string{"shop", "shop, far"} {
			if x := r.cell(part, c.name, "mixed", 64); x != nil {
				most = math.Max(most, median(x.all(rate)))
				if part == "shop" {
					names = append(names, c.name)
				}
			}
		}
	}
	const left, right, top, step = 220.0, 600.0, 76.0, 50.0
	p := draw(770, int(top+step*float64(len(names)))+14, "A shop on 3 servers: requests a second",
		"64 clients; 70 % pages without a session, 20 % who is it, 8 % read, 2 % write; paler: 2.4 ms to the store")
	for i, name := range names {
		y := top + step*float64(i)
		class := "c1"
		switch {
		case strings.HasPrefix(name, "roam"):
			class = "c0"
		case strings.HasPrefix(name, "gorilla"):
			class = "c2"
		}
		p.text(left-12, y+24, "", "end", name)
		for j, part := range []string{"shop", "shop, far"} {
			x := r.cell(part, name, "mixed", 64)
			if x == nil {
				continue
			}
			w := (right - left) * median(x.all(rate)) / most
			far := ""
			if j == 1 {
				far = " far"
			}
			p.bar(left, y+float64(j)*19, w, 16, class+far)
			p.text(left+w+8, y+float64(j)*19+13, "small", "start", fmt.Sprintf("%s, %s trips each", number(median(x.all(rate))), number(median(x.all(trips)))))
		}
	}
	return p.done()
}
