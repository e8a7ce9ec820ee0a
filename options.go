package roam

import (
	"fmt"
	"log/slog"
	"time"
)

// Options are the settings of a [Manager]. A nil *Options and the zero value
// are ready to use.
type Options struct {
	// IdleTimeout ends a session that has not been used for so long. 0 means
	// one hour; the least is 10 seconds. Use is noticed at most once per touch
	// window, which is a twentieth of the timeout and at most a minute, and
	// written within a second: a session may end that much early, and never
	// late.
	IdleTimeout time.Duration

	// Lifetime ends a session so long after its login, or after its start if
	// nobody has logged in, however busy it is. 0 means 24 hours. The two
	// defaults are those of NIST SP 800-63B-4, section 2.2.3 (AAL2). A login
	// with [Login.Persist] has its own.
	//
	// A session keeps the limits it was given when it started or logged in.
	Lifetime time.Duration

	// SessionsPerUser is how many sessions a user may have at once. A login
	// beyond it ends the user's oldest logins. 0 means any number.
	SessionsPerUser int

	// MaxData is the largest session data, in encoded bytes. 0 means 16384.
	// A session is for identifiers and unfinished work; what is larger
	// belongs in a table of its own.
	MaxData int

	// Retain is how long an ended session is remembered, so that its visitor
	// can be told why it ended. 0 means 7 days; the least is a minute.
	Retain time.Duration

	// Codec turns a T into a record's data and back. nil means JSON, which
	// an operator can read, and which keeps the top-level fields of a struct
	// that only a newer version of the program knows.
	Codec Codec

	// Upgrade brings data that an older version of the program stored into
	// the form that this one decodes. It is given all stored data before it
	// is decoded, in the form of Codec, and returns it as it is if there is
	// nothing to do. It may change and keep its argument. The record itself
	// is written with the next Update. nil means that every version decodes
	// the data of every other.
	//
	// While two versions of a program run beside each other, or when the
	// newer one is taken back, the older one reads what the newer one wrote.
	// So give T new fields rather than old ones a new meaning, and fill both
	// until nothing runs that knows only the old ones.
	Upgrade func(stored []byte) ([]byte, error)

	// Logger gets one line per event of a session's life: started, logged
	// in, ended, refused; at level Warn what an operator should look into.
	// nil means no log. No line ever has a secret or session data.
	Logger *slog.Logger
}

const (
	maxPersist    = 400 * 24 * time.Hour // what browsers keep a cookie for: RFC 6265bis, section 5.5
	maxReason     = 64
	pruneEvery    = time.Minute
	pruneBatch    = 1000
	touchEvery    = time.Second
	touchBatch    = 1000
	maxTouchDelay = time.Minute
	updateTries   = 100
	writeTries    = 3
	endTimeout    = 5 * time.Second
)

// touchWindow is how far Seen may lag behind for a session with this idle
// timeout.
func touchWindow(idle time.Duration) time.Duration { return min(idle/20, maxTouchDelay) }

// resolved returns the options with their defaults filled in, or an error that
// says which settings contradict each other.
func (o *Options) resolved() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"IdleTimeout", &r.IdleTimeout, time.Hour},
		{"Lifetime", &r.Lifetime, 24 * time.Hour},
		{"Retain", &r.Retain, 7 * 24 * time.Hour},
	} {
		if *d.v < 0 {
			return r, fmt.Errorf("roam: Options.%s is %v: it must not be negative; 0 means %v", d.name, *d.v, d.def)
		}
		if *d.v == 0 {
			*d.v = d.def
			if d.name == "IdleTimeout" && r.Lifetime > 0 {
				*d.v = min(d.def, r.Lifetime)
			}
			if d.name == "Lifetime" {
				*d.v = max(d.def, r.IdleTimeout)
			}
		}
	}
	if r.IdleTimeout > r.Lifetime {
		return r, fmt.Errorf("roam: Options.IdleTimeout is %v and Lifetime %v: no session could ever be idle for so long; make IdleTimeout at most Lifetime", r.IdleTimeout, r.Lifetime)
	}
	if r.IdleTimeout < 10*time.Second {
		return r, fmt.Errorf("roam: Options.IdleTimeout is %v: it must be at least 10s, because use is written once a second", r.IdleTimeout)
	}
	if r.Retain < time.Minute {
		return r, fmt.Errorf("roam: Options.Retain is %v: it must be at least 1m, longer than any write can be on its way", r.Retain)
	}
	if r.Lifetime > maxPersist {
		return r, fmt.Errorf("roam: Options.Lifetime is %v: it must be at most 400 days (9600h)", r.Lifetime)
	}
	if r.SessionsPerUser < 0 {
		return r, fmt.Errorf("roam: Options.SessionsPerUser is %d: it must not be negative; 0 means any number", r.SessionsPerUser)
	}
	if r.MaxData < 0 {
		return r, fmt.Errorf("roam: Options.MaxData is %d: it must not be negative; 0 means 16384", r.MaxData)
	}
	if r.MaxData == 0 {
		r.MaxData = 16 << 10
	}
	if r.Codec == nil {
		r.Codec = JSON{}
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	return r, nil
}

// Must returns v or panics with err. It is for the start of a program:
//
//	sessions := roam.Must(roam.New[Cart](store, nil))
func Must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}
