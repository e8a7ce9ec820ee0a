package postgresstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/roam-web/roam"
)

// What SQL judges and what Record.Over judges is the same, to the nanosecond.
func TestSQLJudgesAsRecordOver(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	c := hand(t, s)
	durations := []time.Duration{0, 1, -1, 999, 1000, 1001, -999, -1000, -1001, time.Hour, time.Hour + 1, time.Hour - 1, 1<<63 - 1, -1 << 62, 400 * 24 * time.Hour}
	base := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	over := strings.NewReplacer("ended", "$1::timestamptz", "seen", "$2::timestamptz", "idle", "$3::bigint",
		"logged_in", "$4::timestamptz", "created", "$5::timestamptz", "lifetime", "$6::bigint").Replace(over)
	for _, idle := range durations {
		for _, life := range durations {
			r := roam.Record{Created: base.Add(-time.Minute), Seen: base, LoggedIn: base.Add(-time.Second), Idle: idle, Lifetime: life}
			var got pgtype.Timestamptz
			must(t, c.QueryRow(background, "SELECT "+over, nil, r.Seen, int64(idle), r.LoggedIn, r.Created, int64(life)).Scan(&got))
			at := got.Time.UTC()
			// It is over at that microsecond, and was not at the one before.
			if _, _, is := r.Over(at); !is {
				t.Errorf("idle %v, lifetime %v: over by SQL at %v, and not by Record.Over", idle, life, at)
			}
			if _, _, is := r.Over(at.Add(-time.Microsecond)); is {
				t.Errorf("idle %v, lifetime %v: over by SQL only at %v, by Record.Over before", idle, life, at)
			}
		}
	}
}

func TestEveryCallIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	p := s.primary.Load()
	c, err := p.pool.get(background, time.Now().Add(time.Minute), false)
	must(t, err)
	sock := c.sock.Load()
	counted := &trips{Conn: sock.Conn}
	sock.Conn = counted
	p.pool.put(c)
	for what, do := range map[string]func() error{
		"Load":         func() error { _, err := s.Load(background, rec.ID, roam.Want{}); return err },
		"durable Load": func() error { _, err := s.Load(background, rec.ID, roam.Want{Durable: true}); return err },
		"Load of none": func() error {
			_, err := s.Load(background, roam.ID{}, roam.Want{})
			if errors.Is(err, roam.ErrNotFound) {
				err = nil
			}
			return err
		},
		"Insert":  func() error { _, err := s.Insert(background, record(2, "")); return err },
		"Update":  func() (err error) { rec, err = s.Update(background, rec); return err },
		"Touch":   func() error { return s.Touch(background, []roam.Touch{{ID: rec.ID, At: time.Now()}, {At: time.Now()}}) },
		"End":     func() error { return s.End(background, record(2, "").ID, roam.Revoked) },
		"EndUser": func() error { _, err := s.EndUser(background, "bob", roam.Revoked); return err },
		"Ends":    func() error { _, err := s.Ends(background, ""); return err },
	} {
		counted.writes.Store(0)
		must(t, do())
		if got := counted.writes.Load(); got != 1 {
			t.Errorf("%s: %d round trips, want 1", what, got)
		}
	}
}

func TestListsArePagesWithoutAConnection(t *testing.T) {
	t.Parallel()
	opts := fresh(t)
	opts.MaxConns = 1
	s := open(t, opts)
	const n = 3*page + 5
	for i := range uint32(n) {
		rec := insert(t, s, record(i, "ada"))
		if i%2 == 0 { // several at once, and some without a login
			rec.LoggedIn = time.Time{}
			if i%4 == 0 {
				rec.LoggedIn = rec.Created.Truncate(time.Hour)
			}
			rec = must2(s.Update(background, rec))
		}
	}
	for what, list := range map[string]func() map[roam.ID]int{
		"List": func() map[roam.ID]int {
			seen := make(map[roam.ID]int)
			var last roam.Record
			for rec, err := range s.List(background, "ada") {
				must(t, err)
				if len(seen) > 0 && (rec.LoggedIn.After(last.LoggedIn) || rec.LoggedIn.Equal(last.LoggedIn) && string(rec.ID[:]) <= string(last.ID[:])) {
					t.Errorf("%v comes after %v", rec, last)
				}
				last = rec
				seen[rec.ID]++
				// The only connection is free.
				must2(s.Load(background, rec.ID, roam.Want{}))
			}
			return seen
		},
		"All": func() map[roam.ID]int {
			seen := make(map[roam.ID]int)
			for rec, err := range s.All(background) {
				must(t, err)
				seen[rec.ID]++
				must2(s.Load(background, rec.ID, roam.Want{}))
			}
			return seen
		},
	} {
		seen := list()
		if len(seen) != n {
			t.Errorf("%s: %d records, want %d", what, len(seen), n)
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("%s: %v came %d times", what, id, times)
			}
		}
	}
}

// Data that is text can be read in the view; the rest does not break it.
func TestViewIsForPeople(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for n, data := range []string{`{"name":"Ada ü"}`, "\x00\xff", "", `{"q":"it's"}`} {
		rec := record(uint32(n), "ada")
		rec.Data = []byte(data)
		insert(t, s, rec)
	}
	got := sql(t, s, "SELECT data FROM {view} ORDER BY id")
	want := `{"name":"Ada ü"}` + "\n" + `\000\377` + "\n\n" + `{"q":"it's"}`
	if got != want {
		t.Errorf("the view shows %q, want %q", got, want)
	}
	if got := sql(t, s, "SELECT expires - created FROM {view} LIMIT 1"); got != "01:00:00" {
		t.Errorf("the view says that a session expires after %s, want an hour", got)
	}
	if got := sql(t, s, "SELECT data::json->>'name' FROM {view} WHERE data LIKE '%name%'"); got != "Ada ü" {
		t.Errorf("got %q out of the JSON, want %q", got, "Ada ü")
	}
}

func TestR126CancelledCallReturnsAndKeepsNothingBusy(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	lock := hand(t, s)
	exec(t, s, lock, "BEGIN")
	exec(t, s, lock, "SELECT 1 FROM {session} WHERE id = $1 FOR UPDATE", rec.ID)
	ctx, cancel := context.WithCancel(background)
	done := make(chan error)
	go func() {
		_, err := s.Update(ctx, rec)
		done <- err
	}()
	until(t, "the update waits", func() bool {
		return lockWaits(t, postgres(t), s) == "1"
	})
	cancel()
	err := <-done
	if !errors.Is(err, context.Canceled) || errors.Is(err, roam.ErrUnavailable) {
		t.Errorf("got error %v for a cancelled update, want that it was cancelled, and its outcome open", err)
	}
	// The server is not told to cancel: it goes on, and does it in the end.
	exec(t, s, lock, "COMMIT")
	until(t, "the update is done", func() bool { return must2(s.Load(background, rec.ID, roam.Want{})).Version == 2 })
	until(t, "the connection's place is free", func() bool {
		p := s.primary.Load().pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.stuck == 0 && len(p.open) == len(p.idle)
	})
}
