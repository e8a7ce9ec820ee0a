package sqlitestore

import (
	"runtime"
	"syscall"
	"testing"
)

// nobody is the user who owns nothing, on every Linux.
const nobody = 65534

// asNobody makes this goroutine access files as nobody, until the function that
// it returns is called. Only root can do that.
func asNobody(t *testing.T) (back func()) {
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	}
}
