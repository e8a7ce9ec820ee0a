package servers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// PostgresOptions are the options of [StartPostgres]. The zero value is one
// server with PostgreSQL's defaults, except where it would be large.
type PostgresOptions struct {
	// Standby adds a streaming standby, which answers reads.
	Standby bool

	// Sync makes the standby synchronous: a commit is acknowledged when the
	// standby has it on disk (synchronous_commit=on). It implies Standby. A standby that
	// has been promoted asks for no standby of its own.
	Sync bool

	// NoFsync leaves it to the kernel when to write to the disk, which makes
	// writes several times faster. Nothing here cuts the power, and what a
	// process has written survives its kill -9, so a test that only wants to
	// know what is lost may set it. It is not the default because whoever
	// measures would measure a database that nobody runs.
	NoFsync bool

	// Settings go into postgresql.conf, over ours. The value is quoted for you:
	// {"work_mem": "64MB"}. With a standby, what it must have at least as much
	// of as the primary, max_connections say, may not be below PostgreSQL's
	// default.
	Settings map[string]string

	// Bin is the folder of PostgreSQL's programs. "" is the newest version
	// installed by Debian's packages, or else the one in PATH.
	Bin string
}

const (
	postgresInstall = "apt-get install postgresql"
	startTimeout    = 3 * time.Minute // what is not ready by then, on however busy a machine, will never be
)

// A Postgres is one PostgreSQL server, or a primary and its standby.
type Postgres struct {
	Primary *Node
	Standby *Node // nil without

	// Replication is the network between the two, over which the standby fetches
	// what it replays. Slow makes it a standby in another town. nil without one.
	Replication *Proxy

	access *access
	group  *supervisor
	once   sync.Once
}

