package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/roam-web/roam"
)

// A Store keeps sessions in PostgreSQL. It is safe for concurrent use, and any
// number of Stores, in this process and in others, may use the same tables.
type Store struct {
	opts       Options
	names      names
	statements [numQueries]statement
	unnamed    atomic.Bool // a pooler shares connections, see share

	hosts    []*host
	replicas []*host
	stop     context.CancelFunc
	probers  sync.WaitGroup

	primary atomic.Pointer[primary] // nil while there is none
	reason  atomic.Pointer[error]   // why there is none
	clock   atomic.Pointer[clock]

	mu    sync.Mutex // of what the probers know
	known known
	news  chan struct{} // something was learned

	lookups lanes[lookup]
	changes lanes[change]
	turn    atomic.Uint32 // of the replicas
	sweep   sweep
	closing sync.Once
	closed  atomic.Bool
}

var _ roam.Store = (*Store)(nil)

// Options are optional: a nil *Options is ready to use, and so is each field's
// zero value.
type Options struct {
	// Schema is the namespace that the tables are in. "" means the first one
	// of search_path in the URL, or else public.
	Schema string

	// Table is the table of sessions. The names of the others begin with it.
	// "" means roam_session.
	Table string

	// MaxConns is how many connections are open at most, besides one for each
	// host's prober. 0 means pool_max_conns in the URL, or else 16.
	MaxConns int

	// Timeout is how long one call takes at most, and how long a server that
	// does not answer counts as up. 0 means 1 second.
	Timeout time.Duration

	// Replicas is a URL as for [Open], of one or several read replicas. They
	// are asked where an answer may be a little old, and only if they have
	// it; while the primary is down they are not.
	Replicas string

	// Logger gets what happens to the servers. nil means slog.Default().
	Logger *slog.Logger
}

// Format keeps a password in Replicas out of logs.
func (o Options) Format(f fmt.State, verb rune) {
	type plain Options
	if o.Replicas != "" {
		o.Replicas = "(not shown)"
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), plain(o))
}

// defaultConns is where more connections gave no more writes a second, see
// BenchmarkConns.
const defaultConns = 16

func (o *Options) resolved() (r Options, err error) {
	if o != nil {
		r = *o
	}
	if r.MaxConns < 0 || r.Timeout < 0 {
		return r, fmt.Errorf("postgresstore: Options.MaxConns is %d and Timeout %v: neither may be negative; 0 means the default", r.MaxConns, r.Timeout)
	}
	if r.Timeout == 0 {
		r.Timeout = time.Second
	}
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	if r.Table == "" {
		r.Table = "roam_session"
	}
	return r, nil
}

// names are checked, because PostgreSQL would cut a long one short.
func (o *Options) names(searchPath string) (names, error) {
	n := names{o.Schema, o.Table}
	if n.schema == "" {
		first, _, _ := strings.Cut(searchPath, ",")
		if first = strings.TrimSpace(first); len(first) > 1 && first[0] == '"' && first[len(first)-1] == '"' {
			n.schema = strings.ReplaceAll(first[1:len(first)-1], `""`, `"`)
		} else if first != "" && first[0] != '$' {
			n.schema = strings.ToLower(first)
		}
	}
	if n.schema == "" {
		n.schema = "public"
	}
	for what, name := range map[string]string{"Schema": n.schema, "Table": n.table} {
		if len(name) > 50 || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return n, fmt.Errorf("postgresstore: Options.%s is %q: want at most 50 bytes of UTF-8", what, name)
		}
	}
	return n, nil
}

// Close ends the use of the database. It waits for calls that are under way, at
// most Options.Timeout. Afterwards every method fails with an error that wraps
// [roam.ErrUnavailable]. To close again does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.stop()
		s.probers.Wait()
		err := unwritten(errClosed)
		s.reason.Store(&err)
		deadline := time.Now().Add(s.opts.Timeout)
		for !(s.lookups.idle() && s.changes.idle()) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond) // those who wait have no connection yet
		}
		if p := s.primary.Swap(nil); p != nil {
			p.pool.drain(err, deadline)
		}
		for _, h := range s.replicas {
			if h.pool != nil {
				h.pool.drain(err, deadline)
			}
		}
	})
	return nil
}

// Restored raises the store's epoch, so that everyone who remembers a later
// state than the backup that was put back knows that it is gone, and returns
// the new epoch. Call it once after each time that a backup was put back.
func (s *Store) Restored(ctx context.Context) (epoch uint64, err error) {
	p, err := s.call(ctx, kindWrite, restored, func(a *args) {
		a.int(int64(newEpoch(0)))
	}, func(_ *primary, v [][]byte) error {
		epoch = uint64(number(v[0]))
		return nil
	})
	if err != nil {
		return 0, s.explain("restored", err)
	}
	if epoch == 0 {
		return 0, s.explain("restored", unwritten(errors.New("the table about the store is empty")))
	}
	// From here on this Store's own answers are of that epoch, too.
	for p == s.primary.Load() {
		p.host.look()
		select {
		case <-s.news:
		case <-time.After(probeEvery):
		case <-ctx.Done():
			return epoch, nil
		}
	}
	return epoch, nil
}
