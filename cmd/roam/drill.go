package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/cmd/roam/internal/report"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/cmd/roam/internal/shoppers"
)

// A design is a way to keep sessions.
type design struct {
	name string
	farm farm.Options
	report.Design
}

var designs = []design{
	{"local", farm.Options{Local: true, Policy: "round-robin"}, report.Design{
		About: "sessions in each server's memory, any server gets any request",
		Why:   "A server knows only the sessions that it started itself, so the next one in turn takes everybody for a stranger, fault or no fault.",
	}},
	{"sticky-cookie", farm.Options{Local: true, Policy: "sticky-cookie"}, report.Design{
		About: "sessions in each server's memory, each visitor pinned to one server",
		Why:   "The sessions of a server die with it, and none can end those of another: \"log out all my devices\" does not.",
	}},
	{report.Roam, farm.Options{Policy: "round-robin"}, report.Design{
		About: "sessions in a database, any server serves any request",
		Why:   "No server owns a session, so none can take one along.",
	}},
}

// A scenario is what happens to a farm under load.
type scenario struct {
	name  string
	extra bool // not part of the default
	leave bool // shoppers log out all the time
	burst bool // and make many calls at once

	witness bool // somebody asks each server by itself, with an account of its own
	about   string

	// store is for scenarios that break the store of the sessions: which kinds
	// of stores it can break. Only the design that has one takes part.
	store []string
	// shared is for others that need a store which all servers share.
	shared  bool
	network bool // between servers and database there must be something to cut
	lossy   bool // the standby is asynchronous, and what it has not got is lost

	// during is what happens beside the load, nil for nothing.
	during func(ctx context.Context, e *event) error
}

// storeScenarios is the name for all scenarios that break the store in question.
const storeScenarios = "store"

var (
	inPostgres = []string{"postgres"}
	inEither   = []string{"postgres", "sqlite"}
)

var scenarios = []scenario{
	{name: "kill", about: "kill -9 of a server in mid-load, started again later", during: killOne},
	{name: "roll", about: "all servers replaced, one after the other", during: rollAll},
	{name: "logout", leave: true, about: "sessions end while their own requests are in flight"},
	{name: "none", extra: true, about: "nothing happens"},
	{name: "upgrade", extra: true, shared: true, about: "rolled to a version that stores sessions otherwise, and back", during: upgradeAll},
	{name: "parallel", extra: true, leave: true, burst: true, about: "20 calls at once, answers in any order, some after logout and login"},
	{name: "cold-start", extra: true, shared: true, during: coldStart, about: "kill -9 of all servers, and a start of all at once"},
	{name: "feed-cut", extra: true, shared: true, network: true, witness: true, during: feedCut, about: "one server does not hear of logouts at the others; it is cut off"},
	{name: "store-restart", store: inPostgres, about: "the database is shut down and started", during: storeRestart},
	{name: "store-kill", store: inPostgres, about: "kill -9 of the database, started again later", during: storeKill},
	{name: "store-freeze", store: inEither, about: "the database hangs; SQLite: another process holds the write lock", during: storeFreeze},
	{name: "store-failover", leave: true, store: inPostgres, about: "the primary hangs, the synchronous standby takes over", during: storeFailover},
	{name: "store-failover-async", leave: true, store: inPostgres, lossy: true, about: "the same with an asynchronous one, which is behind", during: storeFailover},
	{name: "store-cut", leave: true, store: inPostgres, network: true, about: "one server does not reach the database any more", during: storeCut},
	{name: "store-cut-all", store: inPostgres, network: true, about: "no server does", during: storeCutAll},
	{name: "store-slow", store: inPostgres, network: true, about: "the database answers 50 ms late, then 5 s", during: storeSlow},
}

// byDefault says that a scenario is part of a drill that names none.
func (s scenario) byDefault() bool { return !s.extra && s.store == nil }

// An event is a scenario that takes its course.
type event struct {
	scenario scenario
	farm     *farm.Farm
	ground   *ground
	stage    *shoppers.Stage
	lasts    time.Duration // the load, at least
	say      func(string)
	run      *report.Run
}

