package postgresstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// A query names a statement.
type query int

const (
	loadRecord query = iota
	loadRecords
	insertRecord
	updateRecord
	updateRecords
	touchRecords
	endRecord
	loadDurable
	loadCopy
	endUser
	readLog
	readLogAfter
	listUser
	listAll
	sweepState
	sweepLease
	sweepPart
	sweepDone
	trimLog
	identify
	probe
	claim
	restored
	settings
	numQueries

	// Those up to here are prepared on each connection.
	numPrepared = endRecord + 1
)

// The types of parameters, by their PostgreSQL OIDs.
const (
	typeBool       = 16
	typeBytea      = 17
	typeInt8       = 20
	typeInt2       = 21
	typeInt4       = 23
	typeText       = 25
	typeTID        = 27
	typeFloat8     = 701
	typeTimestamp  = 1184
	typeTimestamps = 1185
	typeUUID       = 2950
	typeUUIDs      = 2951
	typeByteas     = 1001
	typeInt2s      = 1005
	typeTexts      = 1009
	typeInt8s      = 1016
)

// A statement is a query in one store's names.
type statement struct {
	name string // under which connections have it prepared
	sql  string
	oids []uint32
}

// Times in the tables are microseconds and durations nanoseconds. A duration is
// rounded up to the microsecond, so that comparing whole microseconds is as
// exact as comparing nanoseconds, for durations up to 285 years.
const (
	idleTime = `(idle / 1000 + (idle % 1000 > 0)::int) * interval '1 microsecond'`
	lifeTime = `(lifetime / 1000 + (lifetime % 1000 > 0)::int) * interval '1 microsecond'`
)

// alive is roam's Record.Over, negated. The clock is read when the row is
// looked at, and again when a writer before us has released it, so that what
// has expired while a statement waited stays dead.
const alive = `ended IS NULL AND clock_timestamp() < seen + ` + idleTime + `
	AND clock_timestamp() < coalesce(logged_in, created) + ` + lifeTime

// over is since when a record is over, or will be if nothing changes.
const over = `coalesce(ended, least(seen + ` + idleTime + `, coalesce(logged_in, created) + ` + lifeTime + `))`

// timeline tells in each answer on which timeline the server is. It fails on a
// server that has become a standby. So an answer never comes, unnoticed, from
// another server than the prober chose, be it behind an address that moved.
const timeline = `left(pg_walfile_name(pg_current_wal_lsn()), 8)`

// columns are in the order in which scan reads them.
const columns = `s.id, s.version, s.created, s.seen, s.idle, s.lifetime, s.logged_in, s.ended, s.level,
	s.proof, s.previous, s.writes, s.username, s.addr, s.agent, s.why, s.data, s.blob`

// recordTypes are those of the parameters that an insert and an update share,
// from $2 on: see args.record.
var recordTypes = []uint32{typeUUID, typeInt8, typeInt8, typeInt2, typeBytea, typeBytea, typeBytea,
	typeText, typeText, typeText, typeText, typeBytea}

