package main

import (
	"strings"
	"testing"
)

func TestNumbersHaveThreeDigits(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.0001: "0", 0.25: "0.25", 1: "1", 9.999: "10", 12.34: "12.3", 123.4: "123", 1234: "1 230", 1234567: "1 230 000"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %q, want %q", x, got, want)
		}
	}
}

// Half of a machine's speed is nobody's advantage: a ratio compares what ran in
// the same round.
func TestARatioIsTakenWithinARound(t *testing.T) {
	q := ratio{"callers", "update", 64, rate, "roam SQLite", "scs SQLite", 6}
	r := new(results)
	for _, speed := range []float64{1, 0.5, 0.1} {
		r.add(q.part, q.us, q.page, q.clients, sample{Rate: 600 * speed})
		r.add(q.part, q.them, q.page, q.clients, sample{Rate: 100 * speed})
	}
	for i, got := range q.values(r) {
		if got != 6 {
			t.Errorf("round %d: %v, want 6", i, got)
		}
	}
	q.metric = trips
	for i := range r.Cells[0].Samples {
		r.Cells[0].Samples[i].Trips, r.Cells[1].Samples[i].Trips = 0.1, 2
	}
	if got := middle(q.values(r)); got != 20 {
		t.Errorf("a twentieth of the trips is %v times better", got)
	}
}

func TestTwoRunsThatDifferAreFoundOut(t *testing.T) {
	run := func(rate float64) *results {
		r := new(results)
		r.add("callers", "roam SQLite", "update", 64, sample{Rate: rate})
		r.add("callers", "scs SQLite", "update", 64, sample{Rate: 100})
		return r
	}
	if err := agree(run(600), run(700)); err != nil {
		t.Errorf("17 %% apart: %v", err)
	}
	if err := agree(run(600), run(800)); err == nil || !strings.Contains(err.Error(), "1 of") {
		t.Errorf("33 %% apart: %v", err)
	}
}

func TestAWrongAnswerIsNotHidden(t *testing.T) {
	r := new(results)
	r.add("servers", "roam SQLite", "update", 64, sample{Rate: 5, Failed: 2, Failure: "503"})
	if got := r.cell("servers", "roam SQLite", "update", 64).only(rate); got != "⚠ 5" {
		t.Errorf("got %q", got)
	}
	if got := r.failures(); !strings.Contains(got, "2 wrong answers, the first: 503") {
		t.Errorf("got %q", got)
	}
}

func TestAJarIsABrowsers(t *testing.T) {
	var j jar
	j.set("a=1; Path=/; Secure")
	j.set("b=2; Max-Age=3600")
	j.set("a=3; Path=/")
	if got, want := j.header(), "a=3; b=2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	j.set("a=; Max-Age=0")
	j.set("b=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
	if got := j.header(); got != "" {
		t.Errorf("deleted cookies are still there: %q", got)
	}
	if got := parseJar("a=3; b=2").header(); got != "a=3; b=2" {
		t.Errorf("got %q", got)
	}
}
