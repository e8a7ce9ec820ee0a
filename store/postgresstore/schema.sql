-- The schema of package postgresstore, version 100. The program replaces the
-- names in braces, see Options.Schema and Options.Table.
--
-- Times are by the clock of this server. Durations are nanoseconds, as Go's
-- time.Duration. To look around by hand, read the view {view}; nothing in it
-- opens a session.

-- What a touch or an update changes is in no index, so that PostgreSQL can put
-- the new version of a row on the page of the old one (HOT) and has no index to
-- write. The free tenth of each page is for that.
CREATE TABLE {session} (
	id        uuid        PRIMARY KEY,
	version   bigint      NOT NULL,
	created   timestamptz NOT NULL,
	seen      timestamptz NOT NULL,
	idle      bigint      NOT NULL,            -- allowed since seen
	lifetime  bigint      NOT NULL,            -- allowed since logged_in, or created
	logged_in timestamptz,
	ended     timestamptz,                     -- set in a tombstone
	level     smallint    NOT NULL,
	proof     bytea       NOT NULL,            -- SHA-256 of the secret
	previous  bytea,                           -- of the secret before the last login
	writes    bytea       NOT NULL,            -- ids of the last writes, newest first, 8 bytes each
	username  text        NOT NULL,            -- '' before login
	addr      text,                            -- where the login came from
	agent     text        NOT NULL,
	why       text        NOT NULL DEFAULT '',
	data      text,                            -- what is in the session if it is text,
	blob      bytea                            -- otherwise here
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

-- Guests cost it nothing.
CREATE INDEX ON {session} (username) WHERE username <> '';

-- The log of ends: each row that ended, or got another secret or level. A
-- reader goes on where it was by the transaction's id, not by a time or a
-- counter, because these do not tell in which order transactions commit.
CREATE TABLE {log} (
	xid     xid8        NOT NULL DEFAULT pg_current_xact_id(),
	id      uuid        NOT NULL,
	version bigint      NOT NULL,
	why     text        NOT NULL,              -- '' if the session lives on
	at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX ON {log} (xid);

-- Triggers write the log, so that no program and no statement by hand forgets
-- it.
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO {log} (id, version, why) VALUES (OLD.id, OLD.version + 1, 'deleted');
	ELSE
		INSERT INTO {log} (id, version, why, at) VALUES (NEW.id, NEW.version,
			CASE WHEN NEW.ended IS NULL THEN '' ELSE NEW.why END,
			coalesce(NEW.ended, greatest(NEW.seen, statement_timestamp())));
	END IF;
	RETURN NULL;
END $body$;

CREATE TRIGGER roam_log AFTER UPDATE OF proof, level, ended ON {session} FOR EACH ROW
	WHEN (OLD.ended IS DISTINCT FROM NEW.ended OR NEW.ended IS NULL AND (OLD.proof <> NEW.proof OR OLD.level <> NEW.level))
	EXECUTE FUNCTION {function}();

-- Somebody deletes what is alive; what is over is only pruned.
CREATE TRIGGER roam_log_delete AFTER DELETE ON {session} FOR EACH ROW
	WHEN (OLD.ended IS NULL AND clock_timestamp() < OLD.seen + OLD.idle / 1000 * interval '1 microsecond'
		AND clock_timestamp() < coalesce(OLD.logged_in, OLD.created) + OLD.lifetime / 1000 * interval '1 microsecond')
	EXECUTE FUNCTION {function}();

-- One row about the store itself.
CREATE TABLE {meta} (
	one            boolean PRIMARY KEY DEFAULT true CHECK (one),
	schema_version integer NOT NULL,

	-- The epoch, and the history that it names: when the timeline or the
	-- system is another one, a replica took over or a copy was put in place,
	-- and the first server to notice begins another epoch.
	epoch          bigint  NOT NULL,
	system         bigint  NOT NULL,
	timeline       text    NOT NULL,

	-- Of the last complete sweep for old sessions: up to when what was over
	-- was removed, since when anything that was left can be over, and how
	-- many seconds it took. Of one that is going on: whose it is, and until
	-- when.
	swept          timestamptz NOT NULL DEFAULT '-infinity',
	due            timestamptz NOT NULL DEFAULT '-infinity',
	took           double precision NOT NULL DEFAULT 0,
	sweeper        bigint      NOT NULL DEFAULT 0,
	sweeps         timestamptz NOT NULL DEFAULT '-infinity',

	-- Transactions before mark were over, and seen, when it was set.
	mark           xid8        NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
	marked         timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW {view} AS SELECT id, version, username, level, addr, agent, created, logged_in, seen,
	least(seen + idle / 1000 * interval '1 microsecond',
		coalesce(logged_in, created) + lifetime / 1000 * interval '1 microsecond') AS expires,
	ended, why, coalesce(data, encode(blob, 'escape')) AS data
FROM {session};
