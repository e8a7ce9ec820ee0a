package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// sample is a report as a drill makes it.
func sample() *Report {
	r := &Report{
		When: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Machine: "2 cores, linux/amd64, go1.26", Command: "roam drill",
		Rate: 300, Servers: 3, People: 26,
		Designs: map[string]Design{
			"local":         {"sessions in each server's memory, any server gets any request", "A server knows only its own."},
			"sticky-cookie": {"sessions in each server's memory, each visitor pinned to one server", "They die with it."},
			"roam":          {"sessions in a database, any server serves any request", "No server owns one."},
		},
		Scenarios: map[string]string{"kill": "kill -9", "roll": "all replaced", "logout": "sessions end"},
	}
	for _, d := range []string{"local", "sticky-cookie", "roam"} {
		for _, s := range []string{"kill", "roll", "logout"} {
			run := Run{Design: d, Scenario: s}
			run.Requests, run.Seconds, run.Rate, run.MaxOverMean, run.P50, run.P99 = 2401, 8, 300.1, 1.0021, 1.94, 48.2
			run.Servers = []string{"web1", "web2", "web3"}
			for i := range 80 {
				run.Timeline = append(run.Timeline, shoppers.Bucket{Served: []int{10, 10, 10 + i%3}})
			}
			if d != Roam {
				run.LoggedOut, run.CartItemsLost, run.AckedWritesLost = 46, 1554, 1585
				run.Timeline[30].LoggedOut, run.Timeline[31].Missing, run.Timeline[30].Failed = 5, 40, 1
			}
			if s == "kill" {
				run.InFlightPosts, run.FailedPost = 2, 1
				run.Outages = []Outage{{"web2", "killed", 2 * time.Second, 4 * time.Second}}
			}
			r.Runs = append(r.Runs, run)
		}
	}
	return r
}

func TestTheTableFitsATerminal(t *testing.T) {
	huge := sample()
	for i := range huge.Runs {
		run := &huge.Runs[i]
		run.Requests, run.FailedGet, run.FailedPost, run.InFlightPosts = 360000, 99999, 99999, 99999
		run.LoggedOut, run.CartItemsLost, run.AckedWritesLost, run.ServedAfterEnd = 99999, 99999, 999999, 99999
		run.P50, run.P99, run.MaxOverMean = 15000, 15000, 8
	}
	for name, r := range map[string]*Report{"usual": sample(), "huge": huge} {
		var b bytes.Buffer
		if err := r.Table(&b, nil); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > Width {
				t.Errorf("%s: a line of %d columns, want at most %d:\n%s", name, n, Width, line)
			}
		}
		for _, run := range r.Runs {
			if !strings.Contains(b.String(), run.Design) || !strings.Contains(b.String(), run.Scenario) {
				t.Errorf("%s: %s × %s is missing:\n%s", name, run.Design, run.Scenario, &b)
			}
		}
	}
}

func TestOnlyLossesArePainted(t *testing.T) {
	r := sample()
	var b bytes.Buffer
	painted := 0
	if err := r.Table(&b, func(s string) string { painted++; return s }); err != nil {
		t.Fatal(err)
	}
	if want := 6 * 3; painted != want { // failed POSTs are within what was in flight
		t.Errorf("%d cells are painted, want %d", painted, want)
	}
}

