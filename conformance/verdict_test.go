package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/roam-web/roam"
)

// A verdict is what the notes of a farm and the records that are left say.
type verdict struct {
	acked, unknown, refused int

	lost      int // acknowledged writes that are not in the data of a living session
	explained int // those of them that the new primary had not heard of when it took over
	doubled   int // writes that are there twice
	ghosts    int // writes that are there although nothing was to be written
	miscount  int // sessions whose data and version do not agree
	strange   int // sessions that nobody started
	loggedOut int // answers that a living session is over, and living sessions that are
	served    int // answers that an ended session lives, after the bound, and ended sessions that do

	// excused are those who lost their login in a failover; late is how long
	// after an end the last answer came that the session lives.
	excused int
	late    time.Duration

	illegal int // histories that could not happen
	checked int // steps of histories that were checked
	odd     []error
	ends    int // acknowledged
	says    []string
}

// Circumstances are what a verdict depends on besides.
type circumstances struct {
	// In a failover that loses writes, survived has the versions that the new
	// primary has, taken over at promoted; settled is when all servers have
	// served from it.
	survived          map[roam.ID]int
	promoted, settled time.Time
}

// identifyBound is the promise of Manager.Identify with a log that cannot be
// read.
const identifyBound = 5 * time.Second

// loses reports whether a write with this version and time was lost in the
// failover.
func (c *circumstances) loses(id roam.ID, n int, at time.Time) bool {
	return c.survived != nil && n > c.survived[id] && at.Before(c.promoted)
}

func (d *verdict) say(format string, args ...any) {
	if len(d.says) < 20 {
		d.says = append(d.says, fmt.Sprintf(format, args...))
	}
}

// judge compares what was told with what is there.
func (f *farm) judge(records map[roam.ID]roam.Record, c circumstances) (d verdict) {
	held := make(map[roam.ID]map[int64]int) // how often each item is there
	for id, rec := range records {
		var l ledger
		if rec.Data == nil {
			continue
		}
		if err := json.Unmarshal(rec.Data, &l); err != nil {
			d.odd = append(d.odd, err)
			continue
		}
		count := make(map[int64]int)
		for _, item := range l.Items {
			count[item]++
		}
		held[id] = count
		if l.N != len(l.Items) || uint64(l.N) != rec.Version {
			d.miscount++
			d.say("session %v has %d items, counts %d and is at version %d", id, len(l.Items), l.N, rec.Version)
		}
	}
	var history []step
	unstarted := 0
	for _, n := range f.notes {
		for _, w := range n.writes {
			v := f.all[w.id]
			k := held[w.id][w.item]
			if k > 1 {
				d.doubled++
				d.say("item %d is in session %v %d times", w.item, w.id, k)
			}
			switch w.outcome {
			case acked:
				d.acked++
				if !v.endBegun && k == 0 { // the data of an ended session is gone
					d.lost++
					if c.loses(w.id, w.n, w.at) {
						d.explained++
					} else {
						d.say("item %d, acknowledged as version %d %v after the start, is not in session %v", w.item, w.n, w.at.Sub(f.start), w.id)
					}
				}
			case unknown:
				d.unknown++
			case refused:
				d.refused++
				if k > 0 {
					d.ghosts++
					d.say("item %d was refused and is in session %v", w.item, w.id)
				}
			}
		}
		for _, a := range n.away {
			if c.loses(a.v.id, a.login, a.loginAt) {
				d.excused++
				continue
			}
			d.loggedOut++
			d.say("session %v, %v after the start, login %v before: %v", a.v.id, a.at.Sub(f.start), a.at.Sub(a.loginAt), a.err)
		}
		for _, a := range n.alive {
			d.late = max(d.late, a.begin.Sub(a.ended))
			since := a.ended
			if c.survived != nil && a.ended.Before(c.promoted) && !a.begin.Before(c.promoted) && since.Before(c.settled) {
				since = c.settled // by then every server has asserted again what it knows
			}
			bound := time.Duration(0)
			if a.recall {
				bound = identifyBound
			}
			if a.begin.Sub(since) > bound {
				d.served++
				d.say("%s: session %v lives %v after its end, %v after the start", a.what, a.v.id, a.begin.Sub(a.ended), a.begin.Sub(f.start))
			}
		}
		history = append(history, n.history...)
		unstarted += n.unstarted
		d.odd = append(d.odd, n.odd...)
	}
	for id, v := range f.all {
		rec, there := records[id]
		switch {
		case !v.endAcked.IsZero():
			d.ends++
			if there && rec.Ended.IsZero() && !c.loses(id, v.login, v.loginAt) {
				d.served++
				d.say("session %v was ended %v after the start and lives", id, v.endAcked.Sub(f.start))
			}
		case v.endBegun:
		case !there || !rec.Ended.IsZero():
			if c.loses(id, 1, v.loginAt) || there && c.loses(id, v.login, v.loginAt) {
				d.excused++
				break
			}
			d.loggedOut++
			d.say("session %v is there: %v, ended %q, and nobody had ended it", id, there, rec.Why)
		}
	}
	for id := range records {
		if f.all[id] == nil {
			d.strange++
		}
	}
	d.strange -= min(d.strange, unstarted)
	d.illegal, d.checked = f.illegal(history, held, &d)
	return d
}

