package sealed

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The package works where nothing but FIPS 140-3 approved cryptography is allowed,
// and passes its vectors there.
func TestR034FIPS140Only(t *testing.T) {
	const mode = "fips140=only"
	if strings.Contains(os.Getenv("GODEBUG"), mode) {
		return // this is that run
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG="+mode)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("GODEBUG=%s: %v\n%s", mode, err, out)
	}
}