func TestTheJSONHasTheAgreedNames(t *testing.T) {
	var b bytes.Buffer
	if err := sample().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got["runs"]) != 9 {
		t.Fatalf("want an object with 9 runs and nothing else: %s", &b)
	}
	for _, name := range []string{
		"design", "scenario", "requests", "failed_get", "failed_post", "in_flight_posts", "logged_out", "cart_items_lost",
		"acked_writes_lost", "served_after_end", "max_over_mean", "p50_ms", "p99_ms",
	} {
		if _, ok := got["runs"][0][name]; !ok {
			t.Errorf("%s is missing in %v", name, got["runs"][0])
		}
	}
	for name, want := range map[string]any{"design": "local", "scenario": "kill", "requests": 2401.0, "in_flight_posts": 2.0, "logged_out": 46.0} {
		if v := got["runs"][0][name]; v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

func TestWhatRoamLosesIsAnError(t *testing.T) {
	if err := sample().Err(); err != nil {
		t.Errorf("nothing is lost, and the error is %v", err)
	}
	for name, lose := range map[string]func(*Run){
		"failed_get":                         func(r *Run) { r.FailedGet = 1 },
		"logged_out":                         func(r *Run) { r.LoggedOut = 1 },
		"cart_items_lost":                    func(r *Run) { r.CartItemsLost = 1 },
		"acked_writes_lost":                  func(r *Run) { r.AckedWritesLost = 1 },
		"served_after_end":                   func(r *Run) { r.ServedAfterEnd = 1 },
		"written_after_end":                  func(r *Run) { r.WrittenAfterEnd = 1 },
		"cart_items_twice":                   func(r *Run) { r.CartItemsTwice = 1 },
		"wrong_user":                         func(r *Run) { r.WrongUser = 1 },
		"wrong_answers":                      func(r *Run) { r.WrongAnswers = 1 },
		"unaudited":                          func(r *Run) { r.Unaudited = 1 },
		"failed_post beyond in_flight_posts": func(r *Run) { r.FailedPost = r.InFlightPosts + 1 },
	} {
		r := sample()
		lose(&r.Runs[8])
		err := r.Err()
		if err == nil || !strings.Contains(err.Error(), name+" = 1") || !strings.Contains(err.Error(), "logout") {
			t.Errorf("%s: got error %v, want one that names it and the scenario", name, err)
		}
		if v := strings.Join(r.Verdict(), "\n"); strings.Contains(v, "lost nothing") {
			t.Errorf("%s: the verdict says %q", name, v)
		}
		var b bytes.Buffer
		if err := r.HTML(&b); err != nil || !strings.Contains(b.String(), "roam lost something") {
			t.Errorf("%s: the page does not say so (%v)", name, err)
		}
	}
}

func TestOtherDesignsMayLoseWhatTheyLike(t *testing.T) {
	r := sample()
	r.Runs = r.Runs[:6]
	if err := r.Err(); err != nil {
		t.Errorf("without roam the error is %v", err)
	}
}

func TestTheVerdictNamesWhatEachDesignLost(t *testing.T) {
	v := sample().Verdict()
	if len(v) != 3 {
		t.Fatalf("got %q, want a sentence for each design", v)
	}
	for i, want := range []string{"roam lost nothing", "local lost: 138 logouts", "sticky-cookie lost: 138 logouts"} {
		if !strings.HasPrefix(v[i], want) {
			t.Errorf("got %q, want it to begin with %q", v[i], want)
		}
	}
	slow := sample()
	slow.Runs[7].Rate = 212
	if v := strings.Join(slow.Verdict(), "\n"); !strings.Contains(v, "roam × roll reached only 212 of 300") {
		t.Errorf("a rate that was not reached is not told: %q", v)
	}
}

func TestWrapKeepsToTheWidth(t *testing.T) {
	text := strings.Repeat("nothing was lost today ", 40)
	got := Wrap(text, "  ")
	for line := range strings.Lines(got) {
		if n := len(strings.TrimSuffix(line, "\n")); n > Width {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
	if strings.Join(strings.Fields(got), " ") != strings.TrimSpace(text) {
		t.Error("words have changed")
	}
}

func TestThePageStandsAlone(t *testing.T) {
	r := sample()
	r.Command = `roam drill --design <b>"x"</b>`
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	depth, charts, rows := 0, 0, 0
	z := html.NewTokenizer(strings.NewReader(text))
	void := map[string]bool{"meta": true, "br": true}
	for z.Next() != html.ErrorToken {
		tok := z.Token()
		switch {
		case tok.Type == html.StartTagToken && !void[tok.Data]:
			depth++
		case tok.Type == html.EndTagToken:
			depth--
		}
		switch tok.Data {
		case "script", "link", "img", "iframe":
			t.Errorf("the page has a <%s>", tok.Data)
		case "figure":
			if tok.Type == html.StartTagToken {
				charts++
			}
		case "tr":
			if tok.Type == html.StartTagToken {
				rows++
			}
		}
		for _, a := range tok.Attr {
			if a.Key == "src" || a.Key == "href" || strings.Contains(a.Val, "NaN") || strings.Contains(a.Val, "Inf") {
				t.Errorf("<%s %s=%q>", tok.Data, a.Key, a.Val)
			}
		}
	}
	if depth != 0 || charts != 9 || rows != 10 {
		t.Errorf("%d elements left open, %d charts, %d rows; want 0, 9 and 10", depth, charts, rows)
	}
	for _, want := range []string{"roam lost nothing", "web2 killed", "2 cores, linux/amd64", "4 May 2026", "&lt;b&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, c := range columns {
		if !strings.Contains(text, html.EscapeString(c.says)) {
			t.Errorf("the page does not explain %q", c.name)
		}
	}
	if strings.Contains(text, "url(") || strings.Contains(text, "http") || strings.Contains(text, "ZgotmplZ") {
		t.Error("the page needs something from elsewhere, or the template gave up")
	}
}

func TestAPageOfOneRunRenders(t *testing.T) {
	for _, run := range []Run{{Design: "roam", Scenario: "none"}, {Design: "local", Scenario: "kill", Outages: []Outage{{"web2", "killed", time.Second, 0}}}} {
		r := &Report{Runs: []Run{run}}
		var b bytes.Buffer
		if err := r.HTML(&b); err != nil || strings.Contains(b.String(), "NaN") {
			t.Errorf("%s: error %v", run.Design, err)
		}
		if err := r.Table(&b, nil); err != nil {
			t.Error(err)
		}
	}
}

// What servers remember is a loss as soon as a visitor goes back in time, an
// idle cart is gone, or a session is served beyond the bound.
func TestWhatServersRememberWronglyIsALoss(t *testing.T) {
	for name, change := range map[string]func(*Run){
		"went_back":           func(r *Run) { r.WentBack = 1 },
		"idle_carts_lost":     func(r *Run) { r.Herd, r.HerdLost = 10, 1 },
		"served_beyond_bound": func(r *Run) { r.Unheard = &shoppers.Endings{Beyond: 1} },
	} {
		fine, run := Run{Design: Roam}, Run{Design: Roam}
		fine.Herd, fine.Heard, fine.Bursts, fine.ServedInBound, fine.ServedLongest = 10, &shoppers.Endings{Max: 900}, 3, 4, 900
		run.Heard = fine.Heard
		change(&run)
		if got := fine.Losses(); len(got) > 0 {
			t.Errorf("nothing was lost, got %v", got)
		}
		got := run.Losses()
		if len(got) != 1 || got[0].Name != name || got[0].words() == "" || strings.Contains(got[0].words(), name) {
			t.Errorf("got %v, want 1 %s, in words", got, name)
		}
		var b bytes.Buffer
		if err := (&Report{Runs: []Run{run}}).Table(&b, func(cell string) string { return "!" + cell }); err != nil || !strings.Contains(b.String(), "!") {
			t.Errorf("%s is not marked in the table: %v\n%s", name, err, b.String())
		}
	}
}
