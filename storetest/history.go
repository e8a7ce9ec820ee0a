package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/roam-web/roam"
)

// A call is one entry in the history of a session: what a client asked.
type call struct {
	session int
	method  string // Load, Insert, Update or End
	expect  uint64 // the version that an Update wants
	write   uint64 // the id of an Insert or Update
}

// An answer is what the client was told.
type answer struct {
	outcome outcome
	register
}

type outcome string

const (
	done     outcome = "done"
	conflict outcome = "conflict"
	notFound outcome = "not found"
	unknown  outcome = "unknown" // it may have been carried out, or may yet be
)

// A register is the state of a session as far as histories tell: Version 0 is
// no record.
type register struct {
	version uint64
	write   uint64 // the id of the last write
	ended   bool
}

// step is the law of one session as a state machine: whether a call may have
// this answer, and the state after it. A call of unknown outcome returns at
// the end of time: so the checker may place it wherever it explains what
// others saw, and if it was never carried out, last, where nobody sees it.
func step(s register, in call, out answer) (bool, register) {
	var can bool
	next := s
	switch in.method {
	case "Load":
		if out.outcome == notFound {
			return s.version == 0, s
		}
		return s.version != 0 && out.register == s, s
	case "Insert":
		can = s.version == 0
		next = register{version: 1, write: in.write}
	case "Update":
		can = s.version != 0 && s.version == in.expect && !s.ended
		next = register{version: s.version + 1, write: in.write}
	case "End":
		if s.version != 0 && !s.ended {
			next = register{version: s.version + 1, write: s.write, ended: true}
		}
		return true, next
	}
	switch {
	case out.outcome == conflict:
		return !can, s
	case out.outcome == done:
		return can && out.register == next, next
	case can:
		return true, next
	}
	return true, s
}

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(s, in, out any) (bool, any) { return step(s.(register), in.(call), out.(answer)) },
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		sessions := make(map[int][]porcupine.Operation)
		for _, op := range history {
			k := op.Input.(call).session
			sessions[k] = append(sessions[k], op)
		}
		parts := make([][]porcupine.Operation, 0, len(sessions))
		for _, part := range sessions {
			parts = append(parts, part)
		}
		return parts
	},
}

// linearizable fails unless each session's history could have happened one
// step at a time.
func (t *tester) linearizable(history []porcupine.Operation) {
	t.Helper()
	for _, part := range model.Partition(history) {
		switch porcupine.CheckOperationsTimeout(model, part, time.Minute) {
		case porcupine.Illegal:
			t.Errorf("no order of these steps explains their answers:\n%s", tell(part))
		case porcupine.Unknown:
			t.Errorf("no verdict within a minute on %d steps", len(part))
		}
	}
}

// tell writes a history, one step a line, in the order of their beginnings.
func tell(history []porcupine.Operation) string {
	history = slices.Clone(history)
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range history {
		in, out := op.Input.(call), op.Output.(answer)
		until := fmt.Sprint(time.Duration(op.Return))
		if op.Return == math.MaxInt64 {
			until = "?"
		}
		fmt.Fprintf(&b, "\tclient %d, %v to %s: %s", op.ClientId, time.Duration(op.Call), until, in.method)
		if in.method == "Update" {
			fmt.Fprintf(&b, " of version %d", in.expect)
		}
		if in.write != 0 {
			fmt.Fprintf(&b, ", write %d", in.write)
		}
		fmt.Fprintf(&b, ": %s", out.outcome)
		if out.register != (register{}) {
			fmt.Fprintf(&b, ", version %d of write %d, ended %v", out.version, out.write, out.ended)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// A chronicle is a history in the making.
type chronicle struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// note runs a call and writes down when it ran and what it was told. What is
// refused with ErrUnavailable has not happened, and is left out: if it has
// happened after all, the others' answers do not fit.
func (c *chronicle) note(client int, in call, do func() (roam.Record, error)) (roam.Record, error) {
	begin := time.Since(c.start)
	rec, err := do()
	end := time.Since(c.start)
	op := porcupine.Operation{ClientId: client, Input: in, Call: int64(begin), Return: int64(end)}
	out := answer{outcome: done}
	switch {
	case err == nil && in.method != "End":
		out.register = register{version: rec.Version, write: rec.Writes[0], ended: !rec.Ended.IsZero()}
	case err == nil:
	case errors.Is(err, roam.ErrConflict):
		out.outcome = conflict
	case errors.Is(err, roam.ErrNotFound):
		out.outcome = notFound
	case errors.Is(err, roam.ErrUnavailable), in.method == "Load":
		return rec, err
	default:
		out.outcome, op.Return = unknown, math.MaxInt64
	}
	op.Output = out
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
	return rec, err
}

// live plays a client's life: random steps on random sessions, the updates
// mostly with the version that it knows.
func (c *chronicle) live(ctx context.Context, client int, store roam.Store, sessions []roam.ID, steps int, r *rand.Rand) {
	known := make([]roam.Record, len(sessions))
	for i := range steps {
		k := r.IntN(len(sessions))
		in := call{session: k}
		rec := known[k]
		if rec.Version == 0 {
			rec = record("ann")
			rec.ID = sessions[k]
		}
		rec.Writes = rec.Writes.Push(uint64(client+1)*1e6 + uint64(i))
		var got roam.Record
		var err error
		switch n := r.IntN(100); {
		case n < 35:
			in.method = "Load"
			got, err = c.note(client, in, func() (roam.Record, error) { return store.Load(ctx, sessions[k], roam.Want{}) })
		case n < 45 || known[k].Version == 0:
			in.method, in.write = "Insert", rec.Writes[0]
			got, err = c.note(client, in, func() (roam.Record, error) { return store.Insert(ctx, rec) })
		case n < 96:
			if n < 50 { // never ahead: a repeated request must not succeed where the first one conflicted
				rec.Version -= uint64(r.IntN(2))
			}
			in.method, in.expect, in.write = "Update", rec.Version, rec.Writes[0]
			got, err = c.note(client, in, func() (roam.Record, error) { return store.Update(ctx, rec) })
		default:
			in.method = "End"
			c.note(client, in, func() (roam.Record, error) { return rec, store.End(ctx, sessions[k], roam.LoggedOut) })
			continue
		}
		if err == nil {
			known[k] = got
		}
	}
}

var historyLaws = []law{
	{"Histories/AreLinearizable", func(t *tester) {
		for round := range t.rounds(3) {
			t.chronicle(uint64(round), func(client int) roam.Store { return t.store })
		}
	}},

	{"Histories/AreLinearizableThroughFaults", func(t *tester) {
		for round := range t.rounds(3) {
			var mu sync.Mutex
			var nets []*Faulty
			t.chronicle(uint64(round), func(client int) roam.Store {
				net := &Faulty{Store: t.store, Faults: Faults{Seed: uint64(round*10 + client),
					Refused: .03, LostRequest: .03, LostAnswer: .04, Late: .04, Repeated: .05, Cancelled: .03}}
				mu.Lock()
				defer mu.Unlock()
				nets = append(nets, net)
				return net
			})
		}
	}},
}

// chronicle lets five clients live on eight sessions and judges their history.
func (t *tester) chronicle(seed uint64, connect func(client int) roam.Store) {
	t.Helper()
	c := &chronicle{start: time.Now()}
	sessions := make([]roam.ID, 8)
	for i := range sessions {
		sessions[i] = newID()
	}
	each(5, func(client int) {
		c.live(t.Context(), client, connect(client), sessions, 50, rand.New(rand.NewPCG(seed, uint64(client))))
	})
	t.linearizable(c.ops)
}
