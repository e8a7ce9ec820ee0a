package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func open(t testing.TB, opts *Options) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "sessions.db"), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(n uint32, user string) roam.Record {
	r := roam.Record{User: user, Data: []byte(`{"n":1}`), Idle: time.Hour, Lifetime: 24 * time.Hour}
	r.ID[6], r.ID[8] = 0x40, 0x80
	r.ID[12], r.ID[13], r.ID[14], r.ID[15] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	r.Proof[0] = 1
	r.Writes = r.Writes.Push(7)
	return r
}

func TestBasics(t *testing.T) {
	ctx := context.Background()
	s := open(t, nil)
	rec, err := s.Insert(ctx, record(1, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(ctx, rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", got)
	rec.Data = []byte("x\x00")
	up, err := s.Update(ctx, rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", up)
	if _, err := s.Update(ctx, rec); !errors.Is(err, roam.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := s.Insert(ctx, rec); !errors.Is(err, roam.ErrConflict) {
		t.Fatal(err)
	}
	if err := s.Touch(ctx, []roam.Touch{{ID: rec.ID, At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	for r, err := range s.List(ctx, "ada") {
		t.Logf("%+v %v", r, err)
	}
	for r, err := range s.All(ctx) {
		t.Logf("%+v %v", r, err)
	}
	n, err := s.EndUser(ctx, "ada", roam.Revoked)
	t.Log(n, err)
	n, err = s.Prune(ctx, 0, 10)
	t.Log(n, err)
	e, err := s.Restored(ctx)
	t.Log(e, err, s.Check(ctx))
}
