package sealed

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A farm is servers that get the same key file, each a while after it was
// changed, and whose clocks differ.
type farm struct {
	t       *testing.T
	path    string
	opts    *Options
	mu      sync.Mutex
	sent    []sent
	servers []*server
	wg      sync.WaitGroup
}

// What was sent is a text of the key file.
type sent struct {
	text []byte
	at   time.Time
}

type server struct {
	late  time.Duration // how long a file takes to get here
	ahead time.Duration // of the others' clocks, as far as times of keys go
	keys  *Keyring
	seals *Sealer
	stop  context.CancelFunc
}

func newFarm(t *testing.T, opts *Options, servers ...server) *farm {
	f := &farm{t: t, opts: opts}
	f.path, _ = keyFile(t)
	f.send()
	time.Sleep(2 * time.Hour) // the first key is old enough for every clock
	for _, s := range servers {
		f.servers = append(f.servers, &s)
		f.start(&s)
		time.Sleep(7 * time.Second)
	}
	return f
}

// send hands the key file as it is out to all servers.
func (f *farm) send() {
	text, err := os.ReadFile(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, sent{text, time.Now()})
}

// provider is what a server finds in its place.
func (f *farm) provider(s *server) Provider {
	return ProviderFunc(func(context.Context) ([]Key, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, x := range slices.Backward(f.sent) {
			if i > 0 && time.Since(x.at) < s.late {
				continue
			}
			keys, err := ParseKeys(x.text)
			for i := range keys {
				if keys[i].Dropped.IsZero() {
					keys[i].SealAfter = keys[i].SealAfter.Add(-s.ahead)
				}
			}
			return keys, err
		}
		return nil, os.ErrNotExist
	})
}

// start starts a server, or starts it again.
func (f *farm) start(s *server) {
	if s.stop != nil {
		s.stop()
	}
	s.keys = open(f.t, f.provider(s), f.opts)
	s.seals = s.keys.Sealer("name", "audience", "purpose")
	ctx, cancel := context.WithCancel(f.t.Context())
	s.stop = cancel
	keys := s.keys
	f.wg.Go(func() { keys.Run(ctx) })
}

func (f *farm) end() {
	for _, s := range f.servers {
		s.stop()
	}
	f.wg.Wait()
}

func keyOf(value []byte) ID { return ID(binary.BigEndian.Uint32(value[1:])) }

func (f *farm) rotate() (next ID) {
	list, err := Rotate(f.path, f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.send()
	return list[0].ID
}

func (f *farm) drop(id ID) {
	if _, err := Drop(f.path, id, f.opts); err != nil {
		f.t.Fatal(err)
	}
	f.send()
}

// staggered are four servers that get a new file after 0 to 25 seconds, of which
// one has a clock that is ten minutes ahead, and one ten minutes behind.
var staggered = []server{{late: 0}, {late: 9 * time.Second}, {late: 17 * time.Second, ahead: 10 * time.Minute}, {late: 25 * time.Second, ahead: -10 * time.Minute}}

// Under load, through rotations, restarts right behind them and a drop, no
// server ever gets a value from another that it cannot open, unless its key was
// dropped.
func TestR026RotationIsNoticedByNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFarm(t, nil, staggered...)
		defer f.end()
		first := keyOf(f.servers[0].seals.Seal(nil, nil, nil))
		var values [][]byte // some of all that were ever sealed
		dropped := make(map[ID]bool)
		with := make(map[ID]time.Time) // since when a key seals
		load := func(d time.Duration) {
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(time.Second) {
				var now [][]byte
				for _, s := range f.servers {
					now = append(now, s.seals.Seal(nil, []byte("who"), nil))
				}
				for _, value := range append(now, values...) {
					for i, s := range f.servers {
						if got, err := s.seals.Open(nil, value, nil); (err != nil || string(got) != "who") && !dropped[keyOf(value)] {
							t.Fatalf("at %v server %d got %q, %v of a value under key %s; it has %s", time.Now(), i, got, err, keyOf(value), s.keys)
						}
					}
				}
				for _, value := range now {
					if _, known := with[keyOf(value)]; !known {
						with[keyOf(value)] = time.Now()
					}
				}
				if time.Now().Second()%20 == 0 {
					values = append(values, now...)
					values = values[max(0, len(values)-16):]
				}
			}
		}
		all := func(want ID) {
			t.Helper()
			for i, s := range f.servers {
				if got := keyOf(s.seals.Seal(nil, nil, nil)); got != want {
					t.Errorf("server %d seals with %s, want %s", i, got, want)
				}
			}
		}

		load(time.Minute)
		all(first)
		start := time.Now()
		second := f.rotate()
		load(18 * time.Second)
		f.start(f.servers[2]) // it has the new file, and its clock says that the time has come
		load(20 * time.Second)
		f.start(f.servers[0])
		load(13 * time.Minute) // until the slow clock agrees too
		all(second)
		if got := with[second].Sub(start); got < time.Minute {
			t.Errorf("a server sealed with the new key after %v, want at least a minute", got)
		}

		third := f.rotate()
		load(10 * time.Second)
		fourth := f.rotate() // before the third is in use
		load(13 * time.Minute)
		all(fourth)

		// The current key is dropped. Until there is another, the one before
		// it seals.
		dropped[fourth] = true
		f.drop(fourth)
		load(13 * time.Minute)
		last := f.servers[0].keys.Keys()[0]
		all(last.ID)
		if last.State != Current || slices.Contains([]ID{first, second, third, fourth}, last.ID) {
			t.Errorf("after the current key was dropped %s seals, in state %s; want a new one", last.ID, last.State)
		}
	})
}

