package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Width is how many columns of a terminal the table and the words may take.
const Width = 100

// A column is one number of a run, as all forms of the report show it.
type column struct {
	head [2]string // of the table, one below the other
	name string    // of the page
	says string    // one sentence for a newcomer
	loss bool      // not zero means that somebody lost something
	text func(Run) string
	bad  func(Run) bool // for those that are not a plain loss; nil means not zero
}

func number(of func(Run) int) func(Run) string {
	return func(r Run) string { return fmt.Sprint(of(r)) }
}

// columns are in the order of importance for somebody who reads from the left.
var columns = []column{
	{
		head: [2]string{"", "requests"}, name: "requests",
		says: "How many requests the shoppers sent while the load ran.",
		text: number(func(r Run) int { return r.Requests }),
	}, {
		head: [2]string{"failed", "GET"}, name: "failed GET", loss: true,
		says: "Pages that were not shown: no answer, or one of status 500 and above. A balancer can ask another server, so none need fail.",
		text: number(func(r Run) int { return r.FailedGet }),
	}, {
		head: [2]string{"failed", "POST"}, name: "failed POST", loss: true,
		says: "Forms and calls that change something, and got no answer or one of status 500 and above. Nothing may repeat these unasked.",
		text: number(func(r Run) int { return r.FailedPost }),
		bad:  func(r Run) bool { return r.FailedPost > r.InFlightPosts },
	}, {
		head: [2]string{"in the", "kill"}, name: "POSTs in the kill",
		says: "How many of those the killed server had in hand, by the balancer's count; as many may fail.",
		text: number(func(r Run) int { return r.InFlightPosts }),
	}, {
		head: [2]string{"logged", "out"}, name: "logged out", loss: true,
		says: "Times that somebody who was logged in was suddenly taken for a guest.",
		text: number(func(r Run) int { return r.LoggedOut }),
	}, {
		head: [2]string{"items", "lost"}, name: "cart items lost", loss: true,
		says: "Items that the site had confirmed, and that were missing when the shopper looked into the cart.",
		text: number(func(r Run) int { return r.CartItemsLost }),
		bad:  func(r Run) bool { return r.CartItemsLost > 0 && !r.lossy() },
	}, {
		head: [2]string{"writes", "lost"}, name: "acknowledged writes lost", loss: true,
		says: "Confirmed items, orders and logins that were nowhere to be found when every account was settled at the end.",
		text: number(func(r Run) int { return r.AckedWritesLost }),
		bad:  func(r Run) bool { return r.AckedWritesLost > 0 && !r.lossy() },
	}, {
		head: [2]string{"served", "after"}, name: "served after end", loss: true,
		says: "Requests sent with the old key after the logout had been answered, and still served as that user.",
		text: number(func(r Run) int { return r.ServedAfterEnd }),
	}, {
		head: [2]string{"max /", "mean"}, name: "busiest / mean",
		says: "The share of the busiest server over the mean of all; 1.00 is perfectly even. A server that is down counts, so a fault raises it.",
		text: func(r Run) string { return fmt.Sprintf("%.2f", r.MaxOverMean) },
	}, {
		head: [2]string{"p50", "ms"}, name: "p50 ms",
		says: "Half of the requests were answered within so many milliseconds, counted from when they were due, not from when they got their turn.",
		text: func(r Run) string { return milliseconds(r.P50) },
	}, {
		head: [2]string{"p99", "ms"}, name: "p99 ms",
		says: "The same for 99 of 100 requests.",
		text: func(r Run) string { return milliseconds(r.P99) },
	},
}

