package storetest

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/roam-web/roam"
)

var cancelledLaws = []law{
	// ErrUnavailable is the store's word that nothing was written. With a
	// context that had ended before the call it is easy to give.
	{"Cancelled/BeforeTheCallIsUnavailable", func(t *tester) {
		a, b := t.insert(full("ann")), t.insert(full(""))
		over := t.longOver("bob")
		now := t.untilAfter(b.Seen, b.ID).Now
		ctx := cancelled(t.Context())
		first := func(seq iter.Seq2[roam.Record, error]) error {
			n := 0
			for rec, err := range seq {
				if err != nil {
					return err
				}
				n++
				_ = rec
			}
			return errors.New("no error, and it ended")
		}
		fresh := record("ann")
		for method, call := range map[string]func() error{
			"Load":    func() error { _, err := t.store.Load(ctx, a.ID, roam.Want{}); return err },
			"Insert":  func() error { _, err := t.store.Insert(ctx, fresh); return err },
			"Update":  func() error { _, err := t.store.Update(ctx, edit(a, "x")); return err },
			"Touch":   func() error { return t.store.Touch(ctx, []roam.Touch{{ID: b.ID, At: now}}) },
			"End":     func() error { return t.store.End(ctx, a.ID, roam.Revoked) },
			"EndUser": func() error { _, err := t.store.EndUser(ctx, "ann", roam.Revoked); return err },
			"Ends":    func() error { _, err := t.store.Ends(ctx, ""); return err },
			"List":    func() error { return first(t.store.List(ctx, "ann")) },
			"All":     func() error { return first(t.store.All(ctx)) },
			"Prune":   func() error { _, err := t.store.Prune(ctx, 0, many); return err },
		} {
			if err := call(); !errors.Is(err, roam.ErrUnavailable) {
				t.Errorf("%s with a cancelled context: error %v, want ErrUnavailable", method, err)
			}
		}
		t.gone(fresh.ID)
		for _, rec := range []roam.Record{a, b, over} {
			t.stored(rec)
		}
		t.living(a.ID, b.ID, over.ID)
	}},

	// Cancelled at any moment, a write that says ErrUnavailable has not
	// happened and never will; one that says nil has; a conflict is a lie,
	// because nobody else writes.
	{"Cancelled/MidwayTheWordHolds", func(t *tester) {
		r := rand.New(rand.NewPCG(1, 1))
		landed, refused, open := 0, 0, 0
		rec := t.insert(record("ann"))
		for i := range t.rounds(200) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(2*time.Millisecond)/(1+int64(i%20)))))
			got, err := t.store.Update(ctx, edit(rec, "midway"))
			cancel()
			now := t.load(rec.ID)
			switch {
			case err == nil:
				landed++
				t.same("record after an update that returned nil", now, got)
			case errors.Is(err, roam.ErrConflict):
				t.Errorf("Update cancelled midway: %v, and nobody else wrote", err)
			case errors.Is(err, roam.ErrUnavailable):
				refused++
				t.same("record after an update that was unavailable", now, rec)
			default: // it may still land, so this record is of no more use
				open++
				now = t.insert(record("ann"))
			}
			rec = now
			rec = t.update(edit(rec, "after")) // conflicts if the cancelled one lands late
		}
		t.Logf("of the cancelled updates %d landed, %d were refused, %d left open", landed, refused, open)
	}},
}
