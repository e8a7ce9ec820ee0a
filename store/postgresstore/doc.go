// Package postgresstore keeps roam's sessions in PostgreSQL, for web servers on
// several hosts: the store for a site that has a PostgreSQL already, or that
// must not lose a login with a machine.
//
// # Start here
//
// Once, to make the tables (or: roam schema postgres | psql …):
//
//	err := postgresstore.Init(ctx, "postgres://owner:secret@db1/shop", nil)
//
// Then in each web server:
//
//	store, err := postgresstore.Open(ctx, "postgres://shop:secret@db1,db2/shop", nil)
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	sessions, err := roam.New[Cart](store, nil)
//
// It needs PostgreSQL 14 or newer with a database in UTF8, and nothing but
// tables of its own: no extension, no superuser. [Store.Check] says what is set
// in a way that loses sessions; [Schema] prints the tables with the least
// privileges.
//
// # What it promises
//
// A write that was acknowledged survives what PostgreSQL's commit survives: with
// its defaults a crash of the server, or of its machine if the disk keeps what
// it was told to sync. With synchronous_standby_names set it also survives the
// loss of the machine. Without, a failover loses what the replica had not
// received; then [roam.Manager.Lost] tells how much, and logouts of the last
// ten minutes are made again before anything is served.
//
// An error that wraps [roam.ErrUnavailable] vouches that nothing was written.
// Any other error of a write leaves its outcome open: the connection broke
// before the answer, or the server stopped waiting for its synchronous standby,
// which it calls a success with a warning and this store does not.
//
// No call takes longer than [Options].Timeout, and while no server can be used
// all fail at once. A call whose context ends returns; the server is not told,
// because to cancel a commit that waits for its standby makes it visible and
// not durable. Its connection stays taken until the server has finished with
// it, and writes never take all connections: while the standby is missing,
// writes fail and reads do not.
//
// # Several servers
//
// The URL may name several hosts, and hosts may take over from one another.
// Each is asked ten times a second by a prober of its own. A server that does
// not answer for [Options].Timeout, or refuses connections, is given up: its
// connections are closed, and calls that wait for it return. Of those that can
// be written to the one with the newest history is used. A primary that was
// replaced and wakes up is found out by that, and never used again: what it
// would acknowledge nobody would ever see.
//
// A history has an epoch, a number in the tables. When a replica was promoted,
// or a database was copied to another system, the first web server to notice
// begins the next epoch; every answer tells its own. Each statement also
// returns the timeline that it ran on, so that an answer never comes unnoticed
// from another server behind the same address: a floating IP or a pooler.
//
// A prober cannot ask a server that it does not know. A web server that starts
// while the new primary is out of its reach, and the old one still takes
// writes, will use the old one: stop a primary before you replace it.
//
// [Options].Replicas names read replicas. They are asked only where a caller
// already knows which version it needs, and their answer counts if they have
// it and it says that the session lives. The time in it is the primary's, so
// that a replica's clock ends no session and keeps none.
//
// # PgBouncer
//
// Pooling by session and by transaction both work. In transaction mode a
// PgBouncer before 1.21 knows no prepared statements: the store notices, and
// sends them as text from then on. To spare it the finding out, and the log the
// line, add default_query_exec_mode=exec to the URL. Nothing that is left behind
// in a connection is relied upon.
//
// # How it writes and reads
//
// Load, Insert, Update, End and a Touch of up to a thousand sessions are one
// statement and one round trip each. An update compares and swaps. Nothing
// that a touch or an update moves is in an index, so that all of them are HOT:
// PostgreSQL writes one row version on the same page, and no index.
//
// While the server is busy with some, the Loads that come meanwhile become one
// statement, and so do the Updates, with one commit. Nobody waits for company:
// whoever comes first goes at once, and alone. Each caller's context and
// timeout stay its own, each gets its own answer or error, and an update that
// conflicts, whose row somebody else has locked, or that the server refuses
// holds up none of the others. However many callers there are, Loads use at
// most 16 connections.
//
// The log of ends is a table that triggers write, in the same transaction as
// the change: statements by hand are in it too, and older programs. It is read
// by snapshots, so that a transaction that commits late is not missed. There is
// no NOTIFY: in the transaction of a write it would make all commits of the
// whole server wait for one another, and asking once a second costs nothing.
//
// Pruning passes through the table page by page, one server at a time, and of a
// large table not more than one part in a hundred of the time.
//
// # Looking in from outside
//
// The view roam_session_view is for people:
//
//	SELECT id, username, seen, expires, data FROM roam_session_view WHERE username = 'ada';
//
// The table has the hash of each session's secret and not the secret, so that
// the database, or a backup of it, opens no session.
//
// # Backup and restore
//
// Any way that backs up your database backs up the sessions. After a backup was
// put back, call [Store.Restored], or
//
//	roam sessions restored --store postgres://…
//
// before the web servers start: a server that is restored to an earlier time
// by way of its archive begins another timeline, and another epoch by itself,
// but one that was dumped and loaded again does not tell. Sessions that ended
// after the backup was made are alive again in it: if that must not be, empty
// the table before.
package postgresstore
