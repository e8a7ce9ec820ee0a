package storetest

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// The checker itself must be able to say no.
func TestHistoriesThatCouldNotHappen(t *testing.T) {
	load := call{method: "Load"}
	insert := func(w uint64) call { return call{method: "Insert", write: w} }
	update := func(expect, w uint64) call { return call{method: "Update", expect: expect, write: w} }
	end := call{method: "End"}
	at := func(version, write uint64) answer { return answer{done, register{version: version, write: write}} }
	dead := func(version, write uint64) answer { return answer{done, register{version, write, true}} }
	// Each step begins after the one before it has returned, but for those
	// of unknown outcome, which never return.
	for name, tt := range map[string]struct {
		steps []any
		want  bool
	}{
		"one after the other":         {[]any{load, answer{outcome: notFound}, insert(1), at(1, 1), update(1, 2), at(2, 2), load, at(2, 2), end, answer{outcome: done}, load, dead(3, 2), update(3, 3), answer{outcome: conflict}}, true},
		"an insert is lost":           {[]any{insert(1), at(1, 1), load, answer{outcome: notFound}}, false},
		"two inserts of one ID":       {[]any{insert(1), at(1, 1), insert(2), at(1, 2)}, false},
		"an insert conflicts alone":   {[]any{insert(1), answer{outcome: conflict}}, false},
		"an update is lost":           {[]any{insert(1), at(1, 1), update(1, 2), at(2, 2), update(1, 3), at(2, 3)}, false},
		"a read is stale":             {[]any{insert(1), at(1, 1), update(1, 2), at(2, 2), load, at(1, 1)}, false},
		"a read sees another's write": {[]any{insert(1), at(1, 1), update(1, 2), at(2, 2), load, at(2, 9)}, false},
		"an update upserts":           {[]any{update(1, 1), at(2, 1)}, false},
		"an update conflicts alone":   {[]any{insert(1), at(1, 1), update(1, 2), answer{outcome: conflict}}, false},
		"a refused update landed":     {[]any{insert(1), at(1, 1), load, at(2, 2)}, false},
		"an end is forgotten":         {[]any{insert(1), at(1, 1), end, answer{outcome: done}, load, at(1, 1)}, false},
		"the dead come back":          {[]any{insert(1), at(1, 1), end, answer{outcome: done}, update(2, 2), at(3, 2)}, false},
		"an unknown update landed":    {[]any{insert(1), at(1, 1), update(1, 2), answer{outcome: unknown}, load, at(2, 2)}, true},
		"an unknown update did not":   {[]any{insert(1), at(1, 1), update(1, 2), answer{outcome: unknown}, load, at(1, 1), update(1, 3), at(2, 3), load, at(2, 3)}, true},
		"an unknown update is late":   {[]any{insert(1), at(1, 1), update(1, 2), answer{outcome: unknown}, load, at(1, 1), load, at(2, 2)}, true},
		"an unknown update goes back": {[]any{insert(1), at(1, 1), update(1, 2), answer{outcome: unknown}, load, at(2, 2), load, at(1, 1)}, false},
		"an unknown end ended":        {[]any{insert(1), at(1, 1), end, answer{outcome: unknown}, load, dead(2, 1)}, true},
		"an unknown insert twice":     {[]any{insert(1), answer{outcome: unknown}, load, at(1, 1), load, answer{outcome: notFound}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var history []porcupine.Operation
			for i := 0; i < len(tt.steps); i += 2 {
				op := porcupine.Operation{ClientId: i, Input: tt.steps[i], Output: tt.steps[i+1], Call: int64(10 * i), Return: int64(10*i + 5)}
				if tt.steps[i+1].(answer).outcome == unknown {
					op.Return = math.MaxInt64
				}
				history = append(history, op)
			}
			if got := porcupine.CheckOperations(model, history); got != tt.want {
				t.Errorf("possible: %v, want %v:\n%s", got, tt.want, tell(history))
			}
		})
	}
}
