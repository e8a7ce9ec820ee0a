package roam_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // the fuzzer keeps goroutines of its own
	if code == 0 && !fuzzing {
		for deadline := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > 1; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", buf[:runtime.Stack(buf, true)])
				code = 1
				break
			}
		}
	}
	os.Exit(code)
}

// The core imports the standard library only.
func TestImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".", "./roamtest", "./graceful").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for path := range strings.Lines(string(out)) {
		if path = strings.TrimSpace(path); path != "" && !strings.HasPrefix(path, "github.com/roam-web/roam") {
			t.Errorf("the core depends on %s", path)
		}
	}
}

// The README's handler is the package example, which the compiler has seen.
func TestREADMEQuotesTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(examples), "func Example() {\n\tmux := http.NewServeMux()\n")
	body, _, _ = strings.Cut(body, "\n}\n")
	var quoted strings.Builder
	for line := range strings.Lines(body) {
		quoted.WriteString(strings.TrimPrefix(line, "\t"))
	}
	if quoted.Len() == 0 || !strings.Contains(string(readme), quoted.String()) {
		t.Errorf("README.md does not have the body of Example:\n%s", quoted.String())
	}
}
