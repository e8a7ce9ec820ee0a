package storetest

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/roam-web/roam"
)

var insertLaws = []law{
	{"Insert/StoresWhatItIsGiven", func(t *tester) {
		given := full("ann")
		got := t.insert(given)
		want := given
		want.Version, want.Created, want.Seen, want.LoggedIn = 1, got.Created, got.Seen, got.LoggedIn
		t.same("answer", got, want)
		t.stored(got)
	}},

	{"Insert/AnyValueComesBack", func(t *tester) {
		for what, rec := range values() {
			got := t.insert(rec)
			rec.Version, rec.Created, rec.Seen, rec.LoggedIn = 1, got.Created, got.Seen, got.LoggedIn
			t.same(what+", answer", got, rec)
			t.same(what+", loaded", t.load(rec.ID), rec)
			t.same(what+", updated", t.update(got), func() roam.Record {
				up := t.load(rec.ID)
				rec.Version, rec.Seen = 2, up.Seen
				return rec
			}())
		}
	}},

	{"Insert/BeginsAtVersionOne", func(t *tester) {
		rec := record("")
		rec.Version = 7
		if got := t.insert(rec); got.Version != 1 {
			t.Errorf("inserted with version 7: got version %d, want 1", got.Version)
		}
		if got := t.load(rec.ID); got.Version != 1 {
			t.Errorf("loaded version %d, want 1", got.Version)
		}
	}},

	{"Insert/StampsCreatedAndSeen", func(t *tester) {
		before := t.insert(record("")).Now
		rec := record("")
		rec.Created, rec.Seen, rec.LoggedIn = before.Add(-time.Hour), before.Add(time.Hour), before.Add(-time.Minute)
		got := t.insert(rec)
		t.stamped("Created", got.Created, before, got.Now)
		t.stamped("Seen", got.Seen, before, got.Now)
		if !got.LoggedIn.IsZero() {
			t.Errorf("LoggedIn of a guest is %v, want the zero time", got.LoggedIn)
		}
		t.stored(got)
	}},

	{"Insert/StampsTheLoginOfAUser", func(t *tester) {
		before := t.insert(record("")).Now
		rec := record("ann")
		rec.LoggedIn = before.Add(-time.Hour)
		got := t.insert(rec)
		t.stamped("LoggedIn", got.LoggedIn, before, got.Now)
		t.stored(got)
	}},

	{"Insert/MakesNoTombstone", func(t *tester) {
		rec := record("ann")
		rec.Ended, rec.Why = time.Now(), roam.Revoked
		if got := t.insert(rec); !got.Ended.IsZero() || got.Why != "" {
			t.Errorf("inserted a tombstone: Ended %v, Why %q", got.Ended, got.Why)
		}
		if got := t.load(rec.ID); !got.Ended.IsZero() || got.Why != "" {
			t.Errorf("loaded a tombstone: Ended %v, Why %q", got.Ended, got.Why)
		}
	}},

	{"Insert/TakenIDConflicts", func(t *tester) {
		living := t.insert(full("ann"))
		expired := t.insertOver(brief("ann"))
		ended := t.insert(full("ann"))
		t.end(ended.ID, roam.LoggedOut)
		ended = t.load(ended.ID)
		for what, taken := range map[string]roam.Record{"living": living, "expired": expired, "ended": ended} {
			rec := full("bob")
			rec.ID = taken.ID
			if _, err := t.store.Insert(t.Context(), rec); !errors.Is(err, roam.ErrConflict) {
				t.Errorf("Insert with the ID of a record that is %s: error %v, want ErrConflict", what, err)
			}
			t.stored(taken)
		}
		if n := len(t.list("bob")); n != 0 {
			t.Errorf("bob has %d sessions from inserts that conflicted", n)
		}
	}},
}