// The limits keep a slip of the finger from becoming an attack on this machine.
const (
	maxRate       = 3000
	maxSeconds    = 120
	maxDrillHosts = 8
)

// victim is the server that is killed: not the first and not the last, as
// those could be special by accident.
const victim = "web2"

// drill proves on a real farm that nothing gets lost, and shows what other
// designs lose.
func drill(ctx context.Context, std *stdio, args []string) error {
	d := &practice{std: std, loud: terminal(std.Err)}
	fs := newFlags(std, "drill [flags]", drillManual())
	pick := fs.String("design", "", "`LIST` of local, sticky-cookie, roam (default all of them)")
	when := fs.String("scenario", "", "`LIST` of the scenarios above (default kill, roll, logout)")
	store := fs.String("store", "sqlite", "`STORE`: sqlite, postgres, or a database's URL; see above")
	fs.IntVar(&d.rate, "rate", 300, "requests per second, a `NUMBER` up to "+fmt.Sprint(maxRate))
	fs.IntVar(&d.seconds, "seconds", 6, "how long the load of each run lasts at least, a `NUMBER` up to "+fmt.Sprint(maxSeconds))
	fs.IntVar(&d.servers, "servers", 3, fmt.Sprintf("`NUMBER` of web servers, 2 to %d", maxDrillHosts))
	asJSON := fs.String("json", "", "write the results to `FILE` as JSON, - for the standard output")
	page := fs.String("html", "", "write the page to `FILE` (default a new file for temporary things)")
	if _, err := fs.parse(args); err != nil {
		return err
	}
	for _, limit := range []struct {
		flag          string
		n, least, max int
	}{{"rate", d.rate, 10, maxRate}, {"seconds", d.seconds, 1, maxSeconds}, {"servers", d.servers, 2, maxDrillHosts}} {
		if limit.n < limit.least || limit.n > limit.max {
			return misuse("want %d to %d: a drill is for this machine alone and must leave it in one piece", limit.least, limit.max)("--%s is %d", limit.flag, limit.n)
		}
	}
	var err error
	if d.store, err = drillStore(*store); err != nil {
		return err
	}
	if d.designs, err = choose("design", *pick, designs, func(d design) (string, bool) { return d.name, true }); err != nil {
		return err
	}
	if d.scenarios, err = d.chooseScenarios(*when); err != nil {
		return err
	}
	if d.pairs = d.pair(); len(d.pairs) == 0 {
		return misuse("leave --design out, or name %s", report.Roam)("the scenario is about a store that all servers share, and %s has none", *pick)
	}
	d.out = std.Out
	if *asJSON == "-" {
		d.out = std.Err
	}

	for _, file := range []string{*asJSON, *page} { // it would be a pity to find out in two minutes
		if file == "" || file == "-" {
			continue
		}
		if err := save(file, func(io.Writer) error { return nil }); err != nil {
			return err
		}
	}

	rep, err := d.run(ctx)
	if err != nil {
		return err
	}
	rep.Command = farm.Redact(strings.Join(append([]string{self(), "drill"}, repeat(args)...), " "))
	if err := d.tell(rep); err != nil {
		return err
	}
	if *asJSON == "-" {
		err = rep.JSON(std.Out)
	} else if *asJSON != "" {
		err = save(*asJSON, rep.JSON)
	}
	if err != nil {
		return err
	}
	where, err := savePage(*page, rep)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nThe same with pictures: %s\n", where)
	for _, logs := range d.logs {
		fmt.Fprintf(d.out, "The logs of the servers: %s\n", logs)
	}
	return rep.Err()
}

