package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/roam-web/roam/sealed"
)

// keyCommands are the commands below "roam key". They work on a key file and on
// nothing else: the servers read it by themselves.
func keyCommands() []command {
	return []command{
		{groupSession, "new", "make a key file", keyNew},
		{groupSession, "rotate", "add a key, which servers begin to seal with in a minute", keyRotate},
		{groupSession, "list", "which keys there are, and what each is for at present", keyList},
		{groupSession, "drop", "make all that was sealed with a key worthless", keyDrop},
	}
}

func key(ctx context.Context, std *stdio, args []string) error {
	return below(ctx, std, "key", keyManual(), keyCommands(), args)
}

func keyManual() string {
	var b strings.Builder
	b.WriteString(`
Keeps the keys with which the servers of a site seal the mark, the second cookie,
which says who a visitor is without asking the store. All servers need the same
file; give them a copy each, readable by their user alone. They read it again
every half a minute, so nothing here needs a restart.

Commands:
`)
	for _, c := range keyCommands() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.summary)
	}
	b.WriteString(`
A key is next (all servers open with it, none seals with it yet), current,
retired (opens what it has sealed) or dropped (opens nothing any more). No
command prints a secret. The farm of "roam up" has its file in its own folder,
named keys.json.`)
	return b.String()
}

func keyNew(_ context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "key new FILE [flags]", `
Makes a key file with one new key, which seals at once, readable by you alone
(mode 0600). It never replaces a file.

To add keys to a site whose sessions have none yet: give the file to every server
and set WebOptions.Sealer and AllowUnsealed. Nobody is logged out. When the
sessions from before are over, take AllowUnsealed away.`)
	asJSON := jsonFlag(fs)
	got, err := fs.parse(args, "FILE")
	if err != nil {
		return err
	}
	keys, err := sealed.Create(got[0])
	if err != nil {
		return keyFailure(err)
	}
	return printKeys(std.Out, keys, *asJSON)
}

func keyRotate(_ context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "key rotate FILE [flags]", `
Adds a new key. Servers open with it as soon as they have read the file, and
begin to seal with it when --propagation has passed, so that none meets a mark
that it cannot open yet. The key before it is retired: it opens what it has
sealed, so nobody is logged out. Keys that retired longer ago than --lifetime are
removed, because nothing that they have sealed can be in use.

Every few months is often enough. Copy the file to the other servers before
--propagation has passed.`)
	opts := sealed.Options{}
	lifetimeFlag(fs, &opts)
	propagationFlag(fs, &opts)
	asJSON := jsonFlag(fs)
	got, err := fs.parse(args, "FILE")
	if err != nil {
		return err
	}
	keys, err := sealed.Rotate(got[0], &opts)
	if err != nil {
		return keyFailure(err)
	}
	return printKeys(std.Out, keys, *asJSON)
}

func keyList(_ context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "key list FILE [flags]", `
Lists the keys of a file, newest first: id, state, when it was made, since or from
when it seals, when it was dropped, and a check, which is derived from the secret
and does not give it away. Two servers that show one id with two checks have
different keys. The state is by this machine's clock.`)
	asJSON := jsonFlag(fs)
	got, err := fs.parse(args, "FILE")
	if err != nil {
		return err
	}
	keys, err := sealed.List(got[0])
	if err != nil {
		return keyFailure(err)
	}
	return printKeys(std.Out, keys, *asJSON)
}

func keyDrop(_ context.Context, std *stdio, args []string) error {
	fs := newFlags(std, "key drop FILE ID [flags]", `
Is for a key that somebody else may have. What it has sealed is refused by each
server as soon as that has read the file, within a minute: visitors whose mark it
was count as strangers, and log in again. If it was the current key, a new one is
added.

The secret is removed from the file and the id stays, so that a server which has
seen it dropped refuses it for good. Replace every copy of the file, backups too.`)
	opts := sealed.Options{}
	propagationFlag(fs, &opts)
	asJSON := jsonFlag(fs)
	got, err := fs.parse(args, "FILE", "ID")
	if err != nil {
		return err
	}
	id, err := sealed.ParseID(got[1])
	if err != nil { // it does not repeat what may be a secret
		return misuse("\"%s key list %s\" shows the ids", self(), quote(got[0]))("%s", strings.TrimPrefix(err.Error(), "sealed: "))
	}
	keys, err := sealed.Drop(got[0], id, &opts)
	if err != nil {
		return keyFailure(err)
	}
	return printKeys(std.Out, keys, *asJSON)
}

func jsonFlag(fs *flagSet) *bool { return fs.Bool("json", false, "print JSON, for programs") }

func lifetimeFlag(fs *flagSet, o *sealed.Options) {
	fs.DurationVar(&o.Lifetime, "lifetime", 0, "`TIME`: how long servers open what was sealed, such as 720h; 0 is 400 days")
}

func propagationFlag(fs *flagSet, o *sealed.Options) {
	fs.DurationVar(&o.Propagation, "propagation", 0, "`TIME`: until every server has read the file, however it gets there; 0 is a minute")
}

// keyFailure gives the errors of a key file a hint, if there is more to do than
// they say.
func keyFailure(err error) error {
	text := strings.TrimPrefix(err.Error(), "sealed: ")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hinted(errors.New(strings.TrimSuffix(text, `; "roam key new" makes one`)), "\"%s key new FILE\" makes one", self())
	case errors.Is(err, fs.ErrPermission):
		return hinted(errors.New(text), "only the user of the web servers can reach the keys; run this as that one")
	}
	return errors.New(text)
}

// A keyEntry is one key as "--json" prints it.
type keyEntry struct {
	ID        sealed.ID    `json:"id"`
	State     sealed.State `json:"state"`
	Created   time.Time    `json:"created,omitzero"`
	SealAfter time.Time    `json:"seal_after,omitzero"`
	Dropped   time.Time    `json:"dropped,omitzero"`
	Check     string       `json:"check,omitempty"`
}

func printKeys(out io.Writer, keys []sealed.Info, asJSON bool) error {
	if asJSON {
		list := []keyEntry{}
		for _, k := range keys {
			list = append(list, keyEntry(k))
		}
		return printJSON(out, list)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tMADE\tSEALS FROM\tDROPPED\tCHECK")
	at := func(when time.Time) string {
		if when.IsZero() {
			return "-"
		}
		return when.UTC().Format("2006-01-02 15:04:05Z")
	}
	for _, k := range keys {
		check := k.Check
		if check == "" {
			check = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.State, at(k.Created), at(k.SealAfter), at(k.Dropped), check)
	}
	return t.Flush()
}
