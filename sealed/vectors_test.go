package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The vectors of version 1 are made by testdata/v1.py, which shares no code with
// this package.
type vectors struct {
	Keys []struct {
		ID      ID
		Secret  string
		Dropped bool
	}
	For          vector
	Opens, Fails []vector
}

type vector struct {
	Why                          string
	Name, Audience, Purpose, AAD *string
	Sealed, Plaintext            string
}

func known(t testing.TB) *vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
	for _, all := range [][]vector{v.Opens, v.Fails} {
		for i := range all {
			for _, f := range []struct{ is, def **string }{
				{&all[i].Name, &v.For.Name}, {&all[i].Audience, &v.For.Audience}, {&all[i].Purpose, &v.For.Purpose}, {&all[i].AAD, &v.For.AAD},
			} {
				if *f.is == nil {
					*f.is = *f.def
				}
			}
		}
	}
	return v
}

// keyring returns a keyring with the keys of the vectors. New refuses them,
// because they are published.
func (v *vectors) keyring(t testing.TB) *Keyring {
	t.Helper()
	o, err := (*Options)(nil).resolved()
	if err != nil {
		t.Fatal(err)
	}
	k, r := &Keyring{opts: o}, &ring{dropped: make(map[ID]Key)}
	for _, x := range v.Keys {
		key1 := newKey(x.ID, [secretLen]byte(unhex(t, x.Secret)), time.Now())
		if x.Dropped {
			r.dropped[x.ID] = Key{ID: x.ID, Dropped: time.Now(), check: key1.check}
			continue
		}
		r.order = append(r.order, &key{Key: key1, root: *key1.secret()})
	}
	k.publish(r, time.Now())
	return k
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An opener opens as a Sealer of that name, audience and purpose does.
type opener func(name, audience, purpose string, sealed, aad []byte) ([]byte, error)

func (k *Keyring) opener() opener {
	return func(name, audience, purpose string, sealed, aad []byte) ([]byte, error) {
		return k.Sealer(name, audience, purpose).Open(nil, sealed, aad)
	}
}

// complaints says where open differs from the vectors. It also flips every bit
// of each good value, which the file does not list.
func (v *vectors) complaints(t testing.TB, open opener) (all []string) {
	ask := func(x *vector, sealed []byte) ([]byte, error) {
		return open(*x.Name, *x.Audience, *x.Purpose, sealed, unhex(t, *x.AAD))
	}
	for _, x := range v.Opens {
		got, err := ask(&x, unhex(t, x.Sealed))
		if want := unhex(t, x.Plaintext); err != nil || !bytes.Equal(got, want) {
			all = append(all, fmt.Sprintf("%s: got %x, %v, want %x", x.Why, got, err, want))
		}
		for bit := range len(x.Sealed) / 2 * 8 {
			sealed := unhex(t, x.Sealed)
			sealed[bit/8] ^= 1 << (bit % 8)
			if got, err := ask(&x, sealed); err != ErrOpen || got != nil {
				all = append(all, fmt.Sprintf("%s, bit %d flipped: got %x, %v, want ErrOpen", x.Why, bit, got, err))
			}
		}
	}
	for _, x := range v.Fails {
		if got, err := ask(&x, unhex(t, x.Sealed)); err != ErrOpen || got != nil {
			all = append(all, fmt.Sprintf("%s: got %x, %v, want ErrOpen", x.Why, got, err))
		}
	}
	return all
}

func TestR020AndR032KnownAnswersOpenAndKnownForgeriesDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := known(t)
		if len(v.Opens) < 10 || len(v.Fails) < 100 {
			t.Fatalf("%d and %d vectors: some are missing", len(v.Opens), len(v.Fails))
		}
		for _, c := range v.complaints(t, v.keyring(t).opener()) {
			t.Error(c)
		}
	})
}

// What is sealed has the form that the vectors define: an Open that agrees with
// them opens it.
func TestWhatIsSealedOpens(t *testing.T) {
	s := known(t).keyring(t).Sealer("name", "audience", "purpose")
	for n := range 300 {
		plaintext := bytes.Repeat([]byte{byte(n)}, n)
		aad := plaintext[n/2:]
		value := s.Seal([]byte("before"), plaintext, aad)
		if got, want := len(value), len("before")+n+Overhead; got != want {
			t.Fatalf("a sealed value of %d bytes has %d, want %d", n, got, want)
		}
		got, err := s.Open([]byte("prefix"), value[len("before"):], aad)
		if want := "prefix" + string(plaintext); err != nil || string(got) != want {
			t.Fatalf("Open of %d bytes: got %q, %v, want %q", n, got, err, want)
		}
	}
}

// The vectors are worth something only if a program that does not verify fails
// them: CVE-2026-40372 was shipped in stable releases.
func TestR032AProgramThatDoesNotVerifyFailsTheVectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := known(t)
		right := v.keyring(t)
		if c := v.complaints(t, right.opener()); len(c) != 0 {
			t.Fatalf("the program itself fails them: %s", c[0])
		}
		secret := unhex(t, v.Keys[0].Secret)
		unverified := func(name, audience, purpose string, sealed, aad []byte) ([]byte, error) {
			if _, err := right.opener()(name, audience, purpose, sealed, aad); err == nil || len(sealed) < Overhead {
				return right.opener()(name, audience, purpose, sealed, aad)
			}
			info := label + string(sealed[:headerLen]) + string(right.Sealer(name, audience, purpose).context)
			raw, err := hkdf.Key(sha256.New, secret, nil, info, secretLen)
			if err != nil {
				return nil, err
			}
			block, err := aes.NewCipher(raw)
			if err != nil {
				return nil, err
			}
			// GCM's encryption is counter mode from 2 on (SP 800-38D, section 7.1).
			out := make([]byte, len(sealed)-Overhead)
			counter := append(slices.Clone(sealed[headerLen:headerLen+nonceLen]), 0, 0, 0, 2)
			cipher.NewCTR(block, counter).XORKeyStream(out, sealed[headerLen+nonceLen:len(sealed)-tagLen])
			return out, nil
		}
		c := v.complaints(t, unverified)
		for _, want := range []string{"tag: bit", "a tag of zeros", "other associated data", "ciphertext: bit", "name, audience and purpose not bound"} {
			if !slices.ContainsFunc(c, func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("a program without verification passes %q", want)
			}
		}
	})
}
