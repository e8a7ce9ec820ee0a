package servers

import (
	"context"
	"fmt"
	"time"
)

// A Node is one PostgreSQL server.
type Node struct {
	*Server
	access *access
}

// URL returns the connection string of the user roam, who owns the database roam
// and may do nothing else.
func (n *Node) URL() string { return n.access.url("roam", n.access.owner, n.addr) }

// AdminURL returns the connection string of the superuser postgres to the database roam.
func (n *Node) AdminURL() string { return n.access.url("postgres", n.access.admin, n.addr) }

// Promote makes a standby a primary and waits until it takes writes. The old
// primary is not told: if it is alive, there are two.
func (n *Node) Promote(ctx context.Context) error {
	if _, err := n.ask(ctx, "postgres", "SELECT pg_promote(false)"); err != nil {
		return fmt.Errorf("promoting %v: %w", n, err)
	}
	if err := n.wait(ctx, "SELECT pg_is_in_recovery()", "f"); err != nil {
		return fmt.Errorf("promoting %v: %w", n, err)
	}
	return nil
}

// Exec runs SQL as the superuser in the database roam. Each statement is a
// transaction of its own, and the first that fails ends it.
func (n *Node) Exec(ctx context.Context, sql string) error {
	_, err := n.Query(ctx, sql)
	return err
}

// Query is Exec and returns the rows, one a line, with | between the columns.
func (n *Node) Query(ctx context.Context, sql string) (string, error) {
	return n.ask(ctx, "roam", sql)
}

func (n *Node) ask(ctx context.Context, database, sql string) (string, error) {
	rows, err := n.access.ask(ctx, n.addr, database, sql)
	if err != nil {
		return "", fmt.Errorf("asking %v: %w", n, err)
	}
	return rows, nil
}

// wait repeats a query until it has the answer want. It asks in the database
// postgres, as a standby that is behind may not have roam yet.
func (n *Node) wait(ctx context.Context, query, want string) error {
	for {
		got, err := n.ask(ctx, "postgres", query)
		if err != nil {
			return err
		}
		if got == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
