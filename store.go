package roam

import (
	"context"
	"iter"
	"net/netip"
	"time"
)

// A Store keeps records for a [Manager]. Most programs only construct one and
// hand it to [New]; those who write a store find its law, as a test suite, in
// package storetest, and its specification, as code, in [MemStore].
//
// Three rules run through all methods.
//
// Time is the store's: it stamps what it writes and what it answers with its
// own clock, in microseconds, so that a web server with a wrong clock harms
// nobody. Load judges no expiry; the manager does, on every load. But no write
// and no touch reaches a record that is over by the store's clock at that
// moment ([Record.Over]), so that what has expired is dead for good.
//
// Nothing is ever upserted: Insert makes a record, Update changes a living
// one, and neither does the other's work.
//
// Errors say what is known. One that wraps [ErrUnavailable] vouches that
// nothing was written. Any other error of a write, the documented ones apart,
// leaves the outcome open, and the manager settles it by [Record.Writes].
//
// A Store is safe for concurrent use, and keeps no slice that it was given or
// has returned.
type Store interface {
	// Load returns the record with this ID: living, expired, or ended, in
	// which case only the fields of a tombstone are set. If there is none it
	// returns ErrNotFound, and a Record with just Now and Epoch. want says how
	// new the answer must be.
	Load(ctx context.Context, id ID, want Want) (Record, error)

	// Insert adds rec with Version 1. It stamps Created, Seen and, if there
	// is a User, LoggedIn, and returns the record as stored. It returns
	// ErrConflict if the ID is taken.
	Insert(ctx context.Context, rec Record) (Record, error)

	// Update replaces the record if the stored Version is rec.Version and it
	// is not over. It stores Version+1, stamps Seen, keeps Created, and
	// returns the record as stored. Otherwise it returns ErrConflict.
	Update(ctx context.Context, rec Record) (Record, error)

	// Touch moves Seen forward to each touch's time, never backwards and
	// never beyond the store's clock, in records that are not over. It
	// changes nothing else, skips what it does not find, and conflicts with
	// nothing.
	Touch(ctx context.Context, seen []Touch) error

	// End turns the record into a tombstone, durably, with Version+1. It
	// keeps the first reason of a record that has ended, and is content if
	// there is no record.
	End(ctx context.Context, id ID, why Reason) error

	// EndUser ends all the user's records but those excepted, and returns
	// how many it ended. The empty user has none.
	EndUser(ctx context.Context, user string, why Reason, except ...ID) (int, error)

	// Ends returns what the log has after the cursor: each record that ended,
	// was rotated by a login or got another level, durably, in the same
	// moment as the change itself. An answer has every entry, not before the
	// cursor, of a change whose call had returned before this one began; and
	// no entry is ever behind a cursor that was returned before it could be
	// seen, in whatever order transactions commit. An entry may come twice.
	// The log goes back at least [LogKept]; the empty cursor, and one of
	// another epoch, begin where it begins.
	Ends(ctx context.Context, after Cursor) (Log, error)

	// List yields the user's records that have no tombstone, newest LoggedIn
	// first, then by ID. The empty user has none. Other methods may be called
	// while it is iterated.
	List(ctx context.Context, user string) iter.Seq2[Record, error]

	// All yields every record, tombstones too, in an order of its own, for
	// operators. It may see or miss what changes meanwhile.
	All(ctx context.Context) iter.Seq2[Record, error]

	// Prune removes at most max records that have been over for at least
	// keep, and returns how many it removed. It also forgets what is in the
	// log for longer than [LogKept].
	Prune(ctx context.Context, keep time.Duration, max int) (int, error)
}

// A Want says how new the answer to a Load must be. The zero Want is the newest
// record that the store has acknowledged.
type Want struct {
	// Version, if it is not 0, lets a copy answer that may be behind, such as
	// a replica, if its record has at least this version, and is of this
	// epoch or a later one.
	Version, Epoch uint64

	// Durable asks that what the answer shows is as durable as a write that
	// was acknowledged. A store whose commits can be seen before they are
	// durable, because somebody stopped one that waited for its replica,
	// makes sure of it first.
	Durable bool
}

