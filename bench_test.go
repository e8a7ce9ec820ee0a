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
	"slices"
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
	var headers [100]http.Header // each as empty as net/http makes them
	for i := range headers {
		headers[i] = http.Header{}
	}
	rec := new(recorder)
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
			var ours, theirs []float64 // ns per page, of each turn
			for n := 0; n < b.N; n += len(headers) {
				for i := range headers {
					clear(headers[i])
				}
				began := time.Now()
				for i := range headers {
					rec.header = headers[i]
					c.page()
				}
				ours = append(ours, float64(time.Since(began))/float64(len(headers)))
				began = time.Now()
				for range headers {
					if !raw.identify([]byte(token)) {
						b.Fatal("raw")
					}
				}
				theirs = append(theirs, float64(time.Since(began))/float64(len(headers)))
			}
			// Of medians, so that a turn that another process interrupted
			// counts as one of many.
			b.ReportMetric(median(ours), "ns/op")
			b.ReportMetric(median(theirs), "raw-ns/op")
			b.ReportMetric(median(ours)/median(theirs), "x-raw")
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// A recorder is a ResponseWriter that costs nothing.
type recorder struct{ header http.Header }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(int)             {}
