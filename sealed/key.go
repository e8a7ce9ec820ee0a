package sealed

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// An ID names a key in public: in every value sealed with it, in lists and in
// logs. It is random, says nothing about the key, and is for good: other bytes
// are another key and need another ID. It is never 0.
type ID uint32

// ParseID reads the form that String writes.
func ParseID(s string) (ID, error) {
	id, err := parseID(s)
	if err != nil {
		return 0, fmt.Errorf("sealed: %w", err)
	}
	return id, nil
}

func parseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 || hex.EncodeToString(b) != s || bytes.Equal(b, make([]byte, 4)) {
		// The error does not repeat s: it may be a secret, given by mistake.
		return 0, fmt.Errorf("a key id of %d characters: want 8 lower-case hex digits, not all 0, such as 7f3a9c02", len(s))
	}
	return ID(binary.BigEndian.Uint32(b)), nil
}

// String returns 8 hex digits, such as 7f3a9c02.
func (id ID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// MarshalText implements [encoding.TextMarshaler] as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] as ParseID does.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// secretLen is the length of a secret, that of an AES-256 key.
const secretLen = 32

// A Key is a secret and its times. A [Provider] makes it with [NewKey],
// [KeyFrom] or [ParseKeys]. It prints as its ID and state, never as its secret.
type Key struct {
	ID      ID
	Created time.Time // may be zero if not known

	// SealAfter is from when servers seal with this key. Of the keys whose
	// time has come it is the newest that seals.
	SealAfter time.Time

	// Dropped, if it is not zero, says that the key opens nothing any more.
	Dropped time.Time

	// check tells secrets apart without giving them away. It is zero if the
	// key was dropped and its secret is not known.
	check check

	// secret is nil if the key was dropped. It is a function because whoever
	// prints by reflection follows fields and pointers, but no functions.
	secret func() *[secretLen]byte
}

// NewKey returns a key with a random ID and secret.
func NewKey(sealAfter time.Time) Key {
	var id [4]byte
	for id == [4]byte{} {
		rand.Read(id[:]) // never fails: crypto/rand ends the program rather than return weak bytes
	}
	var secret [secretLen]byte
	rand.Read(secret[:])
	k := newKey(ID(binary.BigEndian.Uint32(id[:])), secret, sealAfter)
	k.Created = time.Now()
	return k
}

// KeyFrom returns a key whose secret is kept elsewhere, for instance by a key
// management service. The secret must be 32 random bytes. It returns an error
// for what cannot be: another length, a text, a pattern.
func KeyFrom(id ID, secret []byte, sealAfter time.Time) (Key, error) {
	if err := weak(secret); err != nil {
		return Key{}, fmt.Errorf("sealed: key %s: %w", id, err)
	}
	return newKey(id, [secretLen]byte(secret), sealAfter), nil
}

func newKey(id ID, secret [secretLen]byte, sealAfter time.Time) Key {
	return Key{ID: id, SealAfter: sealAfter, check: checkOf(secret[:]), secret: func() *[secretLen]byte { return &secret }}
}

// String returns the ID and what is known of the state without other keys.
func (k Key) String() string {
	switch {
	case !k.Dropped.IsZero():
		return fmt.Sprintf("key %s, dropped", k.ID)
	case k.SealAfter.IsZero():
		return fmt.Sprintf("key %s", k.ID)
	}
	return fmt.Sprintf("key %s, seals after %s", k.ID, k.SealAfter.UTC().Format(time.RFC3339))
}

// Format prints the same under every verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue implements [slog.LogValuer].
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements [encoding.TextMarshaler] as String does.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A check is 64 bits that are derived from a secret and tell nothing about it.
type check [8]byte

func checkOf(secret []byte) check {
	b, err := hkdf.Key(sha256.New, secret, nil, "roam/sealed/check", len(check{}))
	if err != nil {
		panic(err) // the length is right and SHA-256 is always allowed
	}
	return check(b)
}

// String returns 16 hex digits.
func (c check) String() string { return hex.EncodeToString(c[:]) }

// weak says why the secret cannot be 32 random bytes. The rules are chosen so
// that random bytes break one of them less than once in 10^12 keys.
func weak(secret []byte) error {
	const advice = "make one with \"roam key new\""
	if len(secret) != secretLen {
		return fmt.Errorf("its secret has %d bytes: it must have exactly %d; %s", len(secret), secretLen, advice)
	}
	if hash := sha256.Sum256(secret); published[hex.EncodeToString(hash[:])] {
		return errors.New("its secret is published, in the tests of roam; " + advice)
	}
	text, steps := true, true
	var seen [256]bool
	distinct := 0
	for i, b := range secret {
		text = text && (b >= ' ' && b <= '~' || b == '\n' || b == '\r' || b == '\t')
		steps = steps && (i == 0 || b-secret[i-1] == secret[1]-secret[0])
		if !seen[b] {
			seen[b] = true
			distinct++
		}
	}
	switch {
	case distinct == 1:
		return fmt.Errorf("all bytes of its secret are %#02x: it must be random; %s", secret[0], advice)
	case text:
		// "changeme", a passphrase, hex digits taken for bytes, or base64 of these.
		return errors.New("its secret is a text: it must be random bytes, so that nobody can guess it; " + advice)
	case steps, distinct < 16, bytes.Equal(secret[:secretLen/2], secret[secretLen/2:]):
		return errors.New("its secret is a pattern: it must be random; " + advice)
	}
	return nil
}

// published are the hashes of secrets that anybody can read: those of this
// package's test vectors.
var published = map[string]bool{
	"88389f9402db623c755bd762ff09b9cae7bb5254a6340e54f6d0aa629ce976f8": true,
	"3ae1c59f41c97e79e05fc2515a96acb9efb7684c06a5c624dc07bd568238c1b6": true,
	"3a71d4f5819e78d1629cc26938b0e77eaa63401e633a4ed864162e46e90eea10": true,
}
