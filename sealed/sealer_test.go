package sealed

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Every byte but one in front of a value is refused before any key is looked at,
// whatever follows.
func TestR021OnlyTheVersionByteFixesTheAlgorithm(t *testing.T) {
	s := open(t, these(ago(0)), nil).Sealer("name", "audience", "purpose")
	value := s.Seal(nil, []byte("plaintext"), nil)
	for b := range 256 {
		value[0] = byte(b)
		_, err := s.Open(nil, value, nil)
		if want := b != version; (err == ErrOpen) != want {
			t.Errorf("version byte %#02x: got %v, want refused = %v", b, err, want)
		}
	}
	value[0] = version
	if _, err := s.Open(nil, value, nil); err != nil {
		t.Errorf("Open: %v", err)
	}
	// There is nothing to derive a key from in another version.
	if n := testing.AllocsPerRun(10, func() { s.Open(nil, append(value[:0:0], 2), nil) }); n > 1 {
		t.Errorf("another version costs %v allocations", n)
	}
}

func TestR022AValueOpensInItsOwnPlaceOnly(t *testing.T) {
	k := open(t, these(ago(0)), nil)
	type use struct{ name, audience, purpose, aad string }
	uses := []use{
		{"__Host-roam-mark", "shop", "mark", ""},
		{"__Host-roam", "shop", "mark", ""},
		{"__Host-roam-mark", "shop staging", "mark", ""},
		{"__Host-roam-mark", "shop", "csrf", ""},
		{"__Host-roam-mark", "shop", "mark", "session 1"},
		{"__Host-roam-mark", "shop", "mark", "session 2"},
		{"__Host-roam-mar", "kshop", "mark", ""},
		{"__Host-roam-mark", "sho", "pmark", ""},
		{"__Host-roam-mark", "shop", "mar", "k"},
		{"", "__Host-roam-markshop", "mark", ""},
		{"shop", "__Host-roam-mark", "mark", ""},
		{"", "", "", ""},
	}
	for i, a := range uses {
		value := k.Sealer(a.name, a.audience, a.purpose).Seal(nil, []byte("who"), []byte(a.aad))
		for j, b := range uses {
			got, err := k.Sealer(b.name, b.audience, b.purpose).Open(nil, value, []byte(b.aad))
			if (err == nil) != (i == j) || err != nil && (err != ErrOpen || got != nil) {
				t.Errorf("sealed for %q, opened for %q: got %q, %v", a, b, got, err)
			}
		}
	}
}

func TestR023ANonceIsNewEachTimeAndASubkeyLastsAnHour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := open(t, these(ago(0)), nil)
		s := k.Sealer("name", "audience", "purpose")
		seen := make(map[string]bool)
		for range 1000 {
			value := s.Seal(nil, []byte("the same"), nil)
			if seen[string(value[headerLen:])] {
				t.Fatal("two seals are alike")
			}
			seen[string(value[headerLen:])] = true
		}
		first := s.seals.Load()
		if got, want := s.Seals(), uint64(1000); got != want {
			t.Errorf("Seals: got %d, want %d", got, want)
		}
		time.Sleep(time.Hour)
		value := s.Seal(nil, []byte("the same"), nil)
		second := s.seals.Load()
		if first.epoch+1 != second.epoch || first.aead == second.aead {
			t.Errorf("an hour later the epoch is %d after %d, or the cipher is the same", second.epoch, first.epoch)
		}
		if got, want := s.Seals(), uint64(1); got != want {
			t.Errorf("Seals of the new hour: got %d, want %d", got, want)
		}
		// The hour's subkey does not open what another's sealed.
		binary.BigEndian.PutUint32(value[5:], first.epoch)
		if _, err := s.Open(nil, value, nil); err != ErrOpen {
			t.Errorf("relabelled to the hour before: got %v, want ErrOpen", err)
		}

		// The limit holds also if nobody looks at the metric.
		second.sealed.Store(maxSeals - 1)
		if value := s.Seal(nil, nil, nil); value == nil {
			t.Error("the last allowed seal was refused")
		}
		if value := s.Seal(nil, nil, nil); value != nil {
			t.Error("a subkey sealed more than 2^32 times")
		}
		if _, err := s.Open(nil, s.keyring.Sealer("name", "audience", "purpose").Seal(nil, nil, nil), nil); err != nil {
			t.Errorf("opening goes on: %v", err)
		}
	})
}

