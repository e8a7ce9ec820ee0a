package postgresstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// schemaVersion is that of schema.sql. The hundreds count the changes that
// older programs cannot live with. The rest counts additions, such as a column
// with a default, which older programs leave as they are: so two versions of a
// program can share a database while one replaces the other.
const schemaVersion = 100

//go:embed schema.sql
var schema string

var errVersion = errors.New("the tables are of a newer roam")

// compatible returns an error for tables that this program must not use.
func compatible(v int) error {
	if v/100 > schemaVersion/100 {
		return fmt.Errorf("%w: version %d, and this program knows versions up to %d99: use the newer program", errVersion, v, schemaVersion/100)
	}
	return nil
}

// Schema returns the SQL by which [Init] makes the tables. Who runs it owns
// them; the grants at its end, which are comments, are all that another role
// needs which the web servers log in as.
func Schema(opts *Options) (string, error) {
	r, err := opts.resolved()
	if err != nil {
		return "", err
	}
	n, err := r.names("")
	if err != nil {
		return "", err
	}
	sql := n.sql()
	if n.schema != "public" {
		sql = "CREATE SCHEMA IF NOT EXISTS " + quote(n.schema) + ";\n\n" + sql
	}
	return "BEGIN;\n\n" + sql + "\nCOMMIT;\n\n" + n.grants(), nil
}

func (n names) sql() string {
	return n.in(schema) + n.in("\nINSERT INTO {meta} (schema_version, epoch, system, timeline)\n"+
		"\tSELECT "+strconv.Itoa(schemaVersion)+", (extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1048576 + floor(random() * 1048576)::bigint,\n"+
		"\t\tsystem_identifier, "+timeline+"\n\tFROM pg_control_system();\n")
}

// grants are the least privileges, as comments.
func (n names) grants() string {
	return n.in("-- All that the web servers need, if they log in as another role, here called shop:\n" +
		"-- GRANT USAGE ON SCHEMA " + quote(n.schema) + " TO shop;\n" +
		"-- GRANT SELECT, INSERT, UPDATE, DELETE ON {session} TO shop;\n" +
		"-- GRANT SELECT, INSERT, UPDATE, DELETE ON {log} TO shop;\n" +
		"-- GRANT SELECT, UPDATE ON {meta} TO shop;\n")
}

// Init makes the tables in the database of the URL, and does nothing if they
// are there. Any number of processes may call it at once. It needs a role that
// may create them, see [Schema].
func Init(ctx context.Context, dsn string, opts *Options) error {
	s, err := newStore(dsn, opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var failed error
	for _, h := range s.hosts {
		switch err := s.initOn(ctx, h); {
		case err == nil:
			return nil
		case failed == nil || errors.Is(failed, errStandby):
			what := s.hint(err)
			if state(err) == "42501" {
				what = fmt.Sprintf(": this role may not create tables in the schema %s: let the database's owner do it, or hand over what Schema returns and roam schema postgres prints", quote(s.names.schema))
			}
			failed = fmt.Errorf("postgresstore: init: %s: %w%s", h.name, err, what)
		}
	}
	return failed
}

func (s *Store) initOn(ctx context.Context, h *host) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Not longer than that for one of several hosts.
	reach := time.AfterFunc(5*s.opts.Timeout, cancel)
	c, err := connect(ctx, h.cfg)
	if err != nil {
		return err
	}
	reach.Stop()
	defer c.quit()
	one := func(sql string) (string, error) {
		r := c.pg.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
		if r.Err != nil || len(r.Rows) == 0 || len(r.Rows[0]) == 0 {
			return "", r.Err
		}
		return string(r.Rows[0][0]), nil
	}
	text := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	standby, err := one("SELECT pg_is_in_recovery()")
	if err != nil {
		return err
	}
	if standby == "t" {
		return errStandby
	}
	if v, err := one("SELECT current_setting('server_version_num')"); err != nil {
		return err
	} else if n, _ := strconv.Atoi(v); n < 140000 {
		return fmt.Errorf("the server is PostgreSQL %d: want 14 or newer", n/10000)
	}
	if enc, err := one("SELECT current_setting('server_encoding')"); err != nil {
		return err
	} else if enc != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: want UTF8", enc)
	}
	for _, sql := range []string{"BEGIN", "SELECT pg_advisory_xact_lock(7957, hashtext(" + text(s.names.session()) + "))"} {
		if _, err := one(sql); err != nil {
			return err
		}
	}
	there, err := one("SELECT to_regclass(" + text(s.names.in("{meta}")) + ")")
	if err != nil {
		return err
	}
	if there != "" {
		v, err := one(s.names.in("SELECT schema_version FROM {meta}"))
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(v)
		return compatible(n)
	}
	sql := s.names.sql()
	if known, err := one("SELECT 1 FROM pg_namespace WHERE nspname = " + text(s.names.schema)); err != nil {
		return err
	} else if known == "" {
		sql = "CREATE SCHEMA " + quote(s.names.schema) + ";\n" + sql
	}
	if _, err := c.pg.Exec(ctx, sql).ReadAll(); err != nil {
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == "42P07" {
			return fmt.Errorf("%w: it is not roam's: give another Options.Table", err)
		}
		return err
	}
	_, err = one("COMMIT")
	return err
}
