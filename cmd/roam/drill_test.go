package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/roam-web/roam/cmd/roam/internal/report"
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
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > report.Width && !strings.Contains(line, page) {
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
	named := func(s scenario) (string, bool) { return s.name, !s.extra }
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
