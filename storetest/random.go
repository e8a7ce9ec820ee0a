package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// Fuzz takes random steps on a store and on a [roam.MemStore], and compares
// the answers. Times are compared where they follow from what was given;
// stamps must lie where the law says. open is as in [Run].
//
// A store with a large driver does not cover the same code twice, and go test
// would spend its time on making scripts smaller: use -fuzzminimizetime 1x.
func Fuzz(f *testing.F, open func(tb testing.TB) roam.Store) {
	for seed := range uint64(4) {
		f.Add(script(seed, 100))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 600 {
			t.Skip("long scripts find nothing that short ones do not")
		}
		agree(newTester(t, open(t)), script)
	})
}

var randomLaws = []law{
	{"Random/StepsHaveTheAnswersOfMemStore", func(t *tester) {
		for seed := range uint64(t.rounds(10)) {
			agree(t, script(100+seed, 400))
			for id := range t.all() { // the next script starts from nothing
				t.end(id, roam.Revoked)
				t.until("the clock to pass the end", id, func(rec roam.Record) bool { return rec.Now.After(rec.Ended) })
			}
			t.prune(0, 1<<20)
			if t.Failed() {
				t.Logf("of script %d", 100+seed)
				return
			}
		}
	}},
}

// script returns n random bytes, which agree reads as steps.
func script(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// A twin is one of the two stores, and what is known of it.
type twin struct {
	*tester
	name  string
	clock roam.ID     // of a record that serves to read the clock
	now   time.Time   // what the clock said last
	last  roam.Record // the record of the step as it was before
	log   *follower
}

// A play takes the same steps on both twins.
type play struct {
	*tester
	twins  [2]*twin
	ids    [4]roam.ID
	script []byte
	told   []string
}

// agree takes the steps of a script on the store under test and on a MemStore.
func agree(t *tester, script []byte) {
	p := &play{tester: t, script: script}
	p.twins[0] = &twin{tester: newTester(t.trial, roam.NewMemStore()), name: "MemStore"}
	p.twins[1] = &twin{tester: t, name: "the store"}
	for i := range p.ids {
		p.ids[i] = newID()
	}
	clock := record("clock")
	for _, twin := range p.twins {
		twin.clock = twin.insert(clock).ID
		twin.log = twin.follow()
		twin.log.name = twin.name + ": "
	}
	for len(p.script) > 0 && !t.Failed() {
		p.step()
	}
	if !t.Failed() {
		p.compareAll()
	}
	if t.Failed() {
		for _, line := range p.told {
			t.Logf("%s", line)
		}
	}
}

// choose reads the next choice of n from the script.
func (p *play) choose(n int) int {
	if len(p.script) == 0 {
		return 0
	}
	c := int(p.script[0]) % n
	p.script = p.script[1:]
	return c
}

func (p *play) tell(format string, args ...any) {
	p.told = append(p.told, fmt.Sprintf(format, args...))
}

var (
	someUsers   = []string{"", "ann", "Ann", "安"}
	someReasons = []roam.Reason{roam.LoggedOut, roam.Revoked, "other"}
	someLimits  = []time.Duration{time.Hour, 400 * 24 * time.Hour, time.Microsecond, 0}
	someLogins  = []time.Duration{0, time.Hour, -2 * time.Hour, -400 * 24 * time.Hour}
	someData    = [][]byte{[]byte("{}"), nil, {}, {0, 0xff}, []byte(`{"items":["x","ü"]}`)}
	someClients = []roam.Client{{}, {Addr: netip.MustParseAddr("192.0.2.1"), Agent: "a"}, {Addr: netip.MustParseAddr("::1"), Agent: "安"}}
)

// step takes one step on both and compares the answers.
func (p *play) step() {
	k := p.choose(len(p.ids))
	ctx := p.Context()
	if p.choose(16) == 0 {
		ctx = cancelled(ctx)
		p.tell("with a cancelled context:")
	}
	switch p.choose(12) {
	case 0, 1, 2:
		rec := p.record(k)
		p.tell("Insert %d: user %q, idle %v, lifetime %v", k, rec.User, rec.Idle, rec.Lifetime)
		p.write(k, func(t *twin) (roam.Record, error) { return t.store.Insert(ctx, rec) }, func(t *twin, got roam.Record) {
			t.stamped(t.name+", Created", got.Created, t.now, got.Now)
			t.stamped(t.name+", Seen", got.Seen, t.now, got.Now)
			if rec.User != "" {
				t.stamped(t.name+", LoggedIn", got.LoggedIn, t.now, got.Now)
			} else if !got.LoggedIn.IsZero() {
				t.Errorf("%s: LoggedIn of a guest is %v", t.name, got.LoggedIn)
			}
		})
	case 3, 4, 5, 6:
		rec, off := p.record(k), 0
		if p.choose(6) == 0 {
			off = p.choose(4) - 1
		}
		login, d := p.choose(5), someLogins[p.choose(len(someLogins))]
		p.tell("Update %d: version %+d, user %q, idle %v, lifetime %v, login %d %v", k, off, rec.User, rec.Idle, rec.Lifetime, login, d)
		given := func(t *twin) time.Time {
			switch login {
			case 0:
				return t.now.Add(d)
			case 1:
				return time.Time{}
			}
			return t.last.LoggedIn
		}
		p.write(k, func(t *twin) (roam.Record, error) {
			rec := rec
			rec.Version = uint64(max(0, int(t.last.Version)+off))
			rec.LoggedIn = given(t)
			if login > 1 {
				rec.Proof = t.last.Proof
			}
			if login > 3 {
				rec.Level = t.last.Level
			}
			return t.store.Update(ctx, rec)
		}, func(t *twin, got roam.Record) {
			t.stamped(t.name+", Seen", got.Seen, t.now, got.Now)
			if want := given(t); !got.LoggedIn.Equal(want) {
				t.Errorf("%s: LoggedIn is %v, was given as %v", t.name, got.LoggedIn, want)
			}
			if want := t.last.Created; !got.Created.Equal(want) {
				t.Errorf("%s: Created is %v, was %v", t.name, got.Created, want)
			}
		})
	case 7:
		d := []time.Duration{-time.Hour, -time.Microsecond, 0, time.Hour}[p.choose(4)]
		p.tell("Touch %d at %v", k, d)
		p.lookBoth(k)
		p.both("Touch", func(t *twin) error {
			return t.store.Touch(ctx, []roam.Touch{{ID: newID(), At: t.now}, {ID: p.ids[k], At: t.now.Add(d)}})
		})
		for _, t := range p.twins {
			got, want := t.look(p.ids[k]), t.last
			_, _, over := want.Over(t.now)
			switch at := t.now.Add(d); {
			case want.Version == 0, over, ctx.Err() != nil: // nothing moves
			case d > 0:
				t.stamped(t.name+", Seen", got.Seen, t.now, got.Now)
				want.Seen = got.Seen
			case at.After(want.Seen):
				want.Seen = at
			}
			p.same(t.name+", touched record", got, want)
		}
	case 8:
		why := someReasons[p.choose(len(someReasons))]
		p.tell("End %d: %s", k, why)
		p.both("End", func(t *twin) error { return t.store.End(ctx, p.ids[k], why) })
	case 9:
		user, why, except := someUsers[p.choose(len(someUsers))], someReasons[p.choose(len(someReasons))], p.ids[:p.choose(2)]
		p.tell("EndUser %q: %s, but for %d", user, why, len(except))
		p.counts("EndUser", func(t *twin) (int, error) { return t.store.EndUser(ctx, user, why, except...) })
	case 10:
		user := someUsers[p.choose(len(someUsers))]
		p.tell("List %q", user)
		var lists [2][]roam.Record
		p.both("List", func(t *twin) (err error) {
			i := slices.Index(p.twins[:], t)
			lists[i], err = collect(t.store.List(ctx, user))
			if !slices.IsSortedFunc(lists[i], func(a, b roam.Record) int {
				return cmp.Or(b.LoggedIn.Compare(a.LoggedIn), bytes.Compare(a.ID[:], b.ID[:]))
			}) {
				t.Errorf("%s: List is not in the order of logins", t.name)
			}
			return err
		})
		p.compareSets("List", lists)
	case 11:
		keep, most := []time.Duration{0, time.Hour, 100 * 24 * time.Hour}[p.choose(3)], p.choose(3)
		p.tell("Prune %v, %d at a time", keep, most)
		for k := range p.ids { // a tombstone of this very microsecond is not yet over for that long
			p.settle(k)
		}
		total := [2]int{}
		p.both("Prune", func(t *twin) error {
			for i := slices.Index(p.twins[:], t); ; {
				n, err := t.store.Prune(ctx, keep, most)
				if n > most {
					t.Errorf("%s: Prune removed %d records, at most %d were asked for", t.name, n, most)
				}
				if total[i] += n; err != nil || n == 0 || n > most {
					return err
				}
			}
		})
		if total[0] != total[1] {
			p.Errorf("Prune removed %d records from MemStore and %d from the store", total[0], total[1])
		}
		p.compareAll()
	}
	p.compareLogs()
	if !p.Failed() {
		p.settle(k)
	}
}

// compareLogs compares what a step has left in the log.
func (p *play) compareLogs() {
	a, b := p.twins[0].log.news(), p.twins[1].log.news()
	slices.SortFunc(a, compareChanges)
	slices.SortFunc(b, compareChanges)
	if !slices.Equal(a, b) {
		p.Errorf("in the log MemStore has %v, the store %v", a, b)
	}
}

// record chooses a record for ids[k].
func (p *play) record(k int) roam.Record {
	rec := record(someUsers[p.choose(len(someUsers))])
	rec.ID = p.ids[k]
	c := p.choose(256)
	rec.Data = someData[c%len(someData)]
	rec.From = someClients[c%len(someClients)]
	rec.Level = roam.Level(c)
	rec.Previous[0] = byte(c)
	rec.Idle, rec.Lifetime = time.Hour, 30*24*time.Hour
	if c%4 == 0 {
		rec.Idle, rec.Lifetime = someLimits[p.choose(len(someLimits))], someLimits[p.choose(len(someLimits))]
	}
	return rec
}

// write takes a step that answers with a record, and compares the answers and
// what is then stored.
func (p *play) write(k int, do func(*twin) (roam.Record, error), check func(*twin, roam.Record)) {
	var got [2]roam.Record
	p.lookBoth(k)
	err := p.both("write", func(t *twin) (err error) {
		got[slices.Index(p.twins[:], t)], err = do(t)
		return err
	})
	if p.Failed() {
		return
	}
	for i, t := range p.twins {
		now := t.look(p.ids[k])
		if err != nil {
			p.same(t.name+", after "+err.Error(), now, t.last)
			continue
		}
		p.same(t.name+", stored and answered", now, got[i])
		check(t, got[i])
	}
	if err == nil {
		p.compare("answer", got[0], got[1])
	}
}

// lookBoth reads the clocks, and the record that the next step is about.
func (p *play) lookBoth(k int) {
	for _, t := range p.twins {
		t.last = t.look(p.ids[k])
		now := t.load(t.clock).Now
		if now.Before(t.now) {
			p.Errorf("%s: the clock went from %v back to %v", t.name, t.now, now)
		}
		t.now = now
	}
}

// look loads a record, the zero Record if there is none.
func (t *twin) look(id roam.ID) roam.Record {
	t.Helper()
	rec, err := t.store.Load(t.Context(), id, roam.Want{})
	if err != nil && !errors.Is(err, roam.ErrNotFound) {
		t.Fatalf("%s: Load: %v", t.name, err)
	}
	return rec
}

// settle compares ids[k] and waits, if a deadline of it or its end is so near
// that it would otherwise depend on the speed of the stores what comes next.
func (p *play) settle(k int) {
	var recs [2]roam.Record
	for i, t := range p.twins {
		if recs[i] = t.look(p.ids[k]); recs[i].Version == 0 {
			continue
		}
		recs[i] = t.until("a deadline to pass", p.ids[k], func(rec roam.Record) bool {
			at, _ := rec.Deadline()
			if !rec.Ended.IsZero() {
				at = rec.Ended
			}
			return rec.Now.After(at) || at.Sub(rec.Now) > time.Minute
		})
	}
	p.compare("stored record", recs[0], recs[1])
	_, _, a := recs[0].Over(recs[0].Now)
	_, _, b := recs[1].Over(recs[1].Now)
	if a != b {
		p.Errorf("over is %v in MemStore, %v in the store", a, b)
	}
}

// both takes a step on both twins and compares what errors they return.
func (p *play) both(what string, do func(*twin) error) error {
	var errs [2]error
	for i, t := range p.twins {
		errs[i] = do(t)
	}
	if a, b := kind(errs[0]), kind(errs[1]); a != b {
		p.Errorf("%s: MemStore returns %v, the store %v", what, errs[0], errs[1])
	}
	return errs[0]
}

func (p *play) counts(what string, do func(*twin) (int, error)) {
	var n [2]int
	p.both(what, func(t *twin) (err error) {
		n[slices.Index(p.twins[:], t)], err = do(t)
		return err
	})
	if n[0] != n[1] {
		p.Errorf("%s: MemStore counts %d, the store %d", what, n[0], n[1])
	}
}

// kind returns the documented error that err is, or err itself.
func kind(err error) error {
	for _, known := range []error{nil, roam.ErrUnavailable, roam.ErrConflict, roam.ErrNotFound} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

// compare compares a record of MemStore and the store's own in all but times.
func (p *play) compare(what string, a, b roam.Record) {
	p.Helper()
	for _, pair := range [][2]time.Time{{a.Created, b.Created}, {a.LoggedIn, b.LoggedIn}, {a.Seen, b.Seen}, {a.Ended, b.Ended}} {
		if pair[0].IsZero() != pair[1].IsZero() {
			p.Errorf("%s: MemStore has time %v, the store %v", what, pair[0], pair[1])
		}
	}
	b.Created, b.LoggedIn, b.Seen, b.Ended = a.Created, a.LoggedIn, a.Seen, a.Ended
	if d := differ(b, a); d != "" {
		p.Errorf("%s: the store differs from MemStore: %s", what, d)
	}
}

func (p *play) compareSets(what string, sets [2][]roam.Record) {
	p.Helper()
	if len(sets[0]) != len(sets[1]) {
		p.Errorf("%s: MemStore has %d records, the store %d", what, len(sets[0]), len(sets[1]))
		return
	}
	for _, a := range sets[0] {
		i := slices.IndexFunc(sets[1], func(b roam.Record) bool { return b.ID == a.ID })
		if i < 0 {
			p.Errorf("%s: MemStore has session %v, the store has not", what, a.ID)
			continue
		}
		p.compare(what, a, sets[1][i])
	}
}

func (p *play) compareAll() {
	p.Helper()
	var sets [2][]roam.Record
	p.both("All", func(t *twin) (err error) {
		sets[slices.Index(p.twins[:], t)], err = collect(t.store.All(p.Context()))
		return err
	})
	p.compareSets("All", sets)
}

func collect(seq iter.Seq2[roam.Record, error]) (recs []roam.Record, err error) {
	for rec, err := range seq {
		if err != nil {
			return recs, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}
