package sealed

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a [Keyring]. A nil *Options and the zero value are
// ready to use. All servers that share keys should have the same ones.
type Options struct {
	// Lifetime is how long a value can be opened after it was sealed. The
	// truth is up to an hour more, and Skew. It bounds what a keyring has to
	// remember; a value that should be over at a certain moment must say so
	// itself. 0 means 400 days, as long as a browser keeps a cookie.
	Lifetime time.Duration

	// Propagation is how long it takes at most until every server has read a
	// new key: however the keys are handed out, plus Reload. No server seals
	// with a key earlier. 0 means a minute, or two Reloads if that is longer.
	Propagation time.Duration

	// Reload is how often Run reads the keys, at the longest, and so how long
	// a dropped key may go on to work. Each time is a little shorter by
	// chance, so that servers do not all read at once. 0 means 30 seconds.
	Reload time.Duration

	// Skew is how far the clocks of two servers may be apart. 0 means an hour.
	Skew time.Duration

	// Logger gets a line when keys change, and a warning when they cannot be
	// read. nil means no log. No line has a secret.
	Logger *slog.Logger
}

// resolved returns the options with their defaults filled in.
func (o *Options) resolved() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	for _, d := range []struct {
		name     string
		v        *time.Duration
		def, min time.Duration
	}{
		{"Lifetime", &r.Lifetime, 400 * 24 * time.Hour, time.Second},
		{"Reload", &r.Reload, 30 * time.Second, time.Second},
		{"Propagation", &r.Propagation, max(time.Minute, 2*r.Reload), time.Second},
		{"Skew", &r.Skew, time.Hour, time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < d.min {
			return r, fmt.Errorf("sealed: Options.%s is %v: it must be at least %v; 0 means %v", d.name, *d.v, d.min, d.def)
		}
	}
	if r.Propagation < 2*r.Reload {
		return r, fmt.Errorf("sealed: Options.Propagation is %v and Reload %v: a server could seal with a key before the others have read it; make Propagation at least twice Reload", r.Propagation, r.Reload)
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	return r, nil
}

// keep is for how long a key must stay after the next one took over by its
// SealAfter. A server with a slow clock goes on to seal with it for Skew.
func (o *Options) keep() time.Duration {
	return o.Lifetime + 2*o.Skew + o.Propagation + epochLen
}

const (
	epochLen    = time.Hour
	readTimeout = 10 * time.Second
)

// epoch returns the epoch of a time.
func epoch(t time.Time) uint32 { return uint32(max(0, t.Unix()) / int64(epochLen/time.Second)) }

// A State is what a key is for at present.
type State string

const (
	Next    State = "next"    // opens, and will seal
	Current State = "current" // opens and seals
	Retired State = "retired" // opens what it sealed
	Dropped State = "dropped" // opens nothing
)

// An Info is what may be known of a key. It has no secret.
type Info struct {
	ID        ID
	State     State
	Created   time.Time // zero if not known
	SealAfter time.Time // zero if dropped
	Dropped   time.Time // zero if not dropped

	// Check is derived from the secret and does not give it away. Two servers
	// that show the same ID with different Checks have different keys. It is
	// "" if the key was dropped and the secret is not known.
	Check string
}

// A Keyring holds the keys of a farm. Its [Sealer]s seal and open with them. It is
// safe for concurrent use, and prints without secrets.
type Keyring struct {
	// A function, because one who prints by reflection would follow a
	// Provider, and find its secrets. Nor does anybody follow the ring, which
	// to package reflect is an unsafe.Pointer.
	read func(context.Context) ([]Key, error)
	ring atomic.Pointer[ring]
	opts Options

	mu      sync.Mutex // held while keys are read and the ring is replaced
	running int        // how many Runs there are
}

// A ring is the keys as of one moment. It never changes.
type ring struct {
	keys    map[ID]*key // that open
	order   []*key      // the same, in the order in which they come to seal
	dropped map[ID]Key  // all that were ever seen dropped

	oldest  uint32 // epoch that is opened, as of when the ring was made
	ticking bool   // a Run replaces the ring often enough for oldest to be true
}

// A key is one that opens.
type key struct {
	Key
	root  [secretLen]byte // its secret
	ready time.Time       // by this server's experience all others have it from then on
}

// New returns a keyring, after it has read the keys once. It returns an error if
// there are none, if one is not 32 random bytes or has the bytes of another one,
// or if none may seal by now. Keys are never made up.
//
// It starts nothing; see [Keyring.Run].
func New(ctx context.Context, keys Provider, opts *Options) (*Keyring, error) {
	o, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	if keys == nil {
		return nil, errors.New("sealed: no keys: pass FromFile, FromEnv or a Provider of your own to New")
	}
	k := &Keyring{read: keys.Keys, opts: o}
	if err := k.Reload(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the keys now, as Run does. If they cannot be read, or cannot be
// used together, it returns an error and the keyring keeps the keys it has. But
// a key that is said to be dropped is, whatever is wrong with the others.
func (k *Keyring) Reload(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	keys, err := k.read(ctx)
	was, now := k.ring.Load(), time.Now()
	if was == nil {
		if err == nil {
			err = k.begin(keys, now)
		}
		return err
	}
	next := was
	if err == nil {
		next = k.drop(was, keys)
		if err = next.judge(keys); err == nil {
			next = k.follow(next, keys, now)
		}
	}
	k.publish(next, now) // also without news, as time has passed
	return err
}

// begin makes the first ring.
func (k *Keyring) begin(keys []Key, now time.Time) error {
	if err := judge(keys); err != nil {
		return err
	}
	first := living(keys)[0]
	if wait := first.SealAfter.Sub(now); wait > k.opts.Skew {
		return fmt.Errorf("sealed: there is no current key: the first one, %s, seals from %s on, in %v by this server's clock", first.ID, first.SealAfter.UTC().Format(time.RFC3339), wait.Round(time.Second))
	}
	r := k.drop(&ring{}, keys)
	for _, x := range living(keys) {
		e := &key{Key: x, root: *x.secret()}
		if now.Sub(x.SealAfter) < k.opts.Skew {
			e.ready = now.Add(k.opts.Propagation) // it may be new: the clock cannot tell
		}
		r.order = append(r.order, e)
	}
	k.publish(r, now)
	return nil
}

// drop returns the ring without what is dropped, which counts even in a list
// that is no good otherwise.
func (k *Keyring) drop(was *ring, keys []Key) *ring {
	next := &ring{dropped: maps.Clone(was.dropped)}
	if next.dropped == nil {
		next.dropped = make(map[ID]Key)
	}
	for _, x := range keys {
		if _, known := next.dropped[x.ID]; x.Dropped.IsZero() || known {
			continue
		}
		gone := Key{ID: x.ID, Created: x.Created, Dropped: x.Dropped, check: x.check}
		if e := was.keys[x.ID]; e != nil {
			gone.check = e.check
			k.opts.Logger.Warn("sealed: a key was dropped; what it sealed is not opened any more", "key", x.ID)
		}
		next.dropped[x.ID] = gone
	}
	for _, e := range was.order {
		if _, gone := next.dropped[e.ID]; !gone {
			next.order = append(next.order, e)
		}
	}
	return next
}

// follow returns the ring of these keys, after that of others.
func (k *Keyring) follow(was *ring, keys []Key, now time.Time) *ring {
	next := &ring{dropped: was.dropped}
	for _, x := range living(keys) {
		e := &key{Key: x, root: *x.secret(), ready: now.Add(k.opts.Propagation)}
		if i := slices.IndexFunc(was.order, func(o *key) bool { return o.ID == x.ID }); i >= 0 {
			e.ready = was.order[i].ready
		}
		next.order = append(next.order, e)
	}
	if !slices.EqualFunc(was.order, next.order, func(a, b *key) bool { return a.ID == b.ID }) {
		k.opts.Logger.Info("sealed: the keys have changed", "keys", next.describe(now))
	}
	return next
}

// publish replaces the ring by one that has this one's keys.
func (k *Keyring) publish(from *ring, now time.Time) {
	r := &ring{order: from.order, dropped: from.dropped, keys: make(map[ID]*key, len(from.order))}
	for _, e := range r.order {
		r.keys[e.ID] = e
	}
	r.oldest = k.oldest(now)
	r.ticking = k.running > 0
	k.ring.Store(r)
}

// judge says why keys may not be used together.
func judge(keys []Key) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("sealed: %d keys: at most %d are allowed; Rotate removes those that are not needed any more", len(keys), maxKeys)
	}
	ids := make(map[ID]bool)
	secrets := make(map[check]ID)
	alive := 0
	for _, k := range keys {
		switch {
		case k.ID == 0:
			return errors.New("sealed: a key without an ID")
		case ids[k.ID]:
			return fmt.Errorf("sealed: key %s is listed twice: an ID is for one key", k.ID)
		case !k.Dropped.IsZero():
		case k.secret == nil:
			return fmt.Errorf("sealed: key %s has no secret: make keys with NewKey, KeyFrom or ParseKeys", k.ID)
		case k.SealAfter.IsZero():
			return fmt.Errorf("sealed: key %s does not say from when on it seals (seal_after, Key.SealAfter)", k.ID)
		default:
			if err := weak(k.secret()[:]); err != nil {
				return fmt.Errorf("sealed: key %s: %w", k.ID, err)
			}
			alive++
		}
		ids[k.ID] = true
		if k.check == (check{}) {
			continue
		}
		if other, taken := secrets[k.check]; taken {
			return fmt.Errorf("sealed: keys %s and %s have the same secret: each key needs its own", other, k.ID)
		}
		secrets[k.check] = k.ID
	}
	if alive == 0 {
		return errors.New("sealed: there is no key that may be used; make one with \"roam key new\" or \"roam key rotate\"")
	}
	return nil
}

// judge says why these keys may not follow those that this server has seen.
func (r *ring) judge(keys []Key) error {
	if err := judge(keys); err != nil {
		return err
	}
	for _, x := range living(keys) {
		if _, gone := r.dropped[x.ID]; gone {
			return fmt.Errorf("sealed: key %s was dropped and is listed as if it was not: this is an old copy of the keys", x.ID)
		}
		for _, gone := range r.dropped {
			if gone.check == x.check {
				return fmt.Errorf("sealed: key %s has the secret of key %s, which was dropped", x.ID, gone.ID)
			}
		}
		for _, e := range r.order {
			if e.ID == x.ID && e.check != x.check {
				return fmt.Errorf("sealed: key %s has another secret than before: a new secret needs a new ID", x.ID)
			}
		}
	}
	return nil
}

// oldest returns the oldest epoch that is opened.
func (k *Keyring) oldest(now time.Time) uint32 {
	return epoch(now.Add(-k.opts.Lifetime - k.opts.Skew))
}

// seals returns the key to seal with: the newest one whose time has come, and
// that everybody else has. If there is none, it is the one that comes first. It
// is nil in an empty ring.
func (r *ring) seals(now time.Time) *key {
	for _, e := range slices.Backward(r.order) {
		if !now.Before(e.SealAfter) && !now.Before(e.ready) {
			return e
		}
	}
	if len(r.order) == 0 {
		return nil
	}
	return r.order[0]
}

// Run reads the keys again and again until ctx is done, and then returns nil. If
// they cannot be read it warns and goes on with those it has. Start it once:
//
//	go keys.Run(ctx)
//
// Without it a keyring keeps the keys that it was made with: it does not learn
// of new ones, and not of dropped ones.
func (k *Keyring) Run(ctx context.Context) error {
	k.run(+1)
	defer k.run(-1)
	for bad := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(k.pause()):
		}
		err := k.Reload(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			k.opts.Logger.Warn("sealed: the keys cannot be read; going on with those at hand", "error", err, "keys", k)
		case bad:
			k.opts.Logger.Info("sealed: the keys can be read again", "keys", k)
		}
		bad = err != nil
	}
}

