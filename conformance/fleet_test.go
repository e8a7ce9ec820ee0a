package conformance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
	"github.com/roam-web/roam/sealed"
)

// A diary is what the sessions of a fleet's visitors hold. Every write of any
// kind counts in N, so that it is also the version of the record, and leaves a
// number of its own.
type diary struct{ N, Last int64 }

// A fleet is some web servers as visitors see them, with cookies. They share a
// store and the keys of the seal, and nothing else: each has a connection to
// the store, a near cache and a running manager of its own.
type fleet struct {
	tb    testing.TB
	keys  *sealed.Keyring
	ahead func(i int) roam.Store                // the store, as server i reaches it
	cache func(i int, s roam.Store) roam.Store  // put before it; nil is a near cache
	at    [webServers]atomic.Pointer[webServer] // nil until it has started
}

// A webServer is one of them, from a start to a stop.
type webServer struct {
	*roam.Web[diary]
	m    *roam.Manager[diary]
	feed *feed
	stop func()
}

// newFleet starts the servers. The store is opened once for each start of one.
func newFleet(tb testing.TB, ahead func(i int) roam.Store, cache func(i int, s roam.Store) roam.Store) *fleet {
	tb.Helper()
	// Not before a minute ago, so that it seals at once.
	key := sealed.NewKey(time.Now().Add(-time.Hour))
	keys, err := sealed.New(context.Background(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		return []sealed.Key{key}, nil
	}), nil)
	if err != nil {
		tb.Fatal(err)
	}
	f := &fleet{tb: tb, keys: keys, ahead: ahead, cache: cache}
	for i := range f.at {
		f.start(i)
	}
	return f
}

// start starts a server, in place of the one that is there, which is stopped
// when the new one serves.
func (f *fleet) start(i int) *webServer {
	f.tb.Helper()
	w := &webServer{feed: &feed{Store: f.ahead(i)}}
	var store roam.Store
	var err error
	if f.cache != nil {
		store = f.cache(i, w.feed)
	} else if store, err = nearcache.New(w.feed, nil); err != nil {
		f.tb.Fatal(err)
	}
	if w.m, err = roam.New[diary](store, &roam.Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
		f.tb.Fatal(err)
	}
	if w.Web, err = roam.NewWeb(w.m, &roam.WebOptions{Sealer: f.keys.Sealer("__Host-roam-mark", "conformance", "mark")}); err != nil {
		f.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.m.Run(ctx)
	}()
	w.stop = func() {
		cancel()
		<-done
	}
	if before := f.at[i].Swap(w); before != nil {
		before.stop()
	}
	return w
}

// stop stops all servers.
func (f *fleet) stop() {
	for i := range f.at {
		if w := f.at[i].Swap(nil); w != nil {
			w.stop()
		}
	}
}

// server returns one of them.
func (f *fleet) server(i int) *webServer { return f.at[i].Load() }

// A browser has cookies. The zero browser has none.
type browser struct {
	mu  sync.Mutex
	jar map[string]string
}

const (
	tokenCookie = "__Host-roam"
	markCookie  = tokenCookie + "-mark"
)

// A sending is the cookies that a request is sent with.
type sending struct{ token, mark string }

func (b *browser) cookies() sending {
	b.mu.Lock()
	defer b.mu.Unlock()
	return sending{b.jar[tokenCookie], b.jar[markCookie]}
}

// take does what a browser does with the answer to a request.
func (b *browser) take(w *httptest.ResponseRecorder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.jar == nil {
		b.jar = make(map[string]string)
	}
	for _, line := range w.Header()["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		switch {
		case err != nil:
		case c.MaxAge < 0:
			delete(b.jar, c.Name)
		default:
			b.jar[c.Name] = c.Value
		}
	}
}

