package shop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/cmd/roam/internal/shop"
	"github.com/roam-web/roam/sealed"
)

const sessionCookie = "__Host-roam"

// A farm is some web servers with the shop, which share their sessions and
// their orders.
type farm struct {
	store   *store
	log     bytes.Buffer // for one reader, after the requests
	servers []*httptest.Server
}

func newFarm(t *testing.T, servers int) *farm { return newFarmOf(t, servers, shop.Config{}) }

// newNearFarm is a farm as "roam up" runs it: with sealed marks, a near cache on
// each server, and the background work that both need.
func newNearFarm(t *testing.T, servers int) *farm {
	t.Helper()
	keys, err := sealed.New(t.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		return []sealed.Key{key}, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return newFarmOf(t, servers, shop.Config{NearCache: true, Sealer: keys.Sealer("__Host-roam-mark", "test", "mark")})
}

var key = sealed.NewKey(time.Now().Add(-time.Hour))

func newFarmOf(t *testing.T, servers int, cfg shop.Config) *farm {
	t.Helper()
	f := &farm{store: &store{Store: roam.NewMemStore()}}
	orders := filepath.Join(t.TempDir(), "orders & more?.db")
	logger := slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for i := range servers {
		cfg.Server, cfg.Sessions, cfg.Orders, cfg.Logger = "web"+strconv.Itoa(i+1), f.store, orders, logger
		s, err := shop.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.NearCache {
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			t.Cleanup(func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		}
		server := httptest.NewTLSServer(s.Handler())
		f.servers = append(f.servers, server)
		t.Cleanup(func() {
			server.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return f
}

// A store counts its calls, fails on demand, and lets a test step in between
// two calls of a handler.
type store struct {
	roam.Store
	calls        atomic.Int64
	loads        atomic.Int64
	old          atomic.Pointer[time.Time] // logins from before look an hour older
	down         atomic.Bool
	beforeUpdate atomic.Pointer[func() error] // runs once
}

var errDown = errors.New("connection refused")

func (s *store) call() error {
	s.calls.Add(1)
	if s.down.Load() {
		return errDown
	}
	return nil
}

func (s *store) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	if err := s.call(); err != nil {
		return roam.Record{}, err
	}
	s.loads.Add(1)
	rec, err := s.Store.Load(ctx, id, want)
	if old := s.old.Load(); old != nil && !rec.LoggedIn.IsZero() && rec.LoggedIn.Before(*old) {
		rec.LoggedIn = rec.LoggedIn.Add(-time.Hour)
	}
	return rec, err
}

func (s *store) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	if err := s.call(); err != nil {
		return roam.Record{}, err
	}
	return s.Store.Insert(ctx, rec)
}

func (s *store) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	if before := s.beforeUpdate.Swap(nil); before != nil {
		if err := (*before)(); err != nil {
			return roam.Record{}, err
		}
	}
	if err := s.call(); err != nil {
		return roam.Record{}, err
	}
	return s.Store.Update(ctx, rec)
}

func (s *store) Touch(ctx context.Context, seen []roam.Touch) error {
	if err := s.call(); err != nil {
		return err
	}
	return s.Store.Touch(ctx, seen)
}

func (s *store) End(ctx context.Context, id roam.ID, why roam.Reason) error {
	if err := s.call(); err != nil {
		return err
	}
	return s.Store.End(ctx, id, why)
}

func (s *store) EndUser(ctx context.Context, user string, why roam.Reason, except ...roam.ID) (int, error) {
	if err := s.call(); err != nil {
		return 0, err
	}
	return s.Store.EndUser(ctx, user, why, except...)
}

func (s *store) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	if err := s.call(); err != nil {
		return roam.Log{}, err
	}
	return s.Store.Ends(ctx, after)
}

func (s *store) List(ctx context.Context, user string) iter.Seq2[roam.Record, error] {
	if err := s.call(); err != nil {
		return func(yield func(roam.Record, error) bool) { yield(roam.Record{}, err) }
	}
	return s.Store.List(ctx, user)
}

// records counts the sessions that the store knows, dead or alive.
func (s *store) records(t *testing.T) (n int) {
	t.Helper()
	for _, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A browser keeps cookies and follows no redirect. It is safe for several tabs
// at once.
type browser struct {
	t      *testing.T
	farm   *farm
	client *http.Client
	agent  string
	turn   atomic.Int64
}

func (f *farm) browser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Jar:           jar,
		Transport:     f.servers[0].Client().Transport, // all servers of a test have the same certificate
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
	return &browser{t: t, farm: f, client: client, agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
}

// An answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the next server in turn.
func (b *browser) do(method, path string, form url.Values, header ...string) answer {
	b.t.Helper()
	server := b.farm.servers[int(b.turn.Add(1))%len(b.farm.servers)]
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, server.URL+path, body)
	if err != nil {
		panic(err)
	}
	r.Header.Set("User-Agent", b.agent)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w, err := b.client.Do(r)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, path, err)
		return answer{header: http.Header{}}
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, path, err)
	}
	return answer{w.StatusCode, w.Header, string(text)}
}