func (k *Keyring) run(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running += n
	k.publish(k.ring.Load(), time.Now())
}

// pause is two thirds of Reload and up to a third more.
func (k *Keyring) pause() time.Duration {
	var b [8]byte
	rand.Read(b[:])
	third := k.opts.Reload / 3
	return k.opts.Reload - time.Duration(binary.BigEndian.Uint64(b[:])%uint64(third))
}

// Keys returns the keys that this server has at present, newest first, and then
// those it has seen dropped.
func (k *Keyring) Keys() []Info {
	r := k.ring.Load()
	all := slices.Collect(maps.Values(r.dropped))
	for _, e := range r.order {
		all = append(all, e.Key)
	}
	var now ID
	if e := r.seals(time.Now()); e != nil {
		now = e.ID
	}
	return infos(all, now)
}

// Holds reports whether the secret is that of a key. A program that keeps other
// secrets, say of another cookie library or for signing links, calls it when it
// starts, and refuses to if one secret has two roles.
func (k *Keyring) Holds(secret []byte) bool {
	for _, e := range k.ring.Load().order {
		if subtle.ConstantTimeCompare(e.root[:], secret) == 1 {
			return true
		}
	}
	return false
}

// String returns the IDs and states of the keys that open.
func (k *Keyring) String() string { return k.ring.Load().describe(time.Now()) }

