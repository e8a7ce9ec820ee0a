package balancer

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is a number of strict clients that send requests one after the other.
type load struct {
	answered atomic.Int64
	stop     atomic.Bool
	workers  sync.WaitGroup

	mu      sync.Mutex
	results []result
}

// A result is one request as its client saw it.
type result struct {
	method       string
	id           string
	begun, ended time.Time
	status       int
	err          error
}

func (r result) ok() bool { return r.err == nil && r.status == 200 }

func (r result) String() string {
	return fmt.Sprintf("%s %s: status %d, error %v", r.method, r.id, r.status, r.err)
}

// startLoad lets clients send each method. The caller ends it with wait.
func startLoad(t *testing.T, address string, clients int, methods ...string) *load {
	l := new(load)
	for i := range clients {
		for _, method := range methods {
			c := newClient(t, address)
			l.workers.Go(func() {
				for n := 0; !l.stop.Load(); n++ {
					r := result{method: method, id: fmt.Sprintf("%s-%d-%d", method, i, n), begun: time.Now()}
					body := ""
					if method == "POST" {
						body = strings.Repeat("x", 100)
					}
					var ans reply
					ans, r.err = c.try(method, "/buy?id="+r.id, body)
					r.status = ans.status
					r.ended = time.Now()
					l.mu.Lock()
					l.results = append(l.results, r)
					l.mu.Unlock()
					l.answered.Add(1)
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
	}
	t.Cleanup(func() { l.wait() })
	return l
}

// more waits for n more answers.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	n += l.answered.Load()
	eventually(t, "more answers", func() bool { return l.answered.Load() >= n })
}

// wait ends the load and returns all results.
func (l *load) wait() []result {
	l.stop.Store(true)
	l.workers.Wait()
	return l.results
}

// noneFailed is what a planned change must look like from outside.
func noneFailed(t *testing.T, results []result) {
	t.Helper()
	bad := 0
	for _, r := range results {
		if !r.ok() {
			if bad++; bad <= 5 {
				t.Error(r)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d requests failed", bad, len(results))
	}
	t.Logf("%d requests", len(results))
}

// executed reads how often each POST was begun by a child.
func executed(t *testing.T, posts string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(posts)
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[string]int)
	for _, id := range strings.Fields(string(text)) {
		times[id]++
	}
	return times
}

// onceEach checks that no POST ran twice and each answered one ran.
func onceEach(t *testing.T, posts string, results []result) {
	t.Helper()
	times := executed(t, posts)
	for id, n := range times {
		if n > 1 {
			t.Errorf("%s was executed %d times", id, n)
		}
	}
	for _, r := range results {
		if r.method == "POST" && r.ok() && times[r.id] == 0 {
			t.Errorf("%s was answered and not executed", r.id)
		}
	}
}
