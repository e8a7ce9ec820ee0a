package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/roam-web/roam"
)

var (
	errClosed   = errors.New("the store is closed")
	errReplica  = errors.New("the server gave up waiting for its synchronous standby: what was written can be lost in a failover")
	errHistory  = errors.New("another server answered than the one that was asked: a replica has taken over")
	errStranger = errors.New("the answer is about another session than the one that was asked for")
	errAlone    = errors.New("to be tried without the others")
	errStuck    = errors.New("too many writes are without an answer, as when a synchronous standby is missing")
)

// unwritten marks an error of which it is known that nothing was written.
func unwritten(err error) error {
	if err == nil || errors.Is(err, roam.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", roam.ErrUnavailable, err)
}

// state returns the SQLSTATE of an error that the server sent, or "".
func state(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// refused reports whether the server's error says for sure that the statement
// was rolled back. That holds for errors that PostgreSQL raises before it
// commits. What ends the connection may have come after; and what a pooler
// says by itself, with a code of class 08, tells nothing.
func refused(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return false
	}
	if s := e.SeverityUnlocalized; s == "FATAL" || s == "PANIC" || s == "" && e.Severity != "ERROR" {
		return e.Code == "57P03" // it is starting or stopping, and lets nobody in
	}
	switch e.Code {
	case "40003": // statement completion unknown
		return false
	case "57014": // cancelled: while it waits for a standby that is a warning, see notice
		return true
	}
	switch e.Code[:2] {
	case "0A", "21", "22", "23", "25", "26", "28", "2B", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "P0":
		return true
	}
	return false
}

// personal reports whether an error that the server sent may be about one of a
// group, a record that cannot be read, say, or a name that is not UTF-8. Each is
// tried alone then. What is about the server, or about all of our statements,
// each would only hear again.
func personal(err error) bool {
	s := state(err)
	if s == "" || deposed(err) {
		return false
	}
	switch s[:2] {
	case "22", "23", "40", "54", "55", "XX":
		return true
	}
	return s == "57014" || s == "53200"
}

// deposed reports whether the server cannot be the primary any more, or not for
// us, so that the connection is of no use.
func deposed(err error) bool {
	switch s := state(err); s {
	case "25006", "57P01", "57P02", "57P03", "57P05":
		return true
	case "55000": // recovery is in progress
		return true
	default:
		return strings.HasPrefix(s, "08")
	}
}

// broken reports whether the connection broke, rather than that the server had
// something to say or that time was up.
func broken(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || pgconn.Timeout(err) || errors.Is(err, context.Canceled) {
		return false
	}
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || deposed(err)
}

// explain says in an error what was tried, where, and what to do. Results that
// are no failures it leaves alone.
func (s *Store) explain(what string, err error) error {
	if err == nil || err == roam.ErrConflict || err == roam.ErrNotFound {
		return err
	}
	return fmt.Errorf("postgresstore: %s: %w%s", what, err, s.hint(err))
}

func (s *Store) hint(err error) string { return hint(err, s.names) }

// hint says what to do about an error.
func hint(err error, n names) string {
	switch state(err) {
	case "42P01", "3F000", "42883", "42703":
		return fmt.Sprintf(": the tables of %s are not there, or not those of this version: make them with postgresstore.Init, or with: roam schema postgres | psql", n.session())
	case "42501":
		return fmt.Sprintf(": this role may not do that: the grants that it needs are at the end of what roam schema postgres prints for %s", n.session())
	case "28P01", "28000":
		return ": check the user and the password in the URL, and pg_hba.conf on the server"
	case "3D000":
		return ": create the database first, or give another one in the URL"
	case "53300":
		return ": the server has too many clients: lower Options.MaxConns, raise max_connections, or put a pooler such as PgBouncer in between"
	case "53100":
		return ": the server's disk is full: make room"
	case "22021", "22P05":
		return ": names must be UTF-8 without NUL, and the database's encoding UTF8"
	case "25006", "55000":
		return ": the server is a standby or was set to read only"
	}
	if errors.Is(err, errReplica) || errors.Is(err, errStuck) {
		return ": bring the standby back, or take it out of synchronous_standby_names"
	}
	return ""
}