func TestR024EveryFailureIsTheSameErrorAndNoData(t *testing.T) {
	s := open(t, these(ago(time.Hour), ago(0)), nil).Sealer("name", "audience", "purpose")
	secret := []byte("what nobody may see")
	value := s.Seal(nil, secret, []byte("aad"))
	another := s.Seal(nil, secret, []byte("aad"))
	cases := map[string][]byte{
		"nil": nil, "empty": {}, "a letter": []byte("a"), "itself twice": append(slices.Clone(value), value...),
		"the head of one and the tail of another": append(slices.Clone(value[:len(value)/2]), another[len(value)/2:]...),
	}
	for bit := range len(value) * 8 {
		flipped := slices.Clone(value)
		flipped[bit/8] ^= 1 << (bit % 8)
		cases["bit "+strconv.Itoa(bit)] = flipped
	}
	for n := range value {
		cases["truncated to "+strconv.Itoa(n)] = value[:n]
		cases["from "+strconv.Itoa(n+1)] = value[n+1:]
		cases["extended by "+strconv.Itoa(n+1)] = append(slices.Clone(value), value[:n+1]...)
	}
	for name, bad := range cases {
		dst := make([]byte, 6, 512)
		copy(dst, "before")
		got, err := s.Open(dst, bad, []byte("aad"))
		if err != ErrOpen || got != nil {
			t.Errorf("%s: got %q, %v, want nil and ErrOpen", name, got, err)
		}
		if string(dst) != "before" || bytes.Contains(dst[:cap(dst)], secret[:8]) {
			t.Errorf("%s: the destination has %q", name, dst[:cap(dst)])
		}
	}
	if got, err := s.Open(nil, value, []byte("aad")); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("untouched: got %q, %v", got, err)
	}
}

// A value says which key it wants, and only that one is tried. With 64 keys an
// unknown one is refused without a derivation or a cipher.
func TestR025OneKeyIsTriedAndAnUnknownOneCostsNothing(t *testing.T) {
	var keys []Key
	for i := range 64 {
		keys = append(keys, ago(time.Duration(i+2)*time.Hour))
	}
	k := open(t, these(keys...), nil)
	s := k.Sealer("name", "audience", "purpose")
	value := s.Seal(nil, []byte("who"), nil)
	dst := make([]byte, 0, 256)
	own := ID(binary.BigEndian.Uint32(value[1:]))
	if own != keys[0].ID {
		t.Errorf("sealed with %s, want the newest, %s", own, keys[0].ID)
	}
	for _, other := range keys[1:] {
		binary.BigEndian.PutUint32(value[1:], uint32(other.ID))
		if _, err := s.Open(dst, value, nil); err != ErrOpen {
			t.Errorf("relabelled to key %s: got %v, want ErrOpen", other.ID, err)
		}
	}
	binary.BigEndian.PutUint32(value[1:], uint32(own)^1)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Open(dst, value, nil); err != ErrOpen {
			t.Errorf("unknown key: got %v, want ErrOpen", err)
		}
	}); n != 0 {
		t.Errorf("an unknown key costs %v allocations, as if something was derived", n)
	}
	binary.BigEndian.PutUint32(value[1:], uint32(own))
	for _, absurd := range []uint32{0, epoch(time.Now()) + 3, 1<<32 - 1} {
		binary.BigEndian.PutUint32(value[5:], absurd)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := s.Open(dst, value, nil); err != ErrOpen {
				t.Errorf("epoch %d: got %v, want ErrOpen", absurd, err)
			}
		}); n != 0 {
			t.Errorf("epoch %d costs %v allocations, as if something was derived", absurd, n)
		}
	}
	// Nor do made-up values leave anything behind.
	for _, other := range keys[1:] {
		if s.view.Load().tables[other.ID].subkeys.Load() != nil {
			t.Errorf("a subkey of %s is remembered, with which nothing ever opened", other.ID)
		}
	}
}

