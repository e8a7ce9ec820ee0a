package sqlitestore

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/roam-web/roam"
)

// clock is the store's clock, in microseconds. All processes that share the
// file are on one host and so share its clock. We ask the clock ourselves and
// not by SQLite's functions, which know milliseconds.
func clock() int64 { return time.Now().UnixMicro() }

// micro is t as a record keeps it.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

var noTime time.Time

func moment(us int64) time.Time { return time.UnixMicro(us).UTC() }

// bindRecord binds the parameters that an insert and an update share.
func bindRecord(s *stmt, r *roam.Record) {
	s.bindBlob(3, r.ID[:])
	s.bindBlob(4, r.Proof[:])
	if r.Previous == (roam.Proof{}) {
		s.bindNull(5)
	} else {
		s.bindBlob(5, r.Previous[:])
	}
	s.bindInt(6, int64(r.Level))
	if !r.From.Addr.IsValid() {
		s.bindNull(7)
	} else {
		var buf [64]byte
		s.bindRawText(7, r.From.Addr.AppendTo(buf[:0]))
	}
	s.bindText(8, r.From.Agent)
	s.bindInt(9, int64(r.Idle))
	s.bindInt(10, int64(r.Lifetime))
	var writes [len(r.Writes) * 8]byte
	for i, w := range r.Writes {
		binary.BigEndian.PutUint64(writes[i*8:], w)
	}
	s.bindBlob(11, bytes.TrimRight(writes[:], "\x00"))
	switch {
	case r.Data == nil:
		s.bindNull(12)
	case utf8.Valid(r.Data) && bytes.IndexByte(r.Data, 0) < 0:
		s.bindRawText(12, r.Data) // so that an operator can read it
	default:
		s.bindBlob(12, r.Data)
	}
	s.bindText(13, r.User)
}

func bindTime(s *stmt, i int, t time.Time) {
	if t.IsZero() {
		s.bindNull(i)
	} else {
		s.bindInt(i, t.UnixMicro())
	}
}

// A scanner reads records from rows. It collects a row's texts to make them
// one string, and so one allocation.
type scanner struct{ text []byte }

// scan reads the columns of the constant of that name. now is when the
// statement began; what the record tells of later times was written meanwhile,
// so that the answer is dated by that.
func (b *scanner) scan(s *stmt, now int64) (r roam.Record) {
	copy(r.ID[:], s.bytes(0))
	r.Version = uint64(s.int(1))
	copy(r.Proof[:], s.bytes(2))
	copy(r.Previous[:], s.bytes(3))
	b.text = append(b.text[:0], s.bytes(4)...)
	user := len(b.text)
	r.Level = roam.Level(s.int(5))
	b.text = append(b.text, s.bytes(6)...)
	addr := len(b.text)
	b.text = append(b.text, s.bytes(7)...)
	agent := len(b.text)
	b.text = append(b.text, s.bytes(15)...)

	created, seen := s.int(8), s.int(10)
	now = max(now, seen)
	r.Created, r.Seen = moment(created), moment(seen)
	r.LoggedIn = scanTime(s, 9)
	r.Idle, r.Lifetime = time.Duration(s.int(11)), time.Duration(s.int(12))
	var writes [len(r.Writes) * 8]byte
	copy(writes[:], s.bytes(13))
	for i := range r.Writes {
		r.Writes[i] = binary.BigEndian.Uint64(writes[i*8:])
	}
	if r.Ended = scanTime(s, 14); !r.Ended.IsZero() {
		now = max(now, r.Ended.UnixMicro())
	}
	if data := s.bytes(16); len(data) > 0 {
		r.Data = bytes.Clone(data)
	} else if !s.null(16) {
		r.Data = []byte{}
	}
	r.Epoch = uint64(s.int(epochColumn))
	r.Now = moment(now)

	if len(b.text) > 0 {
		text := string(b.text)
		r.User = text[:user]
		r.From.Agent = text[addr:agent]
		r.Why = roam.Reason(text[agent:])
		if user < addr {
			r.From.Addr, _ = netip.ParseAddr(text[user:addr])
		}
	}
	return r
}

func scanTime(s *stmt, i int) time.Time {
	us := s.int(i)
	if us == 0 && s.null(i) {
		return time.Time{}
	}
	return moment(us)
}
