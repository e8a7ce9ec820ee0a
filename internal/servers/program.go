package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// program returns the path of a program: in the folder bin, or if that is "" in
// PATH or else in the folder where its package puts it.
func program(bin, folder, name, install string) (string, error) {
	names := []string{name, filepath.Join(folder, name)}
	if bin != "" {
		names = []string{filepath.Join(bin, name)}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is not to be found as %s; %s: %w", name, strings.Join(names, " or "), install, ErrMissing)
}
