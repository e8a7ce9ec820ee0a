-- The schema of package sqlitestore as of version 100 (PRAGMA user_version).
-- What came later is in files of its own.
--
-- Times are microseconds since 1970 in UTC, by the clock of this host.
-- Durations are nanoseconds, as Go's time.Duration. To look around by hand,
-- read the view "sessions"; nothing in it opens a session. The view "epoch" is
-- made by the program, see setEpoch.

CREATE TABLE session (
	n         INTEGER PRIMARY KEY,                            -- order of arrival; may be used again
	id        BLOB    NOT NULL UNIQUE CHECK (length(id) = 16), -- a UUID
	version   INTEGER NOT NULL,
	proof     BLOB    NOT NULL,                               -- SHA-256 of the secret
	previous  BLOB,                                           -- of the secret before the last login
	user      TEXT    NOT NULL,                               -- '' before login
	level     INTEGER NOT NULL,
	addr      TEXT,                                           -- where the login came from
	agent     TEXT    NOT NULL,
	created   INTEGER NOT NULL,
	logged_in INTEGER,
	seen      INTEGER NOT NULL,
	idle      INTEGER NOT NULL,                               -- allowed since seen
	lifetime  INTEGER NOT NULL,                               -- allowed since logged_in, or created
	writes    BLOB    NOT NULL,                               -- ids of the last writes, newest first, 8 bytes each
	ended     INTEGER,                                        -- set in a tombstone
	why       TEXT    NOT NULL DEFAULT '',
	data      ANY                                             -- TEXT if it is text, otherwise BLOB
) STRICT;

-- Only what a user has running, so that guests and tombstones cost it nothing.
-- There is no index on seen: it would turn every touch into two more writes.
CREATE INDEX session_of_user ON session (user, logged_in DESC, id) WHERE user <> '' AND ended IS NULL;

CREATE VIEW sessions AS SELECT
	lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4)
		|| '-' || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
	version, user, level, addr, agent,
	datetime(created / 1000000, 'unixepoch') AS created,
	datetime(logged_in / 1000000, 'unixepoch') AS logged_in,
	datetime(seen / 1000000, 'unixepoch') AS seen,
	datetime(min(seen + idle / 1000, coalesce(logged_in, created) + lifetime / 1000) / 1000000, 'unixepoch') AS expires,
	datetime(ended / 1000000, 'unixepoch') AS ended,
	why, data
FROM session;
