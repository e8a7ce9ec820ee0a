package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/store/postgresstore"
)

func (u storeURL) postgresOptions(log *slog.Logger) *postgresstore.Options {
	return &postgresstore.Options{Schema: u.schema, Table: u.table, Logger: log}
}

// silent is for commands, whose errors say what there is to say.
var silent = slog.New(slog.DiscardHandler)

// openPostgres opens tables that are there. The log gets what happens to the
// database.
func openPostgres(ctx context.Context, u storeURL, log *slog.Logger) (closingStore, error) {
	s, err := postgresstore.Open(ctx, u.dsn, u.postgresOptions(log))
	if err != nil {
		return nil, u.explain(err)
	}
	return &postgres{s, newSockets(u.dsn)}, nil
}

// A postgres is a store that knows how many connections it has.
type postgres struct {
	*postgresstore.Store
	sockets *sockets
}

// Connections returns how many connections to the database there are.
func (p *postgres) Connections() int { return p.sockets.count() }

// makeStore makes the tables of a store in PostgreSQL if they are missing, and
// says whether they were. Other stores make themselves.
func makeStore(ctx context.Context, u storeURL) (made bool, err error) {
	if u.scheme != "postgres" {
		return false, nil
	}
	s, err := postgresstore.Open(ctx, u.dsn, u.postgresOptions(silent))
	if err == nil {
		// Open is content with a database that does not answer now, because a
		// web server may start in an outage. Whoever sets one up is not.
		err = reachable(ctx, s)
		return false, errors.Join(u.explain(err), s.Close())
	}
	if !missing(err) {
		return false, u.explain(err)
	}
	return true, u.explain(postgresstore.Init(ctx, u.dsn, u.postgresOptions(silent)))
}

// reachable reports why a store does not answer, if it does not.
func reachable(ctx context.Context, s roam.Store) error {
	_, err := s.Load(ctx, roam.ID{}, roam.Want{})
	if errors.Is(err, roam.ErrNotFound) {
		return nil
	}
	return err
}

// missing says that a database has answered, and has no tables of ours.
func missing(err error) bool {
	switch sqlState(err) {
	case "42P01", "3F000": // undefined_table, invalid_schema_name
		return true
	}
	return false
}

// sqlState returns the code that PostgreSQL gave an error, "" if it is none of
// its own. The codes are those of its manual, appendix A.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// explain gives an error a hint, and names the store that it is about.
func (u storeURL) explain(err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	switch state := sqlState(err); {
	case missing(err):
		hint = fmt.Sprintf("\"%s up --store …\" makes the tables; \"%s schema postgres%s\" prints the SQL, for somebody who may", self(), self(), u.places())
	case state == "28P01" || state == "28000":
		hint = "is the password right? It is taken from the URL, $PGPASSWORD or ~/.pgpass"
	case state == "3D000":
		hint = "make the database first, as an administrator: CREATE DATABASE … OWNER …"
	case state == "42501":
		hint = fmt.Sprintf("\"%s schema postgres%s\" prints what a role must be granted", self(), u.places())
	case errors.Is(err, roam.ErrUnavailable):
		hint = "is the database running, and its host and port right?"
	}
	// The libraries show no password; this makes sure of it.
	text := strings.ReplaceAll(err.Error(), u.dsn, farm.Redact(u.dsn))
	err = &shown{err, strings.ReplaceAll(text, "\n\t", " ")} // an error is one line
	if hint == "" {
		return err
	}
	return hinted(err, "%s", hint)
}

// places are the flags of "roam schema postgres" for this store.
func (u storeURL) places() (flags string) {
	if u.schema != "" {
		flags += " --schema " + quote(u.schema)
	}
	if u.table != "" {
		flags += " --table " + quote(u.table)
	}
	return flags
}

// A shown is an error in other words.
type shown struct {
	error
	text string
}

func (s *shown) Error() string { return s.text }
func (s *shown) Unwrap() error { return s.error }
