package conformance

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/storetest"
)

// A liar is a store that breaks one promise. Each server has one of its own,
// all before the same store.
type liar struct {
	roam.Store
	lies
	server int
	turn   atomic.Int64

	mu  sync.Mutex
	own map[roam.ID]roam.Record
}

// Lies are what a liar does instead; nil is the truth.
type lies struct {
	insert func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error)
	update func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error)
	load   func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error)
	end    func(l *liar, ctx context.Context, id roam.ID, why roam.Reason) error
}

// each reports every nth time.
func (l *liar) each(n int64) bool { return l.turn.Add(1)%n == 0 }

func (l *liar) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	if l.insert != nil {
		return l.insert(l, ctx, rec)
	}
	return l.Store.Insert(ctx, rec)
}

func (l *liar) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	if l.update != nil {
		return l.update(l, ctx, rec)
	}
	return l.Store.Update(ctx, rec)
}

func (l *liar) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	if l.load != nil {
		return l.load(l, ctx, id, want)
	}
	return l.Store.Load(ctx, id, want)
}

func (l *liar) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	if l.end != nil {
		return l.end(l, ctx, id, why)
	}
	return l.Store.End(ctx, id, why)
}

// keep and kept are a server's private copy of what it was told.
func (l *liar) keep(rec roam.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own == nil {
		l.own = make(map[roam.ID]roam.Record)
	}
	l.own[rec.ID] = rec
}

func (l *liar) kept(id roam.ID) (roam.Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec, ok := l.own[id]
	return rec, ok
}

var errAnswerLost = errors.New("the answer did not come")

