package storetest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails if a goroutine of ours outlives the tests. It waits a while,
// because one that has been told to stop needs a moment.
func TestMain(m *testing.M) {
	code := m.Run()
	for start := time.Now(); code == 0; time.Sleep(time.Millisecond) {
		left := ours()
		if len(left) == 0 {
			break
		}
		if time.Since(start) > 10*time.Second {
			fmt.Fprintf(os.Stderr, "%d goroutines outlive the tests:\n%s\n", len(left), strings.Join(left, "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

// ours returns the stacks of the goroutines that run code of this project,
// but for the one that asks.
func ours() (left []string) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, stack := range strings.Split(string(stacks), "\n\n")[1:] {
		if strings.Contains(stack, "roam-web/roam") {
			left = append(left, stack)
		}
	}
	return left
}
