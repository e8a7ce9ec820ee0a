package roam

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// A mark is what a visitor's browser remembers of its session: the newest
// version that it has seen. With it any copy of the record knows whether it is
// new enough for this visitor, who so reads its own writes on every server
// (Terry et al., "Session Guarantees for Weakly Consistent Replicated Data",
// 1994). It is bound to the token's secret, so that a late one from before a
// login is not taken for news of the session after it.
//
// A plain mark can be made by the visitor and is believed in nothing but that
// its own session be read anew. One that is sealed can be believed.
type mark struct {
	version, epoch uint64
	sealed         bool
}

// A fact is what a record said that was read at the store at one time.
type fact struct {
	version, epoch uint64
	verified       int64 // when, in the store's time, in microseconds
	user           string
	known          bool // the user's name need not be remembered any more
	level          Level
	created        int64 // and the rest of the record's times, likewise
	loggedIn       int64 // 0 before login
	seen           int64
	idle, lifetime time.Duration
}

func factOf(r *Record) fact {
	f := fact{
		version: r.Version, epoch: r.Epoch, verified: r.Now.UnixMicro(), user: r.User, level: r.Level,
		created: r.Created.UnixMicro(), seen: r.Seen.UnixMicro(), idle: r.Idle, lifetime: r.Lifetime,
	}
	if !r.LoggedIn.IsZero() {
		f.loggedIn = r.LoggedIn.UnixMicro()
	}
	return f
}

// A Sealer encrypts and authenticates short values. Package sealed has one,
// with keys that can be rotated.
type Sealer interface {
	// Seal appends the sealed plaintext to dst. It returns nil if it has no
	// key to seal with; then there is no mark.
	Seal(dst, plaintext, aad []byte) []byte

	// Open appends the plaintext to dst, or fails if sealed was not made by
	// Seal with a key that is in use and the same aad.
	Open(dst, sealed, aad []byte) ([]byte, error)
}

const (
	plainMark  = 0 // then 8 bytes of the proof, version and epoch
	sealedMark = 1 // then what the Sealer made of a fact
	maxMark    = 1024
)

// halves are buffers for what is sealed in cookies, marks and tickets: the value
// in one half, its seal in the other. What is passed to a Sealer cannot be on the
// stack.
var halves = sync.Pool{New: func() any { return new([2 * maxMark]byte) }}

// encodeMark returns the text of the mark of a session.
func encodeMark(s Sealer, aad []byte, tok Token, r *Record) string {
	if s == nil {
		b := append(make([]byte, 0, 32), plainMark)
		b = append(b, tok.proof[:8]...)
		b = binary.AppendUvarint(b, r.Version)
		b = binary.AppendUvarint(b, r.Epoch)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	buf := halves.Get().(*[2 * maxMark]byte)
	defer halves.Put(buf)
	f := factOf(r)
	b := append(buf[:0:maxMark], tok.id[:]...)
	b = append(b, tok.proof[:16]...)
	for _, v := range [...]int64{int64(f.version), int64(f.epoch), f.verified, f.created, f.loggedIn, f.seen, int64(f.idle), int64(f.lifetime)} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, byte(f.level))
	b = append(b, f.user...)
	sealed := s.Seal(append(buf[maxMark:maxMark], sealedMark), b, aad)
	return string(base64.RawURLEncoding.AppendEncode(b[:0], sealed)) // "" of nil
}

// factLen is how many bytes of a sealed fact come before the user: ID, half of
// the proof, eight numbers, the level.
const factLen = 16 + 16 + 8*8 + 1

// parse reads a token and the mark that came with it. strict says that a token
// counts only beside a mark that was sealed by us, whichever token that is
// about: one from before a login is no forgery. What a sealed mark about this
// token says goes into f, if that is not nil; of facts it learns the user's name
// as a string that exists already.
//
// The mark is looked at first, so that a stranger's cookies cost no more than
// to find that out.
func parse(s Sealer, aad []byte, token, text string, strict bool, f *fact, facts *facts) (tok Token) {
	if token == "" || s == nil && strict {
		return Token{}
	}
	buf := halves.Get().(*[2 * maxMark]byte)
	defer halves.Put(buf)
	raw, fine := buf[:maxMark], false
	if text != "" && len(text) <= maxMark {
		n, err := base64.RawURLEncoding.Decode(raw, []byte(text))
		raw, fine = raw[:n], err == nil && n > 0 && (raw[0] == sealedMark) == (s != nil)
	}
	if fine && s != nil {
		var err error
		raw, err = s.Open(buf[maxMark:maxMark], raw[1:], aad)
		fine = err == nil
	}
	if strict && !fine {
		return Token{}
	}
	tok, err := ParseToken(token)
	switch {
	case err != nil || !fine:
	case s == nil:
		tok.mark = decodePlain(raw[1:], &tok)
	default:
		var news fact
		seal := f
		if seal == nil {
			seal = &news
		}
		if !decodeFact(raw, &tok, seal) {
			break
		}
		tok.mark = mark{seal.version, seal.epoch, true}
		if f != nil {
			f.user, f.known = facts.user(tok.id, raw[factLen:])
		}
	}
	return tok
}

func decodePlain(b []byte, tok *Token) (m mark) {
	if len(b) < 8 || subtle.ConstantTimeCompare(b[:8], tok.proof[:8]) != 1 {
		return m
	}
	b = b[8:]
	version, n := binary.Uvarint(b)
	if n <= 0 {
		return m
	}
	epoch, k := binary.Uvarint(b[n:])
	if k <= 0 || n+k != len(b) {
		return m
	}
	return mark{version: version, epoch: epoch}
}

// decodeFact reads all but the user, and reports whether the fact is about tok.
func decodeFact(b []byte, tok *Token, f *fact) bool {
	if len(b) < factLen || ID(b[:16]) != tok.id || subtle.ConstantTimeCompare(b[16:32], tok.proof[:16]) != 1 {
		return false
	}
	number := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[32+8*i:])) }
	f.version, f.epoch = uint64(number(0)), uint64(number(1))
	f.verified, f.created, f.loggedIn, f.seen = number(2), number(3), number(4), number(5)
	f.idle, f.lifetime = time.Duration(number(6)), time.Duration(number(7))
	f.level = Level(b[factLen-1])
	return true
}
