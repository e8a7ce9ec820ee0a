package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

// waiting is how many commits wait for the standby.
func waiting(tb testing.TB, pg *servers.Postgres) string {
	tb.Helper()
	n, err := pg.Primary.Query(background, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	must(tb, err)
	return n
}

// A commit that stops waiting for its standby succeeds, says the server, with a
// warning: it can be seen, and can be lost.
func TestCancelledWaitForTheStandbyIsNoSuccess(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Sync: true})
	opts := fresh(t)
	opts.Timeout = 20 * time.Second
	s := openAt(t, pg.DSN(), opts)
	a, b, dead := insert(t, s, record(1, "ada")), insert(t, s, record(2, "ada")), insert(t, s, record(3, "bob"))
	must(t, pg.Lag(background, true))
	interrupted := func(do func() error) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- do() }()
		until(t, "the commit waits for the standby", func() bool { return waiting(t, pg) == "1" })
		must(t, pg.Primary.Exec(background, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
		return <-done
	}
	for what, do := range map[string]func() error{
		"Insert":  func() error { _, err := s.Insert(background, record(4, "")); return err },
		"Update":  func() error { _, err := s.Update(background, a); return err },
		"Touch":   func() error { return s.Touch(background, []roam.Touch{{ID: a.ID, At: time.Now().Add(time.Hour)}}) },
		"End":     func() error { return s.End(background, b.ID, roam.Revoked) },
		"EndUser": func() error { _, err := s.EndUser(background, "bob", roam.Revoked); return err },
	} {
		err := interrupted(do)
		if err == nil || errors.Is(err, roam.ErrUnavailable) {
			t.Errorf("%s whose commit was not replicated: error %v, want one that leaves it open", what, err)
		}
		tells(t, err, "standby")
	}

	// All of it can be seen now. Whoever must know that it is durable waits.
	if got := must2(s.Load(background, a.ID, roam.Want{})); got.Version != 2 {
		t.Errorf("got version %d, want 2", got.Version)
	}
	for what, do := range map[string]func() error{
		"a durable Load":               func() error { _, err := s.Load(background, a.ID, roam.Want{Durable: true}); return err },
		"End of what has ended":        func() error { return s.End(background, dead.ID, roam.Revoked) },
		"EndUser of those that have":   func() error { _, err := s.EndUser(background, "bob", roam.Revoked); return err },
		"a durable Load of the second": func() error { _, err := s.Load(background, b.ID, roam.Want{Durable: true}); return err },
	} {
		if err := interrupted(do); err == nil {
			t.Errorf("%s vouches for what was not replicated", what)
		}
	}
	must(t, pg.Lag(background, false))
	must2(s.Load(background, a.ID, roam.Want{Durable: true}))
	must(t, s.End(background, dead.ID, roam.Revoked))
}

// While the standby is missing writes fail, reads do not, and the server is not
// filled with commits that wait.
func TestMissingStandbyStopsOnlyWrites(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Sync: true})
	opts := quick(t)
	opts.MaxConns = 8
	s := openAt(t, pg.DSN(), opts)
	rec := insert(t, s, record(1, "ada"))
	must(t, pg.Lag(background, true))
	var writers sync.WaitGroup
	var mu sync.Mutex
	open, vouched := 0, 0
	for lane := range uint32(8) {
		writers.Go(func() {
			for i := range uint32(6) {
				_, err := s.Insert(background, record(100+lane*10+i, ""))
				mu.Lock()
				switch {
				case err == nil:
					t.Error("a write succeeded without the standby")
				case errors.Is(err, roam.ErrUnavailable):
					vouched++
				default:
					open++
				}
				mu.Unlock()
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	for range 20 {
		if _, err := s.Load(background, rec.ID, roam.Want{}); err != nil {
			t.Errorf("a read while the standby is missing: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	writers.Wait()
	if n := waiting(t, pg); n > "8" || len(n) > 1 {
		t.Errorf("%s commits wait on the server, want at most as many as there are connections, 8", n)
	}
	if vouched == 0 {
		t.Error("no write failed at once although nobody answers them")
	}
	t.Logf("%d writes left open, %d refused at once, %s commits wait", open, vouched, waiting(t, pg))
	_, err := s.Insert(background, record(99, ""))
	refusedBy(t, err, "standby")
	must(t, pg.Lag(background, false))
	until(t, "writes go on", func() bool { return works(s, 2) })
	until(t, "all places are free", func() bool {
		p := s.primary.Load().pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.stuck == 0
	})
}

// Nobody ever sends a cancel request: it would be one of those above.
func TestNoCancelRequestIsSent(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Sync: true})
	opts := quick(t)
	s := openAt(t, pg.DSN(), opts)
	rec := insert(t, s, record(1, "ada"))
	must(t, pg.Lag(background, true))
	ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	if _, err := s.Update(ctx, rec); err == nil {
		t.Error("an update succeeded without the standby")
	}
	// Had it been cancelled, it could be seen.
	for range 100 {
		if got := must2(s.Load(background, rec.ID, roam.Want{})); got.Version != 1 {
			t.Fatalf("got version %d, want 1: the standby does not have the second", got.Version)
		}
		time.Sleep(2 * time.Millisecond)
	}
	must(t, pg.Lag(background, false))
	until(t, "it is replicated after all", func() bool { return must2(s.Load(background, rec.ID, roam.Want{})).Version == 2 })
}

func TestWarningsAreReadInAnyLanguage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n    pgconn.Notice
		want bool
	}{
		{pgconn.Notice{Severity: "WARNUNG", SeverityUnlocalized: "WARNING", Code: "01000", Message: "storniere Warten", Routine: "SyncRepWaitForLSN", File: "syncrep.c"}, true},
		{pgconn.Notice{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "57P01", Routine: "SyncRepWaitForLSN"}, true},
		{pgconn.Notice{Severity: "WARNING", Code: "01000", Message: "canceling wait for synchronous replication due to user request"}, true},
		{pgconn.Notice{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000"}, false},
		{pgconn.Notice{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000", Routine: "exec_stmt_raise"}, false},
	} {
		var c conn
		if c.notice(&test.n); c.warned != test.want {
			t.Errorf("%+v: got %v, want %v", test.n, c.warned, test.want)
		}
	}
}

// What the store vouches for: that nothing was written.
func TestErrorsVouchForWhatIsKnown(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"23505": true, "40001": true, "40P01": true, "40003": false, "42501": true, "53100": true, "53300": true, "25006": true,
		"57014": true, "57P01": false, "57P02": false, "08006": false, "08P01": false, "XX000": false, "55000": true, "26000": true, "58030": false,
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code})
		if got := refused(err); got != want {
			t.Errorf("SQLSTATE %s: got %v, want %v", code, got, want)
		}
		err = &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code}
		if refused(err) {
			t.Errorf("FATAL %s: vouched for", code)
		}
	}
	if !refused(&pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P03"}) {
		t.Error("FATAL 57P03, that the server is starting, comes before anything is done")
	}
}
