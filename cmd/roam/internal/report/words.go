package report

import (
	"fmt"
	"strings"
)

// Verdict says in words what each design lost, roam first.
func (r *Report) Verdict() (sentences []string) {
	var others []string
	for _, d := range r.designs() {
		if d == Roam {
			sentences = append(sentences, r.ofRoam()...)
		} else {
			others = append(others, r.ofOther(d))
		}
	}
	sentences = append(sentences, others...)
	for _, run := range r.Runs {
		if r.Rate > 0 && run.Rate < 0.97*float64(r.Rate) {
			sentences = append(sentences, fmt.Sprintf("Note: %s × %s reached only %.0f of %d requests/s; the times to answer are those of an overloaded machine.",
				run.Design, run.Scenario, run.Rate, r.Rate))
		}
		if run.CartItemsUnsure > 0 {
			sentences = append(sentences, fmt.Sprintf("Note: in %s × %s a login or logout was never answered, and %s in that cart could not be judged.",
				run.Design, run.Scenario, plural(run.CartItemsUnsure, "item", "items")))
		}
	}
	return sentences
}

func (r *Report) of(design string) (runs []Run) {
	for _, run := range r.Runs {
		if run.Design == design {
			runs = append(runs, run)
		}
	}
	return runs
}

func (r *Report) ofRoam() (sentences []string) {
	var scenarios, lost []string
	var sum Run
	for _, run := range r.of(Roam) {
		scenarios = append(scenarios, run.Scenario)
		sum.Requests += run.Requests
		sum.FailedPost += run.FailedPost
		sum.InFlightPosts += run.InFlightPosts
		if l := list(run.Losses()); l != "" {
			lost = append(lost, fmt.Sprintf("in %s %s", run.Scenario, l))
		}
	}
	if len(lost) > 0 {
		return []string{fmt.Sprintf("roam LOST SOMETHING: %s.", strings.Join(lost, "; "))}
	}
	s := fmt.Sprintf("roam lost nothing: in %s requests (%s) nobody was logged out, nothing vanished from a cart, every acknowledged write is there, and nobody who had logged out was let in again.",
		thousands(sum.Requests), and(scenarios))
	if sum.FailedPost > 0 {
		verb := "were"
		if sum.FailedPost == 1 {
			verb = "was"
		}
		s += fmt.Sprintf(" %s %s in the hands of a server that was killed and failed, as nobody can know whether they took effect.", plural(sum.FailedPost, "POST", "POSTs"), verb)
	}
	return []string{s}
}

func (r *Report) ofOther(design string) string {
	var parts []string
	for _, run := range r.of(design) {
		l := list(run.Losses())
		if l == "" {
			l = "nothing"
		}
		parts = append(parts, fmt.Sprintf("%s: %s", run.Scenario, l))
	}
	return fmt.Sprintf("%s lost, in %s.", design, strings.Join(parts, "; in "))
}

// shown is how many kinds of losses are said in words; the table has them all.
const shown = 3

func list(losses []Loss) string {
	var parts []string
	for i, l := range losses {
		if i == shown {
			break
		}
		parts = append(parts, l.words())
	}
	return and(parts)
}

func and(parts []string) string {
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return strings.Join(parts, "")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}
