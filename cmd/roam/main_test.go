package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/internal/servers"
)

// TestMain is also the program "roam" of the scripts, and that of the web
// servers that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each race-checked process takes a second to end
	testscript.Main(m, map[string]func(){"roam": main})
}

// TestScripts runs the scripts in testdata, one for each command. They have
// words of their own:
//
//	visit … PATH    is a visitor of the shop, with a cookie jar
//	id NAME         sets a variable to the first session ID in the last output
//	keyid NAME STATE  sets a variable to the first key of that state, likewise
//	nosecret FILE   fails if the last output has a secret of that key file
//	postgres        sets the URL of a private PostgreSQL, if [postgres]
func TestScripts(t *testing.T) {
	pg, err := servers.StartPostgres(t.Context(), &servers.PostgresOptions{NoFsync: true})
	if err == nil {
		t.Cleanup(pg.Stop) // of the parent of the scripts, which run beside each other
	} else if errors.Is(err, servers.ErrMissing) {
		t.Log(err)
	} else {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(4 * time.Minute), // a script that hangs tells what it was doing
		Setup: func(env *testscript.Env) error {
			// A farm in a script is found without --dir, as a user's is.
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("ROAM_STORE", "")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			jar, err := cookiejar.New(nil)
			env.Values[visitorKey{}] = jar
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"visit": visit, "id": id, "keyid": keyID, "nosecret": noSecret, "postgres": database(pg)},
		Condition: func(cond string) (bool, error) {
			if cond == "postgres" {
				return pg != nil, nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
	})
}

type visitorKey struct{}

func id(ts *testscript.TestScript, neg bool, args []string) {
	id := regexp.MustCompile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").FindString(ts.ReadFile("stdout"))
	if id == "" {
		ts.Fatalf("no session ID in the last output")
	}
	ts.Setenv(args[0], id)
}

func keyID(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(`(?m)^([0-9a-f]{8})  ` + args[1] + ` `).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no key that is %s in the last output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func noSecret(ts *testscript.TestScript, neg bool, args []string) {
	secrets := regexp.MustCompile(`"secret": "([^"]+)"`).FindAllStringSubmatch(ts.ReadFile(args[0]), -1)
	if len(secrets) == 0 {
		ts.Fatalf("%s has no secret", args[0])
	}
	for _, m := range secrets {
		if strings.Contains(ts.ReadFile("stdout")+ts.ReadFile("stderr"), m[1][:8]) {
			ts.Fatalf("the output has a secret")
		}
	}
}

// database gives a script a database. What a pattern would take for more than
// it is, is escaped in $SHOWN.
func database(pg *servers.Postgres) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		u, err := url.Parse(pg.Primary.URL())
		ts.Check(err)
		password, _ := u.User.Password()
		ts.Setenv("PG", u.String())
		ts.Setenv("PASSWORD", password)
		ts.Setenv("SHOWN", regexp.QuoteMeta(farm.Redact(u.String())))
	}
}

// visit sends a request to the shop and prints the status, the server and the
// page: "visit /cart", or "visit POST /cart/add product=x".
func visit(ts *testscript.TestScript, neg bool, args []string) {
	method := http.MethodGet
	if args[0] == http.MethodPost {
		method, args = args[0], args[1:]
	}
	form := url.Values{}
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		form.Set(k, v)
	}
	c, err := farm.Dial(context.Background(), filepath.Join(ts.Getenv("XDG_STATE_HOME"), "roam"))
	ts.Check(err)
	info, err := c.Info(context.Background())
	ts.Check(err)
	pool, err := farm.Pool(info.RootCert)
	ts.Check(err)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = pool
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport:     transport,
		Jar:           ts.Value(visitorKey{}).(http.CookieJar),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequest(method, info.URL+args[0], strings.NewReader(form.Encode()))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", "Script/1.0")
	res, err := client.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s, answered by %s\n%s", res.Status, res.Header.Get("X-Server"), page)
	if failed := res.StatusCode >= 400; failed != neg {
		ts.Fatalf("%s %s: %s\n%s", method, args[0], res.Status, page)
	}
}

func runIt(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), &stdio{strings.NewReader(""), &stdout, &stderr}, args)
	return code, stdout.String(), stderr.String()
}

