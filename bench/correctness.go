package main

import (
	"database/sql"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	fiberlog "github.com/gofiber/fiber/v3/log"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// A verdict is what a site did when it mattered, in words.
type verdict struct {
	Site     string
	Parallel string // 50 updates of one session at once
	Erased   string // a write, beside a page that only reads
	Undone   string // a logout, beside a page that was still on its way
	Killed   string // the store, with kill -9
	Frozen   string // the store, with SIGSTOP: it neither answers nor refuses
	Commit   string // the store reads and does not write
	Outlives string // a session, its absolute lifetime
}

func (r *results) verdictTable() string {
	if r.Verdicts == nil {
		return "Not part of this run.\n"
	}
	t := newTable("", "50 updates at once: kept of those answered 200", "a write, beside a slow page that reads", "logged out, then the old cookie",
		"store killed", "store frozen", "store cannot write: an update", "used across its end of life")
	for _, v := range r.Verdicts {
		t.row(v.Site, v.Parallel, v.Erased, v.Undone, v.Killed, v.Frozen, v.Commit, v.Outlives)
	}
	return t.String()
}

// A trial is one site in this process, to be treated badly.
type trial struct {
	candidate
	site *site
	gate *gate
	v    *verdict
}

func (t *trial) arrive(user string) (*visitor, error) { return arrive(t.site.caller(), t.site, user) }

// ask asks for a page that must be answered, whatever the answer.
func (t *trial) ask(v *visitor, method, path string) reply {
	a, err := t.site.caller().ask(method, path, v.own)
	return reply{a.status, string(a.body), a.set, err}
}

// A reply is an answer to keep.
type reply struct {
	status int
	body   string
	set    []string
	err    error
}

// user tells whether the page knew the visitor.
func (r reply) user() bool { return r.status == 200 && strings.HasPrefix(r.body, "user") }

// clears tells whether it deletes a cookie.
func (r reply) clears(v *visitor) bool {
	j := slices.Clone(v.jar)
	for _, line := range r.set {
		j.set(line)
	}
	return len(j) < len(v.jar)
}

// held is a slow page that waits in the middle; release lets it go on and
// returns its answer.
type held struct {
	t    *trial
	done chan reply
}

func (t *trial) hold(v *visitor, method, path string) (*held, error) {
	h := &held{t, make(chan reply, 1)}
	go func() { h.done <- t.ask(v, method, path) }()
	select {
	case <-t.gate.came:
		return h, nil
	case r := <-h.done:
		return nil, fmt.Errorf("%s: %s answered %d %q and did not wait", t.name, path, r.status, r.body)
	}
}

func (h *held) release() reply {
	h.t.gate.leave <- struct{}{}
	return <-h.done
}

// correctness runs what a speed says nothing about, on each library and store.
func (b *bench) correctness() error {
	b.say("correctness")
	// What drivers say when a store is killed is no part of the answer.
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	fiberlog.SetOutput(io.Discard)
	logging.Disable()
	var all []*trial
	for _, c := range candidates {
		if c.store == "none" || c.pages != nil || c.extra {
			continue
		}
		t, err := b.try(c, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if t.site.close != nil {
			defer t.site.close()
		}
		all = append(all, t)
		b.Verdicts = append(b.Verdicts, verdict{Site: c.name})
	}
	for i, t := range all {
		t.v = &b.Verdicts[i]
	}
	for _, test := range []func(*trial) error{parallel, erased, undone} {
		for _, t := range all {
			if b.ctx.Err() != nil {
				return errStopped
			}
			if err := test(t); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	for _, test := range []func([]*trial) error{b.unwritable, b.killed, b.frozen} {
		if err := test(all); err != nil {
			return err
		}
	}
	return b.outlives(all)
}

func (b *bench) try(c candidate, lifetime time.Duration) (*trial, error) {
	e := b.stores.env(c, nil)
	e.Idle, e.Lifetime, e.Patience, e.gate = c.idle, lifetime, time.Second, newGate()
	s, err := c.make(b.ctx, e)
	if err != nil {
		return nil, err
	}
	return &trial{candidate: c, site: s, gate: e.gate}, nil
}

// parallel is somebody who presses a button fifty times, or a page with as many
// scripts. The visitor keeps the cookies in the order in which they come.
func parallel(t *trial) error {
	v, err := t.arrive("parallel")
	if err != nil {
		return err
	}
	before := t.count(v)
	var mu sync.Mutex
	var all sync.WaitGroup
	var sets [][]string
	ok := 0
	for range 50 {
		all.Go(func() {
			r := t.ask(v, "POST", "/add")
			mu.Lock()
			defer mu.Unlock()
			sets = append(sets, r.set)
			if r.status == 200 {
				ok++
			}
		})
	}
	all.Wait()
	for _, set := range sets {
		v.take(set)
	}
	t.v.Parallel = fmt.Sprintf("%d of %d", t.count(v)-before, ok)
	return nil
}

// count is the counter in the visitor's session.
func (t *trial) count(v *visitor) (n int) {
	fmt.Sscanf(t.ask(v, "GET", "/fresh").body, "count %d", &n)
	return n
}

// erased is a slow page that only reads, and a write that was answered while it
// was under way.
func erased(t *trial) error {
	v, err := t.arrive("erased")
	if err != nil {
		return err
	}
	before := t.count(v)
	slow, err := t.hold(v, "GET", slowRead)
	if err != nil {
		return err
	}
	quick := t.ask(v, "POST", "/add")
	late := slow.release()
	v.take(quick.set)
	v.take(late.set)
	switch {
	case quick.status != 200:
		t.v.Erased = fmt.Sprintf("the write: %d", quick.status)
	case t.count(v) == before+1:
		t.v.Erased = "kept"
	default:
		t.v.Erased = "**erased**"
	}
	return nil
}

// undone is a logout while a page is under way, and somebody who still has the
// cookie from before.
func undone(t *trial) error {
	var alive []string
	for _, during := range []struct{ what, method, path string }{{"at any time", "", ""}, {"after a page that read", "GET", slowRead}, {"after one that wrote", "POST", slowAdd}} {
		v, err := t.arrive("undone")
		if err != nil {
			return err
		}
		var slow *held
		if during.path != "" {
			if slow, err = t.hold(v, during.method, during.path); err != nil {
				return err
			}
		}
		out := t.ask(v, "POST", logout)
		if slow != nil {
			slow.release()
		}
		if out.status != 200 {
			alive = append(alive, fmt.Sprintf("logout: %d", out.status))
		} else if t.ask(v, "GET", "/who").user() {
			alive = append(alive, during.what)
		}
	}
	t.v.Undone = "stays out"
	if alive != nil {
		t.v.Undone = "**in again** " + strings.Join(alive, ", ")
	}
	return nil
}

// patience is how long somebody waits for an answer.
const patience = 3 * time.Second

// within asks, and gives up after a while. What is asked goes on.
func (t *trial) within(v *visitor, method, path string) string {
	done := make(chan reply, 1)
	began := time.Now()
	go func() { done <- t.ask(v, method, path) }()
	select {
	case r := <-done:
		what := fmt.Sprint(r.status)
		switch {
		case r.status == 200 && r.body == "guest":
			what += " **as a guest**"
		case r.status == 200:
			what += " " + strings.Fields(r.body)[0]
		}
		if r.clears(v) {
			what += " **and clears the cookie**"
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			what += fmt.Sprintf(" after %.0f s", took.Seconds())
		}
		return what
	case <-time.After(patience):
		return fmt.Sprintf("**none** in %v", patience)
	}
}

// broken asks all sites whose store is a server while do has broken it, at once
// and six seconds later, when no memory may count any more.
func (b *bench) broken(all []*trial, do, mend func() error, write func(t *trial, text string)) error {
	var those []*trial
	visitors := make(map[*trial]*visitor)
	for _, t := range all {
		if t.store == "PostgreSQL" || t.store == "Redis" {
			v, err := t.arrive("outage")
			if err != nil {
				return err
			}
			t.ask(v, "GET", "/cart")
			those = append(those, t)
			visitors[t] = v
		} else {
			write(t, "–")
		}
	}
	// What was broken before has been mended a moment ago, and roam's memory only
	// counts again when the log has been read.
	time.Sleep(2 * time.Second)
	if err := do(); err != nil {
		return err
	}
	answers := make(map[*trial][]string)
	var mu sync.Mutex
	for _, wait := range []time.Duration{0, 6 * time.Second} {
		time.Sleep(wait)
		var asking sync.WaitGroup
		for _, t := range those {
			asking.Go(func() {
				var who, cart string
				var both sync.WaitGroup
				both.Go(func() { who = t.within(visitors[t], "GET", "/who") })
				both.Go(func() { cart = t.within(visitors[t], "GET", "/cart") })
				both.Wait()
				mu.Lock()
				defer mu.Unlock()
				answers[t] = append(answers[t], fmt.Sprintf("who: %s; cart: %s", who, cart))
			})
		}
		asking.Wait()
	}
	for _, t := range those {
		a := answers[t]
		if text := a[0]; a[1] == a[0] {
			write(t, text)
		} else {
			write(t, text+"<br>6 s later: "+a[1])
		}
	}
	if err := mend(); err != nil {
		return err
	}
	// All sites find their way back, or nothing after this is worth a look.
	for _, t := range those {
		for deadline := time.Now().Add(20 * time.Second); t.ask(visitors[t], "GET", "/who").status != 200; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("%s does not answer, 20 s after its store came back", t.name)
			}
		}
	}
	return nil
}

func (b *bench) killed(all []*trial) error {
	pg, rd := b.stores.postgres.Primary, b.stores.redis
	return b.broken(all, func() error {
		if err := pg.Kill(); err != nil {
			return err
		}
		return rd.Kill()
	}, func() error {
		if err := pg.Start(b.ctx); err != nil {
			return err
		}
		return rd.Start(b.ctx)
	}, func(t *trial, text string) { t.v.Killed = text })
}

func (b *bench) frozen(all []*trial) error {
	pg, rd := b.stores.postgres.Primary, b.stores.redis
	return b.broken(all, func() error {
		if err := pg.Freeze(); err != nil {
			return err
		}
		return rd.Freeze()
	}, func() error {
		if err := pg.Thaw(); err != nil {
			return err
		}
		return rd.Thaw()
	}, func(t *trial, text string) { t.v.Frozen = text })
}

// unwritable is a store that can be read and not written to: PostgreSQL refuses
// it, Redis wants a replica that there is not, SQLite's lock is somebody else's.
func (b *bench) unwritable(all []*trial) error {
	opts, err := redis.ParseURL(b.stores.redis.URL())
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close()
	admin := func(sql string) func() error {
		return func() error { return b.stores.postgres.Primary.Exec(b.ctx, sql) }
	}
	replicas := func(n string) func() error {
		return func() error { return client.ConfigSet(b.ctx, "min-replicas-to-write", n).Err() }
	}
	for _, t := range all {
		var do, mend func() error
		switch t.store {
		case "PostgreSQL":
			do = admin("REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM roam")
			mend = admin("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO roam")
		case "Redis":
			do, mend = replicas("1"), replicas("0")
		case "SQLite":
			file := map[bool]string{true: "roam.db", false: "scs.db"}[strings.HasPrefix(t.name, "roam")]
			db, err := b.stores.env(t.candidate, nil).sqlite(file)
			if err != nil {
				return err
			}
			defer db.Close()
			var tx *sql.Tx
			do = func() (err error) { tx, err = db.BeginTx(b.ctx, nil); return err }
			mend = func() error { return tx.Rollback() }
		default:
			t.v.Commit = "–"
			continue
		}
		v, err := t.arrive("unwritable")
		if err != nil {
			return err
		}
		before := t.count(v)
		if err := do(); err != nil {
			return err
		}
		r := t.ask(v, "POST", "/add")
		if err := mend(); err != nil {
			return err
		}
		t.v.Commit = fmt.Sprintf("%d %q", r.status, strings.TrimSpace(r.body))
		v.take(r.set)
		switch kept := t.count(v) == before+1; {
		case r.status == http.StatusOK && !kept:
			t.v.Commit += ", **and it is lost**"
		case strings.Contains(r.body, "count"):
			t.v.Commit += ", **an error and the page**"
		}
	}
	return nil
}

// A session with a lifetime of ten seconds, which is the shortest that roam
// allows, and a page that is under way when it ends.
const (
	lifetime = 10 * time.Second
	begun    = 9 * time.Second
	finished = 11 * time.Second
	asked    = 12 * time.Second
)

// outlives tells whether a page that straddles the end of a session's life keeps
// the session alive. gorilla's sessions count from the last write, so that a
// write keeps them for as long again.
func (b *bench) outlives(all []*trial) error {
	b.say("correctness, sessions at the end of their life")
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, t := range all {
		running.Go(func() { errs[i] = b.straddle(t) })
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", all[i].name, err)
		}
	}
	return nil
}

func (b *bench) straddle(old *trial) error {
	t, err := b.try(old.candidate, lifetime)
	if err != nil {
		return err
	}
	if t.site.close != nil {
		defer t.site.close()
	}
	born := time.Now()
	until := func(d time.Duration) { time.Sleep(time.Until(born.Add(d))) }
	var visitors [3]*visitor
	for i := range visitors {
		if visitors[i], err = t.arrive(fmt.Sprintf("old%d", i)); err != nil {
			return err
		}
	}
	until(begun)
	read, err := t.hold(visitors[1], "GET", slowRead)
	if err != nil {
		return err
	}
	write, err := t.hold(visitors[2], "POST", slowAdd)
	if err != nil {
		return err
	}
	until(finished)
	// Whichever of the two a leave is for, both go on.
	t.gate.leave <- struct{}{}
	t.gate.leave <- struct{}{}
	visitors[1].take((<-read.done).set)
	visitors[2].take((<-write.done).set)
	until(asked)
	var alive []string
	for i, what := range []string{"of itself", "after a page that read", "after one that wrote"} {
		if t.ask(visitors[i], "GET", "/who").user() {
			alive = append(alive, what)
		}
	}
	old.v.Outlives = "over"
	if alive != nil {
		old.v.Outlives = "**lives on** " + strings.Join(alive, ", ")
	}
	return nil
}
