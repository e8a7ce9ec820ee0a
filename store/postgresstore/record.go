package postgresstore

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/roam-web/roam"
)

// PostgreSQL counts microseconds from the year 2000.
const year2000 = 946_684_800_000_000

// Times outside of these cannot be added to without leaving PostgreSQL's range.
var earliest, latest = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// micro is t as a record keeps it.
func micro(t time.Time) time.Time {
	switch t = t.UTC().Truncate(time.Microsecond); {
	case t.IsZero():
		return time.Time{}
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}

// stamp is a time as PostgreSQL sends and takes it.
func stamp(t time.Time) int64 { return micro(t).UnixMicro() - year2000 }

func moment(b []byte) time.Time {
	if len(b) != 8 {
		return time.Time{}
	}
	switch us := number(b); us {
	case math.MinInt64: // -infinity
		return time.Time{}
	case math.MaxInt64:
		return latest
	default:
		return time.UnixMicro(us + year2000).UTC()
	}
}

// number reads a bigint or a smallint.
func number(b []byte) int64 {
	switch len(b) {
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b)))
	}
	return 0
}

// args are a statement's parameters, in PostgreSQL's binary format. They belong
// to a connection, which uses them again and again.
type args struct {
	values [][]byte
	slots  [16][8]byte
	buf    []byte
}

func (a *args) reset() {
	clear(a.values)
	a.values, a.buf = a.values[:0], a.buf[:0]
}

func (a *args) null() { a.values = append(a.values, nil) }

func (a *args) int(n int64) {
	slot := &a.slots[len(a.values)]
	binary.BigEndian.PutUint64(slot[:], uint64(n))
	a.values = append(a.values, slot[:])
}

func (a *args) short(n int16) {
	slot := &a.slots[len(a.values)]
	binary.BigEndian.PutUint16(slot[:], uint16(n))
	a.values = append(a.values, slot[:2])
}

func (a *args) int4(n int) {
	slot := &a.slots[len(a.values)]
	binary.BigEndian.PutUint32(slot[:], uint32(max(min(n, math.MaxInt32-1), 0)))
	a.values = append(a.values, slot[:4])
}

func (a *args) bool(is bool) {
	slot := &a.slots[len(a.values)]
	slot[0] = 0
	if is {
		slot[0] = 1
	}
	a.values = append(a.values, slot[:1])
}

func (a *args) float(f float64) { a.int(int64(math.Float64bits(f))) }

func (a *args) time(t time.Time) {
	if t.IsZero() {
		a.null()
	} else {
		a.int(stamp(t))
	}
}

// tid is the place of the first row of a page.
func (a *args) tid(page int64) {
	slot := &a.slots[len(a.values)]
	binary.BigEndian.PutUint32(slot[:], uint32(min(page, math.MaxUint32)))
	binary.BigEndian.PutUint16(slot[4:], 0)
	a.values = append(a.values, slot[:6])
}

// bytes must stay as they are until the statement was sent.
func (a *args) bytes(b []byte) {
	if b == nil {
		b = []byte{} // not NULL
	}
	a.values = append(a.values, b)
}

func (a *args) text(s string) {
	from := len(a.buf)
	a.buf = append(a.buf, s...)
	a.values = append(a.values, a.buf[from:len(a.buf):len(a.buf)])
	if s == "" {
		a.values[len(a.values)-1] = []byte{}
	}
}

// array is of elements of one size, n of them, one after the other in b.
func (a *args) array(oid uint32, n, size int, element func(b []byte, i int) []byte) {
	from := len(a.buf)
	dims := uint32(1)
	if n == 0 {
		dims = 0
	}
	b := binary.BigEndian.AppendUint32(a.buf, dims)
	b = binary.BigEndian.AppendUint32(b, 0) // no NULLs
	b = binary.BigEndian.AppendUint32(b, oid)
	if n > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = binary.BigEndian.AppendUint32(b, 1) // the first index
	}
	for i := range n {
		b = element(binary.BigEndian.AppendUint32(b, uint32(size)), i)
	}
	a.buf = b
	a.values = append(a.values, b[from:len(b):len(b)])
}

func (a *args) ids(ids []roam.ID) {
	a.array(typeUUID, len(ids), 16, func(b []byte, i int) []byte { return append(b, ids[i][:]...) })
}

// record appends what an insert and an update share, see recordTypes.
func (a *args) record(r *roam.Record) {
	a.bytes(r.ID[:])
	a.int(int64(r.Idle))
	a.int(int64(r.Lifetime))
	a.short(int16(r.Level))
	a.bytes(r.Proof[:])
	if r.Previous == (roam.Proof{}) {
		a.null()
	} else {
		a.bytes(r.Previous[:])
	}
	from := len(a.buf)
	a.buf = appendWrites(a.buf, &r.Writes)
	a.bytes(a.buf[from:])
	a.text(r.User)
	if from := len(a.buf); r.From.Addr.IsValid() {
		a.buf = r.From.Addr.AppendTo(a.buf)
		a.bytes(a.buf[from:])
	} else {
		a.null()
	}
	a.text(r.From.Agent)
	switch {
	case r.Data == nil:
		a.null()
		a.null()
	case readable(r.Data):
		a.bytes(r.Data)
		a.null()
	default:
		a.null()
		a.bytes(r.Data)
	}
}