func TestR027ADroppedKeyIsDeadEverywhereInAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFarm(t, nil, staggered...)
		defer f.end()
		before := f.sent[len(f.sent)-1]
		value := f.servers[0].seals.Seal(nil, []byte("who"), nil)
		f.drop(keyOf(value))
		time.Sleep(time.Minute)
		dead := func(when string) {
			t.Helper()
			for i, s := range f.servers {
				if _, err := s.seals.Open(nil, value, nil); err != ErrOpen {
					t.Errorf("%s server %d opens it: %v", when, i, err)
				}
				if got := keyOf(s.seals.Seal(nil, nil, nil)); got == keyOf(value) {
					t.Errorf("%s server %d seals with it", when, i)
				}
			}
		}
		dead("a minute after the drop")

		// An old copy of the file does not bring it back, and neither does
		// the secret under another name.
		now := f.sent[len(f.sent)-1]
		f.mu.Lock()
		f.sent = append(f.sent, sent{before.text, time.Now()})
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		dead("with an old copy")
		f.mu.Lock()
		renamed := strings.ReplaceAll(string(before.text), keyOf(value).String(), "0a0b0c0d")
		f.sent = append(f.sent, sent{[]byte(renamed), time.Now()})
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		binary.BigEndian.PutUint32(value[1:], 0x0a0b0c0d)
		dead("under another id")
		for i, s := range f.servers {
			if got := s.keys.Keys(); got[len(got)-1].State != Dropped || s.seals.Seal(nil, nil, nil) == nil {
				t.Errorf("server %d has %v, and seals %x", i, got, s.seals.Seal(nil, nil, nil))
			}
		}

		// The right file is still right, for those who start too.
		f.mu.Lock()
		f.sent = append(f.sent, sent{now.text, time.Now()})
		f.mu.Unlock()
		time.Sleep(time.Minute)
		f.start(f.servers[1])
		dead("after a restart")
	})
}

// A drop counts even in a list that is no good otherwise: nobody in a hurry is
// told to tidy up first.
func TestR027ADropCountsInABadList(t *testing.T) {
	good, bad := ago(3*time.Hour), ago(2*time.Hour)
	list := []Key{good, bad}
	k := open(t, ProviderFunc(func(context.Context) ([]Key, error) { return list, nil }), nil)
	s := k.Sealer("name", "audience", "purpose")
	value := s.Seal(nil, nil, nil)
	if got := keyOf(value); got != bad.ID {
		t.Fatalf("sealed with %s, want %s", got, bad.ID)
	}
	list = []Key{good, good, {ID: bad.ID, Dropped: time.Now()}}
	if err := k.Reload(t.Context()); err == nil {
		t.Error("a key that is listed twice was accepted")
	}
	if _, err := s.Open(nil, value, nil); err != ErrOpen {
		t.Errorf("the dropped key opens: %v", err)
	}
	if got := keyOf(s.Seal(nil, nil, nil)); got != good.ID {
		t.Errorf("sealed with %s, want %s", got, good.ID)
	}

	// A key is dropped by its id alone, whether it was ever known or not.
	unknown := ago(2 * time.Hour)
	list = []Key{good, {ID: unknown.ID, Dropped: time.Now()}}
	if err := k.Reload(t.Context()); err != nil {
		t.Errorf("an unknown key is dropped: %v", err)
	}
	list = []Key{good, unknown}
	if err := k.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "old copy") {
		t.Errorf("it is listed: %v", err)
	}

	// Without any key nothing is sealed, and nothing is made up.
	list = []Key{{ID: good.ID, Dropped: time.Now()}, {ID: bad.ID, Dropped: time.Now()}}
	if err := k.Reload(t.Context()); err == nil {
		t.Error("a list of nothing but dropped keys was accepted in silence")
	}
	if value := s.Seal(nil, nil, nil); value != nil {
		t.Errorf("sealed %x without a key", value)
	}
	if got, want := k.String(), "no keys"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
	list = []Key{ago(0)}
	if err := k.Reload(t.Context()); err != nil || s.Seal(nil, nil, nil) == nil {
		t.Errorf("a new key: %v, and Seal does not use it", err)
	}
}

