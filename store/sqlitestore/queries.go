package sqlitestore

// A query names a statement, so that a connection finds it prepared by index.
type query int

const (
	begin query = iota
	commit
	rollback
	savepoint
	release
	rollbackTo
	loadRecord
	insertRecord
	updateData
	updateLogin
	loadMissing
	touchRecord
	endRecord
	idsOfUser
	listUser
	listAll
	readLog
	oldLog
	trimLog
	scanOver
	deleteOver
	integrity
	numQueries
)

// columns are in the order in which scan reads them.
const columns = `id, version, proof, previous, user, level, addr, agent,
	created, logged_in, seen, idle, lifetime, writes, ended, why, data, (SELECT epoch FROM epoch)`

const epochColumn = 17 // the last

// alive is roam's Record.Over, negated. Times are microseconds and durations
// nanoseconds; the differences keep far from overflow whatever the durations.
const alive = `ended IS NULL AND (?1 - seen) * 1000 < idle AND (?1 - coalesce(logged_in, created)) * 1000 < lifetime`

// over is since when a record is over, or will be if nothing changes. It is
// rounded up to the microsecond.
const over = `CASE WHEN ended IS NOT NULL THEN ended
	ELSE min(seen + idle / 1000 + (idle % 1000 > 0),
		coalesce(logged_in, created) + lifetime / 1000 + (lifetime % 1000 > 0)) END`

// updateSet begins an update, which is one statement that compares and swaps. It
// sets the columns that this version knows and leaves those that a newer one has added.
const updateSet = `UPDATE session SET
	version = version + 1, previous = ?5, addr = ?7, agent = ?8,
	seen = max(seen, ?1), idle = ?9, lifetime = ?10, writes = ?11, data = ?12`

var queries = [numQueries]string{
	begin:      `BEGIN IMMEDIATE`,
	commit:     `COMMIT`,
	rollback:   `ROLLBACK`,
	savepoint:  `SAVEPOINT op`,
	release:    `RELEASE op`,
	rollbackTo: `ROLLBACK TO op`,

	loadRecord:  `SELECT ` + columns + ` FROM session WHERE id = ?1`,
	loadMissing: `SELECT ` + columns + ` FROM epoch LEFT JOIN session ON id = ?1`,

	insertRecord: `INSERT INTO session (created, seen, logged_in, id, version, proof, previous, level, addr, agent,
		idle, lifetime, writes, data, user)
		VALUES (?1, ?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
		ON CONFLICT (id) DO NOTHING RETURNING (SELECT epoch FROM epoch)`,

	// Most updates leave user and login as they are. One that does not set
	// them does not write the index on them either, and has no trigger.
	updateData: updateSet + ` WHERE id = ?3 AND version = ?2 AND user = ?13 AND logged_in IS ?14
		AND proof = ?4 AND level = ?6 AND ` + alive +
		` RETURNING created, seen, (SELECT epoch FROM epoch)`,
	updateLogin: updateSet + `, user = ?13, logged_in = ?14, proof = ?4, level = ?6 WHERE id = ?3 AND version = ?2 AND ` + alive +
		` RETURNING created, seen, (SELECT epoch FROM epoch)`,

	touchRecord: `UPDATE session SET seen = ?2 WHERE id = ?3 AND seen < ?2 AND ` + alive,

	endRecord: `UPDATE session SET version = version + 1, ended = ?1, why = ?2,
		level = 0, addr = NULL, agent = '', data = NULL WHERE id = ?3 AND ended IS NULL`,

	idsOfUser: `SELECT id FROM session WHERE user = ?1 AND user <> '' AND ended IS NULL`,

	listUser: `SELECT ` + columns + ` FROM session WHERE user = ?1 AND user <> '' AND ended IS NULL
		AND (logged_in IS NULL, coalesce(-logged_in, 0), id) > (?2, ?3, ?4)
		ORDER BY logged_in DESC, id LIMIT ?5`,

	listAll: `SELECT ` + columns + `, n FROM session WHERE n > ?1 ORDER BY n LIMIT ?2`,

	// A cursor of another epoch is none. There is always a row, for the epoch.
	// An order would be sorted for: that there is one epoch SQLite cannot know.
	readLog: `SELECT epoch, n, id, version, why, at FROM epoch LEFT JOIN log ON n > iif(epoch = ?1, ?2, 0)`,

	oldLog:  `SELECT EXISTS (SELECT 1 FROM (SELECT at FROM log ORDER BY n LIMIT ?2) WHERE at < ?1)`,
	trimLog: `DELETE FROM log WHERE n IN (SELECT n FROM log ORDER BY n LIMIT ?2) AND at < ?1`,

	scanOver:   `SELECT n, ` + over + ` FROM session WHERE n > ?1 ORDER BY n LIMIT ?2`,
	deleteOver: `DELETE FROM session WHERE n = ?2 AND ` + over + ` <= ?1`,

	integrity: `PRAGMA integrity_check(1)`,
}