// outageColumns are those of runs in which the store was away.
var outageColumns = []column{
	{
		head: [2]string{"store", "away s"}, name: "store away, s",
		says: "How long the store of sessions was out of reach, slow or locked.",
		text: func(r Run) string { return fmt.Sprintf("%.1f", r.Trouble.Seconds) },
	}, {
		head: [2]string{"503", "GET"}, name: "503 GET",
		says: "Pages that needed a session meanwhile and could not be shown: answered with 503 and Retry-After, and with the cookie left alone. A 503 without Retry-After counts as failed.",
		text: number(func(r Run) int { return r.Trouble.UnavailableGet }),
	}, {
		head: [2]string{"503", "POST"}, name: "503 POST",
		says: "The same for forms and calls that change something. The answer says whether that is certain not to have happened.",
		text: number(func(r Run) int { return r.Trouble.UnavailablePost }),
	}, {
		head: [2]string{"public", "failed"}, name: "public failed", loss: true,
		says: "Pages that need no session and were not shown all the same.",
		text: number(func(r Run) int { return r.PublicFailed }),
	}, {
		head: [2]string{"cookies", "cleared"}, name: "cookies cleared", loss: true,
		says: "Answers that deleted the cookie of a session of which the server could not know that it had ended.",
		text: number(func(r Run) int { return r.CookiesCleared }),
	}, {
		head: [2]string{"logouts", "claimed"}, name: "logouts claimed", loss: true,
		says: "Logouts that were answered as done while no store could confirm it, or whose key opened the session again at the end.",
		text: number(func(r Run) int { return r.LogoutsClaimed }),
	}, {
		head: [2]string{"back", "in ms"}, name: "back in ms", loss: true,
		says: "Time from the store's return, or that of the server cut off from it, to the first answer that needed it.",
		text: func(r Run) string {
			if r.Trouble.FirstSuccess < 0 {
				return "never"
			}
			return fmt.Sprintf("%.0f", r.Trouble.FirstSuccess)
		},
		bad: Run.late,
	}, {
		head: [2]string{"rate", "after"}, name: "rate after", loss: true,
		says: "Good answers that needed the store in the ten seconds after its return, in percent of those before.",
		text: func(r Run) string {
			if r.Trouble.RateBefore == 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f%%", 100*r.Trouble.RateAfter/r.Trouble.RateBefore)
		},
		bad: Run.slower,
	}, {
		head: [2]string{"goroutines", "was-max-is"}, name: "goroutines before, at most, after", loss: true,
		says: "Of the web server that has most of them. While the store is away each request that waits has one or two; afterwards these must be gone.",
		text: func(r Run) string {
			if r.Strain == nil {
				return "-"
			}
			return fmt.Sprintf("%d-%d-%d", r.Strain.GoroutinesBefore, r.Strain.GoroutinesMax, r.Strain.GoroutinesAfter)
		},
		bad: Run.piledUp,
	}, {
		head: [2]string{"conns", "max"}, name: "store connections",
		says: "The most connections to the store that one web server had.",
		text: func(r Run) string {
			if r.Strain == nil || r.Strain.ConnsMax < 0 {
				return "-"
			}
			return fmt.Sprint(r.Strain.ConnsMax)
		},
	}, {
		head: [2]string{"servers", "miss"}, name: "writes that servers miss",
		says: "Acknowledged writes that the web servers themselves found to be gone after the store had begun another epoch. One of theirs may hold several items, so it need not be the shoppers' number.",
		text: func(r Run) string {
			if r.Strain == nil {
				return "-"
			}
			return fmt.Sprint(r.Strain.LostWrites)
		},
	},
}

// memoryColumns are those of runs that look at what servers remember.
var memoryColumns = []column{
	{
		head: [2]string{"carts", "checked"}, name: "carts checked",
		says: "Answers that showed a cart and were held against the cookies that the request had brought.",
		text: number(func(r Run) int { return r.Law3Checked }),
	}, {
		head: [2]string{"went", "back"}, name: "went back", loss: true,
		says: "Those that were older than the cookies proved: the visitor went back in time.",
		text: number(func(r Run) int { return r.WentBack }),
		bad:  func(r Run) bool { return r.WentBack > 0 && !r.lossy() },
	}, {
		head: [2]string{"", "bursts"}, name: "bursts",
		says: "Times that a shopper made 20 calls at once and its browser learned from the answers in random order.",
		text: number(func(r Run) int { return r.Bursts }),
	}, {
		head: [2]string{"late", "answers"}, name: "late answers",
		says: "Answers that the browser learned from after a logout or login that was asked for later.",
		text: number(func(r Run) int { return r.LateAnswers }),
	}, {
		head: [2]string{"idle", "lost"}, name: "idle carts lost", loss: true,
		says: "Of the visitors who did nothing but be there, how many came back to a cart that was not theirs or not whole.",
		text: func(r Run) string {
			if r.Herd == 0 {
				return "-"
			}
			return fmt.Sprint(r.HerdLost)
		},
		bad: func(r Run) bool { return r.HerdLost > 0 },
	}, {
		head: [2]string{"trips/s", "was-max"}, name: "store trips per second, before and at most",
		says: "Transactions of the database per second, by its own statistics: the most before all servers were started at once, and the most from then on. SQLite has no such statistics.",
		text: func(r Run) string {
			if r.Queries == nil {
				return "-"
			}
			return fmt.Sprintf("%d-%d", r.Queries.Before, r.Queries.Peak)
		},
	}, {
		head: [2]string{"ends seen", "p99 ms"}, name: "ends seen, p99 ms",
		says: "Time from the end of a session on one server until each of the others said that it was over, while all of them heard of it; 99 of 100 were faster.",
		text: func(r Run) string {
			if r.Heard == nil {
				return "-"
			}
			return fmt.Sprintf("%.0f", r.Heard.P99)
		},
	}, {
		head: [2]string{"max", "ms"}, name: "ends seen, at most, ms",
		says: "The longest of these.",
		text: func(r Run) string {
			if r.Heard == nil {
				return "-"
			}
			return fmt.Sprintf("%.0f", r.Heard.Max)
		},
	}, {
		head: [2]string{"served", "ms"}, name: "served after an end elsewhere, ms",
		says: "How long after the end of a session another server was asked and served it all the same, at most. The bound is 5 s.",
		text: func(r Run) string { return fmt.Sprintf("%.0f", r.longest()) },
		loss: true,
		bad:  func(r Run) bool { return r.beyond() > 0 },
	}, {
		head: [2]string{"cut off", "ms"}, name: "by the server cut off, ms",
		says: "The same for the server that was cut off from the database.",
		text: func(r Run) string {
			if r.Unheard == nil {
				return "-"
			}
			longest := 0.0
			for _, ms := range r.Unheard.Longest {
				longest = max(longest, ms)
			}
			return fmt.Sprintf("%.0f", longest)
		},
		loss: true,
		bad:  func(r Run) bool { return r.Unheard != nil && r.Unheard.Beyond+r.Unheard.Unseen > 0 },
	},
}

