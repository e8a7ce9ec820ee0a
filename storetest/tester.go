package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A tester takes steps on a store. A step that the law says must succeed ends
// the trial if it does not.
type tester struct {
	trial
	store roam.Store

	// patience bounds waiting for what must happen by itself. It decides
	// nothing but when to give up on a store that has failed.
	patience time.Duration

	short bool
}

// rounds is how often a random law is played: all times, or with -short a
// tenth of them.
func (t *tester) rounds(all int) int {
	if t.short {
		return max(all/10, 1)
	}
	return all
}

func newID() (id roam.ID) {
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40 // a UUID, version 4, as managers make them
	id[8] = id[8]&0x3f | 0x80
	return id
}

func random64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// record returns a record such as a manager inserts, of a guest if user is "".
func record(user string) roam.Record {
	rec := roam.Record{ID: newID(), User: user, Data: []byte(`{"n":1}`), Idle: time.Hour, Lifetime: 24 * time.Hour}
	rand.Read(rec.Proof[:])
	rec.Writes = rec.Writes.Push(random64())
	return rec
}

// full returns a record in which every field that is the caller's has a value
// of its own.
func full(user string) roam.Record {
	rec := record(user)
	rand.Read(rec.Previous[:])
	rec.Level = 3
	rec.From = roam.Client{Addr: netip.MustParseAddr("2001:db8::17"), Agent: "Agent/1.0 (test; ü)"}
	rec.Idle, rec.Lifetime = 90*time.Minute, 36*time.Hour+time.Microsecond
	for i := range rec.Writes {
		rec.Writes[i] = random64() | 1<<63 // more than a signed integer holds
	}
	return rec
}

// brief returns a record that is over as soon as the store's clock has moved.
func brief(user string) roam.Record {
	rec := record(user)
	rec.Idle = time.Microsecond
	return rec
}

// edit returns rec as a manager's next update of it would be.
func edit(rec roam.Record, data string) roam.Record {
	rec.Data = []byte(data)
	rec.Writes = rec.Writes.Push(random64())
	return rec
}

func (t *tester) insert(rec roam.Record) roam.Record {
	t.Helper()
	got, err := t.store.Insert(t.Context(), rec)
	if err != nil {
		t.Fatalf("Insert: %v", err)
	}
	return got
}

// insertOver inserts rec, which is brief, and returns it when it is over.
func (t *tester) insertOver(rec roam.Record) roam.Record {
	t.Helper()
	t.insert(rec)
	return t.untilOver(rec.ID)
}

func (t *tester) load(id roam.ID) roam.Record {
	t.Helper()
	got, err := t.store.Load(t.Context(), id, roam.Want{})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return got
}

func (t *tester) update(rec roam.Record) roam.Record {
	t.Helper()
	got, err := t.store.Update(t.Context(), rec)
	if err != nil {
		t.Fatalf("Update of version %d: %v", rec.Version, err)
	}
	return got
}

func (t *tester) touch(touches ...roam.Touch) {
	t.Helper()
	if err := t.store.Touch(t.Context(), touches); err != nil {
		t.Fatalf("Touch of %d sessions: %v", len(touches), err)
	}
}

func (t *tester) end(id roam.ID, why roam.Reason) {
	t.Helper()
	if err := t.store.End(t.Context(), id, why); err != nil {
		t.Fatalf("End: %v", err)
	}
}

func (t *tester) endUser(user string, why roam.Reason, except ...roam.ID) int {
	t.Helper()
	n, err := t.store.EndUser(t.Context(), user, why, except...)
	if err != nil {
		t.Fatalf("EndUser: %v", err)
	}
	return n
}

func (t *tester) list(user string) (recs []roam.Record) {
	t.Helper()
	for rec, err := range t.store.List(t.Context(), user) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		recs = append(recs, rec)
	}
	return recs
}

func (t *tester) all() map[roam.ID]roam.Record {
	t.Helper()
	recs := make(map[roam.ID]roam.Record)
	for rec, err := range t.store.All(t.Context()) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		if _, twice := recs[rec.ID]; twice {
			t.Errorf("All: session %v twice", rec.ID)
		}
		recs[rec.ID] = rec
	}
	return recs
}

func (t *tester) prune(keep time.Duration, max int) int {
	t.Helper()
	n, err := t.store.Prune(t.Context(), keep, max)
	if err != nil {
		t.Fatalf("Prune: %v", err)
	}
	return n
}

// conflicts fails unless the store refuses the update with ErrConflict.
func (t *tester) conflicts(what string, rec roam.Record) {
	t.Helper()
	if got, err := t.store.Update(t.Context(), rec); !errors.Is(err, roam.ErrConflict) {
		t.Errorf("Update %s: error %v and version %d, want ErrConflict", what, err, got.Version)
	}
}

