package sqlitestore

import (
	"context"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// odd returns records whose fields are at the edges of what they can hold.
func odd() []roam.Record {
	recs := make([]roam.Record, 12)
	for i := range recs {
		recs[i] = record(uint32(i), "ada")
	}
	recs[0] = roam.Record{Idle: 1, Lifetime: 1} // the zero ID, too
	recs[1].User = "a\x00b\xff'\"; DROP TABLE session"
	recs[2].Data = []byte{}
	recs[3].Data = []byte{0, 1, 2, 0xff, 0}
	recs[4].Data = []byte("text with a \x00 in it")
	recs[5].Data = []byte("Grüße, 世界")
	recs[6].From = roam.Client{Addr: netip.MustParseAddr("fe80::1%eth0"), Agent: "\x00\xfe agent"}
	recs[7].From = roam.Client{Addr: netip.MustParseAddr("::ffff:192.0.2.1")}
	recs[8].Idle, recs[8].Lifetime, recs[8].Level = math.MaxInt64, math.MaxInt64, 255
	recs[9].Writes = roam.Writes{0, math.MaxUint64, 0, 0, 0, 0, 0, 1}
	recs[9].Proof, recs[9].Previous = roam.Proof{31: 255}, roam.Proof{0: 255}
	recs[10].User, recs[10].Data = strings.Repeat("x", 300), []byte(strings.Repeat("{}", 20000))
	recs[11].Idle, recs[11].Lifetime = 12345*time.Second+6, math.MaxInt64-1
	return recs
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	s, mem := open(t, nil), roam.NewMemStore()
	same := func(what string, got, want roam.Record) {
		t.Helper()
		if got.Now.Before(got.Seen) || got.Epoch == 0 {
			t.Errorf("%s: got now %v before seen %v, or epoch %d", what, got.Now, got.Seen, got.Epoch)
		}
		for _, r := range []*roam.Record{&got, &want} { // two clocks, two histories
			r.Created, r.Seen, r.Now, r.Epoch = time.Time{}, time.Time{}, time.Time{}, 0
			if !r.Ended.IsZero() {
				r.Ended = time.Unix(1, 0)
			}
			if r.User != "" && r.Version == 1 {
				r.LoggedIn = time.Time{}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %#v\nwant %#v", what, got, want)
		}
	}
	for _, rec := range odd() {
		got, want := insert(t, s, rec), must2(mem.Insert(background, rec))
		same("insert", got, want)
		if got.Seen != got.Created || got.Created.Location() != time.UTC || got.LoggedIn.IsZero() != (rec.User == "") {
			t.Errorf("insert: got created %v, seen %v, logged in %v", got.Created, got.Seen, got.LoggedIn)
		}
		loaded := must2(s.Load(background, rec.ID, roam.Want{}))
		same("load", loaded, want)
		if loaded.Created != got.Created || loaded.LoggedIn != got.LoggedIn || loaded.Seen != got.Seen {
			t.Errorf("load: got times other than insert's")
		}
		if rec.Idle < 2 {
			continue // over
		}
		for _, login := range []time.Time{{}, time.Unix(0, 0), time.Unix(1e9, 999)} {
			rec.Version++
			rec.LoggedIn, rec.User = login, "another"
			rec.Lifetime = math.MaxInt64
			rec.Data = append(slices.Clone(rec.Data), '!')
			got, err := s.Update(background, rec)
			must(t, err)
			want := must2(mem.Update(background, rec))
			same("update", got, want)
			same("load", must2(s.Load(background, rec.ID, roam.Want{})), want)
		}
		must(t, s.End(background, rec.ID, "a reason"))
		must(t, mem.End(background, rec.ID, "a reason"))
		same("end", must2(s.Load(background, rec.ID, roam.Want{})), must2(mem.Load(background, rec.ID, roam.Want{})))
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An operator can read the data with any SQLite shell.
func TestTextIsStoredAsText(t *testing.T) {
	s := open(t, nil)
	insert(t, s, record(1, "ada"))
	rec := record(2, "ada")
	rec.Data = []byte{0xff}
	insert(t, s, rec)
	c := raw(t, s.path)
	for sql, want := range map[string]string{
		"SELECT group_concat(typeof(data)) FROM session": "text,blob",
		"SELECT data ->> 'n' FROM session":               "1",
		"SELECT id FROM sessions":                        rec1ID,
		"SELECT user FROM sessions":                      "ada",
	} {
		got, err := c.text(sql)
		must(t, err)
		if got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}

const rec1ID = "00000000-0000-4000-8000-000000000001"

func TestListKeepsItsOrderOverPages(t *testing.T) {
	s := open(t, nil)
	r := rand.New(rand.NewPCG(3, 4))
	const n = 2*page + 7
	var want []roam.ID
	recs := make([]roam.Record, n)
	for i, k := range r.Perm(n) {
		rec := insert(t, s, record(uint32(k), "ada"))
		rec.LoggedIn = time.Unix(int64(r.IntN(20)), 0) // many at the same time
		if r.IntN(4) == 0 {
			rec.LoggedIn = time.Time{}
		}
		rec.Lifetime = math.MaxInt64
		recs[i] = must2(s.Update(background, rec))
	}
	slices.SortFunc(recs, func(a, b roam.Record) int {
		if c := b.LoggedIn.Compare(a.LoggedIn); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	for _, rec := range recs {
		want = append(want, rec.ID)
	}
	var got []roam.ID
	for rec, err := range s.List(background, "ada") {
		must(t, err)
		got = append(got, rec.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d records in another order than newest login first, then by ID, of %d", len(got), len(want))
	}
	// Records that end while the list is read do not make it skip others.
	seen := 0
	for rec, err := range s.List(background, "ada") {
		must(t, err)
		must(t, s.End(background, rec.ID, roam.Revoked))
		seen++
	}
	if seen != n {
		t.Errorf("got %d records while ending each, want %d", seen, n)
	}
	if got := count(t, s); got != n {
		t.Errorf("got %d records of all, want %d", got, n)
	}
}

func TestReaderThatWaitsCanBeCancelled(t *testing.T) {
	s := open(t, &Options{Readers: 1})
	rec := insert(t, s, record(1, "ada"))
	must(t, s.read(background, "hold", func(*conn) error {
		ctx, cancel := context.WithCancel(background)
		done := make(chan error)
		go func() {
			_, err := s.Load(ctx, rec.ID, roam.Want{})
			done <- err
		}()
		cancel()
		refused(t, <-done, "load", "context canceled")
		return nil
	}))
	_, err := s.Load(background, rec.ID, roam.Want{})
	must(t, err)
}

func TestLongReadIsInterrupted(t *testing.T) {
	s := open(t, &Options{Readers: 1})
	ctx, cancel := context.WithCancel(background)
	err := s.read(ctx, "count", func(c *conn) error {
		cancel()
		_, err := c.text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
		return err
	})
	refused(t, err, "count", "context canceled")
	if _, err := s.Load(background, roam.ID{}, roam.Want{}); err != roam.ErrNotFound {
		t.Errorf("got %v, want the connection to be of use again", err)
	}
}

func TestLoadAllocatesLittle(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, benchRecord(1, []byte(`{"cart":[1,2,3]}`)))
	got := testing.AllocsPerRun(100, func() {
		if _, err := s.Load(background, rec.ID, roam.Want{}); err != nil {
			t.Error(err)
		}
	})
	if want := 2.0; got > want { // the data, and all texts together
		t.Errorf("got %v allocations, want %v", got, want)
	}
}
