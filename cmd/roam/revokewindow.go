package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A window is a time in which sessions were started, by the store's clock. Both
// ends belong to it.
type window struct{ from, to time.Time }

// windowOf reads the flags of a window. A time is one, or how long ago it was;
// the end may be missing, and is now.
func windowOf(after, before string, now time.Time) (w window, err error) {
	if w.from, err = momentOf("started-after", after, now); err != nil {
		return w, err
	}
	w.to = now
	if before != "" {
		if w.to, err = momentOf("started-before", before, now); err != nil {
			return w, err
		}
	}
	if w.from.After(now) {
		return w, misuse("no session was started since")("--started-after is %s, and by the store's clock it is %s", stamp(w.from), stamp(now))
	}
	if w.to.Before(w.from) {
		return w, misuse("the first is when the trouble began, the second when it was over")("--started-after is %s and --started-before %s, which is earlier", stamp(w.from), stamp(w.to))
	}
	return w, nil
}

func momentOf(flag, text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z"} { // the second is how "key list" prints one
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, misuse("want a time such as 2026-11-21T10:00:00Z, or how long ago it was, such as 36h")("--%s is %q", flag, clip(text, 40))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// has reports whether the session began, or its visitor logged in and so got a
// new secret, in the window.
func (w window) has(rec *roam.Record) bool {
	in := func(t time.Time) bool { return !t.IsZero() && !t.Before(w.from) && !t.After(w.to) }
	return in(rec.Created) || in(rec.LoggedIn)
}

const (
	revokers  = 8    // ends that are under way at once: each waits for a disk
	sayEndsOf = 1000 // sessions between two lines about it
)

// revokeWindow ends all sessions that were started in a window, and returns how
// many it ended. What was done counts whatever comes after: to repeat it after an
// error is to go on.
//
// A pass over all records may miss one that changes meanwhile, so there is
// another one until nothing is found. It comes to an end, because the window
// does: what starts from now on is not in it.
func revokeWindow(ctx context.Context, store roam.Store, w window, why roam.Reason, progress io.Writer) (ended int, err error) {
	m, err := roam.New[json.RawMessage](store, nil)
	if err != nil {
		return 0, err
	}
	for {
		var found []roam.ID // 16 bytes each; not ended while the store reads them out
		for rec, err := range store.All(ctx) {
			if err != nil {
				return ended, err
			}
			if _, _, over := rec.Over(rec.Now); !over && w.has(&rec) {
				found = append(found, rec.ID)
			}
		}
		if len(found) == 0 {
			return ended, nil
		}
		n, err := endThem(ctx, m, found, why, func(n int) {
			fmt.Fprintf(progress, "%d sessions ended, %d found so far\n", ended+n, ended+len(found))
		})
		if ended += n; err != nil {
			return ended, err
		}
	}
}

// endThem ends sessions, several at once, until one cannot be.
func endThem(ctx context.Context, m *roam.Manager[json.RawMessage], ids []roam.ID, why roam.Reason, say func(ended int)) (ended int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	next := 0
	for range min(revokers, len(ids)) {
		all.Go(func() {
			for {
				mu.Lock()
				if err != nil || next == len(ids) {
					mu.Unlock()
					return
				}
				id := ids[next]
				next++
				mu.Unlock()
				failed := m.Revoke(ctx, id, why)
				mu.Lock()
				if failed != nil {
					err = errors.Join(err, failed)
					cancel()
				} else if ended++; ended%sayEndsOf == 0 {
					say(ended)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return ended, err
}
