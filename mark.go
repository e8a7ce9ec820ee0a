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

// record returns as much of the record as the fact knows.
func (f *fact) record(id ID, now int64) Record {
	r := Record{
		ID: id, Version: f.version, User: f.user, Level: f.level, Idle: f.idle, Lifetime: f.lifetime,
		Created: time.UnixMicro(f.created).UTC(), Seen: time.UnixMicro(f.seen).UTC(), Now: time.UnixMicro(now).UTC(),
	}
	if f.loggedIn != 0 {
		r.LoggedIn = time.UnixMicro(f.loggedIn).UTC()
	}
	return r
}

// A Sealer encrypts and authenticates short values. Package sealed has one,
// with keys that can be rotated.
type Sealer interface {
	// Seal appends the sealed plaintext to dst.
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

// marks are buffers for reading: what is passed to a Sealer cannot be on the
// stack.
var marks = sync.Pool{New: func() any { return new([3 * maxMark]byte) }}

// encodeMark returns the text of the mark of a session.
func encodeMark(s Sealer, aad []byte, tok Token, r *Record) string {
	if s == nil {
		b := append(make([]byte, 0, 32), plainMark)
		b = append(b, tok.proof[:8]...)
		b = binary.AppendUvarint(b, r.Version)
		b = binary.AppendUvarint(b, r.Epoch)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	f := factOf(r)
	b := make([]byte, 0, 160+len(f.user))
	b = append(b, tok.id[:]...)
	b = append(b, tok.proof[:16]...)
	b = append(b, byte(f.level))
	b = binary.AppendUvarint(b, f.version)
	b = binary.AppendUvarint(b, f.epoch)
	for _, us := range [...]int64{f.verified, f.created, f.loggedIn, f.seen} {
		b = binary.BigEndian.AppendUint64(b, uint64(us))
	}
	b = binary.AppendUvarint(b, uint64(max(f.idle, 0)))
	b = binary.AppendUvarint(b, uint64(max(f.lifetime, 0)))
	b = append(b, f.user...)
	return base64.RawURLEncoding.EncodeToString(s.Seal([]byte{sealedMark}, b, aad))
}

// A reading is what came of a mark's text.
type reading struct {
	mark mark // the zero mark if it is not about the token

	// opened says that the mark was sealed by us, whichever token it is about:
	// one from before a login is no forgery.
	opened bool
	fact   fact // of a sealed mark about the token
}

// decodeMark reads a mark that came with tok. known returns the user's name as
// a string that exists already, to save making one.
func decodeMark(s Sealer, aad []byte, tok *Token, text string, known func(ID, []byte) string) (got reading) {
	if text == "" || len(text) > maxMark {
		return got
	}
	buf := marks.Get().(*[3 * maxMark]byte)
	defer marks.Put(buf)
	in := buf[:copy(buf[:maxMark], text)]
	raw := buf[maxMark : 2*maxMark]
	n, err := base64.RawURLEncoding.Decode(raw, in)
	if err != nil || n == 0 {
		return got
	}
	raw = raw[:n]
	switch {
	case raw[0] == plainMark && s == nil:
		got.mark = decodePlain(raw[1:], tok)
	case raw[0] == sealedMark && s != nil:
		b, err := s.Open(buf[2*maxMark:2*maxMark], raw[1:], aad)
		if err != nil {
			return got
		}
		got.opened = true
		if got.fact, got.mark.sealed = decodeFact(b, tok, known); got.mark.sealed {
			got.mark.version, got.mark.epoch = got.fact.version, got.fact.epoch
		}
	}
	return got
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

// decodeFact reads a fact, and reports whether it is about tok.
func decodeFact(b []byte, tok *Token, known func(ID, []byte) string) (f fact, about bool) {
	if len(b) < 33 || [16]byte(b[:16]) != [16]byte(tok.id) || subtle.ConstantTimeCompare(b[16:32], tok.proof[:16]) != 1 {
		return f, false
	}
	f.level = Level(b[32])
	b = b[33:]
	for _, v := range [...]*uint64{&f.version, &f.epoch} {
		var n int
		if *v, n = binary.Uvarint(b); n <= 0 {
			return fact{}, false
		}
		b = b[n:]
	}
	for _, us := range [...]*int64{&f.verified, &f.created, &f.loggedIn, &f.seen} {
		if len(b) < 8 {
			return fact{}, false
		}
		*us = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	for _, d := range [...]*time.Duration{&f.idle, &f.lifetime} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return fact{}, false
		}
		*d = time.Duration(v)
		b = b[n:]
	}
	f.user = known(tok.id, b)
	return f, true
}
