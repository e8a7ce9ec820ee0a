package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrOpen says that a sealed value cannot be opened. There is no other error, so
// that nobody can be told which of the reasons it was: it is damaged or forged,
// was sealed under another name or for another purpose, its key is not known or
// was dropped, or it is too old.
var ErrOpen = errors.New("sealed: cannot be opened")

// Overhead is by how many bytes a sealed value is longer than what is in it.
const Overhead = headerLen + nonceLen + tagLen

const (
	version   = 1
	headerLen = 1 + 4 + 4
	nonceLen  = 12
	tagLen    = 16

	label    = "roam/sealed\x00"
	slots    = 1024    // subkeys of one key that a Sealer remembers: six weeks of hours
	maxSeals = 1 << 32 // with one subkey: NIST SP 800-38D, section 8.3
)

// A Sealer seals and opens the values of one use. It is safe for concurrent use.
//
// Slices that are passed to one call must not overlap, and all of the capacity
// of dst may be overwritten. A call makes no garbage if dst has room for its
// result and then for the associated data: the caller's, name, audience and
// purpose, and 16 bytes.
type Sealer struct {
	keyring *Keyring
	context []byte // name, audience and purpose

	view  atomic.Pointer[view]
	mu    sync.Mutex // held while the view is replaced
	seals atomic.Pointer[subkey]
}

// A view is a ring and what this Sealer derived from its keys.
type view struct {
	ring   *ring
	tables map[ID]*table
	likely *table // of the key that sealed when the view was made, or nil
}

// A table holds a key's subkeys by epoch. Only a subkey with which something was
// sealed or opened is kept, so that whoever makes values up can neither fill it
// nor drive anything out; of two that want one slot, the newer stays.
type table struct {
	key     *key
	subkeys atomic.Pointer[[slots]atomic.Pointer[subkey]]
}

// A subkey is a key of one epoch and of one use.
type subkey struct {
	epoch  uint32
	aead   cipher.AEAD
	aad    []byte // the header and the Sealer's context
	sealed atomic.Uint64
}

// Sealer returns a Sealer whose values no other opens. name is where the value
// is put, such as a cookie's name, audience whose it is, such as a site in one
// environment ("shop.example staging"), and purpose what it says. Two programs
// that share keys and not their users need two audiences. Make a Sealer once and
// keep it: it remembers what it derives from the keys.
func (k *Keyring) Sealer(name, audience, purpose string) *Sealer {
	s := &Sealer{keyring: k}
	for _, part := range []string{name, audience, purpose} {
		s.context = binary.AppendUvarint(s.context, uint64(len(part)))
		s.context = append(s.context, part...)
	}
	s.renew()
	return s
}

// Seal appends plaintext, encrypted and bound to aad, to dst. Two values of one
// plaintext have nothing in common.
//
// It returns nil if there is no key to seal with, because every one was dropped
// without a new one, or if this server alone made 2^32 values in this hour.
func (s *Sealer) Seal(dst, plaintext, aad []byte) []byte {
	now := time.Now()
	v := s.view.Load()
	if v.ring != s.keyring.ring.Load() {
		v = s.renew()
	}
	k := v.ring.seals(now)
	if k == nil {
		return nil
	}
	t, at := v.tables[k.ID], epoch(now)
	sub := t.find(at)
	if sub == nil {
		sub = t.keep(s.derive(k, at))
	}
	if sub.sealed.Add(1) > maxSeals {
		sub.sealed.Add(^uint64(0))
		return nil
	}
	s.seals.Store(sub)
	dst = slices.Grow(dst, Overhead+len(plaintext))
	bound := sub.bind(dst, Overhead+len(plaintext), aad)
	dst = append(dst, sub.aad[:headerLen]...)
	return sub.aead.Seal(dst, nil, plaintext, bound)
}

// Seals returns how many values were sealed with the subkey that was last used
// to seal, which is one of the last hour with a use. The limit is 2^32 for all
// servers together.
func (s *Sealer) Seals() uint64 {
	if sub := s.seals.Load(); sub != nil {
		return sub.sealed.Load()
	}
	return 0
}

