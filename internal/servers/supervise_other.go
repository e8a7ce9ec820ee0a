//go:build !linux

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// spawn fails, so that nothing below is ever called.
func spawn() (*exec.Cmd, error) {
	return nil, fmt.Errorf("servers to break are started on Linux only and this is %s; use a Linux machine or container: %w", runtime.GOOS, ErrMissing)
}

func freeze(int) []int                        { return nil }
func thaw(int)                                {}
func kill(int)                                {}
func signalProcess(int, syscall.Signal) error { return nil }
func removeSharedMemory(int)                  {}
func ownerOf(os.FileInfo) (uid, gid uint32)   { return 0, 0 }
