package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails the run if a test leaves a goroutine behind. In a process that
// a test has started, it is the program that the test wants.
func TestMain(m *testing.M) {
	if program := programs[os.Getenv("SERVERS_TEST_PROGRAM")]; program != nil {
		if err := program(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		for deadline := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > 1; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", buf[:runtime.Stack(buf, true)])
				code = 1
				break
			}
		}
	}
	os.Exit(code)
}

// programs are what tests start other processes of this binary for.
var programs = map[string]func(context.Context) error{}

// postgres starts a PostgreSQL that ends with the test.
func postgres(t *testing.T, o *PostgresOptions) *Postgres {
	t.Helper()
	begin := time.Now()
	p, err := StartPostgres(t.Context(), o)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	t.Logf("started in %v", time.Since(begin).Round(10*time.Millisecond))
	return p
}

// bouncer starts a PgBouncer that ends with the test.
func bouncer(t *testing.T, target *Node, o *PgBouncerOptions) *PgBouncer {
	t.Helper()
	b, err := StartPgBouncer(t.Context(), target, o)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// do fails the test if a verb fails.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// query returns the answer, or fails the test.
func query(t *testing.T, n *Node, sql string) string {
	t.Helper()
	got, err := n.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%v\nthe end of its log:\n%s", err, n.Log())
	}
	return got
}

// wantRows fails the test if the table t has other rows.
func wantRows(t *testing.T, n *Node, want string) {
	t.Helper()
	if got := query(t, n, "SELECT coalesce(string_agg(a::text, ' ' ORDER BY a), 'none') FROM t"); got != want {
		t.Errorf("%v has the rows %s, want %s", n, got, want)
	}
}

func sprintf(format string, v any) string { return fmt.Sprintf(format, v) } // vet dislikes %s of structs

func scanLines(r io.Reader, lines chan<- string) {
	for in := bufio.NewScanner(r); in.Scan(); {
		lines <- in.Text()
	}
}
