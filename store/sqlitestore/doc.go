// Package sqlitestore keeps roam's sessions in one SQLite file, which the web
// servers of one host share. It is the store to begin with: nothing to install,
// nothing to run, no cgo.
//
// # Start here
//
//	store, err := sqlitestore.Open("/var/lib/shop/sessions.db", nil)
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	sessions, err := roam.New[Cart](store, nil)
//
// Every server process opens the same path; the first one creates the file.
// Servers on several hosts need a store with a server of its own: SQLite shares
// memory between the processes that have a file open, which no network file
// system provides.
//
// # What it promises
//
// A write that was acknowledged survives the end of the process by whatever
// signal, and a crash or power cut of the host if its disk keeps what it was
// told to sync: each transaction is synced before it is acknowledged
// (synchronous=FULL). It does not survive the loss of the disk; that is what
// backups are for.
//
// An error that wraps [roam.ErrUnavailable] vouches that nothing was written:
// the lock was not to be had within [Options].BusyWait, the disk was full, the
// context was done before the write had begun, the store was closed. Only when
// a commit fails while it is synced does the outcome stay open, and the error
// says nothing. A full disk does not stop reading; it does stop logouts, and
// says so.
//
// # How it writes and reads
//
// Each write is one statement that compares and swaps. Writes that arrive while
// another is being committed share the next transaction: one sync serves up to
// 128 of them, and nobody waits for company to arrive. Between processes
// SQLite's lock decides, for which a waiting process tries several times per
// millisecond, so that none is left behind.
//
// Reads use a few connections of their own and neither wait for writes nor make
// them wait. Lists are read in pages, and no connection is held while the
// caller looks at one.
//
// The write-ahead log is copied into the file beside the writes, every 4 MB.
// When it has grown to [Options].MaxWAL all the same, a write empties it. Only a
// reader outside of this package that keeps one transaction open for long can
// make it grow further; it shrinks when that has gone.
//
// # Looking in from outside
//
// The view sessions is for people:
//
//	SELECT id, user, seen, expires, data FROM sessions WHERE user = 'ada';
//
// The table has the hash of each session's secret and not the secret, so that
// the file opens no session. What users put into their sessions is in it all
// the same: the file is created for its owner alone, and belongs on an
// encrypted disk if your law or your data demand that.
//
// Statements by hand are heard of by the servers too: a trigger enters in the
// table log whoever ends or gets another secret or level. But it hears nothing of
// a DELETE, so end what is to end, or better let "roam sessions revoke" do it:
//
//	UPDATE session SET version = version + 1, ended = 1000000 * unixepoch(), why = 'revoked',
//		data = NULL WHERE user = 'ada' AND ended IS NULL;
//
// Take care which program looks. SQLite before 3.51.3 has the WAL-reset bug,
// which can damage a file that is being written; [Open] refuses to run with
// such a version, but a shell that comes with a system may be one (Debian 12
// has 3.40.1). Let it look at a backup.
//
// # Backup and restore
//
// Copying the file while it is in use does not copy its log. In a shell of
// SQLite 3.51.3 or newer, one of
//
//	VACUUM INTO '/backup/sessions.db'
//	.backup /backup/sessions.db
//
// makes a copy that is whole, while servers write. Or stop all servers: the
// last one to close leaves a single file to copy.
//
// To put a backup back, stop all servers, remove the file and its companions
// -wal and -shm, copy the backup to the file's place, and call [Store.Restored],
// or
//
//	roam sessions restored --store /var/lib/shop/sessions.db
//
// before the servers start. It begins another epoch, by which servers and
// visitors who remember later writes can tell that these are gone. Sessions
// that ended after the backup was made are alive again in it: if that must not
// be, begin with an empty file instead.
package sqlitestore
