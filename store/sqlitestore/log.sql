-- The log of ends, since version 101 of the schema: which sessions ended, or got
-- another secret or another level, so that whoever remembers what was before
-- learns that it no longer holds. Nobody has to think of writing it: the trigger
-- runs for older programs and for statements by hand too.

CREATE TABLE log (
	n       INTEGER PRIMARY KEY, -- order of commits, as SQLite has one writer at a time
	id      BLOB    NOT NULL,
	version INTEGER NOT NULL,    -- of the session from now on
	why     TEXT    NOT NULL,    -- '' if it lives on
	at      INTEGER NOT NULL
) STRICT;

-- n follows the clock, and so goes on when the log has been emptied. It costs a
-- page less to write than AUTOINCREMENT.
--
-- at is this host's time, also if a statement by hand stamps nothing or
-- nonsense: no entry may look old before it is. SQLite's clock knows
-- milliseconds; the microseconds are the writer's.
CREATE TRIGGER session_log AFTER UPDATE OF proof, level, ended ON session
WHEN NEW.proof IS NOT OLD.proof OR NEW.level IS NOT OLD.level OR NEW.ended IS NOT OLD.ended
BEGIN
	INSERT INTO log (n, id, version, why, at)
	SELECT max(now, 1 + coalesce((SELECT max(n) FROM log), 0)),
		NEW.id, NEW.version, iif(NEW.ended IS NULL, '', NEW.why),
		max(now, min(now + 999, coalesce(NEW.ended, NEW.seen)))
	FROM (SELECT 1000 * CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) AS now);
END;