func TestExitStatusTellsMisuseFromFailure(t *testing.T) {
	t.Chdir(t.TempDir()) // no test leaves a file where it should not be
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("ROAM_STORE", "")
	for _, c := range []struct {
		args string
		want int
	}{
		{"", 0},
		{"help", 0},
		{"--help", 0},
		{"help status", 0},
		{"status -h", 0},
		{"sessions", 0},
		{"sessions list --help", 0},
		{"stauts", 2},
		{"help stauts", 2},
		{"status --jsn", 2},
		{"status more", 2},
		{"drain", 2},
		{"drain web1 web2", 2},
		{"up --servers 0", 2},
		{"up --servers many", 2},
		{"up --policy sticky", 2},
		{"up --store sqlight:x", 2},
		{"sessions lst", 2},
		{"sessions show 1234", 2},
		{"sessions revoke", 2},
		{"sessions prune --older -1h", 2},
		{"sessions prune --older week", 2},
		{"serve", 2},
		{"status", 1},
		{"roll", 1},
		{"kill web1", 1},
		{"sessions list", 1},
		{"sessions list --store sqlite:missing.db", 1},
		{"sessions list --store memory:", 1},
		{"sessions list --store postgres://db", 2},
		{"sessions list --store postgres://shop:hunter2@127.0.0.1:1/site", 1},
		{"up --store postgres://shop:hunter2@127.0.0.1:1/site", 1},
		{"up --store postgres:db/site", 2},
		{"up --store none --seal off", 2},
		{"up --store none:", 2},
		{"drill --store none", 2},
		{"sessions list --store none", 1},
		{"schema", 2},
		{"schema sqlite", 2},
		{"schema postgres", 0},
	} {
		code, out, err := runIt(t, strings.Fields(c.args)...)
		if code != c.want {
			t.Errorf("roam %s: status %d, want %d; %s%s", c.args, code, c.want, out, err)
		}
		if code == 0 && err != "" || code != 0 && (!strings.HasPrefix(err, "error: ") || !strings.Contains(err, "\nhint: ")) {
			t.Errorf("roam %s: status %d with this error:\n%s", c.args, code, err)
		}
	}
}

func TestEveryCommandHasAManualWithin100Columns(t *testing.T) {
	all := [][]string{{"help"}}
	for _, c := range commands() {
		all = append(all, []string{"help", c.name})
	}
	for _, c := range sessionsCommands() {
		all = append(all, []string{"help", "sessions", c.name})
	}
	for _, args := range all {
		code, out, err := runIt(t, args...)
		if code != 0 || err != "" || !strings.Contains(out, "Usage: roam") {
			t.Errorf("%v: status %d, %q, %q", args, code, out, err)
		}
		for line := range strings.Lines(out) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
				t.Errorf("%v: a line of %d columns: %s", args, n, line)
			}
		}
	}
}

