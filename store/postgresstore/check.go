package postgresstore

import (
	"context"
	"errors"
	"fmt"
)

// Check reports whether the primary can be reached and has the tables, and what
// is set in a way that loses what was acknowledged, with what to do about it. A
// server that runs well gets nil; what it finds may also be as you want it.
func (s *Store) Check(ctx context.Context) error {
	var found []error
	add := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }
	p, err := s.call(ctx, kindRead, settings, func(*args) { found = nil }, func(p *primary, v [][]byte) error {
		if n := number(v[0]); n < 140000 {
			add("the server is PostgreSQL %d: want 14 or newer", n/10000)
		}
		if string(v[1]) != "UTF8" {
			add("the database's encoding is %s: make a new one with UTF8, or names in other scripts cannot be stored", v[1])
		}
		if v[2][0] == 0 {
			add("fsync is off: a crash of the machine can destroy the database: turn it on")
		}
		if v[3][0] == 0 {
			add("full_page_writes is off: a crash of the machine can destroy the database: turn it on")
		}
		if v[4][0] == 0 {
			add("autovacuum is off: the tables will grow without end: turn it on")
		}
		switch mode, standbys := string(v[5]), string(v[6]); {
		case mode == "off":
			add("synchronous_commit is off for this role: the last moments before a crash are lost, logouts too: set it to on")
		case standbys != "" && (mode == "local" || mode == "remote_write"):
			add("synchronous_commit is %s although synchronous_standby_names is %q: what was acknowledged can be lost in a failover: set it to on", mode, standbys)
		}
		if n := number(v[7]); int64(s.opts.MaxConns) > n {
			add("Options.MaxConns is %d and the server takes %d connections: lower the one or raise max_connections", s.opts.MaxConns, n)
		}
		return p.sure(v[8])
	})
	if err != nil {
		return s.explain("check", err)
	}
	s.mu.Lock()
	for _, h := range s.hosts {
		switch {
		case h == p.host || h.err == nil || errors.Is(h.err, errStandby):
		case h.fenced:
			add("%s: %v: it can still be written to: stop it, and make it a standby", h.name, h.err)
		default:
			add("%s: %w%s", h.name, h.err, s.hint(h.err))
		}
	}
	for _, h := range s.replicas {
		switch {
		case h.err != nil:
			add("read replica %s: %w%s", h.name, h.err, s.hint(h.err))
		case h.said.system != p.system:
			add("read replica %s: it is of another database than the primary", h.name)
		}
	}
	s.mu.Unlock()
	if len(found) > 0 {
		return fmt.Errorf("postgresstore: check: %w", errors.Join(found...))
	}
	return nil
}
