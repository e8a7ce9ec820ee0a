package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKilledAndStartedItHasWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"))
	addr := p.Primary.Addr()
	do(t, p.Primary.Kill())
	if err := p.Primary.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err == nil {
		t.Error("a killed server took a row")
	}
	do(t, p.Primary.Start(t.Context()))
	wantRows(t, p.Primary, "1")
	if got := p.Primary.Addr(); got != addr {
		t.Errorf("after Start it listens on %s, before on %s", got, addr)
	}
	if log, err := os.ReadFile(p.Primary.spec.Log); err != nil || !strings.Contains(string(log), "not properly shut down") {
		t.Errorf("the log does not tell of a crash (%v):\n%s", err, log)
	}
}

func TestRestartIsPlanned(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"))
	do(t, p.Primary.Restart(t.Context()))
	wantRows(t, p.Primary, "1")
	if log, err := os.ReadFile(p.Primary.spec.Log); err != nil || strings.Contains(string(log), "not properly shut down") {
		t.Errorf("the log tells of a crash (%v):\n%s", err, log)
	}
}

func TestFrozenItAnswersNobodyAndThawedItGoesOn(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int)"))
	s := connect(t, p.Primary.URL())
	s.send("SELECT 1;")
	if got := s.line(); got != "1" {
		t.Fatalf("before Freeze: %q", got)
	}

	do(t, p.Primary.Freeze())
	s.send("SELECT 2;") // on a connection from before
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if got, err := p.Primary.Query(ctx, "SELECT 3"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answered %q, %v to a new connection", got, err)
	}
	select {
	case got := <-s.lines:
		t.Errorf("a frozen server answered %q", got)
	default:
	}
	do(t, p.Primary.Thaw())
	if got := s.line(); got != "2" {
		t.Errorf("after Thaw: %q", got)
	}
	do(t, p.Primary.Exec(t.Context(), "INSERT INTO t VALUES (1)"))

	do(t, p.Primary.Freeze())
	do(t, p.Primary.Kill())
	do(t, p.Primary.Start(t.Context()))
	wantRows(t, p.Primary, "1")
}

func TestPromotedStandbyHasWhatItFollowed(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true})
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"))
	do(t, p.CatchUp(t.Context()))
	wantRows(t, p.Standby, "1")
	if err := p.Standby.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a standby took a row: %v", err)
	}
	do(t, p.Primary.Freeze()) // so that there are two of them after Thaw
	do(t, p.Standby.Promote(t.Context()))
	do(t, p.Standby.Exec(t.Context(), "INSERT INTO t VALUES (3)"))
	wantRows(t, p.Standby, "1 3")
	do(t, p.Primary.Thaw())
	wantRows(t, p.Primary, "1")
	if a, b := timeline(t, p.Primary), timeline(t, p.Standby); a == b {
		t.Errorf("both are on timeline %s", a)
	}
}

func timeline(t *testing.T, n *Node) string {
	return query(t, n, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
}

// Without this, no test of a failover would prove anything.
func TestAsynchronousFailoverLosesWhatLagged(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true})
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"))
	do(t, p.CatchUp(t.Context()))
	do(t, p.Lag(t.Context(), true))
	do(t, p.Primary.Exec(t.Context(), "INSERT INTO t VALUES (2)")) // acknowledged
	wantRows(t, p.Primary, "1 2")
	do(t, p.Primary.Kill())
	do(t, p.Standby.Promote(t.Context()))
	wantRows(t, p.Standby, "1")
}

func TestAsynchronousStandbyCatchesUpAfterALag(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true})
	do(t, p.Lag(t.Context(), true))
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 50000); DELETE FROM t WHERE a > 2"))
	do(t, p.Lag(t.Context(), false))
	wantRows(t, p.Standby, "1 2")

	// A lag that begins while the primary is away holds too.
	do(t, p.Primary.Kill())
	do(t, p.Lag(t.Context(), true))
	do(t, p.Primary.Start(t.Context()))
	do(t, p.Primary.Exec(t.Context(), "INSERT INTO t VALUES (3)"))
	do(t, p.Primary.Kill())
	do(t, p.Standby.Promote(t.Context()))
	wantRows(t, p.Standby, "1 2")
}