// request is one over TLS with these cookies.
func (s sending) request(ctx context.Context) (*httptest.ResponseRecorder, *http.Request) {
	r := (&http.Request{
		Method: "GET", URL: shopURL, Host: shopURL.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), RemoteAddr: "192.0.2.7:4711", TLS: &tls.ConnectionState{},
	}).WithContext(ctx)
	for _, c := range []struct{ name, value string }{{tokenCookie, s.token}, {markCookie, s.mark}} {
		if c.value != "" {
			r.AddCookie(&http.Cookie{Name: c.name, Value: c.value})
		}
	}
	return httptest.NewRecorder(), r
}

var shopURL = httptest.NewRequest("GET", "https://shop.example/", nil).URL

// A feed is a store whose log cannot be read as it should be. All else is the
// store's own.
type feed struct {
	roam.Store
	weather atomic.Pointer[weather]
	reads   atomic.Int64 // of the log, that were answered
	loads   atomic.Int64
}

func (f *feed) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	f.loads.Add(1)
	return f.Store.Load(ctx, id, want)
}

// Weather is what becomes of a read of the log. The log is read by ends.
type weather func(ctx context.Context, after roam.Cursor, ends func(context.Context, roam.Cursor) (roam.Log, error)) (roam.Log, error)

func (f *feed) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	if w := f.weather.Load(); w != nil {
		log, err = (*w)(ctx, after, f.Store.Ends)
	} else {
		log, err = f.Store.Ends(ctx, after)
	}
	if err == nil {
		f.reads.Add(1)
	}
	return log, err
}

// set changes it, from the next read on; nil is fine weather.
func (f *feed) set(w weather) {
	if w == nil {
		f.weather.Store(nil)
		return
	}
	f.weather.Store(&w)
}

var errNoFeed = fmt.Errorf("%w: the log cannot be read", roam.ErrUnavailable)

// cut lets no read through.
func cut(context.Context, roam.Cursor, func(context.Context, roam.Cursor) (roam.Log, error)) (roam.Log, error) {
	return roam.Log{}, errNoFeed
}

// delayed answers late, by a time between these two, even if nobody waits for
// it any more: an old answer is then all there is.
func delayed(from, to time.Duration) weather {
	return func(ctx context.Context, after roam.Cursor, ends func(context.Context, roam.Cursor) (roam.Log, error)) (roam.Log, error) {
		log, err := ends(ctx, after)
		time.Sleep(from + rand.N(to-from))
		return log, err
	}
}

// lossy loses six of ten reads, half of them on the way back.
func lossy(ctx context.Context, after roam.Cursor, ends func(context.Context, roam.Cursor) (roam.Log, error)) (roam.Log, error) {
	dice := rand.IntN(10)
	if dice < 3 {
		return roam.Log{}, errNoFeed
	}
	log, err := ends(ctx, after)
	if dice < 6 {
		return roam.Log{}, errors.New("the answer did not come")
	}
	return log, err
}

// disorder gives each server what a store may do to the order of its log:
// entries of an answer are shuffled, some come twice, those of earlier answers
// come again, and of two reads that overlap the older one's place is where the
// next goes on.
func disorder() weather {
	var mu sync.Mutex
	var before []roam.End
	return func(ctx context.Context, after roam.Cursor, ends func(context.Context, roam.Cursor) (roam.Log, error)) (roam.Log, error) {
		var logs [2]roam.Log
		var errs [2]error
		parallel(2, func(i int) { logs[i], errs[i] = ends(ctx, after) })
		if err := errors.Join(errs[:]...); err != nil {
			return roam.Log{}, err
		}
		older, newer := logs[0], logs[1]
		if newer.Now.Before(older.Now) {
			older, newer = newer, older
		}
		mu.Lock()
		defer mu.Unlock()
		log := older
		log.Ends = slices.Concat(older.Ends, newer.Ends, before)
		rand.Shuffle(len(log.Ends), func(i, j int) { log.Ends[i], log.Ends[j] = log.Ends[j], log.Ends[i] })
		before = append(before, older.Ends...)
		before = before[max(0, len(before)-100):]
		return log, nil
	}
}
