package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/sealed"
)

// A rambler is a member of the club with a browser.
type rambler struct {
	*http.Client
	url string
}

func newRambler(t *testing.T, f *farm.Farm) *rambler {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.RootCAs()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &rambler{&http.Client{
		Transport: transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, f.URL()}
}

func (r *rambler) login(t *testing.T, user string) {
	t.Helper()
	res, err := r.PostForm(r.url+"/login", url.Values{"user": {user}, "password": {shop.Password}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("login of %s: %s", user, res.Status)
	}
}

// members asks for the members' page, and returns which server gave it, and
// whether it took the visitor for a member.
func (r *rambler) members(ctx context.Context) (server string, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/members", nil)
	if err != nil {
		return "", 0, err
	}
	res, err := r.Do(req)
	if err != nil {
		return "", 0, err
	}
	res.Body.Close()
	return res.Header.Get("X-Server"), res.StatusCode, nil
}

func startClub(t *testing.T) *farm.Farm {
	t.Helper()
	f, err := farm.Start(t.Context(), farm.Options{Dir: t.TempDir(), Store: farm.NoStore})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Without a store nobody is logged out by what happens to servers: killed,
// started, drained, all replaced, while members look at their pages.
func TestWithoutAStoreNobodyIsLoggedOut(t *testing.T) {
	t.Parallel()
	f := startClub(t)
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer all.Wait()
	defer stop()
	var pages atomic.Int64
	var lock sync.Mutex
	by := map[string]int{}
	for _, user := range shop.Accounts()[:6] {
		r := newRambler(t, f)
		r.login(t, user)
		all.Go(func() {
			for ctx.Err() == nil {
				server, status, err := r.members(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil || status != http.StatusOK {
					t.Errorf("%s, by %s: status %d, %v", user, server, status, err)
					return
				}
				pages.Add(1)
				lock.Lock()
				by[server]++
				lock.Unlock()
			}
		})
	}
	more := func() { // until each member has most likely been everywhere
		t.Helper()
		for want := pages.Load() + 60; pages.Load() < want && !t.Failed(); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	more()
	for _, name := range []string{"web1", "web2", "web3"} {
		if _, err := f.Kill(name); err != nil {
			t.Fatal(err)
		}
		more()
		if err := f.StartServer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Drain(t.Context(), "web2"); err != nil {
		t.Fatal(err)
	}
	more()
	if err := f.Undrain("web2"); err != nil {
		t.Fatal(err)
	}
	if err := f.Roll(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	more()
	stop()
	all.Wait()
	t.Logf("%d pages: %v", pages.Load(), by)
	if len(by) != 3 {
		t.Errorf("by %v: want all three servers", by)
	}
}

// a dropped key is dead on every server, without a restart. It takes as
// long as servers take to read the file again, half a minute.
func TestWithoutAStoreADroppedKeyLogsEverybodyOut(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the servers read the keys again")
	}
	t.Parallel()
	f := startClub(t)
	ann := newRambler(t, f)
	ann.login(t, "ann")
	file := farm.KeyFile(f.Info().Dir)
	keys, err := sealed.List(file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := sealed.Drop(file, keys[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for len(out) < 3 {
		server, status, err := ann.members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if out[server] && status == http.StatusOK {
			t.Fatalf("%s has taken her in again", server)
		}
		if status == http.StatusSeeOther {
			out[server] = true
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("after %v", time.Since(began).Round(time.Second))
	// A login after that is good on every server that has read the new key.
	ann.login(t, "ann")
	for range 6 {
		if server, status, err := ann.members(t.Context()); status != http.StatusOK || err != nil {
			t.Errorf("after a new login, by %s: %d, %v", server, status, err)
		}
	}
}