// Open appends to dst what is in a sealed value, if it was sealed by a Sealer
// like this one and with the same aad. Otherwise it returns nil and ErrOpen.
func (s *Sealer) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, ErrOpen
	}
	v := s.view.Load()
	if v.ring != s.keyring.ring.Load() {
		v = s.renew()
	}
	t, id := v.likely, ID(binary.BigEndian.Uint32(sealed[1:]))
	if t == nil || t.key.ID != id {
		if t = v.tables[id]; t == nil {
			return nil, ErrOpen
		}
	}
	// Reading the clock takes half as long as opening, so Run does it instead
	// if there is one. Whether an epoch is in the future needs to be looked
	// at only once.
	at, oldest := binary.BigEndian.Uint32(sealed[5:]), v.ring.oldest
	if !v.ring.ticking {
		oldest = s.keyring.oldest(time.Now())
	}
	if at < oldest {
		return nil, ErrOpen
	}
	sub, known := t.find(at), true
	if sub == nil {
		if at > epoch(time.Now().Add(s.keyring.opts.Skew)) {
			return nil, ErrOpen
		}
		sub, known = s.derive(t.key, at), false
	}
	out, err := sub.aead.Open(dst, nil, sealed[headerLen:], sub.bind(dst, len(sealed)-Overhead, aad))
	if err != nil {
		return nil, ErrOpen
	}
	if !known {
		t.keep(sub)
	}
	return out, nil
}

// renew makes a view, with the subkeys of the keys that are still there.
func (s *Sealer) renew() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, r := s.view.Load(), s.keyring.ring.Load()
	if was != nil && was.ring == r {
		return was
	}
	v := &view{ring: r, tables: make(map[ID]*table, len(r.keys))}
	for id, k := range r.keys {
		t := &table{key: k}
		if was != nil && was.tables[id] != nil && was.tables[id].key.check == k.check {
			t = was.tables[id]
		}
		v.tables[id] = t
	}
	if k := r.seals(time.Now()); k != nil {
		v.likely = v.tables[k.ID]
	}
	s.view.Store(v)
	return v
}

// find returns the subkey of an epoch if it is remembered, or nil.
func (t *table) find(at uint32) *subkey {
	if all := t.subkeys.Load(); all != nil {
		if sub := all[at%slots].Load(); sub != nil && sub.epoch == at {
			return sub
		}
	}
	return nil
}

// keep remembers a subkey, and returns the one that is remembered for its epoch
// if another was faster.
func (t *table) keep(sub *subkey) *subkey {
	all := t.subkeys.Load()
	if all == nil {
		t.subkeys.CompareAndSwap(nil, new([slots]atomic.Pointer[subkey]))
		all = t.subkeys.Load()
	}
	slot := &all[sub.epoch%slots]
	for {
		was := slot.Load()
		switch {
		case was != nil && was.epoch == sub.epoch:
			return was
		case was != nil && was.epoch > sub.epoch:
			return sub
		case slot.CompareAndSwap(was, sub):
			return sub
		}
	}
}

// derive makes the subkey of an epoch.
func (s *Sealer) derive(k *key, at uint32) *subkey {
	sub := &subkey{epoch: at, aad: make([]byte, 0, headerLen+len(s.context))}
	sub.aad = append(sub.aad, version)
	sub.aad = binary.BigEndian.AppendUint32(sub.aad, uint32(k.ID))
	sub.aad = binary.BigEndian.AppendUint32(sub.aad, at)
	sub.aad = append(sub.aad, s.context...)
	raw, err := hkdf.Key(sha256.New, k.root[:], nil, label+string(sub.aad), secretLen)
	if err == nil {
		var block cipher.Block
		if block, err = aes.NewCipher(raw); err == nil {
			sub.aead, err = cipher.NewGCMWithRandomNonce(block)
		}
	}
	if err != nil {
		panic(err) // all lengths are right
	}
	clear(raw)
	return sub
}

// bind returns the associated data: the subkey's and then the caller's. It lies
// in dst behind the n bytes of a result, if there is room, because on the stack
// it could not be: what goes through the interface of the cipher escapes.
func (sub *subkey) bind(dst []byte, n int, aad []byte) []byte {
	if len(aad) == 0 {
		return sub.aad
	}
	var room []byte
	if end := len(dst) + n; end <= cap(dst) {
		room = dst[end:end]
	}
	return append(append(room, sub.aad...), aad...)
}