func (b *browser) get(path string) answer {
	b.t.Helper()
	return b.do("GET", path, nil)
}

// post sends a form of fields and their values.
func (b *browser) post(path string, fields ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do("POST", path, form)
}

// must posts a form that has to succeed, and returns where it leads.
func (b *browser) must(path string, fields ...string) string {
	b.t.Helper()
	a := b.post(path, fields...)
	if a.status != http.StatusSeeOther {
		b.t.Fatalf("POST %s %q: status %d, want 303\n%s", path, fields, a.status, a.body)
	}
	return a.header.Get("Location")
}

// add puts one of a product into the cart. Unlike must it may be called by a
// handler's goroutine.
func (b *browser) add(product string) error {
	if a := b.post("/cart/add", "product", product); a.status != http.StatusSeeOther {
		return fmt.Errorf("adding %s: status %d, want 303", product, a.status)
	}
	return nil
}

func (b *browser) login(user string) {
	b.t.Helper()
	b.must("/login", "user", user, "password", shop.Password)
}

// cookie returns the value of a cookie in the jar, "" if there is none.
func (b *browser) cookie(name string) string {
	u, err := url.Parse(b.farm.servers[0].URL)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// whoami is what the API says of the visitor and the cart.
type whoami struct {
	Server, User, Ended string
	Cart                map[string]int
	Count               int
}

func (b *browser) whoami() (who whoami) {
	b.t.Helper()
	a := b.get("/api/cart")
	if err := json.Unmarshal([]byte(a.body), &who); err != nil || a.status != http.StatusOK {
		b.t.Fatalf("GET /api/cart: status %d, %v: %s", a.status, err, a.body)
	}
	return who
}

type order struct {
	ID    string
	Lines map[string]int
}

func (b *browser) orders() (all []order) {
	b.t.Helper()
	a := b.get("/api/orders")
	if err := json.Unmarshal([]byte(a.body), &all); err != nil || a.status != http.StatusOK {
		b.t.Fatalf("GET /api/orders: status %d, %v: %s", a.status, err, a.body)
	}
	return all
}

var bodyTag = regexp.MustCompile(`<body [^>]*>`)

// attr returns an attribute of the page's body, and whether it is there.
func (a answer) attr(name string) (string, bool) {
	m := regexp.MustCompile(` ` + name + `="([^"]*)"`).FindStringSubmatch(bodyTag.FindString(a.body))
	if m == nil {
		return "", false
	}
	return html.UnescapeString(m[1]), true
}

// lines returns the products and quantities that the page shows.
func (a answer) lines() map[string]int {
	all := make(map[string]int)
	for _, m := range regexp.MustCompile(`data-product="([^"]*)" data-qty="(\d+)"`).FindAllStringSubmatch(a.body, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			panic(err)
		}
		all[m[1]] += n
	}
	return all
}