func drillManual() string {
	var b strings.Builder
	b.WriteString(`
Kills and replaces web servers under load and counts what their visitors lose,
for three ways to keep sessions. Each run starts a farm of its own on this
machine, as "roam up" does, and takes it down again; nothing is left behind but
the page. Simulated shoppers log in, fill carts from several tabs at once, pay,
log out and come back. They know what they must see, and hide no retry.

The exit status is 1 if the design "roam" lost anything.

Designs:
`)
	for _, d := range designs {
		fmt.Fprintf(&b, "  %-14s %s\n", d.name, d.About)
	}
	b.WriteString("\nScenarios:\n")
	for _, s := range scenarios {
		fmt.Fprintf(&b, "  %-20s  %s\n", s.name, s.about)
	}
	fmt.Fprintf(&b, "  %-20s  all of those above that break the store in question\n", storeScenarios)
	b.WriteString(`
Those that break the store are for the design "roam" alone. While the store is
away, a page that needs it is answered with 503 and a hint when to come back;
that is counted and forgiven. What must be nil even then: pages that need no
session and are not shown, cookies deleted, logouts claimed that are none,
sessions served after their end, acknowledged writes lost. After it the first
answer must come within 2 s and the rate be back at 80 % within 10 s. With an
asynchronous standby acknowledged writes are lost, which is what such a standby
means; they are counted, by the shoppers and by the servers.

The store of the design "roam" is a new SQLite file. --store postgres starts a
private PostgreSQL, with a synchronous standby, from the installed programs and
removes it afterwards. --store postgres://... uses the database that it names,
in tables of its own (roam_drill, which stay), and breaks nothing of it: the
store scenarios are not to be had, and feed-cut cuts nothing.

In all of them each answer that shows a cart is held against the cookies that
its request brought. It may be older than what other tabs have done if those
cookies do not tell of it; it must never be older than what they prove.

A session that was ended on another server may be shown pages for as long as
5 s, and not by the browser that has logged out; how long it was is counted.
feed-cut asks each server by itself how soon it knows of an end, while all hear
of it and, with --store postgres, while one is cut off from the database. It
means most with --servers 4.
`)
	return b.String()
}

// drillStore reads --store.
func drillStore(text string) (storeURL, error) {
	switch text {
	case "sqlite":
		return storeURL{scheme: "sqlite"}, nil
	case "postgres", "postgresql":
		return storeURL{scheme: "postgres"}, nil
	}
	u, err := parseStore(text)
	switch {
	case err != nil:
		return u, err
	case u.scheme == "sqlite":
		return u, misuse("write --store sqlite")("a drill makes an SQLite file of its own for each run, and %q names one", text)
	case u.scheme == farm.NoStore:
		return u, misuse("want sqlite or postgres")("a drill is about carts, and without a store there are none")
	case u.scheme == "memory":
		return u, misuse("--design local has its sessions in each server's memory")("the design %q needs a store that all servers share", report.Roam)
	}
	return u, nil
}

// chooseScenarios reads --scenario.
func (d *practice) chooseScenarios(list string) ([]scenario, error) {
	kind := d.store.scheme
	var fitting []string
	for _, s := range scenarios {
		if slices.Contains(s.store, kind) && d.store.dsn == "" {
			fitting = append(fitting, s.name)
		}
	}
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(name) != storeScenarios {
			names = append(names, name)
		} else if len(fitting) == 0 {
			names = append(names, "store-kill") // which is refused below
		} else {
			names = append(names, fitting...)
		}
	}
	chosen, err := choose("scenario", strings.Join(names, ","), scenarios, func(s scenario) (string, bool) { return s.name, s.byDefault() }, storeScenarios)
	for _, s := range chosen {
		switch {
		case s.store == nil || slices.Contains(fitting, s.name):
		case d.store.dsn != "":
			return nil, misuse("--store postgres starts a database of its own, which may be broken")("%s breaks the database, and %s was given to be used", s.name, farm.Redact(d.store.dsn))
		default:
			return nil, misuse("try --store %s", s.store[0])("%s needs a store of another kind than %s", s.name, kind)
		}
	}
	return chosen, err
}

// A pair is one run to make.
type pair struct {
	design
	scenario
}