// Whoever makes values up cannot drive out the subkeys in use, and those of long
// ago do not drive out the new ones.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := open(t, these(ago(0)), nil)
		s := k.Sealer("name", "audience", "purpose")
		var values [][]byte
		for range 2 * slots {
			values = append(values, s.Seal(nil, []byte("who"), nil))
			time.Sleep(time.Hour)
		}
		table := s.view.Load().tables[k.Keys()[0].ID]
		for round := range 2 {
			slices.Reverse(values) // the newest first, and then last
			for i, value := range values {
				if got, err := s.Open(nil, value, nil); err != nil || string(got) != "who" {
					t.Fatalf("round %d, value %d: got %q, %v", round, i, got, err)
				}
			}
		}
		s.Open(nil, values[0], nil)
		now := epoch(time.Now())
		for i := range slots {
			if at := now - uint32(i) - 1; table.find(at) == nil {
				t.Fatalf("the subkey of %d hours ago is not remembered", i+1)
			}
		}
		forged := slices.Clone(values[len(values)-1])
		for i := range 3 * slots {
			binary.BigEndian.PutUint32(forged[5:], now-uint32(i))
			forged[len(forged)-1] ^= 1
			s.Open(nil, forged, nil)
			forged[len(forged)-1] ^= 1
		}
		for i := range slots {
			if at := now - uint32(i) - 1; table.find(at) == nil {
				t.Fatalf("forged values drove out the subkey of %d hours ago", i+1)
			}
		}
	})
}

// A sealed value has a limit of age of its own, to the hour, whether somebody
// runs Run or not. What is inside has the limits that count.
func TestR029AValueIsTooOldAfterTheLifetime(t *testing.T) {
	for _, running := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			opts := &Options{Lifetime: 48 * time.Hour}
			k := open(t, these(ago(0)), opts)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			if running {
				wg.Go(func() { k.Run(ctx) })
			}
			s := k.Sealer("name", "audience", "purpose")
			value := s.Seal(nil, nil, nil)
			for range 48 {
				time.Sleep(time.Hour)
				if _, err := s.Open(nil, value, nil); err != nil {
					t.Fatalf("within the lifetime: %v", err)
				}
			}
			time.Sleep(2*time.Hour + time.Minute) // the skew, the rest of an hour, and a turn of Run
			if _, err := s.Open(nil, value, nil); err != ErrOpen {
				t.Errorf("beyond the lifetime, running = %v: got %v, want ErrOpen", running, err)
			}
			cancel()
			wg.Wait()
		})
	}
}

func TestTheFutureIsRefusedBeyondTheSkew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := open(t, these(ago(0)), &Options{Skew: 90 * time.Minute})
		s := k.Sealer("name", "audience", "purpose")
		value := s.Seal(nil, nil, nil)
		// A relabelled value does not open, but garbage tells whether it was
		// refused by its epoch or tried with a subkey that had to be derived.
		dst := make([]byte, 0, 256)
		for hours, want := range []bool{true, true, false, false} { // opened, or at least tried
			binary.BigEndian.PutUint32(value[5:], epoch(time.Now())+uint32(hours))
			tried := testing.AllocsPerRun(1, func() { s.Open(dst, value, nil) }) > 0
			if _, err := s.Open(dst, value, nil); err == nil {
				tried = true
			}
			if tried != want {
				t.Errorf("%d hours ahead: tried = %v, want %v", hours, tried, want)
			}
		}
		time.Sleep(30 * time.Minute) // now the skew reaches two hours ahead
		binary.BigEndian.PutUint32(value[5:], epoch(time.Now())+2)
		if n := testing.AllocsPerRun(1, func() { s.Open(dst, value, nil) }); n == 0 {
			t.Error("2 hours ahead, within the skew: refused untried")
		}
	})
}

// What a client can touch is read by this file alone, and it knows no format but
// its own.
func TestR030NoDecoderOfObjectsIsNearASealedValue(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "sealer.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		switch path, _ := strconv.Unquote(i.Path.Value); path {
		case "crypto/aes", "crypto/cipher", "crypto/hkdf", "crypto/sha256", "encoding/binary", "errors", "slices", "sync", "sync/atomic", "time":
		default:
			t.Errorf("sealer.go imports %s", path)
		}
	}
}