var queries = [numQueries]struct {
	sql  string
	oids []uint32
}{
	// The join makes it one trip also if there is no such record: then the
	// row has the clock.
	loadRecord: {`SELECT statement_timestamp(), ` + timeline + `, ` + columns + `
		FROM (VALUES (1)) AS one LEFT JOIN {session} s ON s.id = $1`, []uint32{typeUUID}},

	// The clock and the timeline are asked once, and are in each row.
	loadRecords: {`SELECT one.*, ` + columns + `
		FROM (SELECT statement_timestamp(), ` + timeline + `) AS one LEFT JOIN {session} s ON s.id = ANY ($1)`, []uint32{typeUUIDs}},

	// To lock the row is a write: its commit waits until the standby has all
	// that came before it.
	loadDurable: {`SELECT statement_timestamp(), ` + timeline + `, s.*
		FROM (VALUES (1)) AS one LEFT JOIN (SELECT ` + columns + ` FROM {session} s WHERE s.id = $1 FOR KEY SHARE) s ON true`,
		[]uint32{typeUUID}},

	loadCopy: {`SELECT statement_timestamp(), m.epoch, ` + columns + `
		FROM {meta} m LEFT JOIN {session} s ON s.id = $1`, []uint32{typeUUID}},

	insertRecord: {`INSERT INTO {session} AS s (created, seen, logged_in, id, version, idle, lifetime, level, proof, previous, writes,
			username, addr, agent, data, blob)
		VALUES (statement_timestamp(), statement_timestamp(), CASE WHEN $1 THEN statement_timestamp() END,
			$2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO NOTHING
		RETURNING created, seen, clock_timestamp(), ` + timeline, append([]uint32{typeBool}, recordTypes...)},

	// It sets the columns that this version knows and leaves those that a
	// newer one has added. To set username to what it was leaves the index
	// alone.
	updateRecord: {`UPDATE {session} SET version = version + 1, seen = greatest(seen, clock_timestamp()),
			idle = $3, lifetime = $4, level = $5, proof = $6, previous = $7, writes = $8,
			username = $9, addr = $10, agent = $11, data = $12, blob = $13, logged_in = $14
		WHERE id = $2 AND version = $1 AND ` + alive + `
		RETURNING created, seen, clock_timestamp(), ` + timeline, append(append([]uint32{typeInt8}, recordTypes...), typeTimestamp)},

	// A group of updates. Rows that somebody else holds it leaves out, instead
	// of waiting for them with all the others: so one locked row holds up
	// nobody else, and no group is ever in a deadlock. What it returns it has
	// written; what is left out its caller tries alone.
	updateRecords: {`UPDATE {session} AS s SET version = s.version + 1, seen = greatest(s.seen, clock_timestamp()),
			idle = g.idle, lifetime = g.lifetime, level = g.level, proof = g.proof, previous = g.previous, writes = g.writes,
			username = g.username, addr = g.addr, agent = g.agent, data = g.data, blob = g.blob, logged_in = g.logged_in
		FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
				AS g (id, version, idle, lifetime, level, proof, previous, writes, username, addr, agent, data, blob, logged_in),
			LATERAL (SELECT ctid FROM {session} AS s WHERE s.id = g.id AND s.version = g.version AND ` + alive + `
				FOR NO KEY UPDATE SKIP LOCKED) AS held
		WHERE s.ctid = held.ctid
		RETURNING s.id, s.created, s.seen, clock_timestamp(), ` + timeline,
		[]uint32{typeUUIDs, typeInt8s, typeInt8s, typeInt8s, typeInt2s, typeByteas, typeByteas, typeByteas,
			typeTexts, typeTexts, typeTexts, typeTexts, typeByteas, typeTimestamps}},

	touchRecords: {`UPDATE {session} s SET seen = least(t.at, clock_timestamp())
		FROM unnest($1, $2) AS t (touched, at)
		WHERE s.id = t.touched AND s.seen < least(t.at, clock_timestamp()) AND ` + alive, []uint32{typeUUIDs, typeTimestamps}},

	// A tombstone is written again as it is: that it can be seen does not say
	// yet that it is durable.
	endRecord: {`UPDATE {session} SET version = version + (ended IS NULL)::int,
			why = CASE WHEN ended IS NULL THEN $2 ELSE why END, ended = coalesce(ended, clock_timestamp()),
			level = 0, addr = NULL, agent = '', data = NULL, blob = NULL
		WHERE id = $1
		RETURNING ` + timeline, []uint32{typeUUID, typeText}},

	// Rows are locked by id, as touches do it, so that the two do not wait for
	// each other. All the user's are, so that this waits for the standby if
	// somebody else has ended them just now.
	endUser: {`WITH mine AS MATERIALIZED (
			SELECT id FROM {session} WHERE username = $1 AND username <> '' AND id <> ALL ($3) ORDER BY id FOR UPDATE
		), done AS (
			UPDATE {session} s SET version = s.version + 1, why = $2, ended = clock_timestamp(),
				level = 0, addr = NULL, agent = '', data = NULL, blob = NULL
			FROM mine WHERE s.id = mine.id AND s.ended IS NULL
			RETURNING s.id
		)
		SELECT (SELECT count(*) FROM done), ` + timeline, []uint32{typeText, typeText, typeUUIDs}},

	readLog: {`SELECT statement_timestamp(), ` + timeline + `, pg_current_snapshot()::text, l.id, l.version, l.why, l.at
		FROM (VALUES (1)) AS one LEFT JOIN {log} l ON true ORDER BY l.xid`, nil},

	// What is new is what could not be seen then and can be seen now, however
	// long its transaction took. The snapshot that is returned and the one
	// that the rows come from are one and the same.
	readLogAfter: {`SELECT statement_timestamp(), ` + timeline + `, pg_current_snapshot()::text, l.id, l.version, l.why, l.at
		FROM (VALUES (1)) AS one LEFT JOIN {log} l
			ON l.xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(l.xid, $1::text::pg_snapshot)
		ORDER BY l.xid`, []uint32{typeText}},

	// $2 is a page's first login, or infinity; logins that are NULL come last.
	listUser: {`SELECT statement_timestamp(), ` + timeline + `, ` + columns + ` FROM {session} s
		WHERE username = $1 AND username <> '' AND ended IS NULL
			AND (coalesce(logged_in, '-infinity') < $2 OR coalesce(logged_in, '-infinity') = $2 AND id > $3)
		ORDER BY coalesce(logged_in, '-infinity') DESC, id LIMIT $4`, []uint32{typeText, typeTimestamp, typeUUID, typeInt8}},

	listAll: {`SELECT statement_timestamp(), ` + timeline + `, ` + columns + ` FROM {session} s
		WHERE id > $1 OR $2 AND id = $1 ORDER BY id LIMIT $3`, []uint32{typeUUID, typeBool, typeInt8}},

	// $1 is for how many seconds the log is kept at least.
	sweepState: {`SELECT clock_timestamp(), swept, due, took, pg_relation_size({session_literal}::regclass) / current_setting('block_size')::bigint,
			sweeper, sweeps, marked < clock_timestamp() - $1 * interval '1 second'
		FROM {meta}`, []uint32{typeFloat8}},
	sweepLease: {`UPDATE {meta} SET sweeper = $1, sweeps = clock_timestamp() + interval '10 seconds'
		WHERE sweeper = $1 OR sweeps < clock_timestamp() RETURNING 1`, []uint32{typeInt8}},

	// It removes $4 rows at most, and returns how many it did, where the next
	// one is that is over, and when the first of the others will be. A row
	// that was changed meanwhile is judged again. Without OFFSET 0 PostgreSQL
	// would work out several times for each row since when it is over.
	sweepPart: {`WITH part AS MATERIALIZED (
			SELECT array_agg(ctid) FILTER (WHERE over <= $3) AS old, min(over) FILTER (WHERE over > $3) AS next
			FROM (SELECT ctid, ` + over + ` AS over FROM {session} WHERE ctid >= $1 AND ctid < $2 OFFSET 0) AS s
		), gone AS (
			DELETE FROM {session} WHERE ctid = ANY ((SELECT old[:$4] FROM part)::tid[]) AND ` + over + ` <= $3 RETURNING 1
		)
		SELECT (SELECT count(*) FROM gone), old[$4 + 1], next FROM part`, []uint32{typeTID, typeTID, typeTimestamp, typeInt4}},
	sweepDone: {`UPDATE {meta} SET swept = $1, due = $2, took = $3, sweeps = '-infinity' WHERE sweeper = $4`,
		[]uint32{typeTimestamp, typeTimestamp, typeFloat8, typeInt8}},

	// What was visible when the mark was set has been so for the whole time
	// since then; how old an entry is does not tell when it appeared.
	trimLog: {`WITH old AS (
			SELECT mark FROM {meta} WHERE marked < clock_timestamp() - $1 * interval '1 second' FOR UPDATE SKIP LOCKED
		), new AS (
			UPDATE {meta} SET mark = pg_snapshot_xmin(pg_current_snapshot()), marked = clock_timestamp()
			FROM old RETURNING old.mark
		)
		DELETE FROM {log} USING new WHERE xid < new.mark`, []uint32{typeFloat8}},

	identify: {`SELECT system_identifier, ` + timeline + ` FROM pg_control_system()`, nil},

	probe: {`SELECT clock_timestamp(), pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
			c.system_identifier, CASE WHEN pg_is_in_recovery() THEN '' ELSE ` + timeline + ` END,
			CASE WHEN pg_is_in_recovery() THEN 0 ELSE (pg_current_wal_flush_lsn() - '0/0')::bigint END,
			m.epoch, m.system, m.timeline, m.schema_version::bigint
		FROM pg_control_system() c, {meta} m`, nil},

	// It need not wait for a standby: should it be lost, whoever comes next
	// claims an epoch that is higher. But without it nobody could read while
	// the standby is missing. In the log of another system the ids of
	// transactions are not this one's.
	claim: {`WITH soon AS (
			SELECT set_config('synchronous_commit', 'local', true)
		), claimed AS (
			UPDATE {meta} SET epoch = $1, system = $2, timeline = $3 FROM soon WHERE epoch = $4 RETURNING 1
		), moved AS (
			UPDATE {log} SET xid = pg_current_xact_id() WHERE $5 AND EXISTS (SELECT FROM claimed)
		)
		SELECT count(*) FROM claimed`, []uint32{typeInt8, typeInt8, typeText, typeInt8, typeBool}},

	settings: {`SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'),
			current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean, current_setting('autovacuum')::boolean,
			current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
			current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint, ` + timeline, nil},

	restored: {`UPDATE {meta} SET epoch = greatest(epoch + 1, $1) RETURNING epoch, ` + timeline, []uint32{typeInt8}},
}

// names is how a store's tables are called.
type names struct{ schema, table string }

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (n names) session() string { return quote(n.schema) + "." + quote(n.table) }

// in puts the names into a text with braces.
func (n names) in(sql string) string {
	q := quote(n.schema) + "."
	return strings.NewReplacer(
		"{session}", q+quote(n.table),
		"{session_literal}", "'"+strings.ReplaceAll(q+quote(n.table), "'", "''")+"'",
		"{log}", q+quote(n.table+"_log"),
		"{meta}", q+quote(n.table+"_meta"),
		"{view}", q+quote(n.table+"_view"),
		"{function}", q+quote(n.table+"_logs"),
	).Replace(sql)
}

// statements are all queries in these names. What is prepared is called by what
// it does: behind a pooler a connection may meet what another program has
// prepared under its name.
func (n names) statements() (all [numQueries]statement) {
	for q := range all {
		sql := n.in(queries[q].sql)
		sum := sha256.Sum256([]byte(sql))
		all[q] = statement{name: "roam_" + hex.EncodeToString(sum[:12]), sql: sql, oids: queries[q].oids}
	}
	return all
}
