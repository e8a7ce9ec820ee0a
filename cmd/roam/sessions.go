package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/roam-web/roam"
)

// sessionsCommands are the commands below "roam sessions". They work on the
// store itself, so they need no server and also serve other programs' sessions.
func sessionsCommands() []command {
	return []command{
		{groupSession, "list", "who is logged in", sessionsList},
		{groupSession, "show", "all that a session holds, but for its secrets", sessionsShow},
		{groupSession, "revoke", "end a session, all of a user's, or all of a time", sessionsRevoke},
		{groupSession, "prune", "remove what ended long ago", sessionsPrune},
		{groupSession, "restored", "tell the store that a backup was put back", sessionsRestored},
	}
}

func sessions(ctx context.Context, std *stdio, args []string) error {
	return below(ctx, std, "sessions", sessionsManual(), sessionsCommands(), args)
}

func sessionsManual() string {
	var b strings.Builder
	b.WriteString("Looks into a store of sessions and changes it, whether its servers run or not.\n\nCommands:\n")
	for _, c := range sessionsCommands() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.summary)
	}
	b.WriteString("\nWithout --store they work on the farm's store that \"roam up\" uses.\n" + storeManual)
	return b.String()
}

// A desk is where the sessions commands work: flags they share, and a store.
type desk struct {
	*flagSet
	store  *string
	dir    *string
	asJSON *bool
}

func newDesk(std *stdio, line, manual string) *desk {
	fs := newFlags(std, line, manual)
	return &desk{
		flagSet: fs,
		store:   fs.String("store", "", "`URL`: of the store; if not given, $ROAM_STORE, or the farm's store"),
		dir:     dirFlag(fs),
		asJSON:  fs.Bool("json", false, "print JSON, for programs"),
	}
}

func (d *desk) open(ctx context.Context) (closingStore, error) {
	return openExisting(ctx, *d.store, *d.dir)
}

