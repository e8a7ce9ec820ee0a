package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// A console is a log for somebody who watches, at first only of what is wrong:
//
//	15:04:05 web1: server ended by itself and stays down until it is started (pid 71, exit signal: killed)
type console struct {
	level *slog.LevelVar
	out   io.Writer
	mu    *sync.Mutex
	attrs []slog.Attr
}

func newConsole(out io.Writer) *console {
	c := &console{level: new(slog.LevelVar), out: out, mu: new(sync.Mutex)}
	c.level.Set(slog.LevelWarn)
	return c
}

// Enabled implements [slog.Handler].
func (c *console) Enabled(_ context.Context, level slog.Level) bool {
	return level >= c.level.Level()
}

// Handle implements [slog.Handler].
func (c *console) Handle(_ context.Context, r slog.Record) error {
	server, rest := "", []string{}
	add := func(a slog.Attr) bool {
		if a.Key == "server" {
			server = a.Value.String() + ": "
		} else {
			rest = append(rest, a.Key+" "+a.Value.String())
		}
		return true
	}
	for _, a := range c.attrs {
		add(a)
	}
	r.Attrs(add)
	line := server + r.Message
	if len(rest) > 0 {
		line += " (" + strings.Join(rest, ", ") + ")"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := fmt.Fprintf(c.out, "%s %s\n", r.Time.Format("15:04:05"), line)
	return err
}

// WithAttrs implements [slog.Handler].
func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &console{c.level, c.out, c.mu, append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)}
}

// WithGroup implements [slog.Handler]. No part of a farm groups what it logs.
func (c *console) WithGroup(string) slog.Handler { return c }