// LogKept is how long a store's log of ends goes back at least. It is longer
// than anyone may rely on a log that was read before, by far.
const LogKept = 10 * time.Minute

// A Cursor is a place in a store's log, and means something to that store only.
type Cursor string

// A Log is a part of a store's log of ends.
type Log struct {
	Ends []End
	Next Cursor // where to go on reading

	// Now and Epoch are the store's clock and epoch when it was read.
	Now   time.Time
	Epoch uint64
}

// An End says that a record is another one since a time: what was known of its
// versions before Version no longer holds. Why is empty if the session lives on,
// with a new secret or another level.
type End struct {
	ID      ID
	Version uint64
	Why     Reason
	At      time.Time
}

// A Record is a session as a store keeps it.
type Record struct {
	ID       ID
	Version  uint64 // 0 before Insert, then one more with each Update and with End
	Proof    Proof  // of the secret that opens the session
	Previous Proof  // of the secret before the last login; zero if there was none
	User     string // "" before login
	Level    Level
	From     Client
	Data     []byte // a T in the form of Options.Codec; nil in a tombstone

	// Created, LoggedIn and Seen are the store's time, in microseconds.
	Created  time.Time
	LoggedIn time.Time // zero before login
	Seen     time.Time

	// Idle and Lifetime are what this session was allowed when it started
	// or logged in. A record without them is over.
	Idle     time.Duration // since Seen
	Lifetime time.Duration // since LoggedIn, or Created before login

	// Writes are the ids of the last writes, newest first. With them a
	// manager finds out whether a write without an answer landed.
	Writes Writes

	// Ended and Why are set in a tombstone, which has no Data, Level and From.
	Ended time.Time
	Why   Reason

	// Now and Epoch are not stored: they are the store's clock and the
	// store's epoch when it gave this record out. An epoch is one unbroken
	// history of the store's; a backup put back begins another, higher one.
	Now   time.Time
	Epoch uint64

	memo *memo // of what was decoded from Data
}

// Deadline returns when the record is over if nobody touches it, by which
// limit, [Idle] or [Lifetime].
func (r *Record) Deadline() (time.Time, Reason) {
	start := r.Created
	if !r.LoggedIn.IsZero() {
		start = r.LoggedIn
	}
	idle, life := r.Seen.Add(r.Idle), start.Add(r.Lifetime)
	if idle.Before(life) {
		return idle, Idle
	}
	return life, Lifetime
}

// Over reports whether the record is over at now, in the store's time, and if
// so since when and why: by its tombstone or by a deadline reached.
func (r *Record) Over(now time.Time) (why Reason, at time.Time, over bool) {
	if !r.Ended.IsZero() {
		return r.Why, r.Ended, true
	}
	at, why = r.Deadline()
	return why, at, !now.Before(at)
}

// Writes are the ids of a record's last eight writes, newest first, 0 for none.
type Writes [8]uint64

// Has reports whether id is among them.
func (w Writes) Has(id uint64) bool {
	for _, x := range w {
		if x == id && id != 0 {
			return true
		}
	}
	return false
}

// Push returns the ids with a new one in front, the oldest dropped.
func (w Writes) Push(id uint64) Writes {
	copy(w[1:], w[:])
	w[0] = id
	return w
}

// A Touch says that a session was in use at a time, which is the store's.
type Touch struct {
	ID ID
	At time.Time
}

// A Level is how strongly a user has proved who it is, on a scale that is the
// application's, for instance the assurance levels 1 to 3 of NIST SP 800-63B.
// It is as of the last login: only a login changes it.
type Level uint8

// A Client is where a login came from. It serves to be shown and compared by
// people; sessions are not bound to it.
type Client struct {
	Addr  netip.Addr // the zero Addr if not known
	Agent string     // the User-Agent header, at most 256 bytes
}
