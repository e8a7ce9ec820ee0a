package report

import (
	"cmp"
	"fmt"
	"slices"
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
		if run.lossy() {
			sentences = append(sentences, fmt.Sprintf("Note: in %s × %s the replica that took over was made to lag behind. The shoppers miss %s, %s of them a login, and the servers have counted %s; nobody who had logged out was let in again.",
				run.Design, run.Scenario, plural(run.AckedWritesLost, "acknowledged write", "acknowledged writes"), thousands(run.Trouble.LoginsLost), lostBy(run)))
		}
		if run.CartItemsUnsure > 0 {
			sentences = append(sentences, fmt.Sprintf("Note: in %s × %s a login or logout was never answered, and %s in that cart could not be judged.",
				run.Design, run.Scenario, plural(run.CartItemsUnsure, "item", "items")))
		}
	}
	return sentences
}

// lostBy is what the servers have counted.
func lostBy(run Run) string {
	if run.Strain == nil {
		return "nothing"
	}
	return thousands(int(run.Strain.LostWrites))
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
	waits, risked := 0, false
	for _, run := range r.of(Roam) {
		scenarios = append(scenarios, run.Scenario)
		sum.Requests += run.Requests
		sum.FailedPost += run.FailedPost
		sum.InFlightPosts += run.InFlightPosts
		if run.Trouble != nil {
			waits += run.Trouble.UnavailableGet + run.Trouble.UnavailablePost
		}
		risked = risked || run.lossy()
		if l := list(run.Losses()); l != "" {
			lost = append(lost, fmt.Sprintf("in %s %s", run.Scenario, l))
		}
	}
	if len(lost) > 0 {
		return []string{fmt.Sprintf("roam LOST SOMETHING: %s.", strings.Join(lost, "; "))}
	}
	s := fmt.Sprintf("roam lost nothing: in %s requests of %s nobody was logged out, nothing vanished from a cart, every acknowledged write is there, and nobody who had logged out was let in again.",
		thousands(sum.Requests), and(scenarios))
	if risked {
		s = strings.Replace(s, "nothing vanished from a cart, every acknowledged write is there,", "nothing is missing that was not put at risk on purpose (see the note),", 1)
	}
	if waits > 0 {
		s += fmt.Sprintf(" While the store was away %s that needed it were answered with 503 and asked to come back; every page that needs none was shown.", plural(waits, "request", "requests"))
	}
	switch n := sum.FailedPost; {
	case n == 1:
		s += " 1 POST was in the hands of a server that was killed and failed, as nobody can know whether it took effect."
	case n > 1:
		s += fmt.Sprintf(" %s POSTs were in the hands of a server that was killed and failed, as nobody can know whether they took effect.", thousands(n))
	}
	return []string{s}
}

// ofOther says what another design lost, by kind, and why it could not be
// otherwise.
func (r *Report) ofOther(design string) string {
	sums, where := map[string]int{}, map[string][]string{}
	var kinds []string
	for _, run := range r.of(design) {
		for _, l := range run.Losses() {
			if sums[l.Name] == 0 {
				kinds = append(kinds, l.Name)
			}
			sums[l.Name] += l.Count
			where[l.Name] = append(where[l.Name], fmt.Sprintf("%s %s", run.Scenario, thousands(l.Count)))
		}
	}
	if len(kinds) == 0 {
		return fmt.Sprintf("%s lost nothing this time. %s", design, r.Designs[design].Why)
	}
	slices.SortStableFunc(kinds, func(a, b string) int { return cmp.Compare(weight(a), weight(b)) })
	var parts []string
	for _, kind := range kinds[:min(shown, len(kinds))] {
		part := Loss{kind, sums[kind]}.words()
		if len(r.scenarios()) > 1 {
			part += " (" + strings.Join(where[kind], ", ") + ")"
		}
		parts = append(parts, part)
	}
	return strings.TrimSpace(fmt.Sprintf("%s lost: %s. %s", design, strings.Join(parts, "; "), r.Designs[design].Why))
}

// weight puts first what people understand at once.
func weight(kind string) int {
	if i := slices.Index([]string{"logged_out", "cart_items_lost", "served_after_end"}, kind); i >= 0 {
		return i
	}
	return 3
}

// shown is how many kinds of losses are said in words; the table has them all.
const shown = 3

func list(losses []Loss) string {
	var parts []string
	for _, l := range losses {
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
