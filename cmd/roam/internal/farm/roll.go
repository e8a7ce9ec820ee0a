package farm

import (
	"context"
	"errors"
	"fmt"
)

// Roll replaces the process of every server, one after the other, as one does
// to patch and reboot each machine, and loses no request:
//
//	drain, wait until empty, SIGTERM, wait for the end, start, wait until ready, undrain
//
// It calls each, if not nil, with a line for people before every step. A server
// that is down is started, and one that the operator has drained stays drained.
//
// If a step fails, Roll stops there, so that a bad new version takes one
// server and not all of them. It refuses to go on when no other server would
// be left to answer. If ctx ends, the server whose turn it is is completed, or
// put back into rotation if it was still draining.
func (f *Farm) Roll(ctx context.Context, each func(step string)) error {
	if !f.rolling.TryLock() {
		return errors.New("another roll is going on")
	}
	defer f.rolling.Unlock()
	if each == nil {
		each = func(string) {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(f.ctx, func() { cancel(context.Cause(f.ctx)) })
	defer stop()
	for i, s := range f.servers {
		say := func(format string, args ...any) {
			each(fmt.Sprintf("[%d/%d] %s: %s", i+1, len(f.servers), s.name, fmt.Sprintf(format, args...)))
		}
		if err := f.replace(ctx, s, say); err != nil {
			return fmt.Errorf("the roll stopped at %s: %w", s.name, err)
		}
	}
	return nil
}

// replace is one server's part of a roll.
func (f *Farm) replace(ctx context.Context, s *server, say func(format string, args ...any)) error {
	release, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer release()

	before := Server{}
	others := 0
	for _, v := range f.Status() {
		switch {
		case v.Name == s.name:
			before = v
		case v.State == Up:
			others++
		}
	}
	keep := before.State == Draining || before.State == Drained
	if before.State == Up && others == 0 {
		return errors.New("no other server is up, so its requests would have nowhere to go")
	}

	if p := f.process(s); p != nil {
		say("draining, %d in flight", before.InFlight)
		if err := f.Drain(ctx, s.name); err != nil {
			if !keep {
				f.Undrain(s.name)
			}
			return err
		}
		ctx = context.WithoutCancel(ctx)
		say("empty, stopping pid %d", p.cmd.Process.Pid)
		if err := f.halt(ctx, s, p); err != nil {
			return err
		}
		say("stopped (%v), starting", p.cmd.ProcessState)
	} else {
		say("was down, starting")
	}
	if err := f.relaunch(ctx, s); err != nil {
		return err
	}
	if keep {
		say("ready as before, pid %d, and drained as before", f.pid(s))
		return nil
	}
	if err := f.Undrain(s.name); err != nil {
		return err
	}
	say("up again, pid %d", f.pid(s))
	return nil
}

func (f *Farm) pid(s *server) int {
	if p := f.process(s); p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}