// values returns records with the values that a column, a codec or a
// comparison most likely gets wrong.
func values() map[string]roam.Record {
	recs := make(map[string]roam.Record)
	add := func(what string, change func(*roam.Record)) {
		rec := full("ann")
		change(&rec)
		recs[what] = rec
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for what, data := range map[string][]byte{
		"no data":              nil,
		"data of 0 bytes":      {},
		"data of one NUL":      {0},
		"data of every byte":   every,
		"data of 16 KiB":       []byte(strings.Repeat("0123456789abcdef", 1024)),
		"data not UTF-8":       {'"', 0xff, 0xfe, '"'},
		"data with a quote":    []byte(`{"a":"'; --"}`),
		"data of spaces":       []byte("  x  \n"),
		"data that is a date":  []byte("2006-01-02"),
		"data that is a digit": []byte("007"),
	} {
		add(what, func(r *roam.Record) { r.Data = data })
	}
	for _, user := range oddUsers {
		add("user "+abridge([]byte(user)), func(r *roam.Record) { r.User = user })
	}
	for _, agent := range []string{"", strings.Repeat("a", 256), "ü☃😀 \"'\\%", "tab\tand  spaces "} {
		add("agent "+abridge([]byte(agent)), func(r *roam.Record) { r.From.Agent = agent })
	}
	for _, addr := range []string{"192.0.2.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0"} {
		add("address "+addr, func(r *roam.Record) { r.From.Addr = netip.MustParseAddr(addr) })
	}
	add("no address", func(r *roam.Record) { r.From.Addr = netip.Addr{} })
	add("no client", func(r *roam.Record) { r.From = roam.Client{} })
	for _, level := range []roam.Level{0, 1, 127, 128, 255} {
		add("level", func(r *roam.Record) { r.Level = level })
	}
	for _, d := range []time.Duration{time.Hour, time.Hour + time.Microsecond, 400 * 24 * time.Hour} {
		add("limits of "+d.String(), func(r *roam.Record) { r.Idle, r.Lifetime = d, 400*24*time.Hour })
	}
	for what, id := range map[string]uint64{"1": 1, "1<<63-1": 1<<63 - 1, "1<<63": 1 << 63, "1<<64-1": 1<<64 - 1} {
		add("write id "+what, func(r *roam.Record) { r.Writes = roam.Writes{0: id, 7: id} })
	}
	add("no writes", func(r *roam.Record) { r.Writes = roam.Writes{} })
	add("proofs of ones", func(r *roam.Record) {
		for i := range r.Proof {
			r.Proof[i], r.Previous[i] = 0xff, 0xff
		}
	})
	add("no previous proof", func(r *roam.Record) { r.Previous = roam.Proof{} })
	add("an ID with zeros", func(r *roam.Record) { r.ID = roam.ID{6: 0x40, 8: 0x80} })
	add("an ID with ones", func(r *roam.Record) {
		for i := range r.ID {
			r.ID[i] = 0xff
		}
		r.ID[6], r.ID[8] = 0x4f, 0xbf
	})
	add("a guest", func(r *roam.Record) { r.User = "" })
	return recs
}

// oddUsers are different users whom a database may take for one another: by
// case, by trailing space, by Unicode form, as patterns, as numbers, cut short.
var oddUsers = []string{
	"ann", "Ann", "ANN", "ann ", " ann", "ann\t", "ann\n", "an", "annn", "a%", "a_n", "%", "*", "an?",
	"änn", "a\u0308nn", "ånn", "ａｎｎ", "ann\u200b", "ﬀ", "ff", "ß", "ss", "İ", "i", "I", "ı",
	"1", "01", "1.0", "1e0", "0", "null", "NULL", "true", "'", "''", `"`, `\`, `\\`, "a\\nn", "a'; drop table sessions; --",
	"安", "😀", "\u202enna", "ann\u0301", strings.Repeat("x", 254), strings.Repeat("x", 255), strings.Repeat("ü", 127), "{}", "[]", "a:b", "a/b", "a.b",
}
