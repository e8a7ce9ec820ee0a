package roam_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// A cached gives out the same record again and again.
type cached struct {
	roam.Store
	mu   sync.Mutex
	kept map[roam.ID]roam.Record
}

func newCached() *cached {
	return &cached{Store: roam.NewMemStore(), kept: map[roam.ID]roam.Record{}}
}

func (c *cached) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec, err := c.Store.Load(ctx, id, want)
	if kept, ok := c.kept[id]; ok && kept.Version == rec.Version {
		kept.Data = bytes.Clone(kept.Data)
		return kept, nil
	}
	c.kept[id] = rec.WithMemo()
	return c.kept[id], err
}

// counted counts what is decoded.
type counted struct {
	roam.JSON
	decodes *int
}

func (c counted) Decode(data []byte, v any) error { *c.decodes++; return c.JSON.Decode(data, v) }

type flatCart struct {
	Tea  int
	Note string
	When time.Time
	Last [3]int
}

type deepCart struct{ Items []string }

type clonedCart struct{ Items []string }

func (c *clonedCart) Clone() clonedCart { return clonedCart{slices.Clone(c.Items)} }

// readers tells how many decodes three reads take, of which the first and the
// second change what they got. show tells what a reader sees.
func readers[T any](t *testing.T, fill, spoil func(*T), show func(*T) string) (decodes int) {
	t.Helper()
	store := newCached()
	m := roam.Must(roam.New[T](store, &roam.Options{Codec: counted{decodes: &decodes}}))
	s, err := m.Update(t.Context(), roam.Token{}, func(v *T) error { fill(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
	var filled T
	fill(&filled)
	tok, _ := roam.ParseToken(s.Token.Reveal())
	decodes = 0
	for range 3 {
		s, err := m.Get(t.Context(), tok)
		if err != nil || show(&s.Data) != show(&filled) {
			t.Errorf("a reader got %s, %v; want %s", show(&s.Data), err, show(&filled))
		}
		spoil(&s.Data)
	}
	n := decodes
	if _, err := m.Update(t.Context(), tok, func(v *T) error { spoil(v); return nil }); err != nil {
		t.Fatal(err)
	}
	spoil(&filled)
	if s, err := m.Get(t.Context(), tok); err != nil || show(&s.Data) != show(&filled) {
		t.Errorf("after an update: %s, %v; want %s", show(&s.Data), err, show(&filled))
	}
	return n
}

// Law 12: what is decoded once is shared only as far as nobody can tell.
func TestR121NoReaderOfACachedRecordChangesWhatTheNextOneSees(t *testing.T) {
	flat := readers(t,
		func(c *flatCart) { c.Tea, c.Note, c.Last = 1, "now", [3]int{1, 2, 3} },
		func(c *flatCart) { c.Tea, c.Last[0] = 9, 9 },
		func(c *flatCart) string { return fmt.Sprint(*c) })
	deep := readers(t,
		func(c *deepCart) { c.Items = []string{"tea"} },
		func(c *deepCart) { c.Items[0] = "spoilt" },
		func(c *deepCart) string { return fmt.Sprint(*c) })
	cloned := readers(t,
		func(c *clonedCart) { c.Items = []string{"tea"} },
		func(c *clonedCart) { c.Items[0] = "spoilt" },
		func(c *clonedCart) string { return fmt.Sprint(*c) })
	if flat != 1 || deep != 3 || cloned != 1 {
		t.Errorf("decodes: flat %d, with a slice %d, with Clone %d; want 1, 3, 1", flat, deep, cloned)
	}
}

// Two programs with different types share a store, and so its records.
func TestAMemoOfAnotherTypeIsNoneOfOurs(t *testing.T) {
	store := newCached()
	one, two := roam.Must(roam.New[flatCart](store, nil)), roam.Must(roam.New[struct{ Tea int }](store, nil))
	s, err := one.Update(t.Context(), roam.Token{}, func(c *flatCart) error { c.Tea = 7; return nil })
	if err != nil {
		t.Fatal(err)
	}
	tok, _ := roam.ParseToken(s.Token.Reveal())
	for range 2 {
		a, err1 := one.Get(t.Context(), tok)
		b, err2 := two.Get(t.Context(), tok)
		if a.Data.Tea != 7 || b.Data.Tea != 7 || err1 != nil || err2 != nil {
			t.Errorf("%v %v, %v %v", a.Data, err1, b.Data, err2)
		}
	}
}