// longest is how long after an end elsewhere a session was served by a server
// that heard of it, in milliseconds.
func (r Run) longest() float64 {
	longest := r.ServedLongest
	if r.Heard != nil {
		for _, ms := range r.Heard.Longest {
			longest = max(longest, ms)
		}
	}
	return longest
}

// remembered returns the runs that look at what servers remember, and those in
// which one remembered wrongly.
func (r *Report) remembered() (runs []Run) {
	for _, run := range r.Runs {
		if run.Bursts+run.Herd+run.WentBack > 0 || run.Heard != nil {
			runs = append(runs, run)
		}
	}
	return runs
}

// wrong says whether the number is a loss in this run.
func (c column) wrong(r Run) bool {
	switch {
	case !c.loss:
		return false
	case c.bad != nil:
		return c.bad(r)
	}
	return c.text(r) != "0"
}

func milliseconds(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f", ms)
	}
	if ms >= 9999.5 { // of an overloaded machine, and too wide
		return fmt.Sprintf("%.0fs", ms/1000)
	}
	return fmt.Sprintf("%.0f", ms)
}

// Table writes the table, and another one of the runs in which the store was
// away. Paint, if not nil, colours a cell that is a loss.
func (r *Report) Table(w io.Writer, paint func(string) string) error {
	if err := table(w, columns, r.Runs, paint, "design"); err != nil {
		return err
	}
	if away := r.away(); len(away) > 0 {
		fmt.Fprintln(w)
		if err := table(w, outageColumns, away, paint, ""); err != nil {
			return err
		}
	}
	if memory := r.remembered(); len(memory) > 0 {
		fmt.Fprintln(w)
		return table(w, memoryColumns, memory, paint, "")
	}
	return nil
}

// away returns the runs in which the store was.
func (r *Report) away() (runs []Run) {
	for _, run := range r.Runs {
		if run.Trouble != nil {
			runs = append(runs, run)
		}
	}
	return runs
}

// table writes one. Without a head for the designs it leaves them out.
func table(w io.Writer, columns []column, runs []Run, paint func(string) string, head string) error {
	designs, scenarios := len(head), len("scenario")
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = max(len(c.head[0]), len(c.head[1]))
		for _, run := range runs {
			widths[i] = max(widths[i], len(c.text(run)))
		}
	}
	kinds := map[string]bool{}
	for _, run := range runs {
		if scenarios = max(scenarios, len(run.Scenario)); head != "" {
			designs = max(designs, len(run.Design))
		}
		kinds[run.Scenario] = true
	}
	total := designs + 1 + scenarios
	for _, n := range widths {
		total += n
	}
	gap := strings.Repeat(" ", min(2, max(1, (Width-total)/len(columns))))

	var b strings.Builder
	line := func(design, scenario string, cell func(int, column) string) {
		if head != "" {
			fmt.Fprintf(&b, "%-*s ", designs, design)
		}
		fmt.Fprintf(&b, "%-*s", scenarios, scenario)
		for i, c := range columns {
			b.WriteString(gap)
			b.WriteString(cell(i, c))
		}
		b.WriteByte('\n')
	}
	right := func(i int, s string) string {
		return strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s)) + s
	}
	line("", "", func(i int, c column) string { return right(i, c.head[0]) })
	line(head, "scenario", func(i int, c column) string { return right(i, c.head[1]) })
	last := ""
	for _, run := range runs {
		if last != "" && last != run.Design && len(kinds) > 1 {
			b.WriteByte('\n')
		}
		last = run.Design
		line(run.Design, run.Scenario, func(i int, c column) string {
			cell := right(i, c.text(run))
			if paint != nil && c.wrong(run) {
				cell = paint(cell)
			}
			return cell
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Wrap breaks a sentence into lines of at most Width columns, the later ones
// indented.
func Wrap(text, indent string) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > Width:
			b.WriteString("\n" + indent)
			at = len(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