// pair returns the runs: each design in each scenario that means something to
// it.
func (d *practice) pair() (pairs []pair) {
	for _, how := range d.designs {
		for _, what := range d.scenarios {
			if (what.store != nil || what.shared) && how.farm.Local {
				continue
			}
			pairs = append(pairs, pair{how, what})
		}
	}
	return pairs
}

// choose returns the members of all that the comma-separated list names, in
// the order of the list; those of the default for an empty one.
// More are names that the caller knows of.
func choose[T any](what, list string, all []T, named func(T) (name string, byDefault bool), more ...string) (chosen []T, err error) {
	var names []string
	for _, v := range all {
		name, byDefault := named(v)
		names = append(names, name)
		if list == "" && byDefault {
			chosen = append(chosen, v)
		}
	}
	if list == "" {
		return chosen, nil
	}
	seen := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		i := slices.Index(names, name)
		if i < 0 {
			known := append(names, more...)
			hint := "want " + strings.Join(known, ", ")
			if near := nearest(name, known); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			return nil, misuse("%s", hint)("there is no %s %q", what, name)
		}
		if !seen[name] {
			seen[name] = true
			chosen = append(chosen, all[i])
		}
	}
	return chosen, nil
}

// repeat returns the arguments without those that only say where results go.
func repeat(args []string) (kept []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if strings.HasPrefix(args[i], "-") && (name == "json" || name == "html") {
			if !joined {
				i++
			}
			continue
		}
		kept = append(kept, quote(args[i]))
	}
	return kept
}

// A practice is one drill.
type practice struct {
	std                    *stdio
	out                    io.Writer
	loud                   bool     // somebody watches
	store                  storeURL // with an empty dsn: a private one
	designs                []design
	scenarios              []scenario
	pairs                  []pair
	logs                   []string // of the farms that lost something
	rate, seconds, servers int
}

// What a run takes besides its load, for the progress bar: to start and stop a
// farm, and to settle the accounts.
const overhead = 3 * time.Second

func (d *practice) run(ctx context.Context) (*report.Report, error) {
	var times []time.Duration // that the runs take
	total := time.Duration(0)
	taking := map[string]bool{} // the designs that take part
	for _, p := range d.pairs {
		times = append(times, d.takes(p))
		total += d.takes(p)
		taking[p.design.name] = true
	}
	people := d.people()
	fmt.Fprintln(d.out, report.Wrap(fmt.Sprintf(
		"%s on a farm of %d web servers and a balancer, on this machine alone: %d shoppers make %d requests a second and know what they must see. This takes about %v; ^C stops it.",
		sum(len(taking), len(d.scenarios)), d.servers, len(people), d.rate, total.Round(5*time.Second)), ""))
	rep := &report.Report{
		When: time.Now(), Rate: d.rate, Servers: d.servers, People: len(people),
		Machine: fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
	}
	rep.Designs, rep.Scenarios = map[string]report.Design{}, map[string]string{}
	for _, how := range d.designs {
		rep.Designs[how.name] = how.Design
	}
	for _, what := range d.scenarios {
		rep.Scenarios[what.name] = what.about
	}
	progress := d.newProgress(times)
	defer progress.close()
	for _, p := range d.pairs {
		progress.next(p.design.name + " × " + p.scenario.name)
		r, err := d.once(ctx, p.design, p.scenario, progress)
		if err != nil {
			return nil, fmt.Errorf("%s × %s: %w", p.design.name, p.scenario.name, err)
		}
		rep.Runs = append(rep.Runs, *r)
		progress.done(*r)
	}
	return rep, nil
}

// takes is about how long a run takes.
func (d *practice) takes(p pair) time.Duration {
	lasts := time.Duration(d.seconds) * time.Second
	switch {
	case p.scenario.store != nil:
		e := event{lasts: lasts}
		return e.before() + e.away() + e.after() + 2*overhead
	case p.scenario.name == "cold-start", p.scenario.witness:
		e := event{lasts: lasts}
		return e.before() + servedBound + 3*time.Second + e.after() + 3*overhead
	case p.scenario.shared:
		return 2*lasts + overhead
	}
	return lasts + overhead
}

