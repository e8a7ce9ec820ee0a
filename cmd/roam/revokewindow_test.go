package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/sealed"
)

// A bug let strangers in for an hour. Whatever session began or was logged in
// then is over on every server, whoever had it, and nobody else's is.
func TestR027SessionsThatWereMintedInAWindowAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := roam.NewMemStore()
		m, err := roam.New[json.RawMessage](store, &roam.Options{IdleTimeout: 12 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		change := func(cart *json.RawMessage) error { *cart = json.RawMessage(`{"tea":1}`); return nil }
		start := func(user string) roam.Session[json.RawMessage] {
			t.Helper()
			s, err := m.Update(t.Context(), roam.Token{}, change)
			if err == nil && user != "" {
				s, err = m.Login(t.Context(), s.Token, roam.Login{User: user}, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		login := func(s roam.Session[json.RawMessage], user string) roam.Session[json.RawMessage] {
			t.Helper()
			s, err := m.Login(t.Context(), s.Token, roam.Login{User: user}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		type who struct {
			name string
			roam.Session[json.RawMessage]
		}
		var spared, gone []who
		spared = append(spared, who{"logged in before", start("ann")}, who{"a guest from before", start("")})
		early, again := start(""), start("cyd")
		if err := m.Logout(t.Context(), start("eve").Token); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w := window{from: time.Now()}
		gone = append(gone, who{"at the first moment", start("ann")})
		time.Sleep(30 * time.Minute)
		late := start("")
		gone = append(gone, who{"a guest", start("")}, who{"logged in", start("bob")}, who{"a guest from before, logged in", login(early, "bob")}, who{"logged in again", login(again, "cyd")})
		time.Sleep(30 * time.Minute)
		w.to = time.Now()
		gone = append(gone, who{"at the last moment", start("dan")})
		time.Sleep(time.Minute)
		gone = append(gone, who{"begun in it, logged in after it", login(late, "dan")})
		spared = append(spared, who{"after it", start("ann")})

		n, err := revokeWindow(t.Context(), store, w, "please log in again", &bytes.Buffer{})
		if n != len(gone) || err != nil {
			t.Errorf("%d ended, %v; want %d", n, err, len(gone))
		}
		elsewhere, err := roam.New[json.RawMessage](store, nil)
		if err != nil {
			t.Fatal(err)
		}
		presented := func(x who) (string, error) {
			tok, err := roam.ParseToken(x.Token.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			s, err := elsewhere.Get(t.Context(), tok)
			return s.User, err
		}
		for _, x := range gone {
			var ended *roam.EndedError
			if _, err := presented(x); !errors.As(err, &ended) || ended.Reason != "please log in again" {
				t.Errorf("%s: %v, want it ended", x.name, err)
			}
		}
		for _, x := range spared {
			if user, err := presented(x); err != nil || user != x.User {
				t.Errorf("%s: %q, %v; want it to live", x.name, user, err)
			}
		}
		if n, err := revokeWindow(t.Context(), store, w, "please log in again", &bytes.Buffer{}); n != 0 || err != nil {
			t.Errorf("once more: %d ended, %v", n, err)
		}
	})
}

// The two commands together: what was logged in while a key was known to others is
// over on every server once it is revoked, though its cookies open; and when the key
// is dropped they do not even open.
func TestR027ARevokeAndADropEndWhatALeakLetIn(t *testing.T) {
	store := roam.NewMemStore()
	bad := sealed.NewKey(time.Now().Add(-48 * time.Hour))
	good := sealed.NewKey(time.Now().Add(-36 * time.Hour))
	var dropped atomic.Bool
	keys, err := sealed.New(t.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		if dropped.Load() {
			return []sealed.Key{{ID: bad.ID, Dropped: time.Now()}, good}, nil
		}
		return []sealed.Key{bad}, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var webs []*roam.Web[json.RawMessage]
	for range 3 {
		m, err := roam.New[json.RawMessage](store, nil)
		if err != nil {
			t.Fatal(err)
		}
		web, err := roam.NewWeb(m, &roam.WebOptions{Sealer: keys.Sealer(markName, audience, "mark")})
		if err != nil {
			t.Fatal(err)
		}
		webs = append(webs, web)
	}
	from := time.Now().Add(-time.Second)
	w := httptest.NewRecorder()
	if _, err := webs[0].Login(w, httptest.NewRequest("POST", "https://shop.example/", nil), roam.Login{User: "ann"}, nil); err != nil {
		t.Fatal(err)
	}
	visit := func(web *roam.Web[json.RawMessage]) (roam.Identity, error) {
		r := httptest.NewRequest("GET", "https://shop.example/", nil)
		for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
			r.AddCookie(c)
		}
		return web.Identify(httptest.NewRecorder(), r)
	}
	for i, web := range webs {
		if who, err := visit(web); err != nil || who.User != "ann" {
			t.Fatalf("server %d, before: %q, %v", i, who.User, err)
		}
	}
	if n, err := revokeWindow(t.Context(), store, window{from, time.Now().Add(time.Second)}, roam.Revoked, &bytes.Buffer{}); n != 1 || err != nil {
		t.Fatalf("%d ended, %v; want 1", n, err)
	}
	for i, web := range webs {
		if who, err := visit(web); !errors.Is(err, roam.ErrEnded) {
			t.Errorf("server %d, revoked: %q, %v; want it ended", i, who.User, err)
		}
	}
	dropped.Store(true)
	if err := keys.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, web := range webs {
		if who, err := visit(web); who != (roam.Identity{}) || err != nil {
			t.Errorf("server %d, with the key dropped: %+v, %v; want a stranger", i, who, err)
		}
	}
}

// A fickle store hides a record from the first pass, as one may be that changes
// meanwhile, and breaks down.
type fickle struct {
	*roam.MemStore
	passes, ends atomic.Int64
	down         int64 // after so many ends, if it is not 0
}

func (f *fickle) All(ctx context.Context) iter.Seq2[roam.Record, error] {
	skip := f.passes.Add(1) == 1
	return func(yield func(roam.Record, error) bool) {
		for rec, err := range f.MemStore.All(ctx) {
			if living := err == nil && rec.Ended.IsZero(); living && skip {
				skip = false
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

func (f *fickle) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	if n := f.ends.Add(1); f.down != 0 && n > f.down {
		return fmt.Errorf("%w: no route to host", roam.ErrUnavailable)
	}
	return f.MemStore.End(ctx, id, why)
}

// What a pass missed the next one finds; what was done before an error is done;
// and somebody who waits sees that it goes on.
func TestR027ARevokeOfManyGoesOnWhereItStopped(t *testing.T) {
	const many = 2500
	store := &fickle{MemStore: roam.NewMemStore(), down: 1200}
	for i := range many {
		rec := roam.Record{ID: roam.ID{6: 0x40, 8: 0x80, 14: byte(i >> 8), 15: byte(i)}, User: "ann", Idle: time.Hour, Lifetime: time.Hour}
		if _, err := store.Insert(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	w := window{time.Now().Add(-time.Minute), time.Now().Add(time.Minute)}
	var said bytes.Buffer
	first, err := revokeWindow(t.Context(), store, w, roam.Revoked, &said)
	if !errors.Is(err, roam.ErrUnavailable) || first != 1200 {
		t.Errorf("%d ended, %v; want the store's error after 1200", first, err)
	}
	store.down = 0
	store.passes.Store(0)
	second, err := revokeWindow(t.Context(), store, w, roam.Revoked, &said)
	if first+second != many || err != nil {
		t.Errorf("%d ended, then %d, %v; want %d", first, second, err, many)
	}
	for rec, err := range store.MemStore.All(t.Context()) {
		if err != nil || rec.Why != roam.Revoked {
			t.Fatalf("%v lives: %v", rec.ID, err)
		}
	}
	if lines := slices.Collect(strings.Lines(said.String())); len(lines) < 2 || !strings.HasPrefix(lines[0], "1000 sessions ended, ") {
		t.Errorf("it says %q", lines)
	}
}
