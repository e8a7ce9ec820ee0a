package farm

import (
	"os/exec"
	"runtime"
)

// A nursery starts processes from one thread that lives as long as it does.
// Linux tells a child of the death of the thread that started it, not of the
// process (prctl(2), PR_SET_PDEATHSIG; golang/go#27505), and Go ends threads
// that a goroutine has locked and not unlocked: without a thread of its own, a
// healthy server could be killed for no reason that anybody would find.
type nursery struct {
	cmds chan *exec.Cmd
	errs chan error
}

func newNursery() *nursery {
	n := &nursery{make(chan *exec.Cmd), make(chan error)}
	go func() {
		runtime.LockOSThread()
		for cmd := range n.cmds {
			n.errs <- cmd.Start()
		}
	}()
	return n
}

// start is cmd.Start. It may be called concurrently.
func (n *nursery) start(cmd *exec.Cmd) error {
	n.cmds <- cmd
	return <-n.errs
}

// close ends the thread. All processes must have ended.
func (n *nursery) close() { close(n.cmds) }
