package main

import (
	"context"
	"io"

	"github.com/roam-web/roam/store/postgresstore"
)

// schema prints what a database must have.
func schema(ctx context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "schema STORE [flags]", `
Prints the SQL that makes the tables of a store, which is postgres, and what a role
needs to be granted that web servers log in as. It connects to nothing: pipe it
into psql as somebody who may create tables, or into your own migrations.

  roam schema postgres | psql -d site

You need it where web servers may not create tables, as is best. Else
"roam up --store postgres://..." does the same by itself. A place that is not
the default is named in the store URL too: postgres://db/site?table=shop_session.`)
	name := fs.String("schema", "", "`NAME` of the schema (default public)")
	table := fs.String("table", "", "`NAME` of the table of sessions (default roam_session); the others begin with it")
	got, err := fs.parse(args, "STORE")
	if err != nil {
		return err
	}
	switch got[0] {
	case "postgres", "postgresql":
	case "sqlite":
		return misuse("there is nothing to do")("an SQLite store makes its tables by itself")
	default:
		return misuse("want \"%s schema postgres\"", self())("there is no schema for %q", got[0])
	}
	sql, err := postgresstore.Schema(&postgresstore.Options{Schema: *name, Table: *table})
	if err != nil {
		return misuse("PostgreSQL has room for 63 bytes, of which the other tables take some")("%s", err)
	}
	_, err = io.WriteString(std.Out, sql)
	return err
}