func TestSynchronousPrimaryWaitsForALaggingStandby(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Sync: true, NoFsync: true})
	do(t, p.Primary.Exec(t.Context(), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"))
	do(t, p.Lag(t.Context(), true))
	insert := make(chan error, 1)
	go func() { insert <- p.Primary.Exec(t.Context(), "INSERT INTO t VALUES (2)") }()
	do(t, p.Primary.wait(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1"))
	select {
	case err := <-insert:
		t.Errorf("acknowledged without the standby: %v", err)
	default:
	}
	wantRows(t, p.Primary, "1")
	do(t, p.Lag(t.Context(), false))
	do(t, <-insert)
	wantRows(t, p.Primary, "1 2")

	do(t, p.Primary.Kill())
	do(t, p.Standby.Promote(t.Context()))
	wantRows(t, p.Standby, "1 2")
	do(t, p.Standby.Exec(t.Context(), "INSERT INTO t VALUES (3)")) // has no standby of its own to wait for
}

func TestTwoAtOnceAreTwo(t *testing.T) {
	t.Parallel()
	const many = 2
	systems := make(chan string, many)
	for range many {
		go func() {
			p, err := StartPostgres(t.Context(), nil)
			if err != nil {
				systems <- err.Error()
				return
			}
			defer p.Stop()
			id, err := p.Primary.Query(t.Context(), "SELECT system_identifier FROM pg_control_system()")
			if err != nil {
				id = err.Error()
			}
			systems <- id
		}()
	}
	a, b := <-systems, <-systems
	if strings.Contains(a, ErrMissing.Error()) {
		t.Skip(a)
	}
	if a == b || len(a) < 10 || strings.ContainsAny(a+b, " ") {
		t.Errorf("the system identifiers are %s and %s, want two", a, b)
	}
}

func TestConnectionStringsAreForThoseTheySay(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true, Settings: map[string]string{"work_mem": "7MB", "search_path": `"it's", public`}})
	proxy, err := StartProxy(p.Primary.Addr())
	do(t, err)
	defer proxy.Stop()
	const who = "SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), pg_is_in_recovery()"
	for _, test := range []struct{ name, url, want string }{
		{"URL of the primary", p.Primary.URL(), "roam|f|f"},
		{"URL of the standby", p.Standby.URL(), "roam|f|t"},
		{"AdminURL", p.Primary.AdminURL(), "postgres|t|f"},
		{"DSN", p.DSN(), "roam|f|f"},
		{"DSN to write", p.DSN(p.Standby.Addr(), p.Primary.Addr()) + "&target_session_attrs=read-write", "roam|f|f"},
		{"DSN of a proxy", p.DSN(proxy.Addr()), "roam|f|f"},
	} {
		s := connect(t, test.url)
		s.send(who + ";")
		if got := s.line(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	s := connect(t, p.Primary.URL())
	s.send("CREATE TABLE mine (); SELECT current_setting('work_mem'), current_setting('search_path');")
	if got, want := s.line(), `7MB|"it's", public`; got != want {
		t.Errorf("settings: %s, want %s", got, want)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := StartPostgres(t.Context(), &PostgresOptions{Bin: dir})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "initdb") || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("StartPostgres: %v", err)
	}
	_, err = StartPgBouncer(t.Context(), nil, &PgBouncerOptions{Bin: dir})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "pgbouncer") || !strings.Contains(err.Error(), "apt-get install pgbouncer") {
		t.Errorf("StartPgBouncer: %v", err)
	}
}

func TestFailureToStartQuotesTheLog(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), &PostgresOptions{Settings: map[string]string{"shared_buffers": "plenty"}})
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("got %v", err)
	}
}

