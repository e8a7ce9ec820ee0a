//go:build unix

package sqlitestore

import (
	"os"
	"syscall"
)

// takeAfter gives a file the mode and the owner of another, as far as it may.
func takeAfter(path, other string) {
	want, err := os.Stat(other)
	if err != nil {
		return
	}
	got, err := os.Stat(path)
	if err != nil {
		return
	}
	if got.Mode() != want.Mode() {
		os.Chmod(path, want.Mode())
	}
	w, ok := want.Sys().(*syscall.Stat_t)
	g, ok2 := got.Sys().(*syscall.Stat_t)
	if ok && ok2 && (w.Uid != g.Uid || w.Gid != g.Gid) {
		os.Chown(path, int(w.Uid), int(w.Gid))
	}
}
