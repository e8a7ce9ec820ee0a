package sealed

import (
	"context"
	"crypto/fips140"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
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

// Keys are read by whoever audits the program: nothing but the standard library
// is behind them, and nothing of roam.
func TestImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	if got, want := strings.Join(strings.Fields(string(out)), " "), "github.com/roam-web/roam/sealed"; got != want {
		t.Errorf("the package depends on %s, want nothing but itself, %s", got, want)
	}
}

// bubble is for tests that let hours pass and draw random bytes meanwhile.
func bubble(t *testing.T, f func(*testing.T)) {
	if fips140.Enabled() {
		t.Skip("Go's FIPS 140-3 module gets its randomness from how long things take, and in a bubble nothing takes any time")
	}
	synctest.Test(t, f)
}

// these provides keys that a test holds.
func these(keys ...Key) Provider {
	return ProviderFunc(func(context.Context) ([]Key, error) { return keys, nil })
}

// ago returns a key that has sealed for a time.
func ago(d time.Duration) Key { return NewKey(time.Now().Add(-d)) }

func open(t testing.TB, keys Provider, opts *Options) *Keyring {
	t.Helper()
	k, err := New(t.Context(), keys, opts)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return k
}

// keyFile makes a key file and returns its path and the ID of its key.
func keyFile(t testing.TB) (path string, id ID) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	list, err := Create(path)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return path, list[0].ID
}
