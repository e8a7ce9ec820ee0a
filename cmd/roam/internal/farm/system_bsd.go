//go:build unix && !linux

package farm

import "syscall"

// attributes give a child its own process group, so that ^C in the terminal
// reaches the farm alone, which then stops its children in good order. That
// the farm has died they learn from their standard input; see Serve.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
