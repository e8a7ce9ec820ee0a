package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/roam-web/roam/cmd/roam/internal/report"
	"github.com/roam-web/roam/internal/servers"
)

// results runs a drill and returns its exit status, what it printed and its
// runs.
func results(t *testing.T, args ...string) (code int, out, errs string, runs []report.Run) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	file, page := filepath.Join(dir, "drill.json"), filepath.Join(dir, "drill.html")
	code, out, errs = runIt(t, append([]string{"drill", "--json", file, "--html", page}, args...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	var all struct{ Runs []report.Run }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "</html>") {
		t.Errorf("the page is not there or not whole: %v", err)
	}
	if !strings.Contains(out, page) {
		t.Errorf("the output does not say where the page is:\n%s", out)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > report.Width && !strings.Contains(line, page) && !strings.Contains(line, "roam-logs-") {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "roam-drill-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return code, out, errs, all.Runs
}

// This is the proof in small: a real farm, a real kill -9.
func TestADrillOfRoamLosesNothing(t *testing.T) {
	code, out, errs, runs := results(t, "--design", "roam", "--scenario", "kill,logout", "--seconds", "2", "--rate", "100")
	if code != 0 {
		t.Fatalf("exit status %d\n%s%s", code, out, errs)
	}
	if len(runs) != 2 || runs[0].Scenario != "kill" || runs[1].Scenario != "logout" {
		t.Fatalf("got %+v", runs)
	}
	for _, r := range runs {
		if l := r.Losses(); len(l) > 0 || r.Requests < 200 {
			t.Errorf("%s: %d requests, lost %v", r.Scenario, r.Requests, l)
		}
		if len(r.ServedBy) != 3 {
			t.Errorf("%s: served by %v, want three servers", r.Scenario, r.ServedBy)
		}
	}
	for _, want := range []string{"roam   kill", "roam   logout", "roam lost nothing"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if want := "[2/2] roam × logout: "; !strings.Contains(errs, want) {
		t.Errorf("the progress lacks %q:\n%s", want, errs)
	}
}

// If the drill could not fail it would prove nothing: this roam keeps its
// sessions in each server's memory.
func TestADrillOfARoamThatLosesSessionsFails(t *testing.T) {
	i := slices.IndexFunc(designs, func(d design) bool { return d.name == report.Roam })
	right := designs[i].farm
	t.Cleanup(func() { designs[i].farm = right })
	designs[i].farm.Local = true
	code, out, errs, runs := results(t, "--design", "roam", "--scenario", "none", "--seconds", "1", "--rate", "100", "--servers", "2")
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	if len(runs) != 1 || runs[0].LoggedOut == 0 || runs[0].CartItemsLost == 0 {
		t.Errorf("got %+v", runs)
	}
	if want := "error: roam lost something: none: logged_out = "; !strings.Contains(errs, want) {
		t.Errorf("the error lacks %q:\n%s", want, errs)
	}
	if strings.Contains(out, "lost nothing") || !strings.Contains(out, "LOST SOMETHING") {
		t.Errorf("the verdict is wrong:\n%s", out)
	}
}

func TestADrillRefusesWhatIsAbsurd(t *testing.T) {
	for args, want := range map[string]string{
		"--rate 1000000":           "hint: want 10 to 3000",
		"--rate 0":                 "hint: want 10 to 3000",
		"--seconds 86400":          "hint: want 1 to 120",
		"--seconds -1":             "hint: want 1 to 120",
		"--servers 1":              "hint: want 2 to 8",
		"--servers 100":            "hint: want 2 to 8",
		"--design sticky":          "hint: want local, sticky-cookie, roam",
		"--design roam,lokal":      "hint: did you mean local?",
		"--scenario rol":           "hint: did you mean roll?",
		"--scenario kill,,logout":  "error: there is no scenario \"\"",
		"--html missing/page.html": "no such file",
		"--json missing/r.json":    "no such file",
		"roam":                     "unexpected argument",
	} {
		code, out, errs := runIt(t, append([]string{"drill"}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("drill %s: exit status %d, want not 0 and %q before anything starts; got\n%s%s", args, code, want, out, errs)
		}
	}
}

func TestADrillCanBeRepeated(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "",
		"--rate 400 --json x.json":      "--rate 400",
		"-html=a.html --design roam":    "--design roam",
		"--html a.html --scenario kill": "--scenario kill",
	} {
		if got := strings.Join(repeat(strings.Fields(args)), " "); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
}

func TestDesignsAndScenariosAreListsInTheOrderGiven(t *testing.T) {
	named := func(s scenario) (string, bool) { return s.name, s.byDefault() }
	for list, want := range map[string]string{
		"":                    "kill roll logout",
		"logout, kill,logout": "logout kill",
		"none":                "none",
	} {
		chosen, err := choose("scenario", list, scenarios, named)
		var names []string
		for _, s := range chosen {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%q: got %q and %v, want %q", list, got, err, want)
		}
	}
}

// owed are the losses of a run but for those that a busy machine can cause by
// itself: a database that does not answer within a second is one that is down,
// as far as a web server can tell, and says nothing about sessions.
func owed(r report.Run) (losses []report.Loss) {
	for _, l := range r.Losses() {
		switch l.Name {
		case "late_return", "slower_after", "failed_get", "failed_post beyond in_flight_posts":
		default:
			losses = append(losses, l)
		}
	}
	return losses
}

// onPostgres runs a drill on a private PostgreSQL, or skips the test.
func onPostgres(t *testing.T, args ...string) (out string, runs []report.Run) {
	t.Helper()
	probe, err := servers.StartPostgres(t.Context(), nil)
	if errors.Is(err, servers.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	probe.Stop()
	_, out, errs, runs := results(t, append([]string{"--store", "postgres", "--rate", "100"}, args...)...)
	if len(runs) == 0 {
		t.Fatalf("no runs\n%s%s", out, errs)
	}
	return out, runs
}

func TestAKilledDatabaseCostsNobodyASession(t *testing.T) {
	out, runs := onPostgres(t, "--scenario", "store-kill", "--seconds", "2")
	r := runs[0]
	if l := owed(r); len(l) > 0 {
		t.Errorf("lost %v\n%s", l, out)
	}
	if r.Trouble == nil || r.Trouble.UnavailableGet == 0 || r.Trouble.FirstSuccess < 0 || r.Strain == nil || r.Strain.GoroutinesMax == 0 || r.Strain.ConnsMax < 1 {
		t.Errorf("there was no outage, or nobody looked: %+v, %+v", r.Trouble, r.Strain)
	}
	if !strings.Contains(out, "roam   store-kill") {
		t.Errorf("the outage is not told:\n%s", out)
	}
}

// The standby lags, so that there is something to lose; and what ended in that
// time stays ended.
func TestAnAsynchronousFailoverIsCounted(t *testing.T) {
	out, runs := onPostgres(t, "--scenario", "store-failover-async", "--seconds", "3")
	r := runs[0]
	if l := owed(r); len(l) > 0 {
		t.Errorf("lost %v\n%s", l, out)
	}
	if !r.Trouble.Lossy || r.AckedWritesLost == 0 || r.Strain.LostWrites == 0 {
		t.Errorf("shoppers miss %d writes and servers %d; want both to be more, for the standby was behind\n%s", r.AckedWritesLost, r.Strain.LostWrites, out)
	}
}

func TestALockedFileCostsNobodyASession(t *testing.T) {
	_, out, errs, runs := results(t, "--scenario", "store", "--seconds", "2", "--rate", "100")
	if len(runs) != 1 || runs[0].Scenario != "store-freeze" || runs[0].Design != report.Roam {
		t.Fatalf("got %+v\n%s%s", runs, out, errs)
	}
	if l := owed(runs[0]); len(l) > 0 {
		t.Errorf("lost %v\n%s", l, out)
	}
	if runs[0].Trouble.UnavailableGet > 0 {
		t.Errorf("%d pages were not shown; reading goes on", runs[0].Trouble.UnavailableGet)
	}
}

func TestARollToAnotherVersionAndBackLosesNothing(t *testing.T) {
	_, out, errs, runs := results(t, "--scenario", "upgrade", "--seconds", "2", "--rate", "100")
	if len(runs) != 1 || len(owed(runs[0])) > 0 {
		t.Fatalf("%+v\n%s%s", runs, out, errs)
	}
}

// A database that was given gets tables of the drill's own, and no page, table
// or file of results its password.
func TestADrillOnAGivenDatabase(t *testing.T) {
	pg, err := servers.StartPostgres(t.Context(), &servers.PostgresOptions{NoFsync: true})
	if errors.Is(err, servers.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Stop()
	u, err := url.Parse(pg.Primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	page := filepath.Join(dir, "p.html")
	_, out, errs := runIt(t, "drill", "--store", u.String(), "--design", report.Roam, "--scenario", "kill",
		"--seconds", "1", "--rate", "50", "--html", page, "--json", "-")
	var all struct{ Runs []report.Run }
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Runs) != 1 {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	if l := owed(all.Runs[0]); len(l) > 0 || all.Runs[0].Logins == 0 {
		t.Errorf("lost %v, %d logins\n%s", l, all.Runs[0].Logins, errs)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the results": out, "the table": errs, "the page": string(html)} {
		if strings.Contains(text, password) {
			t.Errorf("%s: the password is in it", what)
		}
	}
	tables, err := pg.Primary.Query(t.Context(), "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'")
	if err != nil || !strings.HasPrefix(tables, drillTable) || strings.Contains(tables, "roam_session") {
		t.Errorf("the database has the tables %q, %v; want only those of the drill", tables, err)
	}
}

func TestDrillOfTheStoreIsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Chdir(t.TempDir())
	for args, want := range map[string]string{
		"--scenario store-kill":                           "store-kill needs a store of another kind than sqlite",
		"--scenario store --design local":                 "about a store that all servers share",
		"--scenario store --store postgres://u:hun2@db/s": "breaks the database, and postgres://u:xxxxx@db/s was given",
		"--scenario store-kil --store postgres":           "did you mean store-kill?",
		"--store sqlite:x.db":                             "a drill makes an SQLite file of its own",
		"--store memory:":                                 "needs a store that all servers share",
		"--store postgress":                               "did you mean",
	} {
		code, out, errs := runIt(t, append([]string{"drill"}, strings.Fields(args)...)...)
		if code != 2 || !strings.Contains(errs, want) || out != "" || strings.Contains(errs, "hun2") {
			t.Errorf("drill %s: exit status %d, want 2 and %q before anything starts; got\n%s%s", args, code, want, out, errs)
		}
	}
}
