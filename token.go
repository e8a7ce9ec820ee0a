package roam

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// An ID names a session in public: in lists, in logs, in [Manager.Revoke] and
// as the store's key. It is a random UUID (RFC 9562, version 4) and proves
// nothing.
type ID [16]byte

func newID() (id ID) {
	rand.Read(id[:]) // never fails: crypto/rand ends the program rather than return weak bytes
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// wellFormed tells a version 4 UUID from other bytes, among them the zero ID.
func (id ID) wellFormed() bool { return id[6]&0xf0 == 0x40 && id[8]&0xc0 == 0x80 }

// IsZero reports whether id names no session.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the usual form, such as 0b7f1f4c-6a1e-4c39-9d5f-5a0b8f6d1c2e.
func (id ID) String() string {
	b, _ := id.MarshalText()
	return string(b)
}

// MarshalText implements [encoding.TextMarshaler] as String does.
func (id ID) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 36)
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b, nil
}

// UnmarshalText implements [encoding.TextUnmarshaler] as ParseID does.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// ParseID reads the form that String writes.
func ParseID(s string) (id ID, err error) {
	// The error does not repeat s: it may be a token, given by mistake.
	bad := fmt.Errorf("roam: a session ID of %d characters: want a version 4 UUID such as 0b7f1f4c-6a1e-4c39-9d5f-5a0b8f6d1c2e", len(s))
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, bad
	}
	if _, err := hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil || !id.wellFormed() {
		return ID{}, bad
	}
	return id, nil
}

// A Proof is the SHA-256 hash of a token's secret, the only form in which a
// store sees it. The secret has 256 random bits, so that a plain hash cannot
// be reversed by guessing.
type Proof [sha256.Size]byte

// prove hashes under a name of its own, so that no hash that another program
// makes of the same bytes is ever a Proof.
func prove(secret *[32]byte) Proof {
	const name = "roam/secret/v1\x00"
	var buf [len(name) + 32]byte
	copy(buf[copy(buf[:], name):], secret[:])
	return sha256.Sum256(buf[:])
}

// fits compares in constant time. The zero Proof fits nothing: it is in records
// without a previous secret, and in the tokens of a list.
func (p Proof) fits(q Proof) bool {
	return subtle.ConstantTimeCompare(p[:], q[:]) == 1 && p != Proof{}
}

// String keeps hashes out of logs, where they would only be noise.
func (p Proof) String() string { return "proof" }

// A Token says which session a visitor has, and proves it. It prints as its ID
// under every verb and in JSON and slog; only Reveal gives the secret away.
//
// A token that a visitor presented holds a hash of the secret and cannot be
// revealed again. So nothing can send it back to a browser, where it might
// overwrite the token of a newer login.
//
// Tokens are not comparable with ==, which would take a time that depends on
// the secret: use Equal.
type Token struct {
	id    ID
	proof Proof
	mark  mark  // how new a record the visitor has seen
	hand  *hand // the record that this token was last seen with, if any

	// reveal returns the text of a token made here by starting a session or
	// by Login, and is nil in others. It is a function because package fmt
	// prints all that it reaches through unexported fields and pointers, but
	// of a function only the address.
	reveal func() string
}

// A hand is a record in hand, and when it was read on this server's clock.
type hand struct {
	rec  Record
	read time.Time
}

// inHand returns a record that was read just now.
func inHand(rec Record) *hand { return &hand{rec, time.Now()} }

// now estimates the store's time from its last answer and the time that passed
// here since; the two clocks are never compared.
func (h *hand) now() time.Time { return h.rec.Now.Add(time.Since(h.read)) }

// tokenLen is the length of a token's text: ID and secret are 48 bytes, which
// is 64 characters of base64 with no bits left over. A token thus has exactly
// one encoding.
const tokenLen = (16 + 32) / 3 * 4

var errToken = errors.New("roam: malformed token: want the 64 characters that Reveal returned")

func mint(id ID) Token {
	var raw [48]byte
	copy(raw[:], id[:])
	rand.Read(raw[16:])
	return Token{id: id, proof: prove((*[32]byte)(raw[16:])), reveal: func() string {
		return base64.RawURLEncoding.EncodeToString(raw[:])
	}}
}

// ParseToken reads what Reveal wrote. Its error does not contain s.
func ParseToken(s string) (Token, error) {
	if len(s) != tokenLen {
		return Token{}, errToken
	}
	var raw [48]byte
	if n, err := base64.RawURLEncoding.Decode(raw[:], []byte(s)); err != nil || n != len(raw) { // newlines are skipped, and so missing
		return Token{}, errToken
	}
	t := Token{id: ID(raw[:16]), proof: prove((*[32]byte)(raw[16:]))}
	if !t.id.wellFormed() {
		return Token{}, errToken
	}
	return t, nil
}

// ID returns the public name of the token's session.
func (t Token) ID() ID { return t.id }

// IsZero reports whether t is the zero Token, which has no session.
func (t Token) IsZero() bool { return t.id.IsZero() }

// Equal reports whether t and u are the same secret of the same session.
func (t Token) Equal(u Token) bool {
	return t.id == u.id && subtle.ConstantTimeCompare(t.proof[:], u.proof[:]) == 1
}

// Reveal returns the token's text, the one that a browser's cookie holds, if
// the token was made in this program by starting a session or by Login, and ""
// otherwise. Whoever has the text has the session.
func (t Token) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// String returns the ID's text.
func (t Token) String() string { return t.id.String() }

// Format prints the ID under every verb: String alone would leak the fields
// at %#v and %d.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// LogValue implements [slog.LogValuer].
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText implements [encoding.TextMarshaler]; it writes the ID.
func (t Token) MarshalText() ([]byte, error) { return t.id.MarshalText() }