// gone fails unless there is no record with this ID.
func (t *tester) gone(id roam.ID) {
	t.Helper()
	if rec, err := t.store.Load(t.Context(), id, roam.Want{}); !errors.Is(err, roam.ErrNotFound) {
		t.Errorf("Load: error %v and version %d, want ErrNotFound", err, rec.Version)
	}
}

// stored fails unless the store has exactly this record, stamps and all.
func (t *tester) stored(want roam.Record) {
	t.Helper()
	t.same("stored record", t.load(want.ID), want)
}

// same fails unless the two are the same as far as they are stored.
func (t *tester) same(what string, got, want roam.Record) {
	t.Helper()
	if d := differ(got, want); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// stamped fails unless the store stamped a time between two looks at its clock.
// These lie moments apart: a store whose clock follows a stamp that is hours
// ahead, so that none ever seems to be in the future, is found out too.
func (t *tester) stamped(what string, at, from, to time.Time) {
	t.Helper()
	if at.Before(from) || at.After(to) || to.Sub(from) > 10*time.Minute {
		t.Errorf("%s is %v, want the store's time between %v and %v", what, at, from, to)
	}
}

// living fails unless exactly these records are without a tombstone.
func (t *tester) living(want ...roam.ID) {
	t.Helper()
	n := 0
	for id, rec := range t.all() {
		if !rec.Ended.IsZero() {
			continue
		}
		n++
		found := false
		for _, w := range want {
			found = found || w == id
		}
		if !found {
			t.Errorf("session %v of user %q has no tombstone", id, rec.User)
		}
	}
	if n != len(want) {
		t.Errorf("%d records have no tombstone, want %d", n, len(want))
	}
}

// untilOver waits until the record is over by the store's own clock.
func (t *tester) untilOver(id roam.ID) roam.Record {
	t.Helper()
	return t.until("the record to be over", id, func(rec roam.Record) bool {
		_, _, over := rec.Over(rec.Now)
		return over
	})
}

// untilAfter waits until the store's clock has passed a time.
func (t *tester) untilAfter(at time.Time, id roam.ID) roam.Record {
	t.Helper()
	return t.until("the store's clock to move", id, func(rec roam.Record) bool { return rec.Now.After(at) })
}

func (t *tester) until(what string, id roam.ID, ok func(roam.Record) bool) roam.Record {
	t.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Microsecond) {
		rec := t.load(id)
		if ok(rec) {
			return rec
		}
		if time.Since(start) > t.patience {
			t.Fatalf("waited %v for %s", t.patience, what)
		}
	}
}

// each runs do in n goroutines that start at once, and waits for them. They
// must not call Fatalf.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// differ says in which fields two records differ that a store keeps, "" if in
// none. Times are compared as instants, and empty data is no data.
func differ(got, want roam.Record) string {
	var d []string
	field := func(name string, same bool, got, want any) {
		if !same {
			d = append(d, fmt.Sprintf("%s is %v, want %v", name, got, want))
		}
	}
	field("ID", got.ID == want.ID, got.ID, want.ID)
	field("Version", got.Version == want.Version, got.Version, want.Version)
	field("Proof", got.Proof == want.Proof, "another", "what was given")
	field("Previous", got.Previous == want.Previous, "another", "what was given")
	field("User", got.User == want.User, fmt.Sprintf("%q", got.User), fmt.Sprintf("%q", want.User))
	field("Level", got.Level == want.Level, got.Level, want.Level)
	field("From.Addr", got.From.Addr == want.From.Addr, got.From.Addr, want.From.Addr)
	field("From.Agent", got.From.Agent == want.From.Agent, fmt.Sprintf("%q", got.From.Agent), fmt.Sprintf("%q", want.From.Agent))
	field("Data", bytes.Equal(got.Data, want.Data), abridge(got.Data), abridge(want.Data))
	field("Created", got.Created.Equal(want.Created), got.Created, want.Created)
	field("LoggedIn", got.LoggedIn.Equal(want.LoggedIn), got.LoggedIn, want.LoggedIn)
	field("Seen", got.Seen.Equal(want.Seen), got.Seen, want.Seen)
	field("Idle", got.Idle == want.Idle, got.Idle, want.Idle)
	field("Lifetime", got.Lifetime == want.Lifetime, got.Lifetime, want.Lifetime)
	field("Writes", got.Writes == want.Writes, got.Writes, want.Writes)
	field("Ended", got.Ended.Equal(want.Ended), got.Ended, want.Ended)
	field("Why", got.Why == want.Why, fmt.Sprintf("%q", got.Why), fmt.Sprintf("%q", want.Why))
	return strings.Join(d, "; ")
}

// abridge describes data without flooding the test's output.
func abridge(data []byte) string {
	if len(data) > 64 {
		return fmt.Sprintf("%d bytes, %q…", len(data), data[:64])
	}
	return fmt.Sprintf("%q", data)
}
