// Package servers starts real servers for tests to break: private, on free
// loopback ports, with their data in a new temporary folder, and gone without a
// trace when the process that started them is gone. It is for tests and for the
// command "roam drill", never for production: nothing here is tuned, backed up
// or reachable from another machine, and everything can be killed on purpose.
//
// # Start here
//
//	pg, err := servers.StartPostgres(ctx, nil)
//	if errors.Is(err, servers.ErrMissing) {
//		t.Skip(err) // says which program is missing and how to install it
//	}
//	if err != nil {
//		t.Fatal(err)
//	}
//	defer pg.Stop()
//	db, err := sql.Open("pgx", pg.Primary.URL())
//
// [StartPostgres] takes PostgreSQL from the installed programs and, if asked,
// adds a streaming standby, synchronous or not. [StartPgBouncer] puts a pooler
// before a node. [StartRedis] starts a Redis. [StartProxy] puts a network before
// anything that speaks TCP, so that it can be cut, slowed or made to lose the
// answers.
//
// # How to break one
//
// Every server is a [Server]: Kill is kill -9 of all its processes at once,
// Freeze and Thaw stop and continue all of them, Shutdown and Restart are the
// planned ways, Start brings a dead one back on the same address with the same
// data. A [Node] can also be promoted, and [Postgres.Lag] holds the standby
// back, without which a failover test proves nothing: on one machine a standby
// is never behind.
//
// # What it promises
//
// Every server dies with the process that started it, whether that returned,
// panicked or was itself killed with SIGKILL: a supervisor process is the parent
// of the servers, notices the end of its own parent, kills what it started,
// frozen or not, and removes the folder. Stop does the same by the same way.
//
// Any number can run side by side, in one process and in many. Passwords are
// new each time, as another user of the machine could reach the port.
//
// Root may start servers too. PostgreSQL and PgBouncer refuse to run as root
// and then run as the user postgres, whom their packages bring; Redis runs as the
// user redis.
//
// Servers need Linux; elsewhere starting one returns [ErrMissing]. A Proxy
// needs nothing.
package servers

import "errors"

// ErrMissing says that a server cannot run here because something is not
// installed. The error that wraps it says what, and how to get it; a test skips
// with it, a command prints it.
var ErrMissing = errors.New("not installed")