// Each of these stores does in small what a fault brings out in a store with a
// bug, and each must be found out by the checker that the faults rely on.
func TestTheCheckersCanFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lies lies
		want string // "" for nothing
	}{
		"an honest store": {},

		// As one that acknowledges before it writes, or before its standby has it.
		"a write is acknowledged and not made": {lies{update: func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error) {
			if now, err := l.Store.Load(ctx, rec.ID, roam.Want{}); l.each(50) && err == nil && now.Ended.IsZero() && now.Version == rec.Version {
				rec.Version++
				rec.Now, rec.Epoch = now.Now, now.Epoch
				return rec, nil
			}
			return l.Store.Update(ctx, rec)
		}}, "acknowledged writes lost"},

		// As a primary that was replaced and whose clients do not know it.
		"one server still writes to a primary that was deposed": {lies{
			update: func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error) {
				if l.server > 0 {
					return l.Store.Update(ctx, rec)
				}
				now, err := l.Load(ctx, rec.ID, roam.Want{})
				if err == nil && (!now.Ended.IsZero() || now.Version != rec.Version) {
					err = roam.ErrConflict
				}
				if err != nil {
					return roam.Record{}, err
				}
				rec.Version++
				rec.Now, rec.Epoch, rec.Data = now.Now, now.Epoch, bytes.Clone(rec.Data)
				l.keep(rec)
				return rec, nil
			},
			load: func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
				now, err := l.Store.Load(ctx, id, want)
				if rec, ok := l.kept(id); ok && now.Ended.IsZero() {
					rec.Now, rec.Epoch = now.Now, now.Epoch
					return rec, nil
				}
				return now, err
			},
		}, "acknowledged writes lost"},

		// As a commit that nobody waited for and nobody looks for.
		"a write that may have landed is called refused": {lies{update: func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error) {
			got, err := l.Store.Update(ctx, rec)
			if l.each(50) && err == nil {
				return roam.Record{}, roam.ErrUnavailable
			}
			return got, err
		}}, "refused writes done"},

		// As a store that does not keep the ids of the last writes.
		"what landed cannot be told, and is done again": {lies{
			update: func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error) {
				got, err := l.Store.Update(ctx, rec)
				if l.each(50) && err == nil {
					l.keep(roam.Record{ID: rec.ID, Writes: got.Writes})
					return roam.Record{}, errAnswerLost
				}
				return got, err
			},
			load: func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
				rec, err := l.Store.Load(ctx, id, want)
				if was, ok := l.kept(id); ok && rec.Writes == was.Writes {
					rec.Writes = roam.Writes{}
				}
				return rec, err
			},
		}, "writes done twice"},

		// As when the ends that a failover has lost are not made again.
		"an end is forgotten": {lies{end: func(l *liar, ctx context.Context, id roam.ID, why roam.Reason) error {
			if l.each(3) {
				return nil
			}
			return l.Store.End(ctx, id, why)
		}}, "ended sessions answered as alive"},

		// As a copy that is trusted longer than it may be.
		"one server revives what it remembers": {lies{load: func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
			rec, err := l.Store.Load(ctx, id, want)
			if err == nil && rec.Ended.IsZero() {
				l.keep(rec)
			} else if was, ok := l.kept(id); ok && l.each(2) {
				was.Now, was.Epoch = rec.Now, rec.Epoch
				return was, nil
			}
			return rec, err
		}}, "ended sessions answered as alive"},

		// As a library that cannot tell an outage from a first visit.
		"an outage is reported as not found": {lies{load: func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
			rec, err := l.Store.Load(ctx, id, want)
			if l.each(200) {
				return roam.Record{Now: rec.Now, Epoch: rec.Epoch}, roam.ErrNotFound
			}
			return rec, err
		}}, "living sessions answered as over"},

		// As a failover that takes sessions along which had not ended.
		"an end ends another session too": {lies{end: func(l *liar, ctx context.Context, id roam.ID, why roam.Reason) error {
			for rec := range l.Store.All(ctx) {
				if l.each(50) && rec.Ended.IsZero() {
					l.Store.End(ctx, rec.ID, why)
					break
				}
			}
			return l.Store.End(ctx, id, why)
		}}, "living sessions answered as over"},

		// As a replica that is behind.
		"a read is old": {lies{load: func(l *liar, ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
			rec, err := l.Store.Load(ctx, id, want)
			if was, ok := l.kept(id); ok && rec.Ended.IsZero() && l.each(20) {
				was.Now, was.Epoch = rec.Now, rec.Epoch
				return was, nil
			}
			if err == nil && rec.Ended.IsZero() && l.each(3) {
				l.keep(rec)
			}
			return rec, err
		}}, "histories that could not happen"},

		// As a start that is sent again under another name.
		"a start makes two sessions": {lies{insert: func(l *liar, ctx context.Context, rec roam.Record) (roam.Record, error) {
			got, err := l.Store.Insert(ctx, rec)
			if l.each(5) {
				rec.ID[15]++
				l.Store.Insert(ctx, rec)
			}
			return got, err
		}}, "sessions that nobody started"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := roam.NewMemStore()
			var nets []*storetest.Faulty
			var managers []*roam.Manager[ledger]
			for i := range 4 {
				net := &storetest.Faulty{Store: &liar{Store: store, lies: test.lies, server: i}, Faults: storetest.Faults{Seed: uint64(i),
					Refused: .005, LostRequest: .005, LostAnswer: .01, Late: .005, Repeated: .005, Cancelled: .005}}
				nets = append(nets, net)
				m, err := roam.New[ledger](net, &roam.Options{MaxData: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				managers = append(managers, m)
			}
			// The first sessions are to be there.
			tr := traffic{hot: 10}
			f := newFarm(managers, 40, tr)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			for _, m := range managers {
				running.Go(func() { m.Run(ctx) })
			}
			f.most = 3000
			parallel(workers, func(w int) { f.work(w, tr) })
			cancel()
			running.Wait()
			for _, net := range nets {
				net.Heal()
			}
			records := make(map[roam.ID]roam.Record)
			for rec, err := range store.All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				records[rec.ID] = rec
			}
			d := f.judge(records, circumstances{})
			t.Logf("%d acknowledged, %d unknown, %d refused, %d ends, %d steps of histories", d.acked, d.unknown, d.refused, d.ends, d.checked)
			found := strings.Join(d.faults(), "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q\n%s", found, test.want, strings.Join(d.says, "\n"))
			}
			if d.acked == 0 || d.refused == 0 || d.ends == 0 {
				t.Error("too little has happened for this to prove anything")
			}
		})
	}
}