func sessionsList(ctx context.Context, std *stdio, args []string) (err error) {
	d := newDesk(std, "sessions list [flags]", `
Lists living sessions, last used first: who, logged in how long ago, last seen
how long ago (give or take a minute), when it ends if it is not used, and the
address at login. A session without a user is a guest's.

With --all the ended ones that have not been pruned are listed too, each with
the reason.`)
	user := d.String("user", "", "`USER`: list this one's only")
	all := d.Bool("all", false, "ended sessions too")
	if _, err := d.parse(args); err != nil {
		return err
	}
	store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	var list []entry
	for rec, err := range records(ctx, store, *user, *all) {
		if err != nil {
			return err
		}
		if e := entryOf(rec); *all || e.Ended == nil {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(b.Seen.Compare(a.Seen), bytes.Compare(a.ID[:], b.ID[:]))
	})
	if *d.asJSON {
		if list == nil {
			list = []entry{} // "[]" is easier for programs than "null"
		}
		return printJSON(std.Out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(std.Out, "no sessions")
		return nil
	}
	printSessions(std.Out, list, *all)
	return nil
}

// records are the store's records, or one user's. A user's ended ones are
// found only by looking at all.
func records(ctx context.Context, store roam.Store, user string, ended bool) iter.Seq2[roam.Record, error] {
	if user != "" && !ended {
		return store.List(ctx, user)
	}
	return func(yield func(roam.Record, error) bool) {
		for rec, err := range store.All(ctx) {
			if err == nil && user != "" && rec.User != user {
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// An entry is a session as operators see it: without its proofs, which nobody
// needs to see.
type entry struct {
	ID       roam.ID     `json:"id"`
	User     string      `json:"user"`
	Level    roam.Level  `json:"level"`
	Created  time.Time   `json:"created"`
	LoggedIn *time.Time  `json:"logged_in,omitempty"`
	Seen     time.Time   `json:"seen"`
	Expires  *time.Time  `json:"expires,omitempty"`
	Ended    *time.Time  `json:"ended,omitempty"`
	Reason   roam.Reason `json:"reason,omitempty"`
	Address  string      `json:"address,omitempty"`
	Agent    string      `json:"agent,omitempty"`
	Now      time.Time   `json:"-"`
}

func entryOf(rec roam.Record) entry {
	e := entry{
		ID: rec.ID, User: rec.User, Level: rec.Level, Created: rec.Created, Seen: rec.Seen,
		Agent: rec.From.Agent, Now: rec.Now,
	}
	if rec.From.Addr.IsValid() {
		e.Address = rec.From.Addr.String()
	}
	if !rec.LoggedIn.IsZero() {
		e.LoggedIn = &rec.LoggedIn
	}
	if why, at, over := rec.Over(rec.Now); over {
		e.Ended, e.Reason = &at, why
	} else {
		at, _ := rec.Deadline()
		e.Expires = &at
	}
	return e
}

// printSessions keeps within 100 columns: what ended has a reason and no
// address any more, so the two share a place.
func printSessions(out io.Writer, list []entry, all bool) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	last := "FROM"
	if all {
		last = "FROM, OR REASON"
	}
	fmt.Fprintf(t, "ID\tUSER\tLOGGED IN\tSEEN\tEXPIRES\t%s\n", last)
	for _, e := range list {
		login, expires, last := "-", "", e.Address
		if e.LoggedIn != nil {
			login = short(e.Now.Sub(*e.LoggedIn)) + " ago"
		}
		if e.Ended != nil {
			expires, last = "ended", string(e.Reason)
		} else {
			expires = "in " + short(e.Expires.Sub(e.Now))
		}
		user := cmp.Or(e.User, "(guest)")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, clip(user, 12), login, short(e.Now.Sub(e.Seen))+" ago", expires, clip(cmp.Or(last, "-"), 18))
	}
	t.Flush()
}

// clip shortens what a user may have chosen to n characters, and shows control
// characters as such instead of letting them at the terminal.
func clip(s string, n int) string {
	s = printable(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// printable shows what is not: a session's content must not control the
// operator's terminal.
func printable(s string) string {
	quoted := fmt.Sprintf("%+q", s)
	if plain := quoted[1 : len(quoted)-1]; plain != s && strings.IndexFunc(s, isControl) >= 0 {
		return plain
	}
	return s
}

func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError ||
		r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x2069 // invisible, or turning the direction
}

func sessionsShow(ctx context.Context, std *stdio, args []string) (err error) {
	d := newDesk(std, "sessions show ID [flags]", `
Shows all that a session holds, its data too, but for the hashes of its secrets.`)
	got, err := d.parse(args, "ID")
	if err != nil {
		return err
	}
	id, err := parseID(got[0])
	if err != nil {
		return err
	}
	store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	rec, err := load(ctx, store, id)
	if err != nil {
		return err
	}
	e := entryOf(rec)
	if *d.asJSON {
		data := json.RawMessage(rec.Data)
		if !json.Valid(rec.Data) { // another codec's
			data, _ = json.Marshal(rec.Data) // as base64
		}
		if rec.Data == nil {
			data = nil
		}
		return printJSON(std.Out, struct {
			entry
			Version uint64          `json:"version"`
			Idle    float64         `json:"idle_seconds"`
			Life    float64         `json:"lifetime_seconds"`
			Epoch   uint64          `json:"epoch"`
			Data    json.RawMessage `json:"data,omitempty"`
		}{e, rec.Version, rec.Idle.Seconds(), rec.Lifetime.Seconds(), rec.Epoch, data})
	}
	t := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) }
	moment := func(at time.Time) string {
		return fmt.Sprintf("%s (%s ago)", at.UTC().Format("2006-01-02 15:04:05 UTC"), short(rec.Now.Sub(at)))
	}
	line("id", e.ID.String())
	line("user", printable(cmp.Or(e.User, "(guest)")))
	line("level", fmt.Sprint(e.Level))
	line("created", moment(e.Created))
	if e.LoggedIn != nil {
		line("logged in", moment(*e.LoggedIn))
	}
	line("last seen", moment(e.Seen))
	if e.Ended != nil {
		line("ended", moment(*e.Ended))
		line("reason", printable(string(e.Reason)))
	} else {
		at, by := rec.Deadline()
		line("expires", fmt.Sprintf("%s (in %s): %s", at.UTC().Format("2006-01-02 15:04:05 UTC"), short(at.Sub(rec.Now)), by))
	}
	line("limits", fmt.Sprintf("idle %v, lifetime %v", rec.Idle, rec.Lifetime))
	line("address", cmp.Or(e.Address, "-"))
	line("agent", printable(cmp.Or(e.Agent, "-")))
	line("version", fmt.Sprint(rec.Version))
	line("epoch", fmt.Sprint(rec.Epoch))
	t.Flush()
	if rec.Data == nil {
		return nil
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, rec.Data, "", "  "); err != nil {
		fmt.Fprintf(std.Out, "data      %d bytes that are not JSON: %.200q\n", len(rec.Data), rec.Data)
		return nil
	}
	// JSON has control characters escaped already, but not all that turn text.
	fmt.Fprintln(std.Out, "data")
	for line := range strings.Lines(pretty.String()) {
		fmt.Fprintln(std.Out, "  "+printable(strings.TrimSuffix(line, "\n")))
	}
	return nil
}

// load is store.Load with advice.
func load(ctx context.Context, store roam.Store, id roam.ID) (roam.Record, error) {
	rec, err := store.Load(ctx, id, roam.Want{})
	if errors.Is(err, roam.ErrNotFound) {
		return rec, hinted(fmt.Errorf("there is no session %v", id),
			"it never was, or was pruned; \"%s sessions list --all\" lists what there is", self())
	}
	return rec, err
}

func parseID(text string) (roam.ID, error) {
	id, err := roam.ParseID(text)
	if err != nil {
		return id, misuse("\"%s sessions list\" shows the IDs", self())("%q is no session ID", clip(text, 60))
	}
	return id, nil
}

func sessionsRevoke(ctx context.Context, std *stdio, args []string) (err error) {
	d := newDesk(std, "sessions revoke [ID] [flags]", `
Ends one session, or all of a user's, for good: when the command returns, no
server that shares the store lets it in, and a request that was still in flight
cannot bring it back. The visitor is told the reason.

With --started-after it ends all sessions, guests' too, that began or were logged
in since then, until --started-before or else now. This is for when logins could
not be trusted for a while: first mend what was wrong, then end what it let in. If
a key may have got out, drop it first ("roam help key"): a mark that somebody made
with it is of no session in the store, so nothing here can end it. A time is one by
the store's clock, such as 2026-11-21T10:00:00Z, or how long ago it was, such as
36h. To give the command again goes on where it stopped.`)
	user := d.String("user", "", "`USER`: end all of this one's sessions")
	after := d.String("started-after", "", "`TIME`: end all sessions that were started since")
	before := d.String("started-before", "", "`TIME`: and not later than this; if not given, now")
	why := d.String("why", string(roam.Revoked), "`REASON`: what the visitor is told, at most 64 bytes")
	got, err := d.parse(args, "[ID]")
	if err != nil {
		return err
	}
	if *before != "" && *after == "" {
		return misuse("want for instance --started-after 36h")("--started-before needs --started-after: from when on")
	}
	ways := 0
	for _, way := range []string{got[0], *user, *after} {
		if way != "" {
			ways++
		}
	}
	if ways != 1 {
		return misuse("usage: %s %s", self(), d.line)("sessions revoke needs either an ID, --user or --started-after")
	}
	if *after != "" { // a misspelt time is noticed without a store
		if _, err := momentOf("started-after", *after, time.Now()); err != nil {
			return err
		}
	}
	var id roam.ID
	if got[0] != "" {
		if id, err = parseID(got[0]); err != nil {
			return err
		}
	}
	store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m, err := roam.New[json.RawMessage](store, nil)
	if err != nil {
		return err
	}
	n := 0
	switch {
	case *after != "":
		var nobody roam.Record
		if nobody, err = store.Load(ctx, roam.ID{}, roam.Want{}); !errors.Is(err, roam.ErrNotFound) { // it tells the store's time
			return fmt.Errorf("the store's clock cannot be read: %w", err)
		}
		var w window
		if w, err = windowOf(*after, *before, nobody.Now); err != nil {
			return err
		}
		if n, err = revokeWindow(ctx, store, w, roam.Reason(*why), std.Err); err != nil {
			return hinted(fmt.Errorf("after %d sessions were ended: %w", n, err), "give the command again: it goes on from here")
		}
	case *user != "":
		n, err = m.RevokeUser(ctx, *user, roam.Reason(*why))
	default:
		var rec roam.Record
		if rec, err = load(ctx, store, id); err != nil {
			return err
		}
		if was, _, over := rec.Over(rec.Now); over {
			return hinted(fmt.Errorf("the session had ended before: %s", was), "nothing is left to do")
		}
		err = m.Revoke(ctx, rec.ID, roam.Reason(*why))
		n = 1
	}
	if err != nil {
		return err
	}
	if *d.asJSON {
		return printJSON(std.Out, map[string]int{"ended": n})
	}
	fmt.Fprintf(std.Out, "sessions ended: %d\n", n)
	return nil
}

func sessionsPrune(ctx context.Context, std *stdio, args []string) (err error) {
	d := newDesk(std, "sessions prune [flags]", `
Removes sessions that have been over for long, by a limit or by a logout. What
is removed cannot tell its visitor any more why it ended. Web servers that call
Manager.Run prune by themselves; this is for those that do not.`)
	older := d.Duration("older", 7*24*time.Hour, "`DURATION`: only what has been over for so long")
	if _, err := d.parse(args); err != nil {
		return err
	}
	if *older < 0 {
		return misuse("want for instance --older 168h, which is a week")("--older is %v", *older)
	}
	store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	const batch = 1000 // so that servers never wait for long
	n := 0
	for {
		k, err := store.Prune(ctx, *older, batch)
		n += k
		if err != nil {
			return fmt.Errorf("after %d sessions were removed: %w", n, err)
		}
		if k < batch {
			break
		}
	}
	if *d.asJSON {
		return printJSON(std.Out, map[string]int{"removed": n})
	}
	fmt.Fprintf(std.Out, "sessions removed: %d\n", n)
	return nil
}

func sessionsRestored(ctx context.Context, std *stdio, args []string) (err error) {
	d := newDesk(std, "sessions restored [flags]", `
Tells the store that a backup was put back. Run it once each time, before the
servers use the store again. It raises the store's epoch: whoever remembers a
session as it was after the backup can tell by it that newer writes are gone, and
does not take the older state for an error of its own.

It cannot bring back what was written after the backup: logins since then are
gone, and sessions that were ended since then live again. If that matters, end
them: revoke the users in question.`)
	if _, err := d.parse(args); err != nil {
		return err
	}
	store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	s, ok := store.(interface {
		Restored(context.Context) (uint64, error)
	})
	if !ok {
		return errors.New("this kind of store has no epoch to raise")
	}
	epoch, err := s.Restored(ctx)
	if err != nil {
		return err
	}
	if *d.asJSON {
		return printJSON(std.Out, map[string]uint64{"epoch": epoch})
	}
	fmt.Fprintf(std.Out, "the store's epoch is now %d; servers may use it again\n", epoch)
	return nil
}