func TestEveryCommandHasAScript(t *testing.T) {
	for _, c := range commands() {
		if c.group == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join("testdata", c.name+".txt")); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestStoreURLs(t *testing.T) {
	for _, c := range []struct{ url, scheme, rest, err, hint string }{
		{url: "sqlite:sessions.db", scheme: "sqlite", rest: "sessions.db"},
		{url: "sqlite:../a/b.db", scheme: "sqlite", rest: "../a/b.db"},
		{url: "sqlite:/srv/s.db", scheme: "sqlite", rest: "/srv/s.db"},
		{url: "sqlite:///srv/s.db", scheme: "sqlite", rest: "/srv/s.db"},
		{url: "sqlite:a b%20#c.db", scheme: "sqlite", rest: "a b%20#c.db"},
		{url: "memory:", scheme: "memory"},
		{url: "none", scheme: "none"},
		{url: "none:", err: "more than the word", hint: `"none"`},
		{url: "sqlite:", err: "names no file", hint: "sqlite:sessions.db"},
		{url: "sqlite:dir/", err: "names no file", hint: "sqlite:sessions.db"},
		{url: "sqlite://srv/s.db", err: "has a host name", hint: `"sqlite:///srv/s.db"`},
		{url: "sqlite:s.db?mode=ro", err: "has parameters", hint: `"sqlite:s.db"`},
		{url: "memory:x", err: "more than its scheme", hint: `"memory:"`},
		{url: "sessions.db", err: "has no scheme", hint: `"sqlite:sessions.db"`},
		{url: "/srv/s.db", err: "has no scheme", hint: `"sqlite:/srv/s.db"`},
		{url: "./a:b.db", err: "has no scheme", hint: `"sqlite:./a:b.db"`},
		{url: "sqlit:x.db", err: `no store scheme "sqlit"`, hint: `"sqlite:x.db"`},
		{url: "SQLite:x.db", err: `no store scheme "SQLite"`, hint: `"sqlite:x.db"`},
		{url: "redis://db", err: "redis: is not built in yet", hint: "sqlite:"},
		{url: "oracle:x", err: `no store scheme "oracle"`, hint: "sqlite:, postgres: and memory:"},

		{url: "postgres://db/s", scheme: "postgres", rest: "postgres://db/s"},
		{url: "postgresql://shop@db/s", scheme: "postgres", rest: "postgresql://shop@db/s"},
		{url: "postgres://shop:hun%40ter2@a,b:5433/s", scheme: "postgres", rest: "postgres://shop:hun%40ter2@a,b:5433/s"},
		{url: "postgres://[::1]:5432,[::2]/s?sslmode=disable", scheme: "postgres", rest: "postgres://[::1]:5432,[::2]/s?sslmode=disable"},
		{url: "postgres:///s?host=/run/postgresql", scheme: "postgres", rest: "postgres:///s?host=%2Frun%2Fpostgresql"},
		{url: "postgres://db/?dbname=s", scheme: "postgres", rest: "postgres://db/?dbname=s"},
		{url: "postgres://db/s?table=t&schema=x&sslmode=require", scheme: "postgres", rest: "postgres://db/s?sslmode=require"},
		{url: "postgres:", err: "names no host", hint: "postgres://USER:PASSWORD@HOST/DATABASE"},
		{url: "postgres://", err: "names no host", hint: "postgres://USER:PASSWORD@HOST/DATABASE"},
		{url: "postgres://db", err: "names no database", hint: `"postgres://db/DATABASE"`},
		{url: "postgres://shop:hunter2@db/", err: "names no database", hint: `"postgres://shop:xxxxx@db/DATABASE"`},
		{url: "postgres://db?sslmode=disable", err: "names no database", hint: `"postgres://db/DATABASE"`},
		{url: "postgres:///s", err: "names no host", hint: `"postgres://HOST/s"`},
		{url: "postgres://shop:hunter2@/s", err: "names no host"},
		{url: "postgres:db/s", err: "has no //", hint: `"postgres://db/s"`},
		{url: "postgres:/db/s", err: "has no //", hint: `"postgres://db/s"`},
		{url: "postgres:shop:hunter2@db/s", err: "has no //", hint: `"postgres://shop:xxxxx@db/s"`},
		{url: "postgress://db/s", err: `no store scheme "postgress"`, hint: `"postgres://db/s"`},
		{url: "Postgres://shop:hunter2@db/s", err: `no store scheme "Postgres"`, hint: `"postgres://shop:xxxxx@db/s"`},
		{url: "pg://db/s", err: `no store scheme "pg"`, hint: `"postgres://db/s"`},
		{url: "postgresql+psycopg2://shop:hunter2@db/s", err: "no store scheme", hint: `"postgres://shop:xxxxx@db/s"`},
		{url: "jdbc:postgresql://db:5432/s?user=shop&password=hunter2", err: "a URL of Java's", hint: `"postgresql://shop:xxxxx@db:5432/s"`},
		{url: "jdbc:postgresql://db/s", err: "a URL of Java's", hint: `"postgresql://db/s"`},
		{url: "host=db port=5433 user=shop password=hunter2 dbname=s", err: "is no URL", hint: `"postgres://shop:xxxxx@db:5433/s"`},
		{url: "db.example.com/s", err: "has no scheme", hint: `"sqlite:db.example.com/s"`}, // might be either; a folder is as likely
		{url: "db.example.com:5432/s", err: "has no scheme", hint: `"postgres://db.example.com:5432/s"`},
		{url: "localhost:5432/s", err: "has no scheme", hint: `"postgres://localhost:5432/s"`},
		{url: "localhost/s", err: "has no scheme", hint: `"postgres://localhost/s"`},
		{url: "shop:hunter2@db/s", err: "has no scheme", hint: `"postgres://shop:xxxxx@db/s"`},
		{url: "shop@db/s", err: "has no scheme", hint: `"postgres://shop@db/s"`},
		{url: "//db/s", err: "has no scheme"},
		{url: "postgres://shop:hun@ter2@db/s", err: "more than one @", hint: "%40"},
		{url: "postgres://shop:hun#ter2@db/s", err: "has a #", hint: "%23"},
		{url: "postgres://shop:hun/ter2@db/s", err: "has a / before its @", hint: "%2F"},
		{url: "postgres://shop:hun?ter2@db/s", err: "has a ? before its @", hint: "%3F"},
		{url: "postgres://shop:hun%ter2@db/s", err: "not followed by two hexadecimal digits", hint: "%25"},
		{url: "postgres://db:port/s", err: "no number, or a password and no host"},
		{url: "postgres://shop:hunter2/s", err: "no number, or a password and no host", hint: `"postgres://shop:xxxxx@HOST/s"`},
		{url: "postgres://shop@db:123456/s", err: "no number from 1 to 65535", hint: "HOST:5432"},
		{url: "postgres://db:0/s", err: "no number from 1 to 65535"},
		{url: "postgres://a:5432,b:x@/s", err: "names no host"},
		{url: "postgres://db/s/t", err: "more than a database", hint: `"postgres://db/s?schema=t"`},
	} {
		u, err := parseStore(c.url)
		if c.err == "" {
			rest := u.file + u.dsn
			if u.scheme != c.scheme || rest != filepath.FromSlash(c.rest) || err != nil {
				t.Errorf("%s: got %q, %q, %v; want %q, %q", c.url, u.scheme, rest, err, c.scheme, c.rest)
			}
			again, err := parseStore(u.String())
			if again != u || err != nil {
				t.Errorf("%s: becomes %s and then %+v, %v; want %+v", c.url, u, again, err, u)
			}
			continue
		}
		f, ok := err.(*failure)
		if !ok || !strings.Contains(err.Error(), c.err) || !strings.Contains(f.hint, c.hint) {
			t.Errorf("%s: got %v with hint %q; want %q with %q", c.url, err, f, c.err, c.hint)
			continue
		}
		if said := err.Error() + f.hint; strings.Contains(said, "hun") || strings.Contains(said, "ter2") || strings.Contains(said, "%!") {
			t.Errorf("%s: what is said has the password, or is garbled: %s", c.url, said)
		}
	}
	u, err := parseStore("postgres://db/s?table=t&schema=x")
	if err != nil || u.table != "t" || u.schema != "x" {
		t.Errorf("our own parameters: got %+v, %v", u, err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"status", "start", "drain", "undrain", "kill", "roll"}
	for s, want := range map[string]string{
		"stauts": "status", "Status": "status", "strat": "start", "darin": "drain", "rol": "roll",
		"": "", "x": "", "sessions": "",
	} {
		if got := nearest(s, names); got != want {
			t.Errorf("nearest to %q: got %q, want %q", s, got, want)
		}
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, args := range [][]string{
		{"--json", "--dir", "d", "web1"}, {"web1", "--json", "--dir=d"}, {"--json", "web1", "-dir", "d"}, {"--json", "--dir", "d", "--", "web1"},
	} {
		fs := newFlags(&stdio{}, "x NAME", "")
		asJSON, dir := fs.Bool("json", false, ""), fs.String("dir", "", "")
		got, err := fs.parse(args, "NAME")
		if err != nil || !*asJSON || *dir != "d" || !slices.Equal(got, []string{"web1"}) {
			t.Errorf("%q: got %q, json %t, dir %q, %v", args, got, *asJSON, *dir, err)
		}
	}
}

// What a visitor sends, as a user name or user agent, is printed on an operator's
// terminal.
func TestTerminalIsSafeFromWhatVisitorsSend(t *testing.T) {
	for s, want := range map[string]string{
		"ann":              "ann",
		"Zoë \"x\" \\ ☕":   "Zoë \"x\" \\ ☕",
		"a\x1b[2Jb":        `a\x1b[2Jb`,
		"a\nb":             `a\nb`,
		"a\u202eb":         `a\u202eb`,
		"bad\xffutf8":      `bad\xffutf8`,
		"c1\u009b31m":      `c1\u009b31m`,
		"Zoë\u200b hidden": `Zo\u00eb\u200b hidden`,
	} {
		if got := printable(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
	if got := clip("abcdefghij", 5); got != "abcd…" {
		t.Errorf("clip: got %q", got)
	}
}

func TestTablesKeepWithin100Columns(t *testing.T) {
	now := time.Now()
	then := now.Add(-399 * 24 * time.Hour)
	e := entry{
		User: strings.Repeat("ü", 255), LoggedIn: &then, Seen: then, Now: now,
		Address: "2001:db8:1111:2222:3333:4444:5555:6666", Reason: roam.Reason(strings.Repeat("x", 64)),
	}
	living, ended := e, e
	living.Expires, ended.Ended = &now, &then
	s := farm.Server{
		Name: "web20", State: farm.Draining, Since: then, PID: 4194304, Address: "127.0.0.1:65535",
		Restarts: 999, InFlight: 9999, Requests: 1e9, RetriedAway: 1e6, Failed: 1e6,
	}
	down := s
	down.State, down.Exit = farm.Down, "signal: segmentation fault"
	var out bytes.Buffer
	printSessions(&out, []entry{living}, false)
	printSessions(&out, []entry{living, ended}, true)
	printServers(&out, []farm.Server{s, down}, now)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
}

func TestShortDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59900 * time.Millisecond: "59s", time.Minute: "1m", 59 * time.Minute: "59m",
		time.Hour: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 400 * 24 * time.Hour: "400d",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
