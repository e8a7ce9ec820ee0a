//go:build unix

package sealed

import (
	"os"
	"syscall"
)

// keepOwner gives f the owner of the file that it will replace: an operator who
// is root edits the file of a server that is not.
func keepOwner(f *os.File, was os.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	old, ok := was.Sys().(*syscall.Stat_t)
	is, ok2 := info.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || old.Uid == is.Uid && old.Gid == is.Gid {
		return nil
	}
	return f.Chown(int(old.Uid), int(old.Gid))
}
