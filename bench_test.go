package roam_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
	"github.com/roam-web/roam/sealed"
)

// A bare is the least that any encrypted identity costs: decode two cookies,
// hash the token's secret, open the seal.
type bare struct {
	aead cipher.AEAD
	seal []byte
	buf  [1024]byte
}

func newBare(b *testing.B, mark string) *bare {
	block, err := aes.NewCipher(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	x := &bare{aead: roam.Must(cipher.NewGCMWithRandomNonce(block))}
	raw, err := base64.RawURLEncoding.DecodeString(mark)
	if err != nil {
		b.Fatal(err)
	}
	x.seal = []byte(base64.RawURLEncoding.EncodeToString(x.aead.Seal(nil, nil, make([]byte, len(raw)-38), x.buf[:40])))
	return x
}

func (x *bare) identify(token []byte) bool {
	var raw [48]byte
	if _, err := base64.RawURLEncoding.Decode(raw[:], token); err != nil {
		return false
	}
	proof := sha256.Sum256(raw[16:])
	n, err := base64.RawURLEncoding.Decode(x.buf[:512], x.seal)
	if err != nil {
		return false
	}
	_, err = x.aead.Open(x.buf[512:512], nil, x.buf[:n], x.buf[900:940])
	_ = proof
	return err == nil
}

// BenchmarkPages measures what roam adds to a handler, over the raw work in
// the same run: the two take turns, so that what else the machine does hits
// both. ns/op is the page's.
func BenchmarkPages(b *testing.B) {
	keys, err := sealed.New(b.Context(), sealed.ProviderFunc(func(context.Context) ([]sealed.Key, error) {
		return []sealed.Key{sealed.NewKey(time.Now().Add(-24 * time.Hour))}, nil
	}), nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go keys.Run(ctx)
	near, err := nearcache.New(roam.NewMemStore(), nil)
	if err != nil {
		b.Fatal(err)
	}
	type data struct {
		User  int
		Items [3]int
		Note  string
	}
	m := roam.Must(roam.New[data](near, nil))
	go m.Run(ctx)
	web := roam.Must(roam.NewWeb(m, &roam.WebOptions{Sealer: keys.Sealer("__Host-roam-mark", "bench", "mark")}))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "https://example.com/", nil)
	if _, err := web.Login(w, r, roam.Login{User: "user-12345"}, func(d *data) error { d.Note = "a session of two hundred bytes or so"; return nil }); err != nil {
		b.Fatal(err)
	}
	var token, mark string
	good := httptest.NewRequest("GET", "https://example.com/", nil)
	forged := httptest.NewRequest("GET", "https://example.com/", nil)
	for _, c := range w.Result().Cookies() {
		good.AddCookie(c)
		if c.Name == "__Host-roam" {
			token = c.Value
		} else {
			mark = c.Value
			flip := byte('A')
			if c.Value[100] == flip {
				flip = 'B'
			}
			c.Value = c.Value[:100] + string(flip) + c.Value[101:]
		}
		forged.AddCookie(c)
	}
	time.Sleep(700 * time.Millisecond) // the log has been read
	web.Get(httptest.NewRecorder(), good)

	raw := newBare(b, mark)
	header := http.Header{}
	rec := &recorder{header: header}
	for _, c := range []struct {
		name string
		page func()
	}{
		{"Identify", func() { web.Identify(rec, good) }},
		{"GetNear", func() { web.Get(rec, good) }},
		{"Forged", func() { web.Identify(rec, forged) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var ours, theirs time.Duration
			b.ResetTimer()
			for n := 0; n < b.N; {
				k := min(1000, b.N-n)
				began := time.Now()
				for range k {
					clear(header)
					c.page()
				}
				ours += time.Since(began)
				b.StopTimer()
				began = time.Now()
				for range k {
					clear(header)
					if !raw.identify([]byte(token)) {
						b.Fatal("raw")
					}
				}
				theirs += time.Since(began)
				b.StartTimer()
				n += k
			}
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N), "raw-ns/op")
			b.ReportMetric(float64(ours)/float64(theirs), "x-raw")
		})
	}
}

// A recorder is a ResponseWriter that costs nothing.
type recorder struct{ header http.Header }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(int)             {}