// StartPostgres starts a private PostgreSQL and waits until it is ready, with its
// standby in step. The error is an [ErrMissing] if its programs are not installed.
//
// Starting takes about a second, most of it initdb's. A copy of a prepared
// folder would be quicker, but all copies would have one system identifier, and
// that is how a client tells that this is not the database it knew.
func StartPostgres(ctx context.Context, o *PostgresOptions) (_ *Postgres, err error) {
	if o == nil {
		o = &PostgresOptions{}
	}
	bin, err := postgresPrograms(o.Bin)
	if err != nil {
		return nil, err
	}
	as, err := accountFor("postgres", postgresInstall)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	group, err := supervised(as)
	if err != nil {
		return nil, err
	}
	p := &Postgres{group: group, access: newAccess(filepath.Join(bin, "psql"))}
	defer func() {
		if err != nil {
			p.Stop()
		}
	}()

	// The folders first: before its first start a cluster can simply be copied.
	first, second := filepath.Join(group.dir, "primary"), filepath.Join(group.dir, "standby")
	password := filepath.Join(group.dir, "password")
	if err := group.write(password, p.access.admin); err != nil {
		return nil, err
	}
	if err := group.run(ctx, filepath.Join(bin, "initdb"), "--pgdata="+first, "--username=postgres", "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"); err != nil {
		return nil, fmt.Errorf("making a PostgreSQL: %w", err)
	}
	if err := os.Remove(password); err != nil {
		return nil, err
	}
	if o.Standby || o.Sync {
		cp, err := exec.LookPath("cp")
		if err != nil {
			return nil, err
		}
		if err := group.run(ctx, cp, "-a", first, second); err != nil {
			return nil, fmt.Errorf("making a standby: %w", err)
		}
	}

	var own map[string]string
	if o.Sync {
		own = map[string]string{"synchronous_standby_names": "standby", "synchronous_commit": "on"}
	}
	p.Primary, err = p.startNode(ctx, bin, "primary", first, own, o)
	if err != nil {
		return nil, err
	}
	// The password is not for the log of the server, should this fail.
	setup := fmt.Sprintf(`
		SET log_min_error_statement = panic;
		SET synchronous_commit = local;
		SELECT pg_create_physical_replication_slot('standby', true) WHERE %t; -- keeps what a lagging standby needs
		CREATE ROLE roam LOGIN PASSWORD '%s';
		CREATE DATABASE roam OWNER roam;`, o.Standby || o.Sync, p.access.owner)
	if _, err := p.Primary.ask(ctx, "postgres", setup); err != nil {
		return nil, fmt.Errorf("making the database: %w", err)
	}
	if !o.Standby && !o.Sync {
		return p, nil
	}

	if p.Replication, err = StartProxy(p.Primary.Addr()); err != nil {
		return nil, err
	}
	if err := group.write(filepath.Join(second, "standby.signal"), ""); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(p.Replication.Addr())
	p.Standby, err = p.startNode(ctx, bin, "standby", second, map[string]string{
		"primary_conninfo":  fmt.Sprintf("host=%s port=%s user=postgres password=%s application_name=standby sslmode=disable", host, port, p.access.admin),
		"primary_slot_name": "standby",
	}, o)
	if err != nil {
		return nil, err
	}
	streaming := "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
	if o.Sync {
		streaming += " AND sync_state = 'sync'"
	}
	if err := p.Primary.wait(ctx, streaming, "1"); err != nil {
		return nil, fmt.Errorf("waiting for %v to follow: %w", p.Standby, err)
	}
	if err := p.CatchUp(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// startNode starts the server whose data is in dir for the first time.
func (p *Postgres) startNode(ctx context.Context, bin, role, dir string, own map[string]string, o *PostgresOptions) (*Node, error) {
	var n *Node
	err := onFreeAddress(func(addr string) error {
		_, port, _ := net.SplitHostPort(addr)
		settings := map[string]string{
			"listen_addresses":        "127.0.0.1",
			"port":                    port,
			"unix_socket_directories": "", // the name of a folder may be too long for one
			"max_connections":         "200",
			"shared_buffers":          "32MB",
			// A file in the folder goes with it; shared memory by name would stay
			// behind after a kill -9.
			"dynamic_shared_memory_type":  "mmap",
			"hot_standby":                 "on",
			"wal_retrieve_retry_interval": "200ms", // 5 s by default: nobody should wait for that
			"log_line_prefix":             "%m [%p] ",
			"log_timezone":                "UTC",
			"timezone":                    "UTC",
			"default_text_search_config":  "pg_catalog.english",
			"password_encryption":         "scram-sha-256",
		}
		if o.NoFsync {
			settings["fsync"] = "off"
			// full_page_writes stays: a kill -9 can tear a page of 8 KB, which the
			// kernel takes over in two.
		}
		maps.Copy(settings, own)
		maps.Copy(settings, o.Settings)
		var conf strings.Builder
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
		}
		if err := p.group.write(filepath.Join(dir, "postgresql.conf"), conf.String()); err != nil {
			return err
		}
		pidFile := filepath.Join(dir, "postmaster.pid")
		n = &Node{access: p.access, Server: &Server{
			name: "PostgreSQL " + role, addr: addr, group: p.group,
			spec: spec{
				Path: filepath.Join(bin, "postgres"), Args: []string{"-D", dir},
				Log: filepath.Join(p.group.dir, role+".log"), End: syscall.SIGQUIT,
			},
			leave:   syscall.SIGINT, // "fast": do not wait for clients to leave
			ready:   func(_ context.Context, pid int) bool { return postmasterReady(pidFile, pid) },
			cleared: func() { dropSharedMemory(pidFile) },
		}}
		return n.Start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// postmasterReady asks as pg_ctl does: a postmaster writes its state into the
// eighth line of its pid file, and it is "ready" when queries are answered. The
// first line tells its file from the one of a predecessor that was killed.
func postmasterReady(pidFile string, pid int) bool {
	lines := readLines(pidFile)
	return len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// dropSharedMemory removes the one System V segment of a killed postmaster, named in
// the seventh line of its pid file: 56 bytes, but a machine has room for few
// thousand of them, and only its own successor would clear it away.
func dropSharedMemory(pidFile string) {
	lines := readLines(pidFile)
	if len(lines) < 7 {
		return
	}
	if fields := strings.Fields(lines[6]); len(fields) == 2 {
		if id, err := strconv.Atoi(fields[1]); err == nil {
			removeSharedMemory(id)
		}
	}
}

func readLines(path string) []string {
	data, _ := os.ReadFile(path)
	return strings.Split(string(data), "\n")
}

// String returns what runs where.
func (p *Postgres) String() string {
	if p.Standby == nil {
		return p.Primary.String()
	}
	return p.Primary.String() + ", " + p.Standby.String()
}

// Stop stops the servers, however they are, and removes their folder. It may be
// called more than once.
func (p *Postgres) Stop() {
	p.once.Do(func() {
		p.group.stop()
		if p.Replication != nil {
			p.Replication.Stop()
		}
		for _, n := range []*Node{p.Primary, p.Standby} {
			if n != nil {
				giveBack(n.addr)
			}
		}
	})
}

// DSN returns the connection string over several addresses, those of proxies
// say, or with none over the nodes' own. The user is roam.
func (p *Postgres) DSN(addrs ...string) string {
	if len(addrs) == 0 {
		addrs = []string{p.Primary.Addr()}
		if p.Standby != nil {
			addrs = append(addrs, p.Standby.Addr())
		}
	}
	return p.access.url("roam", p.access.owner, strings.Join(addrs, ","))
}

// Lag makes the standby fall behind: from when Lag(ctx, true) has returned, nothing
// that the primary writes reaches it, while an asynchronous primary goes on
// acknowledging. Kill the primary then and promote the standby, and all of that
// is lost. A synchronous primary stops acknowledging instead.
//
// Replication runs through [Postgres.Replication], which Lag cuts. Pausing the
// replay would not do: what a standby has received it replays before it is
// promoted. Nor would stopping one end's process, for a new one would take its place.
//
// Lag(ctx, false) ends it and waits until the standby has caught up, unless the
// primary is down.
func (p *Postgres) Lag(ctx context.Context, on bool) error {
	if p.Standby == nil {
		return errors.New("PostgreSQL was started without a standby, which could lag; set Standby or Sync")
	}
	if on {
		p.Replication.Cut()
		return nil
	}
	if err := p.Replication.Restore(); err != nil {
		return err
	}
	if _, err := p.Primary.alive(); err != nil {
		return nil
	}
	return p.CatchUp(ctx)
}

// CatchUp waits until the standby has replayed all that the primary has written
// by now, so that a failover loses nothing.
func (p *Postgres) CatchUp(ctx context.Context) error {
	if p.Standby == nil {
		return errors.New("PostgreSQL was started without a standby, which could catch up; set Standby or Sync")
	}
	at, err := p.Primary.ask(ctx, "postgres", "SELECT pg_current_wal_lsn()")
	if err != nil {
		return err
	}
	// A position is two hexadecimal numbers and a slash.
	if err := p.Standby.wait(ctx, "SELECT coalesce(pg_last_wal_replay_lsn() >= '"+at+"', false)", "t"); err != nil {
		return fmt.Errorf("waiting for %v to catch up: %w", p.Standby, err)
	}
	return nil
}

// postgresPrograms returns the folder of the programs.
func postgresPrograms(bin string) (string, error) {
	need := []string{"initdb", "postgres", "psql"}
	var dirs []string
	if bin != "" {
		dirs = []string{bin}
	} else {
		dirs, _ = filepath.Glob("/usr/lib/postgresql/*/bin")
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		if path, err := exec.LookPath("postgres"); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				dirs = append(dirs, filepath.Dir(path))
			}
		}
	}
	for _, dir := range dirs {
		if !slices.ContainsFunc(need, func(name string) bool {
			_, err := exec.LookPath(filepath.Join(dir, name))
			return err != nil
		}) {
			return dir, nil
		}
	}
	where := "in /usr/lib/postgresql or PATH"
	if bin != "" {
		where = "in " + bin
	}
	return "", fmt.Errorf("PostgreSQL's programs %s are not %s; %s: %w", strings.Join(need, ", "), where, postgresInstall, ErrMissing)
}

var versionFolder = regexp.MustCompile(`/(\d+)[^/]*/bin$`)

// version is the major version in the name of a folder of programs.
func version(dir string) int {
	if m := versionFolder.FindStringSubmatch(dir); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}
