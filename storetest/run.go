package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// Run checks every law on stores from open, which returns a new, empty store
// each time and closes it with tb.Cleanup.
func Run(t *testing.T, open func(tb testing.TB) roam.Store) {
	for _, l := range laws() {
		t.Run(l.name, func(t *testing.T) { l.check(newTester(t, open(t))) })
	}
}

// A law is one thing that every store does. check has an empty store.
type law struct {
	name  string
	check func(t *tester)
}

// laws returns them all, those that cost little first.
func laws() []law {
	return slices.Concat(
		loadLaws, insertLaws, updateLaws, touchLaws, endLaws, endUserLaws, listLaws, allLaws, pruneLaws, endsLaws,
		answerLaws, cancelledLaws, lostAnswerLaws, concurrentLaws, historyLaws, randomLaws, sessionLaws)
}

func newTester(t trial, store roam.Store) *tester {
	return &tester{trial: t, store: store, patience: 10 * time.Second, short: testing.Short()}
}

// A trial is what a law reports to: a *testing.T, or in the tests of the laws
// themselves a record of what they found in a store that breaks them.
type trial interface {
	Helper()
	Failed() bool
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any) // only from the goroutine of the law
}