// column is an array of elements of any size, or NULL, which is a nil slice that
// element returns. They are appended to b otherwise.
func (a *args) column(oid uint32, n int, element func(b []byte, i int) []byte) {
	from := len(a.buf)
	b := binary.BigEndian.AppendUint32(a.buf, 1)
	b = binary.BigEndian.AppendUint32(b, 1) // there may be NULLs
	b = binary.BigEndian.AppendUint32(b, oid)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, 1) // the first index
	for i := range n {
		at := len(b)
		b = append(b, 0xff, 0xff, 0xff, 0xff) // NULL
		if with := element(b, i); with != nil {
			b = with
			binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		}
	}
	a.buf = b
	a.values = append(a.values, b[from:len(b):len(b)])
}

// records appends what a group of updates shares with one, see updateRecords.
func (a *args) records(n int, rec func(i int) *roam.Record) {
	bigint := func(of func(*roam.Record) int64) {
		a.column(typeInt8, n, func(b []byte, i int) []byte { return binary.BigEndian.AppendUint64(b, uint64(of(rec(i)))) })
	}
	text := func(of func(*roam.Record) string) {
		a.column(typeText, n, func(b []byte, i int) []byte { return append(b, of(rec(i))...) })
	}
	a.column(typeUUID, n, func(b []byte, i int) []byte { return append(b, rec(i).ID[:]...) })
	bigint(func(r *roam.Record) int64 { return int64(r.Version) })
	bigint(func(r *roam.Record) int64 { return int64(r.Idle) })
	bigint(func(r *roam.Record) int64 { return int64(r.Lifetime) })
	a.column(typeInt2, n, func(b []byte, i int) []byte { return binary.BigEndian.AppendUint16(b, uint16(rec(i).Level)) })
	a.column(typeBytea, n, func(b []byte, i int) []byte { return append(b, rec(i).Proof[:]...) })
	a.column(typeBytea, n, func(b []byte, i int) []byte {
		if rec(i).Previous == (roam.Proof{}) {
			return nil
		}
		return append(b, rec(i).Previous[:]...)
	})
	a.column(typeBytea, n, func(b []byte, i int) []byte { return appendWrites(b, &rec(i).Writes) })
	text(func(r *roam.Record) string { return r.User })
	a.column(typeText, n, func(b []byte, i int) []byte {
		if !rec(i).From.Addr.IsValid() {
			return nil
		}
		return rec(i).From.Addr.AppendTo(b)
	})
	text(func(r *roam.Record) string { return r.From.Agent })
	a.column(typeText, n, func(b []byte, i int) []byte {
		if d := rec(i).Data; d != nil && readable(d) {
			return append(b, d...)
		}
		return nil
	})
	a.column(typeBytea, n, func(b []byte, i int) []byte {
		if d := rec(i).Data; d != nil && !readable(d) {
			return append(b, d...)
		}
		return nil
	})
	a.column(typeTimestamp, n, func(b []byte, i int) []byte {
		if rec(i).LoggedIn.IsZero() {
			return nil
		}
		return binary.BigEndian.AppendUint64(b, uint64(stamp(rec(i).LoggedIn)))
	})
}

// appendWrites leaves out those at the end that are none.
func appendWrites(b []byte, writes *roam.Writes) []byte {
	from := len(b)
	for _, w := range writes {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b[:from+len(bytes.TrimRight(b[from:], "\x00"))]
}

// readable reports whether data can be kept as text, for an operator to read.
func readable(data []byte) bool { return utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 }

// scan reads the columns of the constant of that name from a row. now is when
// the statement began; what the record tells of later times was written
// meanwhile, so that the answer is dated by that.
func scan(v [][]byte, now time.Time, epoch uint64) (r roam.Record) {
	copy(r.ID[:], v[0])
	r.Version = uint64(number(v[1]))
	r.Created, r.Seen = moment(v[2]), moment(v[3])
	r.Idle, r.Lifetime = time.Duration(number(v[4])), time.Duration(number(v[5]))
	r.LoggedIn, r.Ended = moment(v[6]), moment(v[7])
	r.Level = roam.Level(number(v[8]))
	copy(r.Proof[:], v[9])
	copy(r.Previous[:], v[10])
	var writes [len(r.Writes) * 8]byte
	copy(writes[:], v[11])
	for i := range r.Writes {
		r.Writes[i] = binary.BigEndian.Uint64(writes[i*8:])
	}

	// All texts in one string, and so in one allocation.
	user, addr, agent, why := v[12], v[13], v[14], v[15]
	if n := len(user) + len(addr) + len(agent) + len(why); n > 0 {
		var buf [512]byte
		b := append(append(append(append(buf[:0], user...), addr...), agent...), why...)
		text := string(b)
		r.User, text = text[:len(user)], text[len(user):]
		if len(addr) > 0 {
			r.From.Addr, _ = netip.ParseAddr(text[:len(addr)])
		}
		text = text[len(addr):]
		r.From.Agent, r.Why = text[:len(agent)], roam.Reason(text[len(agent):])
	}
	for _, data := range v[16:18] {
		if data != nil {
			r.Data = append(make([]byte, 0, len(data)), data...)
		}
	}
	r.Now, r.Epoch = later(later(now, r.Seen), r.Ended), epoch
	return r
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
