package servers

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// PgBouncerOptions are the options of [StartPgBouncer].
type PgBouncerOptions struct {
	// Target is where to connect instead of the node's own address: that of a
	// [Proxy] before it. "" is the node's own.
	Target string

	// Bin is the folder of the program. "" is the one in PATH or /usr/sbin.
	Bin string

	// Settings go into the section [pgbouncer] of its file, over ours:
	// {"pool_mode": "session", "default_pool_size": "5"}.
	Settings map[string]string
}

const pgbouncerInstall = "apt-get install pgbouncer"

// A PgBouncer is a connection pooler before one node.
type PgBouncer struct {
	*Server
	access *access
	group  *supervisor
	once   sync.Once
}

// StartPgBouncer starts a PgBouncer before target that pools in transaction
// mode: a client has a connection of the server's for a transaction, and
// nothing that it leaves in one (a prepared statement, a setting, a lock) is there
// in the next. The error is an [ErrMissing] if it is not installed.
func StartPgBouncer(ctx context.Context, target *Node, o *PgBouncerOptions) (_ *PgBouncer, err error) {
	if o == nil {
		o = &PgBouncerOptions{}
	}
	path, err := program(o.Bin, "/usr/sbin", "pgbouncer", pgbouncerInstall) // a user's PATH may lack sbin
	if err != nil {
		return nil, err
	}
	as, err := accountFor("postgres", pgbouncerInstall)
	if err != nil {
		return nil, err
	}
	group, err := supervised(as)
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{access: target.access, group: group}
	defer func() {
		if err != nil {
			b.Stop()
		}
	}()
	to := o.Target
	if to == "" {
		to = target.Addr()
	}
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return nil, fmt.Errorf("PgBouncerOptions.Target %q has to be host:port: %w", o.Target, err)
	}
	users := filepath.Join(group.dir, "users")
	if err := group.write(users, fmt.Sprintf("\"roam\" \"%s\"\n\"postgres\" \"%s\"\n", b.access.owner, b.access.admin)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = onFreeAddress(func(addr string) error {
		listenHost, listenPort, _ := net.SplitHostPort(addr)
		settings := map[string]string{
			"listen_addr":               listenHost,
			"listen_port":               listenPort,
			"unix_socket_dir":           "",
			"auth_type":                 "scram-sha-256",
			"auth_file":                 users,
			"admin_users":               "postgres",
			"pool_mode":                 "transaction",
			"default_pool_size":         "20",
			"max_client_conn":           "500",
			"ignore_startup_parameters": "extra_float_digits",
			"server_login_retry":        "1", // 15 s by default: how long a dead target is not asked again
		}
		maps.Copy(settings, o.Settings)
		var conf strings.Builder
		fmt.Fprintf(&conf, "[databases]\n* = host=%s port=%s\n\n[pgbouncer]\n", host, port)
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(&conf, "%s = %s\n", name, settings[name])
		}
		file := filepath.Join(group.dir, "pgbouncer.ini")
		if err := group.write(file, conf.String()); err != nil {
			return err
		}
		b.Server = &Server{
			name: "PgBouncer", addr: addr, group: group,
			spec:  spec{Path: path, Args: []string{file}, Log: filepath.Join(group.dir, "pgbouncer.log"), End: syscall.SIGTERM},
			leave: syscall.SIGTERM, // at once; SIGINT would wait for the clients' transactions
			ready: func(ctx context.Context, _ int) bool {
				// Who knows the password is ours, and not somebody who was quicker
				// to take the address.
				_, err := b.Query(ctx, "SHOW VERSION")
				return err == nil
			},
		}
		return b.Start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// URL returns the connection string of the user roam through the pooler.
func (b *PgBouncer) URL() string { return b.access.url("roam", b.access.owner, b.addr) }

// AdminURL returns the connection string of the superuser through the pooler.
func (b *PgBouncer) AdminURL() string { return b.access.url("postgres", b.access.admin, b.addr) }

// Query asks the pooler itself, "SHOW POOLS" say, and returns the rows, one a
// line, with | between the columns.
func (b *PgBouncer) Query(ctx context.Context, command string) (string, error) {
	rows, err := b.access.ask(ctx, b.addr, "pgbouncer", command)
	if err != nil {
		return "", fmt.Errorf("asking %v: %w", b, err)
	}
	return rows, nil
}

// Stop stops the pooler and removes its folder. It may be called more than once.
func (b *PgBouncer) Stop() {
	b.once.Do(func() {
		b.group.stop()
		if b.Server != nil {
			giveBack(b.addr)
		}
	})
}
