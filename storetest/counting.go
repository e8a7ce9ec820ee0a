package storetest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A Counting is a store that counts the calls of another by method. With it a
// test can say what a page costs:
//
//	store := &storetest.Counting{Store: roam.NewMemStore()}
//	…
//	if n := store.Calls(); n != 0 {
//		t.Errorf("a page without a session made %d calls: %v", n, store)
//	}
type Counting struct {
	Store roam.Store

	mu    sync.Mutex
	calls map[string]int
}

// Calls returns how often the named methods were called, or all of them if
// none is named.
func (c *Counting) Calls(methods ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for method, k := range c.calls {
		if len(methods) == 0 || slices.Contains(methods, method) {
			n += k
		}
	}
	return n
}

// Reset starts again from zero.
func (c *Counting) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.calls)
}

// String lists the methods that were called, and how often.
func (c *Counting) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ""
	for _, method := range slices.Sorted(maps.Keys(c.calls)) {
		s += fmt.Sprintf(" %s %d", method, c.calls[method])
	}
	if s == "" {
		return "no calls"
	}
	return s[1:]
}

func (c *Counting) count(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = make(map[string]int)
	}
	c.calls[method]++
}

// Load implements [roam.Store].
func (c *Counting) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	c.count("Load")
	return c.Store.Load(ctx, id, want)
}

// Insert implements [roam.Store].
func (c *Counting) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	c.count("Insert")
	return c.Store.Insert(ctx, rec)
}

// Update implements [roam.Store].
func (c *Counting) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	c.count("Update")
	return c.Store.Update(ctx, rec)
}

// Touch implements [roam.Store].
func (c *Counting) Touch(ctx context.Context, seen []roam.Touch) error {
	c.count("Touch")
	return c.Store.Touch(ctx, seen)
}

// End implements [roam.Store].
func (c *Counting) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	c.count("End")
	return c.Store.End(ctx, id, why)
}

// EndUser implements [roam.Store].
func (c *Counting) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	c.count("EndUser")
	return c.Store.EndUser(ctx, user, why, except...)
}

// Ends implements [roam.Store].
func (c *Counting) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	c.count("Ends")
	return c.Store.Ends(ctx, after)
}

// List implements [roam.Store]. It counts when the list is read.
func (c *Counting) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		c.count("List")
		c.Store.List(ctx, user)(yield)
	}
}

// All implements [roam.Store]. It counts when the records are read.
func (c *Counting) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	return func(yield func(roam.Record, error) bool) {
		c.count("All")
		c.Store.All(ctx)(yield)
	}
}

// Prune implements [roam.Store].
func (c *Counting) Prune(ctx context.Context, keep time.Duration, max int) (int, error) {
	c.count("Prune")
	return c.Store.Prune(ctx, keep, max)
}
