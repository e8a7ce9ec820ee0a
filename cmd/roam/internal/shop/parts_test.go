package shop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/roam-web/roam"
)

func TestTakeKeepsWhatWasNotOrdered(t *testing.T) {
	lines := func(c Cart) []Line { return c.Lines }
	cart := Cart{"A", []Line{{"oolong", 3}, {"teapot", 1}, {"espresso", 2}}}
	order := Order{ID: "A", Lines: []Item{{"oolong", 2, 0}, {"teapot", 1, 0}, {"mint-tea", 9, 0}}}

	same := Cart{"A", slices.Clone(cart.Lines)}
	same.Take(order)
	if want := []Line{{"oolong", 1}, {"espresso", 2}}; !slices.Equal(lines(same), want) || same.ID == "A" || same.ID == "" {
		t.Errorf("cart is %+v, want %v in a new cart", same, want)
	}
	same.Take(order)
	if same.Count() != 3 {
		t.Errorf("taken twice: cart is %+v", same)
	}
	other := Cart{"B", slices.Clone(cart.Lines)}
	other.Take(order)
	if other.Count() != 6 {
		t.Errorf("taken from another cart: %+v", other)
	}
	all := Cart{"A", []Line{{"oolong", 1}}}
	all.Take(order)
	if !reflect.DeepEqual(all, Cart{}) {
		t.Errorf("cart is %+v, want the zero Cart", all)
	}
}

