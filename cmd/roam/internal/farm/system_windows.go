package farm

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }
