package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Open opens the sessions in the database of the URL, or of a string of
// keywords and values such as "host=db1 dbname=shop". It may name several
// hosts, of which the one is used that can be written to:
//
//	postgres://shop:secret@db1,db2:5433/shop?sslmode=verify-full
//
// The tables must be there, see [Init]. If they are not, or if a server refuses
// the user or the database, Open returns an error. That no server can be
// reached is none: a web server must be able to start during an outage. Then
// all methods fail with [roam.ErrUnavailable] until one answers. ctx bounds
// Open only, which waits at most twice Options.Timeout for the first answers.
//
// Open starts a goroutine for each host, which [Store.Close] ends, as any pool
// of connections does: they find out that a server has died or was replaced
// before a visitor has to.
func Open(ctx context.Context, dsn string, opts *Options) (*Store, error) {
	s, err := newStore(dsn, opts)
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.Background())
	s.stop = stop
	for _, h := range slices.Concat(s.hosts, s.replicas) {
		s.probers.Go(func() { h.watch(watching) })
	}
	if err := s.first(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("postgresstore: open: %w", err)
	}
	return s, nil
}

func newStore(dsn string, opts *Options) (*Store, error) {
	resolved, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgresstore: open: %w", err)
	}
	s := &Store{opts: resolved, news: make(chan struct{}, 1)}
	if err := s.parameters(cfg); err != nil {
		return nil, fmt.Errorf("postgresstore: open: %w", err)
	}
	s.hosts = s.split(cfg, false)
	if s.opts.Replicas != "" {
		cfg, err := parse(s.opts.Replicas)
		if err == nil {
			var ignored Store
			err = ignored.parameters(cfg)
		}
		if err != nil {
			return nil, fmt.Errorf("postgresstore: open: Options.Replicas: %w", err)
		}
		s.replicas = s.split(cfg, true)
		s.opts.Replicas = "" // there is a password in it
	}
	if s.names, err = resolved.names(cfg.RuntimeParams["search_path"]); err != nil {
		return nil, err
	}
	s.statements = s.names.statements()
	s.lookups = lanes[lookup]{fly: s.look, width: widthFor, most: s.opts.MaxConns, patience: patience}
	s.changes = lanes[change]{fly: s.change, width: widthFor, size: (*change).size, most: s.opts.MaxConns, patience: patience}
	return s, nil
}

// parse reads a URL or a string of keywords. What it says of a wrong one does
// not repeat it: there may be a password in it, anywhere.
func parse(dsn string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		why := err.Error()
		if i := strings.LastIndex(why, "`: "); i >= 0 {
			why = why[i+len("`: "):]
		}
		why, _, _ = strings.Cut(why, " (")
		return nil, fmt.Errorf("the database URL cannot be read: %s: want postgres://user:password@host:5432/database, with special characters in the password percent-encoded", why)
	}
	return cfg, nil
}

// parameters takes from the URL what is for clients and not for the server.
func (s *Store) parameters(cfg *pgconn.Config) error {
	params := cfg.RuntimeParams
	if v, ok := params["pool_max_conns"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return fmt.Errorf("pool_max_conns=%q in the URL: want a number of connections, at least 1", v)
		}
		if s.opts.MaxConns == 0 {
			s.opts.MaxConns = n
		}
	}
	if s.opts.MaxConns == 0 {
		s.opts.MaxConns = defaultConns
	}
	switch mode := params["default_query_exec_mode"]; mode {
	case "", "cache_statement":
	case "cache_describe", "describe_exec", "exec":
		s.unnamed.Store(true)
	default:
		return fmt.Errorf("default_query_exec_mode=%s in the URL: want cache_statement, which is the default, or exec, for a pooler that shares connections", mode)
	}
	for _, ours := range []string{"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter",
		"pool_max_conn_idle_time", "pool_health_check_period", "pool_ping_timeout",
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity"} {
		delete(params, ours)
	}
	if params["application_name"] == "" {
		params["application_name"] = "roam"
	}
	cfg.ValidateConnect = nil // which host is used is for the probers to say
	return nil
}

// split makes a host of each one in the URL. For a host there may be two ways,
// with and without TLS.
func (s *Store) split(cfg *pgconn.Config, copy bool) (hosts []*host) {
	ways := append([]*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	for _, w := range ways {
		name := net.JoinHostPort(w.Host, strconv.Itoa(int(w.Port)))
		if i := slices.IndexFunc(hosts, func(h *host) bool { return h.name == name }); i >= 0 {
			hosts[i].cfg.Fallbacks = append(hosts[i].cfg.Fallbacks, w)
			continue
		}
		one := cfg.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = w.Host, w.Port, w.TLSConfig, nil
		hosts = append(hosts, &host{s: s, name: name, cfg: one, copy: copy, kick: make(chan struct{}, 1)})
	}
	return hosts
}

// first waits until a host is in use, or it is clear that none will be soon. It
// returns what an operator must put right.
func (s *Store) first(ctx context.Context) error {
	timeout := time.NewTimer(2 * s.opts.Timeout)
	defer timeout.Stop()
	for late := false; ; {
		if s.primary.Load() != nil {
			return nil
		}
		s.mu.Lock()
		all := true
		var wrong error
		for _, h := range s.hosts {
			all = all && h.tried && !errors.Is(h.err, errClaim)
			if wrong == nil && misconfigured(h.err) {
				wrong = fmt.Errorf("%s: %w%s", h.name, h.err, s.hint(h.err))
			}
		}
		s.mu.Unlock()
		if all || late {
			return wrong
		}
		select {
		case <-s.news:
		case <-timeout.C:
			late = true
		case <-ctx.Done():
			return unwritten(ctx.Err())
		}
	}
}

// misconfigured reports whether waiting will not help.
func misconfigured(err error) bool {
	if errors.Is(err, errVersion) {
		return true
	}
	switch state(err) {
	case "28P01", "28000", "3D000", "42P01", "3F000", "42883", "42703", "42501":
		return true
	}
	return false
}
