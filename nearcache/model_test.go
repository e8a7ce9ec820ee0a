package nearcache_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// A laggard delivers some answers so late that much else happens first.
type laggard struct{ roam.Store }

func (l *laggard) lag() {
	if rand.IntN(8) == 0 {
		for range rand.IntN(200) {
			runtime.Gosched()
		}
	}
}

func (l *laggard) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	l.lag()
	defer l.lag()
	return l.Store.Load(ctx, id, want)
}

func (l *laggard) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	l.lag()
	defer l.lag()
	return l.Store.Update(ctx, rec)
}

func (l *laggard) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	defer l.lag()
	return l.Store.End(ctx, id, why)
}

func (l *laggard) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	l.lag()
	defer l.lag()
	return l.Store.Ends(ctx, after)
}

const modelServers = 3

// A tracked is a session, and what is known of it for certain.
type tracked struct {
	id roam.ID

	// told is the version of its last login or end that was acknowledged.
	told atomic.Uint64

	// floor is, by server, what no read that begins now may be behind: what
	// was read or written through that server, and what was told before it
	// read the log. An end is the highest version of all.
	floor [modelServers]atomic.Uint64
}

func raise(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}

// Many do everything at once through several servers, whose memory is too small
// for it and whose store answers late: no server ever shows a session as it was
// before something that this server had shown, had done itself, or had read in
// the log.
func TestNoServerGoesBackInTime(t *testing.T) {
	const sessions, workers = 60, 12
	steps := 60_000
	if testing.Short() {
		steps = 6_000
	}
	back := &laggard{Store: roam.NewMemStore()}
	var servers [modelServers]*nearcache.Store
	for k := range servers {
		servers[k] = idle(t, back, &nearcache.Options{Bytes: 1 << 20})
	}
	stamped := func(id roam.ID, version uint64) []byte {
		data := make([]byte, 30<<10) // about 16 of them fit
		copy(data, id[:])
		binary.BigEndian.PutUint64(data[16:], version)
		return data
	}
	fresh := func() *tracked {
		rec := session("ann")
		rec.Data = stamped(rec.ID, 1)
		return &tracked{id: insert(t, back, rec).ID}
	}
	var all [sessions]atomic.Pointer[tracked]
	for i := range all {
		all[i].Store(fresh())
	}

	work := func(r *rand.Rand) {
		i, k := r.IntN(sessions), r.IntN(modelServers)
		x, s := all[i].Load(), servers[k]
		floor := x.floor[k].Load()
		load := func(want roam.Want) (roam.Record, bool) {
			rec, err := s.Load(t.Context(), x.id, want)
			switch {
			case err != nil:
				t.Errorf("Load with %+v: %v", want, err)
			case !rec.Ended.IsZero():
				raise(&x.floor[k], math.MaxUint64)
				return rec, false
			case rec.Version < floor:
				t.Errorf("server %d shows version %d, alive, with %+v; version %d was known there", k, rec.Version, want, floor)
			case rec.Version < want.Version:
				t.Errorf("version %d, want %d", rec.Version, want.Version)
			case !bytes.Equal(rec.Data, stamped(x.id, rec.Version)):
				t.Errorf("version %d of %v has the data of version %d of %x", rec.Version, x.id, binary.BigEndian.Uint64(rec.Data[16:]), rec.Data[:16])
			default:
				raise(&x.floor[k], rec.Version)
			}
			return rec, err == nil
		}
		switch dice := r.IntN(100); {
		case dice < 70:
			if rec, ok := load(roam.Want{Version: 1}); ok {
				clear(rec.Data) // it is ours
			}
		case dice < 75:
			load(roam.Want{})
		case dice < 92:
			rec, ok := load(roam.Want{Version: max(1, min(floor, 1<<60))})
			if !ok {
				return
			}
			login := dice < 80
			rec.Data = stamped(x.id, rec.Version+1)
			if login {
				rec.Proof[0]++
			}
			if rec, err := s.Update(t.Context(), rec); err == nil {
				raise(&x.floor[k], rec.Version)
				if login {
					raise(&x.told, rec.Version)
				}
			} else if !errors.Is(err, roam.ErrConflict) {
				t.Errorf("Update: %v", err)
			}
		case dice < 96:
			if rec, ok := load(roam.Want{Version: 1}); ok {
				s.Touch(t.Context(), []roam.Touch{{ID: x.id, At: rec.Now}})
			}
		default:
			if err := s.End(t.Context(), x.id, roam.LoggedOut); err != nil {
				t.Errorf("End: %v", err)
				return
			}
			raise(&x.floor[k], math.MaxUint64)
			raise(&x.told, math.MaxUint64)
			if r.IntN(8) == 0 {
				all[i].Store(fresh()) // and now and then somebody still looks at the old one
			}
		}
	}

	var done atomic.Bool
	var workings, followings sync.WaitGroup
	for w := range workers {
		workings.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range steps / workers {
				if work(r); t.Failed() {
					return
				}
			}
		})
	}
	for k, s := range servers {
		followings.Go(func() {
			var next roam.Cursor
			for !done.Load() {
				var seen []*tracked
				var told []uint64
				for i := range all {
					x := all[i].Load()
					seen, told = append(seen, x), append(told, x.told.Load())
				}
				log, err := s.Ends(t.Context(), next)
				if err != nil {
					t.Errorf("Ends: %v", err)
					return
				}
				next = log.Next
				for i, x := range seen {
					raise(&x.floor[k], told[i])
				}
				runtime.Gosched()
			}
		})
	}
	workings.Wait()
	done.Store(true)
	followings.Wait()
	for k, s := range servers {
		st := s.Stats()
		t.Logf("server %d: %+v", k, st)
		if st.Hits == 0 || st.Evicted == 0 || st.Refused == 0 || s.Readings() != 0 {
			t.Errorf("server %d: %+v and %d questions kept: want hits, refusals and evictions, or this proves nothing", k, st, s.Readings())
		}
	}
}