// people returns the accounts that the shoppers use. Each makes about ten
// requests a second at the default rate: they are in a hurry.
func (d *practice) people() []string {
	all := shop.Accounts()
	return all[:min(len(all), max(6, d.rate/10))]
}

// peopleIn leaves out those whom the scenario needs for itself.
func (d *practice) peopleIn(what scenario) []string {
	if !what.witness {
		return d.people()
	}
	return shoppersOnly(d.people(), shop.Accounts())
}

func sum(designs, scenarios int) string {
	count := func(n int, one, many string) string {
		if n == 1 {
			return "one " + one
		}
		if n < 4 {
			return []string{"two", "three"}[n-2] + " " + many
		}
		return fmt.Sprint(n, " ", many)
	}
	s := count(designs, "way to keep sessions", "ways to keep sessions") + ", " + count(scenarios, "kind of trouble", "kinds of trouble") + ","
	return strings.ToUpper(s[:1]) + s[1:]
}

// once makes one run on a farm of its own.
func (d *practice) once(ctx context.Context, how design, what scenario, p *progress) (_ *report.Run, err error) {
	dir, err := os.MkdirTemp("", "roam-drill-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := how.farm
	o.Dir, o.Servers, o.Logger = dir, d.servers, slog.New(slog.DiscardHandler)
	var g *ground
	if !o.Local {
		p.say("preparing the store")
		if g, err = d.prepare(ctx, dir, what); err != nil {
			return nil, err
		}
		defer g.close()
		o.Store, o.Env = g.url, g.env
	}
	p.say("starting the farm")
	f, err := farm.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	run := &report.Run{Design: how.name, Scenario: what.name}
	var names []string
	for _, s := range f.Status() {
		names = append(names, s.Name)
	}
	bound := servedBound
	if o.Local { // such a design states none
		bound = 0
	}
	lasts := time.Duration(d.seconds) * time.Second
	p.say("shoppers arrive")
	result, err := shoppers.Run(ctx, shoppers.Options{
		URL: f.URL(), RootCAs: f.RootCAs(), Servers: names,
		Rate: d.rate, Duration: lasts,
		Accounts: d.peopleIn(what), Password: shop.Password, Products: shop.Products(),
		Leave: what.leave, Parallel: what.burst, Bound: bound, Seed: 1, Progress: p.at,
		During: func(ctx context.Context, stage *shoppers.Stage) error {
			p.say("under load")
			if what.during == nil {
				return nil
			}
			return what.during(ctx, &event{what, f, g, stage, lasts, p.say, run})
		},
	})
	if err != nil {
		return nil, err
	}
	run.Result = *result
	if how.name == report.Roam && len(run.Losses()) > 0 {
		// What visitors saw is in the report; why is in the logs.
		if logs, err := os.MkdirTemp("", "roam-logs-"); err == nil && os.CopyFS(logs, os.DirFS(filepath.Join(dir, "logs"))) == nil {
			d.logs = append(d.logs, logs)
		}
	}
	return run, nil
}

// killOne kills a server after a third of the time and starts it again after
// two thirds.
func killOne(ctx context.Context, e *event) error {
	if err := wait(ctx, e.lasts/3); err != nil {
		return err
	}
	e.say(victim + " is killed")
	down := report.Outage{Server: victim, Why: "killed", From: e.stage.Clock()}
	n, err := e.farm.Kill(victim)
	e.run.InFlightPosts = n
	if err != nil {
		return err
	}
	if err := wait(ctx, e.lasts/3); err != nil {
		return err
	}
	e.say(victim + " is started again")
	err = e.farm.StartServer(ctx, victim)
	down.To = e.stage.Clock()
	e.run.Outages = append(e.run.Outages, down)
	return err
}

// rollAll begins early, and lets some time pass after each server, as somebody
// would who looks whether all is well before going on.
func rollAll(ctx context.Context, e *event) error { return e.roll(ctx, "replaced", e.lasts/6) }

// roll replaces all servers, with a pause before the first and after each.
func (e *event) roll(ctx context.Context, why string, pause time.Duration) error {
	if err := wait(ctx, pause); err != nil {
		return err
	}
	return e.farm.Roll(ctx, func(step string) {
		_, step, _ = strings.Cut(step, "] ")
		e.say(step)
		name, what, _ := strings.Cut(step, ": ")
		all := &e.run.Outages
		switch {
		case strings.HasPrefix(what, "draining"):
			*all = append(*all, report.Outage{Server: name, Why: why, From: e.stage.Clock()})
		case strings.HasPrefix(what, "up again") && len(*all) > 0:
			(*all)[len(*all)-1].To = e.stage.Clock()
			wait(ctx, pause) // that ctx ended is Roll's to say
		}
	})
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tell prints the table and says what it means.
func (d *practice) tell(rep *report.Report) error {
	red, green := func(s string) string { return s }, func(s string) string { return s }
	if terminal(d.out) && os.Getenv("NO_COLOR") == "" {
		red = func(s string) string { return "\x1b[1;31m" + s + "\x1b[0m" }
		green = func(s string) string { return "\x1b[1;32m" + s + "\x1b[0m" }
	}
	fmt.Fprintln(d.out)
	if err := rep.Table(d.out, red); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	for _, s := range rep.Verdict() {
		s = report.Wrap(s, "  ")
		if good := report.Roam + " lost nothing"; strings.HasPrefix(s, good) {
			s = green(good) + strings.TrimPrefix(s, good)
		}
		fmt.Fprintln(d.out, s)
	}
	for _, run := range rep.Runs {
		if run.Design == report.Roam && len(run.Losses()) > 0 {
			for _, s := range run.Samples {
				fmt.Fprintln(d.out, report.Wrap(fmt.Sprintf("- %s × %s: %s", run.Design, run.Scenario, s), "  "))
			}
		}
	}
	return nil
}

// savePage writes the page and returns where it is.
func savePage(path string, rep *report.Report) (string, error) {
	if path == "" {
		f, err := os.CreateTemp("", "roam-drill-*.html")
		if err != nil {
			return "", err
		}
		defer f.Close()
		return f.Name(), errors.Join(rep.HTML(f), f.Close())
	}
	if err := save(path, rep.HTML); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

func save(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A progress tells how far the drill is: with a bar to somebody who watches,
// with a line per run to a file.
type progress struct {
	d     *practice
	bar   *progressbar.ProgressBar // nil if nobody watches
	times []time.Duration          // that the runs take, about
	begun int
	past  time.Duration // of the runs before
	title string
}

func (d *practice) newProgress(times []time.Duration) *progress {
	p := &progress{d: d, times: times}
	if d.loud {
		total := time.Duration(0)
		for _, t := range times {
			total += t
		}
		p.bar = progressbar.NewOptions64(int64(total/time.Millisecond),
			progressbar.OptionSetWriter(d.std.Err), progressbar.OptionSetWidth(24),
			progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(50*time.Millisecond), progressbar.OptionSetElapsedTime(false),
		)
	}
	return p
}

func (p *progress) next(title string) {
	if p.begun > 0 {
		p.past += p.times[p.begun-1]
	}
	p.begun++
	p.title = title
}

// say tells what is going on in the run.
func (p *progress) say(what string) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%d/%d %-44.44s", p.begun, len(p.times), p.title+": "+what))
	}
}

// at moves the bar to so long after the beginning of the run's load.
func (p *progress) at(elapsed time.Duration) {
	if p.bar != nil {
		p.bar.Set64(int64((p.past + min(elapsed+overhead/2, p.times[p.begun-1])) / time.Millisecond))
	}
}

func (p *progress) done(r report.Run) {
	p.at(p.times[p.begun-1])
	if p.bar == nil {
		fmt.Fprintf(p.d.std.Err, "[%d/%d] %s: %d requests in %.1f s\n", p.begun, len(p.times), p.title, r.Requests, r.Seconds)
	}
}

func (p *progress) close() {
	if p.bar != nil {
		p.bar.Finish()
	}
}
