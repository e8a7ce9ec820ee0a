package servers

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// RedisOptions are the options of [StartRedis].
type RedisOptions struct {
	// Bin is the folder of the program. "" is the one in PATH or /usr/bin.
	Bin string

	// Settings go into redis.conf, over ours: {"appendonly": "yes"}. Without
	// any, Redis keeps what it is told in memory alone, and Kill loses it.
	Settings map[string]string
}

const redisInstall = "apt-get install redis-server"

// A Redis is one Redis server.
type Redis struct {
	*Server
	password string
	group    *supervisor
	once     sync.Once
}

// StartRedis starts a private Redis and waits until it is ready. The error is
// an [ErrMissing] if its program is not installed.
func StartRedis(ctx context.Context, o *RedisOptions) (_ *Redis, err error) {
	if o == nil {
		o = &RedisOptions{}
	}
	path, err := program(o.Bin, "/usr/bin", "redis-server", redisInstall)
	if err != nil {
		return nil, err
	}
	as, err := accountFor("redis", redisInstall)
	if err != nil {
		return nil, err
	}
	group, err := supervised(as)
	if err != nil {
		return nil, err
	}
	r := &Redis{password: rand.Text(), group: group}
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = onFreeAddress(func(addr string) error {
		host, port, _ := net.SplitHostPort(addr)
		settings := map[string]string{
			"bind":        host,
			"port":        port,
			"dir":         group.dir,
			"requirepass": r.password,
			"save":        `""`, // no snapshots: nobody restores one
			"daemonize":   "no",
		}
		maps.Copy(settings, o.Settings)
		var conf strings.Builder
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(&conf, "%s %s\n", name, settings[name])
		}
		file := filepath.Join(group.dir, "redis.conf")
		if err := group.write(file, conf.String()); err != nil {
			return err
		}
		r.Server = &Server{
			name: "Redis", addr: addr, group: group,
			spec:  spec{Path: path, Args: []string{file}, Log: filepath.Join(group.dir, "redis.log"), End: syscall.SIGTERM},
			leave: syscall.SIGTERM,
			// Who knows the password is ours, and not somebody who was quicker to
			// take the address.
			ready: func(ctx context.Context, _ int) bool { return r.ping(ctx) == nil },
		}
		return r.Start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Password returns what a client authenticates with, as the default user.
func (r *Redis) Password() string { return r.password }

// URL returns the connection string.
func (r *Redis) URL() string { return "redis://:" + r.password + "@" + r.addr }

// ping asks in Redis's own words, which are two lines: so this package needs no
// client.
func (r *Redis) ping(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	const want = "+OK\r\n+PONG\r\n"
	if _, err := fmt.Fprintf(c, "AUTH %s\r\nPING\r\n", r.password); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%v answered %q to AUTH and PING", r, got)
	}
	return nil
}

// Stop stops the server and removes its folder. It may be called more than
// once.
func (r *Redis) Stop() {
	r.once.Do(func() {
		r.group.stop()
		if r.Server != nil {
			giveBack(r.addr)
		}
	})
}
