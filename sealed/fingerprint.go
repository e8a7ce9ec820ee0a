package sealed

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint names a key in public and tells it from every other: its ID and
// Check, such as 7f3a9c02:0f1e2d3c4b5a6978. See [Keyring.Knows].
func (i Info) Fingerprint() string { return i.ID.String() + ":" + i.Check }

// Fingerprint is that of the key which this server seals with at present, or ""
// if there is none.
func (k *Keyring) Fingerprint() string {
	for _, i := range k.Keys() {
		if i.State == Current {
			return i.Fingerprint()
		}
	}
	return ""
}

// Knows returns an error unless this server has the key with this fingerprint,
// and so opens what is sealed with it. Two servers with different keys take each
// other's visitors for strangers, and neither can find that out by itself. So
// tell each server of a key that it should have, and let none be ready without:
//
//	graceful.New(srv, &graceful.Options{Check: func(context.Context) error {
//		return keys.Knows(os.Getenv("SHOP_KEY")) // as of "roam key list"
//	}})
//
// One that was dropped here counts as known: a drop must not take a site down.
// One that has retired is known until Rotate removes it, after the Lifetime.
func (k *Keyring) Knows(fingerprint string) error {
	name, check, _ := strings.Cut(fingerprint, ":")
	id, err := parseID(name)
	if b, bad := hex.DecodeString(check); err != nil || bad != nil || len(b) != len(Key{}.check) {
		// The error does not repeat it: it may be a secret, given by mistake.
		return fmt.Errorf("sealed: a fingerprint of %d characters: want the id and the check of a key, such as 7f3a9c02:0f1e2d3c4b5a6978; \"roam key list\" shows both", len(fingerprint))
	}
	r := k.ring.Load()
	if _, gone := r.dropped[id]; gone {
		return nil
	}
	switch e := r.keys[id]; {
	case e == nil:
		return fmt.Errorf("sealed: other servers have key %s, and this one does not (it has %s): give all of them the same keys", id, k)
	case e.check.String() != check:
		return fmt.Errorf("sealed: key %s has another secret here than on other servers (check %s, and there %s): give all of them the same keys", id, e.check, check)
	}
	return nil
}
