package storetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func openMemory(testing.TB) roam.Store { return roam.NewMemStore() }

func TestMemStoreKeepsTheLaw(t *testing.T) { Run(t, openMemory) }

// A web server with a wrong clock sees a store that keeps the law, by a clock
// that is wrong all the same: no law compares two machines' clocks.
func TestTheLawKnowsTheStoresClockOnly(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return &Skewed{Store: roam.NewMemStore(), By: -1000 * time.Hour} })
}

// A recorder is the trial of a law on a mutant.
type recorder struct {
	ctx    context.Context
	mu     sync.Mutex
	errors []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Logf(string, ...any)      {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errors) > 0
}

// try checks a law on a store and returns what it found.
func try(t *testing.T, l law, store roam.Store) []string {
	r := &recorder{ctx: t.Context()}
	done := make(chan struct{})
	go func() { // a goroutine that Fatalf can end
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		l.check(&tester{trial: r, store: store, patience: 100 * time.Millisecond})
	}()
	<-done
	return r.errors
}

// Each bug that somebody could build into a store is caught by some law, and
// the table says by which.
func TestEveryBugIsCaught(t *testing.T) {
	for _, bug := range bugs {
		t.Run(bug, func(t *testing.T) {
			var caught []string
			for _, l := range laws() {
				if len(caught) > 0 && strings.HasPrefix(l.name, "Sessions/") || len(caught) > 8 {
					break // enough has been said, by the laws that point at the step
				}
				if found := try(t, l, newMutant(bug)); len(found) > 0 {
					caught = append(caught, l.name)
				}
			}
			if len(caught) == 0 {
				t.Errorf("no law catches a store in which %q", bug)
				return
			}
			t.Logf("caught by %d: %s", len(caught), strings.Join(caught, ", "))
		})
	}
}

// The control: without a bug the mutant keeps the law, so what is caught in
// the others is their bug.
func TestTheSoundMutantKeepsTheLaw(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return newMutant("") })
}
