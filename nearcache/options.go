package nearcache

import (
	"fmt"
	"time"

	"github.com/roam-web/roam"
)

// Options are the settings of a [Store]. A nil *Options and the zero value are
// ready to use.
type Options struct {
	// Bytes is how much memory the records may take, with all that it costs
	// to keep them. 0 means 64 MB (1<<26); the least is 1 MB. A record with
	// 200 bytes of data takes about a kilobyte.
	Bytes int

	// Bound is how long ago the log of ends may have been read for an answer
	// from memory. It is the longest that a session can be served here after
	// it ended elsewhere, whatever happens to the feed; with the feed up it
	// is the second that [roam.Manager.Run] takes. 0 means 5 seconds; the
	// most is a minute.
	Bound time.Duration

	// MaxAge is how long a record is served from memory without asking the
	// store again. 0 means a minute.
	MaxAge time.Duration
}

const (
	defaultBytes  = 64 << 20
	defaultBound  = 5 * time.Second
	defaultMaxAge = time.Minute
	minBytes      = 1 << 20
	maxBound      = roam.LogKept / 10
)

func (o *Options) resolved() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	if r.Bytes == 0 {
		r.Bytes = defaultBytes
	}
	if r.Bound == 0 {
		r.Bound = defaultBound
	}
	if r.MaxAge == 0 {
		r.MaxAge = defaultMaxAge
	}
	switch {
	case r.Bytes < minBytes:
		return r, fmt.Errorf("nearcache: Options.Bytes is %d: it must be at least %d; to keep nothing, use the store without a near cache", r.Bytes, minBytes)
	case r.Bound < 0 || r.Bound > maxBound:
		return r, fmt.Errorf("nearcache: Options.Bound is %v: it must be positive and at most %v, because it is how long a logout may go unnoticed; 0 means %v", r.Bound, maxBound, defaultBound)
	case r.MaxAge < 0:
		return r, fmt.Errorf("nearcache: Options.MaxAge is %v: it must not be negative; 0 means %v", r.MaxAge, defaultMaxAge)
	}
	return r, nil
}