func (r *ring) describe(now time.Time) string {
	var b strings.Builder
	state := Next
	seals := r.seals(now)
	for i, e := range slices.Backward(r.order) {
		if e == seals {
			state = Current
		}
		fmt.Fprintf(&b, "%s %s", e.ID, state)
		if e == seals {
			state = Retired
		}
		if i > 0 {
			b.WriteString(", ")
		}
	}
	return cmp.Or(b.String(), "no keys")
}

// Format prints the same under every verb.
func (k *Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue implements [slog.LogValuer].
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// living returns the keys that are not dropped, in the order in which they come
// to seal, which is the same on every server.
func living(keys []Key) []Key {
	live := slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return !k.Dropped.IsZero() })
	slices.SortFunc(live, func(a, b Key) int {
		return cmp.Or(a.SealAfter.Compare(b.SealAfter), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return live
}

// current returns the key that seals, by the clock alone.
func current(live []Key, now time.Time) Key {
	for _, k := range slices.Backward(live) {
		if !now.Before(k.SealAfter) {
			return k
		}
	}
	if len(live) == 0 {
		return Key{}
	}
	return live[0]
}

// infos lists keys, newest first and the dropped ones last.
func infos(keys []Key, current ID) []Info {
	var all []Info
	state := Next
	for _, k := range slices.Backward(living(keys)) {
		s := state
		if k.ID == current {
			s, state = Current, Retired
		}
		all = append(all, Info{ID: k.ID, State: s, Created: k.Created, SealAfter: k.SealAfter, Check: k.check.String()})
	}
	var gone []Info
	for _, k := range keys {
		if k.Dropped.IsZero() {
			continue
		}
		i := Info{ID: k.ID, State: Dropped, Created: k.Created, Dropped: k.Dropped}
		if k.check != (check{}) {
			i.Check = k.check.String()
		}
		gone = append(gone, i)
	}
	slices.SortFunc(gone, func(a, b Info) int { return cmp.Or(b.Dropped.Compare(a.Dropped), cmp.Compare(a.ID, b.ID)) })
	return append(all, gone...)
}