// faults returns what a store must never do, one line each.
func (d *verdict) faults() (found []string) {
	count := func(n int, what string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(d.lost-d.explained, "acknowledged writes lost")
	count(d.illegal, "histories that could not happen")
	count(d.doubled, "writes done twice")
	count(d.ghosts, "refused writes done")
	count(d.miscount, "sessions whose data and version do not agree")
	count(d.strange, "sessions that nobody started")
	count(d.loggedOut, "living sessions answered as over")
	count(d.served, "ended sessions answered as alive")
	count(len(d.odd), "errors that are no answer")
	for _, err := range d.odd[:min(len(d.odd), 3)] {
		found = append(found, "\t"+err.Error())
	}
	return found
}

// condemn fails the test for what is in the verdict.
func (d *verdict) condemn(t testing.TB) {
	t.Helper()
	if found := d.faults(); len(found) > 0 {
		t.Errorf("%s\n%s", strings.Join(found, "\n"), strings.Join(d.says, "\n"))
	}
}

// A step is one call in the history of a session that many use at once. The
// session is a list to which items are added.
type step struct {
	client     int
	id         roam.ID
	item       int64 // 0 for a read
	outcome    outcome
	state      state // as it was after the step, if it was acknowledged
	begin, end time.Duration
}

// A state stands for a list of items.
type state struct {
	n   int
	sum uint64
}

func (s state) add(item int64) state {
	return state{s.n + 1, (s.sum ^ uint64(item)) * 0x9E3779B97F4A7C15}
}

func stateOf(items []int64) (s state) {
	for _, item := range items {
		s = s.add(item)
	}
	return s
}

// list is the law of such a session. A write of unknown outcome returns at the
// end of time.
var list = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		now, st := s.(state), out.(step)
		if in.(int64) == 0 {
			return st.state == now, now
		}
		next := now.add(in.(int64))
		return st.outcome == unknown || st.state == next, next
	},
}

// illegal returns how many sessions have a history that no order of its steps
// explains. Writes of unknown outcome of which nothing is there at the end are
// not part of it: had one of them been seen, that would be a loss.
func (f *farm) illegal(history []step, held map[roam.ID]map[int64]int, d *verdict) (n, steps int) {
	by := make(map[roam.ID][]porcupine.Operation)
	for _, st := range history {
		if st.outcome == unknown && held[st.id][st.item] == 0 {
			continue
		}
		op := porcupine.Operation{ClientId: st.client, Input: st.item, Output: st, Call: int64(st.begin), Return: int64(st.end)}
		if st.outcome == unknown {
			op.Return = math.MaxInt64
		}
		by[st.id] = append(by[st.id], op)
	}
	for _, v := range f.hot { // the login that started it
		ops := by[v.id]
		var first int64
		for _, w := range f.notes[0].writes {
			if w.id == v.id && w.n == 1 {
				first = w.item
			}
		}
		ops = append(ops, porcupine.Operation{ClientId: workers, Input: first, Output: step{state: state{}.add(first)}, Call: -2, Return: -1})
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		steps += len(ops)
		switch porcupine.CheckOperationsTimeout(list, ops, time.Minute) {
		case porcupine.Illegal:
			n++
			d.say("the %d steps of session %v are in no possible order", len(ops), v.id)
		case porcupine.Unknown:
			d.odd = append(d.odd, errors.New("no verdict on a history within a minute"))
		}
	}
	return n, steps
}