func TestAnOrderIsPlacedOnceFromAnyServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "orders.db")
	var servers []*orders
	for range 3 {
		o, err := openOrders(file)
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		servers = append(servers, o)
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			placed, err := servers[i%3].place(t.Context(), Order{ID: "A", User: "ann", Lines: []Item{{"oolong", 1 + i, 1180}}})
			if err != nil || placed.ID != "A" {
				t.Errorf("place: %+v, %v", placed, err)
			}
			if _, err := servers[i%3].place(t.Context(), Order{ID: "B" + string(rune('a'+i)), User: "ann"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, o := range servers {
		all, err := o.list(t.Context(), "ann")
		if err != nil || len(all) != 31 {
			t.Errorf("%d orders, %v; want 31", len(all), err)
		}
		if none, err := o.list(t.Context(), "bob"); err != nil || len(none) != 0 {
			t.Errorf("bob has %d orders, %v; want none", len(none), err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v; want 0600", info.Mode().Perm(), err)
	}
	var mode string
	var sync int
	if err := servers[0].db.QueryRow(`PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode is %q, %v; want wal", mode, err)
	}
	if err := servers[0].db.QueryRow(`PRAGMA synchronous`).Scan(&sync); err != nil || sync != 2 {
		t.Errorf("synchronous is %d, %v; want 2, which is FULL", sync, err)
	}
}

func TestABrokenOrdersDatabaseIsAPauseNotALogout(t *testing.T) {
	o, err := openOrders(filepath.Join(t.TempDir(), "orders.db"))
	if err != nil {
		t.Fatal(err)
	}
	o.close()
	_, err = o.place(t.Context(), Order{ID: "A", User: "ann"})
	if explain(err) != errTill {
		t.Errorf("place: %v; want it explained as a till out of order", err)
	}
	_, err = o.list(t.Context(), "ann")
	if explain(err) != errTill {
		t.Errorf("list: %v; want it explained as a till out of order", err)
	}
}

func TestPasswordsAreHashedAsOWASPAsks(t *testing.T) {
	a := NewPasswords()
	if len(a.names) < 3 || !slices.Contains(a.names, "ann") || !slices.Contains(a.names, "bob") || !slices.Contains(a.names, "carl") {
		t.Fatalf("accounts are %q", a.names)
	}
	salts := make(map[string]bool)
	for name, phc := range a.hashes {
		part := strings.Split(phc, "$")
		if got := strings.Join(part[1:4], "$"); got != "argon2id$v=19$m=19456,t=2,p=1" {
			t.Errorf("%s: parameters %s", name, got)
		}
		if salts[part[4]] {
			t.Errorf("%s shares a salt", name)
		}
		salts[part[4]] = true
	}
	for _, name := range []string{"ann", "zoe"} {
		for password, want := range map[string]bool{Password: true, "Tea": false, "": false} {
			if got, err := a.Check(t.Context(), name, password); got != want || err != nil {
				t.Errorf("%s with %q: %v, %v; want %v", name, password, got, err, want)
			}
		}
	}
}

// The work for a user who does not exist is done with somebody else's hash,
// whose password must not open anything.
func TestAnUnknownUserHasNoPassword(t *testing.T) {
	for _, name := range []string{"", "nobody", "ANN"} {
		if ok, err := NewPasswords().Check(t.Context(), name, Password); ok || err != nil {
			t.Errorf("%q: %v, %v; want no", name, ok, err)
		}
	}
}

func TestALoginStormWaits(t *testing.T) {
	a := NewPasswords()
	for range cap(a.slots) {
		a.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := a.Check(ctx, "ann", Password); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("with all slots taken: %v, %v; want to wait for one until cancelled", ok, err)
	}
}

func TestVerifyRefusesHashesItCannotRead(t *testing.T) {
	good := NewPasswords().hashes["ann"]
	for _, phc := range []string{
		"", "tea", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=19456", "m=x", 1), good[:strings.LastIndexByte(good, '$')+1], good + "=",
	} {
		if ok, err := verify(phc, Password); ok || err == nil {
			t.Errorf("verify(%q): %v, %v; want an error", phc, ok, err)
		}
	}
	if argon2.Version != 0x13 {
		t.Errorf("argon2 has version %#x", argon2.Version)
	}
}

func TestLocalIsAPathOfThisSite(t *testing.T) {
	for next, want := range map[string]string{
		"/orders":                "/orders",
		"/product/oolong?a=b":    "/product/oolong?a=b",
		"/%2f/evil.example":      "/%2f/evil.example", // a path of ours, which there is not
		"https://evil.example/":  "no",
		"//evil.example/":        "no",
		`/\evil.example/`:        "no",
		`\\evil.example/`:        "no",
		"/\t/evil.example":       "no",
		"/\n/evil.example":       "no",
		"javascript:alert(1)":    "no",
		"evil.example":           "no",
		"///evil.example":        "no",
		"https:evil.example":     "no",
		"http://[::1]%23@evil/x": "no",
		"":                       "no",
	} {
		if got := local(next, "no"); got != want {
			t.Errorf("local(%q) is %q, want %q", next, got, want)
		}
	}
}

func TestEveryEndIsExplained(t *testing.T) {
	seen := make(map[string]roam.Reason)
	for _, why := range []roam.Reason{
		roam.LoggedOut, roam.Revoked, roam.PasswordChanged, roam.OverLimit, roam.Replaced,
		roam.Idle, roam.Lifetime, roam.Rotated, roam.Missing, "moved house",
	} {
		text := farewell(why)
		if other, twice := seen[text]; twice || text == "" {
			t.Errorf("%q is explained as %q, as is %q", why, text, other)
		}
		seen[text] = why
	}
}

func TestEveryErrorIsExplained(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{roam.ErrUnavailable, 503}, {roam.ErrUnknown, 503}, {roam.ErrConflict, 503}, {errOrders, 503},
		{roam.ErrRequest, 400}, {roam.ErrUndecodable, 500}, {errors.New("?"), 500}, {errNoProduct, 404},
	} {
		if got := explain(c.err); got.Status != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got.Status, c.want)
		}
	}
}

func TestGermanIsComplete(t *testing.T) {
	var texts []string
	files, err := filepath.Glob("templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.T\(?\s?"([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
			texts = append(texts, m[1])
		}
	}
	for _, p := range catalogue {
		texts = append(texts, p.Name, p.Note, p.Story, p.Unit)
	}
	for _, e := range []*refusal{errNoPage, errMethod, errForeign, errNoProduct, errQty, errTooMany, errNoOrder, errNoDevice, errLoginFirst, errLoginAgain, errRequest, errBusy, errDoubt, errBroken} {
		texts = append(texts, e.Title, e.Text)
	}
	for _, why := range []roam.Reason{roam.LoggedOut, roam.Revoked, roam.PasswordChanged, roam.OverLimit, roam.Replaced, roam.Idle, roam.Lifetime, roam.Rotated, roam.Missing, "?"} {
		texts = append(texts, farewell(why))
	}
	for _, d := range []time.Duration{0, time.Minute, time.Hour, 24 * time.Hour} {
		for _, n := range []time.Duration{1, 3, -1, -3} {
			p := page{Lang: "de"}
			if en, de := (page{}).span(n*d), p.span(n*d); en == de {
				t.Errorf("%v is %q in German", n*d, de)
			}
		}
	}
	verb := regexp.MustCompile(`%[a-z]`)
	used := make(map[string]bool)
	for _, text := range texts {
		used[text] = true
		de, ok := german[text]
		if !ok {
			t.Errorf("no German for %q", text)
		} else if en := verb.FindAllString(text, -1); !slices.Equal(en, verb.FindAllString(de, -1)) {
			t.Errorf("%q and %q have other placeholders", text, de)
		}
	}
}

func TestSpansInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "a moment ago", 40 * time.Second: "a moment ago", 59 * time.Second: "a minute ago", 80 * time.Second: "a minute ago",
		100 * time.Second: "2 minutes ago", 58 * time.Minute: "58 minutes ago", 59*time.Minute + 40*time.Second: "an hour ago", 3 * time.Hour: "3 hours ago",
		26 * time.Hour: "a day ago", 30 * 24 * time.Hour: "30 days ago",
		-10 * time.Second: "in a moment", -59*time.Minute - 59*time.Second: "in an hour", -12 * time.Minute: "in 12 minutes", -30 * 24 * time.Hour: "in 30 days",
	} {
		if got := (page{}).span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestDevicesInWords(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                         "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15":                   "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                            "Chrome on Android",
		"curl/8.9.1":        "curl",
		"":                  "an unknown device",
		"Something (Linux)": "a browser on Linux",
	} {
		if got := (page{}).Device(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