func TestR031NothingCanBeReadWithoutTheKey(t *testing.T) {
	s := open(t, these(ago(0)), nil).Sealer("a-name", "an-audience", "a-purpose")
	for _, hidden := range []string{"alice@example.com", "alice", "a-name", "an-audience", "a-purpose", "associated"} {
		value := s.Seal(nil, []byte("alice@example.com"), []byte("associated"))
		if bytes.Contains(value, []byte(hidden)) {
			t.Errorf("the sealed value contains %q", hidden)
		}
	}
}

func TestSealAndOpenMakeNoGarbage(t *testing.T) {
	k := open(t, these(ago(0)), nil)
	s := k.Sealer("__Host-roam-mark", "shop.example", "mark")
	plaintext, aad := make([]byte, markLen), make([]byte, hashLen)
	dst, out := make([]byte, 0, 512), make([]byte, 0, 512)
	value := s.Seal(dst, plaintext, aad)
	if n := testing.AllocsPerRun(100, func() { value = s.Seal(dst, plaintext, aad) }); n != 0 && !fips140.Enabled() { // whose generator of nonces makes some
		t.Errorf("Seal makes %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { s.Open(out, value, aad) }); n != 0 {
		t.Errorf("Open makes %v allocations, want 0", n)
	}
	value[len(value)-1] ^= 1
	if n := testing.AllocsPerRun(100, func() { s.Open(out, value, aad) }); n != 0 {
		t.Errorf("Open of a forged value makes %v allocations, want 0", n)
	}
}

// The room that makes no garbage is what the documentation says.
func TestTheRoomThatIsNeeded(t *testing.T) {
	s := open(t, these(ago(0)), nil).Sealer("__Host-roam-mark", "shop.example", "mark")
	plaintext, aad := []byte("who is it"), []byte("a hash")
	bound := len(aad) + len("__Host-roam-mark") + len("shop.example") + len("mark") + 16
	for missing := range 2 {
		for _, spare := range []int{0, bound} {
			dst := make([]byte, 0, len(plaintext)+Overhead+spare-missing)
			value := s.Seal(dst, plaintext, aad)
			out := make([]byte, 0, len(plaintext)+spare-missing)
			got, err := s.Open(out, value, aad)
			if err != nil || string(got) != string(plaintext) {
				t.Errorf("room for %d more, %d missing: got %q, %v", spare, missing, got, err)
			}
		}
	}
}

// Sealing, opening, rotating and reading the keys again may all happen at once.
func TestASealerIsSafeForConcurrentUse(t *testing.T) {
	path, _ := keyFile(t)
	k := open(t, FromFile(path), nil)
	s := k.Sealer("name", "audience", "purpose")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			buf, out := make([]byte, 0, 256), make([]byte, 0, 256)
			for range 200 {
				plaintext := make([]byte, 16)
				rand.Read(plaintext)
				value := s.Seal(buf, plaintext, plaintext[:4])
				got, err := s.Open(out, value, plaintext[:4])
				if err != nil || !bytes.Equal(got, plaintext) {
					t.Errorf("got %x, %v, want %x", got, err, plaintext)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if _, err := Rotate(path, nil); err != nil {
				t.Error(err)
			}
			if err := k.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			k.Keys()
		}
	})
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	k := open(f, these(ago(time.Hour), ago(0)), nil)
	s := k.Sealer("name", "audience", "purpose")
	value := s.Seal(nil, []byte("plaintext"), []byte("aad"))
	f.Add([]byte{}, []byte{})
	f.Add(value, []byte{})
	f.Add(value[:headerLen], []byte("aad"))
	f.Add(make([]byte, Overhead), []byte("aad"))
	f.Fuzz(func(t *testing.T, sealed, aad []byte) {
		// As it is, and behind a header that names a key and a time that are.
		for _, in := range [][]byte{sealed, append(slices.Clone(value[:headerLen]), sealed...)} {
			got, err := s.Open(nil, in, aad)
			if bytes.Equal(in, value) && string(aad) == "aad" {
				continue
			}
			if !errors.Is(err, ErrOpen) || got != nil {
				t.Fatalf("Open(%x): got %x, %v, want ErrOpen", in, got, err)
			}
		}
	})
}