func TestAVerbAtTheWrongTimeIsAnError(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	if err := p.Primary.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("Start of a running server: %v", err)
	}
	if err := p.Lag(t.Context(), true); err == nil {
		t.Error("Lag without a standby is no error")
	}
	do(t, p.Primary.Shutdown(t.Context()))
	for name, verb := range map[string]func() error{
		"Kill": p.Primary.Kill, "Freeze": p.Primary.Freeze, "Thaw": p.Primary.Thaw,
		"Shutdown": func() error { return p.Primary.Shutdown(t.Context()) },
	} {
		if err := verb(); err == nil || !strings.Contains(err.Error(), "not running") {
			t.Errorf("%s of a server that is down: %v", name, err)
		}
	}
	p.Stop()
	p.Stop()
	if err := p.Primary.Start(t.Context()); err == nil {
		t.Error("Start after Stop is no error")
	}
}

// Somebody else's server on the address is not taken for ours.
func TestATakenAddressIsNoticed(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	b := bouncer(t, p.Primary, nil)
	do(t, p.Primary.Shutdown(t.Context()))
	do(t, b.Shutdown(t.Context()))
	for _, s := range []*Server{p.Primary.Server, b.Server} {
		ln, err := net.Listen("tcp", s.Addr())
		do(t, err)
		if err := s.Start(t.Context()); err == nil || !addressTaken(err) {
			t.Errorf("Start: %v", err)
		}
		ln.Close()
		do(t, s.Start(t.Context()))
	}
}

func TestServersSpellNoPassword(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true})
	b := bouncer(t, p.Primary, nil)
	for _, v := range []any{p, p.Primary, *p.Primary, b, b.Server} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			got := sprintf(format, v)
			if strings.Contains(got, p.access.owner) || strings.Contains(got, p.access.admin) {
				t.Errorf("%s of a %T has a password", format, v)
			}
		}
	}
	do(t, p.Primary.Kill())
	_, err := p.Primary.Query(t.Context(), "SELECT 1")
	if err == nil || strings.Contains(err.Error(), p.access.admin) {
		t.Errorf("error of a query: %v", err)
	}
	do(t, p.Primary.Start(t.Context()))
	logs, _ := filepath.Glob(filepath.Join(p.group.dir, "*.log"))
	if len(logs) < 3 {
		t.Fatalf("logs: %q", logs)
	}
	for _, path := range logs {
		log, err := os.ReadFile(path)
		do(t, err)
		if strings.Contains(string(log), p.access.owner) || strings.Contains(string(log), p.access.admin) {
			t.Errorf("%s has a password", path)
		}
	}
}

// A session is a psql that stays connected.
type session struct {
	t     *testing.T
	in    func(string) error
	lines chan string
}

func connect(t *testing.T, url string) *session {
	t.Helper()
	bin, err := postgresPrograms("")
	do(t, err)
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "psql"), "-XAtq", url)
	cmd.Env = environment(os.TempDir())
	in, err := cmd.StdinPipe()
	do(t, err)
	out, err := cmd.StdoutPipe()
	do(t, err)
	cmd.Stderr = cmd.Stdout
	do(t, cmd.Start())
	s := &session{t: t, lines: make(chan string, 100)}
	s.in = func(sql string) error { _, err := in.Write([]byte(sql + "\n")); return err }
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(s.lines)
		scanLines(out, s.lines)
	}()
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	return s
}

func (s *session) send(sql string) {
	s.t.Helper()
	do(s.t, s.in(sql))
}

func (s *session) line() string {
	s.t.Helper()
	select {
	case line, ok := <-s.lines:
		if !ok {
			s.t.Fatal("the session ended")
		}
		return line
	case <-time.After(time.Minute):
		s.t.Fatal("no answer")
	}
	return ""
}
