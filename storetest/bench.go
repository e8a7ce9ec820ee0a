package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// Bench measures each method on stores from open, alone and from many
// goroutines at once, with records of half a kilobyte. open is as in [Run].
func Bench(b *testing.B, open func(tb testing.TB) roam.Store) {
	ctx := context.Background()
	data := make([]byte, 512)
	fresh := func() roam.Record {
		rec := full("")
		rec.User, rec.Data = rec.ID.String(), data
		return rec
	}
	fill := func(b *testing.B, s roam.Store, n int) []roam.Record {
		recs := make([]roam.Record, n)
		for i := range recs {
			rec, err := s.Insert(ctx, fresh())
			if err != nil {
				b.Fatal(err)
			}
			recs[i] = rec
		}
		b.ResetTimer()
		return recs
	}

	b.Run("Load", func(b *testing.B) {
		s := open(b)
		recs := fill(b, s, 1000)
		for i := 0; b.Loop(); i++ {
			if _, err := s.Load(ctx, recs[i%len(recs)].ID, roam.Want{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("LoadParallel", func(b *testing.B) {
		s := open(b)
		recs := fill(b, s, 1000)
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Load(ctx, recs[int(next.Add(1))%len(recs)].ID, roam.Want{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Insert", func(b *testing.B) {
		s := open(b)
		for b.Loop() {
			if _, err := s.Insert(ctx, fresh()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Update", func(b *testing.B) {
		s := open(b)
		recs := fill(b, s, 100)
		for i := 0; b.Loop(); i++ {
			rec, err := s.Update(ctx, recs[i%len(recs)])
			if err != nil {
				b.Fatal(err)
			}
			recs[i%len(recs)] = rec
		}
	})
	b.Run("UpdateParallel", func(b *testing.B) { // each goroutine its own session, as visitors have
		s := open(b)
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			rec, err := s.Insert(ctx, fresh())
			for pb.Next() {
				if err == nil {
					rec, err = s.Update(ctx, rec)
				}
			}
			if err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("UpdateOneParallel", func(b *testing.B) { // all goroutines one session: conflicts count as work
		s := open(b)
		rec := fill(b, s, 1)[0]
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			have := rec
			for pb.Next() {
				for {
					next, err := s.Update(ctx, have)
					if errors.Is(err, roam.ErrConflict) {
						if have, err = s.Load(ctx, rec.ID, roam.Want{}); err == nil {
							continue
						}
					}
					if err != nil {
						b.Error(err)
						return
					}
					have = next
					break
				}
			}
		})
	})
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("Touch%d", n), func(b *testing.B) {
			s := open(b)
			touches := make([]roam.Touch, n)
			for i, rec := range fill(b, s, n) {
				touches[i] = roam.Touch{ID: rec.ID, At: rec.Now.Add(time.Hour)}
			}
			for b.Loop() {
				if err := s.Touch(ctx, touches); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("InsertAndEnd", func(b *testing.B) {
		s := open(b)
		for b.Loop() {
			rec, err := s.Insert(ctx, fresh())
			if err == nil {
				err = s.End(ctx, rec.ID, roam.LoggedOut)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Rotate", func(b *testing.B) { // an update that enters the log
		s := open(b)
		recs := fill(b, s, 100)
		for i := 0; b.Loop(); i++ {
			rec, err := s.Update(ctx, rotated(recs[i%len(recs)]))
			if err != nil {
				b.Fatal(err)
			}
			recs[i%len(recs)] = rec
		}
	})
	b.Run("EndsOfNothingNew", func(b *testing.B) { // as every server asks all the time
		s := open(b)
		for _, rec := range fill(b, s, 1000) {
			if err := s.End(ctx, rec.ID, roam.LoggedOut); err != nil {
				b.Fatal(err)
			}
		}
		log, err := s.Ends(ctx, "")
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		for b.Loop() {
			if log, err = s.Ends(ctx, log.Next); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Ends1000", func(b *testing.B) {
		s := open(b)
		for _, rec := range fill(b, s, 1000) {
			if err := s.End(ctx, rec.ID, roam.LoggedOut); err != nil {
				b.Fatal(err)
			}
		}
		b.ResetTimer()
		for b.Loop() {
			if log, err := s.Ends(ctx, ""); err != nil || len(log.Ends) != 1000 {
				b.Fatalf("%d ends, error %v", len(log.Ends), err)
			}
		}
	})
	b.Run("List10Of1000", func(b *testing.B) {
		s := open(b)
		fill(b, s, 990)
		for range 10 {
			rec := fresh()
			rec.User = "ann"
			if _, err := s.Insert(ctx, rec); err != nil {
				b.Fatal(err)
			}
		}
		b.ResetTimer()
		for b.Loop() {
			n := 0
			for _, err := range s.List(ctx, "ann") {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 10 {
				b.Fatalf("%d sessions, want 10", n)
			}
		}
	})
}
