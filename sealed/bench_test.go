package sealed

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"
	"time"
)

// A mark is about 113 bytes: 150 when it is sealed. With it comes a hash.
const (
	markLen = 113
	hashLen = 32
)

func benchRing(b *testing.B, n int) *Keyring {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = NewKey(time.Now().Add(-time.Duration(i+1) * 24 * time.Hour))
	}
	k, err := New(b.Context(), ProviderFunc(func(context.Context) ([]Key, error) { return keys, nil }), nil)
	if err != nil {
		b.Fatal(err)
	}
	k.run(+1) // as if Run ran
	return k
}

// BenchmarkOpen takes turns between the bare cipher, with the same associated
// data, and a Sealer, so that their ratio means something on a busy machine.
func BenchmarkOpen(b *testing.B) {
	s := benchRing(b, 3).Sealer("__Host-roam-mark", "shop.example", "mark")
	aad := make([]byte, hashLen)
	value := s.Seal(nil, make([]byte, markLen), aad)
	sub := s.seals.Load()
	bound := sub.bind(nil, 0, aad)
	dst := make([]byte, 0, 512)
	var raw, ours time.Duration
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n += 100
		start := time.Now()
		for range 100 {
			if _, err := sub.aead.Open(dst, nil, value[headerLen:], bound); err != nil {
				b.Fatal(err)
			}
		}
		mid := time.Now()
		for range 100 {
			if _, err := s.Open(dst, value, aad); err != nil {
				b.Fatal(err)
			}
		}
		raw += mid.Sub(start)
		ours += time.Since(mid)
	}
	report(b, n, raw, ours)
}

func BenchmarkSeal(b *testing.B) {
	s := benchRing(b, 3).Sealer("__Host-roam-mark", "shop.example", "mark")
	aad, plaintext := make([]byte, hashLen), make([]byte, markLen)
	s.Seal(nil, plaintext, aad)
	sub := s.seals.Load()
	bound := sub.bind(nil, 0, aad)
	dst := make([]byte, 0, 512)
	var raw, ours time.Duration
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n += 100
		start := time.Now()
		for range 100 {
			sub.aead.Seal(dst, nil, plaintext, bound)
		}
		mid := time.Now()
		for range 100 {
			s.Seal(dst, plaintext, aad)
		}
		raw += mid.Sub(start)
		ours += time.Since(mid)
	}
	report(b, n, raw, ours)
}

func report(b *testing.B, n int, raw, ours time.Duration) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(raw)/float64(n), "raw-ns")
	b.ReportMetric(float64(ours)/float64(n), "ns")
	b.ReportMetric(float64(ours)/float64(raw), "ratio")
}

// BenchmarkForged is what values cost that were made up, with 64 keys.
func BenchmarkForged(b *testing.B) {
	k := benchRing(b, 64)
	s := k.Sealer("__Host-roam-mark", "shop.example", "mark")
	aad := make([]byte, hashLen)
	good := s.Seal(nil, make([]byte, markLen), aad)
	dst := make([]byte, 0, 512)
	for _, c := range []struct {
		name string
		flip int
	}{{"version", 0}, {"key", 1}, {"epoch", 5}, {"tag", len(good) - 1}} {
		bad := append([]byte(nil), good...)
		bad[c.flip] ^= 0x80
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Open(dst, bad, aad)
			}
		})
	}
	b.Run("an hour in which nothing was sealed", func(b *testing.B) {
		bad := append([]byte(nil), good...)
		binary.BigEndian.PutUint32(bad[5:], binary.BigEndian.Uint32(bad[5:])-1)
		b.ReportAllocs()
		for b.Loop() {
			s.Open(dst, bad, aad)
		}
	})
	block, _ := aes.NewCipher(make([]byte, 32))
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	b.Run("the bare cipher", func(b *testing.B) {
		for b.Loop() {
			aead.Open(dst, nil, good[headerLen:], aad)
		}
	})
}