// A key may be handed out long before it is to seal.
func TestR026AKeySealsFromItsTimeOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		old, planned := ago(24*time.Hour), ago(-2*time.Hour)
		s := open(t, these(old, planned), nil).Sealer("name", "audience", "purpose")
		for range 10 {
			want := old.ID
			if !time.Now().Before(planned.SealAfter) {
				want = planned.ID
			}
			if got := keyOf(s.Seal(nil, nil, nil)); got != want {
				t.Errorf("%v before its time: sealed with %s, want %s", time.Until(planned.SealAfter), got, want)
			}
			time.Sleep(20 * time.Minute)
		}
		// One that must not seal for longer than the clocks may differ is
		// better than none, but not to begin with.
		if _, err := New(t.Context(), these(ago(-61*time.Minute)), nil); err == nil {
			t.Error("New: a key that seals in 61 minutes is current")
		}
		if _, err := New(t.Context(), these(ago(-59*time.Minute)), nil); err != nil {
			t.Errorf("New: a key that seals in 59 minutes, on a clock that may be an hour slow: %v", err)
		}
	})
}

// A retired key stays for as long as anything that it sealed may be opened, and
// goes with a rotation after that.
func TestR026ARetiredKeyStaysForTheLifetime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opts := &Options{Lifetime: 12 * time.Hour}
		path, first := keyFile(t)
		time.Sleep(2 * time.Hour)
		k := open(t, FromFile(path), opts)
		s := k.Sealer("name", "audience", "purpose")
		type was struct {
			value []byte
			at    time.Time
		}
		var values []was
		gone := time.Time{}
		for range 40 {
			list, err := Rotate(path, opts)
			if err != nil {
				t.Fatal(err)
			}
			if gone.IsZero() && !slices.ContainsFunc(list, func(i Info) bool { return i.ID == first }) {
				gone = time.Now()
			}
			if err := k.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			values = append(values, was{s.Seal(nil, nil, nil), time.Now()})
			for _, v := range values {
				if _, err := s.Open(nil, v.value, nil); err != nil && time.Since(v.at) <= opts.Lifetime {
					t.Errorf("a value of key %s is lost after %v", keyOf(v.value), time.Since(v.at))
				}
			}
			time.Sleep(30 * time.Minute)
		}
		if gone.IsZero() {
			t.Error("the first key was never removed")
		}
		if n := len(k.Keys()); n > 36 {
			t.Errorf("%d keys are kept", n)
		}
	})
}

// What cannot be read changes nothing, and is said.
func TestAServerKeepsItsKeysWhenTheyCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path, id := keyFile(t)
		var log lines
		k := open(t, FromFile(path), &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s := k.Sealer("name", "audience", "purpose")
		value := s.Seal(nil, []byte("who"), nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		saved, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		works := func(when string) {
			t.Helper()
			if got, err := s.Open(nil, value, nil); err != nil || string(got) != "who" {
				t.Errorf("%s: Open: %q, %v", when, got, err)
			}
			if got := keyOf(s.Seal(nil, nil, nil)); got != id {
				t.Errorf("%s: sealed with %s, want %s", when, got, id)
			}
		}
		for name, spoil := range map[string]func() error{
			"removed":  func() error { return os.Remove(path) },
			"empty":    func() error { return os.WriteFile(path, nil, 0o600) },
			"cut":      func() error { return os.WriteFile(path, saved[:len(saved)/2], 0o600) },
			"no keys":  func() error { return os.WriteFile(path, []byte(`{"format":"roam-keys/1","keys":[]}`), 0o600) },
			"readable": func() error { return os.Chmod(path, 0o644) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			works(name)
			if got := log.take(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "cannot be read") {
				t.Errorf("%s: no warning in the log:\n%s", name, got)
			}
			if err := os.WriteFile(path, saved, 0o600); err != nil {
				t.Fatal(err)
			}
			os.Chmod(path, 0o600)
			time.Sleep(time.Minute)
			works(name + ", and back")
			if got := log.take(); !strings.Contains(got, "can be read again") {
				t.Errorf("%s: nothing in the log when it is over:\n%s", name, got)
			}
		}
		cancel()
		wg.Wait()
	})
}

