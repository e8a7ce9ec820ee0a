package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/roam-web/roam/internal/servers"
	"github.com/roam-web/roam/sealed"
)

// stores are the servers that the sites keep their sessions in: private ones,
// started for this run.
type stores struct {
	dir      string
	postgres *servers.Postgres
	redis    *servers.Redis

	families map[string]family // by candidate.store
	versions []string
}

func openStores(ctx context.Context) (_ *stores, err error) {
	s := &stores{families: make(map[string]family)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "roam-bench-"); err != nil {
		return nil, err
	}
	if _, err = sealed.Create(filepath.Join(s.dir, "keys.json")); err != nil {
		return nil, err
	}
	// As installed, but for more connections: a commit is on the disk when it
	// returns.
	if s.postgres, err = servers.StartPostgres(ctx, &servers.PostgresOptions{Settings: map[string]string{"max_connections": "500", "shared_buffers": "128MB"}}); err != nil {
		return nil, err
	}
	if s.redis, err = servers.StartRedis(ctx, nil); err != nil {
		return nil, err
	}
	return s, s.look(ctx)
}

// look finds out the processes of the servers and their versions.
func (s *stores) look(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.postgres.Primary.AdminURL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	s.families["PostgreSQL"] = parentOf(int(conn.PgConn().PID()))
	s.versions = append(s.versions, "PostgreSQL "+strings.Fields(conn.PgConn().ParameterStatus("server_version"))[0])
	opts, err := redis.ParseURL(s.redis.URL())
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "process_id":
			pid, _ := strconv.Atoi(value)
			s.families["Redis"] = family(pid)
		case "redis_version":
			s.versions = append(s.versions, "Redis "+value)
		}
	}
	if s.families["Redis"] == 0 {
		return errors.New("asked what process it is, Redis does not say")
	}
	return nil
}

func (s *stores) close() {
	if s.postgres != nil {
		s.postgres.Stop()
	}
	if s.redis != nil {
		s.redis.Stop()
	}
	os.RemoveAll(s.dir)
}

// env is what the candidate's site is made from. Its store is reached by way
// of the network, or directly if that is nil.
func (s *stores) env(c candidate, via *network) *env {
	e := &env{Dir: s.dir}
	pg, rd := s.postgres.Primary.Addr(), s.redis.Addr()
	if via != nil {
		pg, rd = via.postgres.Addr(), via.redis.Addr()
	}
	e.Postgres = s.postgres.DSN(pg)
	e.Redis.Addr, e.Redis.Password = rd, s.redis.Password()
	e.Redis.URL = fmt.Sprintf("redis://:%s@%s", s.redis.Password(), rd)
	switch c.store {
	case "PostgreSQL":
		e.Store = pg
	case "Redis":
		e.Store = rd
	}
	return e
}

// A network is between the sites and the stores.
type network struct{ postgres, redis *servers.Proxy }

// far is the network of two machines in two buildings rather than in one rack.
const far = 2400 * time.Microsecond

func (s *stores) network(d time.Duration) (*network, error) {
	pg, err := servers.StartProxy(s.postgres.Primary.Addr())
	if err != nil {
		return nil, err
	}
	rd, err := servers.StartProxy(s.redis.Addr())
	if err != nil {
		pg.Stop()
		return nil, err
	}
	pg.Slow(d)
	rd.Slow(d)
	return &network{pg, rd}, nil
}

func (n *network) close() {
	n.postgres.Stop()
	n.redis.Stop()
}