// Servers do not read at the same moment, and each does so in time.
func TestRunReadsTheKeysAtIntervalsOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keys := []Key{ago(0)}
		var mu sync.Mutex
		var reads []time.Time
		k := open(t, ProviderFunc(func(context.Context) ([]Key, error) {
			mu.Lock()
			defer mu.Unlock()
			reads = append(reads, time.Now())
			return keys, nil
		}), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := k.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		pauses := make(map[time.Duration]bool)
		for i := range reads[1:] {
			d := reads[i+1].Sub(reads[i])
			if d < 20*time.Second || d > 30*time.Second {
				t.Errorf("read after %v, want 20s to 30s", d)
			}
			pauses[d] = true
		}
		if len(pauses) < 50 {
			t.Errorf("%d different pauses in an hour, want all different", len(pauses))
		}
	})
}

// A server says which of its keys is which.
func TestKeysAreListedWithTheirStates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path, first := keyFile(t)
		time.Sleep(2 * time.Hour)
		k := open(t, FromFile(path), nil)
		step := func(what string, change func() ([]Info, error), want ...State) []Info {
			t.Helper()
			if change != nil {
				if _, err := change(); err != nil {
					t.Fatal(err)
				}
			}
			if err := k.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			list, err := List(path)
			if err != nil {
				t.Fatal(err)
			}
			for from, infos := range map[string][]Info{"the file": list, "the server": k.Keys()} {
				var got []State
				for _, i := range infos {
					got = append(got, i.State)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %s has %v, want %v", what, from, got, want)
				}
			}
			return list
		}
		rotate := func() ([]Info, error) { return Rotate(path, nil) }
		step("created", nil, Current)
		list := step("rotated", rotate, Next, Current)
		time.Sleep(time.Minute)
		step("a minute later", nil, Current, Retired)
		step("rotated again", rotate, Next, Retired.next(), Retired)
		time.Sleep(time.Minute)
		step("the first dropped", func() ([]Info, error) { return Drop(path, first, nil) }, Current, Retired, Dropped)
		step("and again", func() ([]Info, error) { return Drop(path, first, nil) }, Current, Retired, Dropped)
		step("a retired one dropped", func() ([]Info, error) { return Drop(path, list[0].ID, nil) }, Current, Dropped, Dropped)
		if got, want := len(list), 2; got != want {
			t.Errorf("got %d keys, want %d", got, want)
		}
	})
}

// next is the state before s.
func (s State) next() State { return map[State]State{Current: Next, Retired: Current}[s] }

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func TestOptionsThatContradictEachOtherAreRefused(t *testing.T) {
	for _, c := range []struct {
		opts *Options
		want string // in the error, or "" if they are right
	}{
		{nil, ""},
		{&Options{}, ""},
		{&Options{Reload: time.Minute}, ""}, // and Propagation follows
		{&Options{Lifetime: -1}, "Lifetime"},
		{&Options{Propagation: -1}, "Propagation"},
		{&Options{Reload: time.Millisecond}, "Reload"},
		{&Options{Skew: -time.Hour}, "Skew"},
		{&Options{Reload: time.Minute, Propagation: 90 * time.Second}, "at least twice"},
	} {
		_, err := New(t.Context(), these(ago(0)), c.opts)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.opts, err, c.want)
		}
		if _, err := Rotate(filepath.Join(t.TempDir(), "none"), c.opts); err == nil {
			t.Errorf("%+v: rotated a file that does not exist", c.opts)
		} else if c.want != "" && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: Rotate: got %v, want %q", c.opts, err, c.want)
		}
	}
	if _, err := New(t.Context(), nil, nil); err == nil {
		t.Error("New without a Provider: no error")
	}
	if _, err := New(t.Context(), ProviderFunc(func(context.Context) ([]Key, error) { return nil, fmt.Errorf("no answer") }), nil); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("New with a Provider that fails: %v", err)
	}
}
