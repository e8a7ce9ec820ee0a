package sealed

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// Whether two servers have the same keys can be seen before a visitor does, and
// a rotation, which they see one after the other, is no difference.
func TestR028AServerWithOtherKeysIsFoundOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path, first := keyFile(t)
		time.Sleep(2 * time.Hour)
		here, there := open(t, FromFile(path), nil), open(t, FromFile(path), nil)
		agree := func(when string) {
			t.Helper()
			for _, k := range []*Keyring{here, there} {
				for _, other := range []*Keyring{here, there} {
					if err := k.Knows(other.Fingerprint()); err != nil {
						t.Errorf("%s: %v", when, err)
					}
				}
			}
		}
		agree("one file")
		was := here.Fingerprint()
		if list, err := List(path); err != nil || was != list[0].Fingerprint() || !strings.HasPrefix(was, first.String()+":") {
			t.Errorf("the fingerprint is %q of %v, %v", was, list, err)
		}
		if _, err := Rotate(path, nil); err != nil {
			t.Fatal(err)
		}
		reload := func(k *Keyring) {
			t.Helper()
			if err := k.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		reload(here)
		agree("one has the next key")
		reload(there)
		time.Sleep(2 * time.Minute)
		agree("both seal with it")
		if here.Fingerprint() == was {
			t.Error("the next key has the fingerprint of the one before")
		}
		if err := here.Knows(was); err != nil {
			t.Errorf("the retired one: %v", err)
		}
		if _, err := Drop(path, first, nil); err != nil {
			t.Fatal(err)
		}
		reload(here)
		agree("one has seen a drop")
		if err := here.Knows(was); err != nil {
			t.Errorf("a drop takes servers down that were told of that key: %v", err)
		}
	})

	mine := ago(2 * time.Hour)
	k := open(t, these(mine), nil)
	for name, c := range map[string]struct {
		key  Key
		want string // in the error
	}{
		"another id":                  {ago(2 * time.Hour), "this one does not"},
		"another secret, the same id": {sameID(t, mine), "another secret"},
	} {
		other := open(t, these(c.key), nil)
		// It is a difference that visitors would notice.
		value := other.Sealer("name", "audience", "purpose").Seal(nil, nil, nil)
		if _, err := k.Sealer("name", "audience", "purpose").Open(nil, value, nil); err != ErrOpen {
			t.Errorf("%s: it opens: %v", name, err)
		}
		if err := k.Knows(other.Fingerprint()); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "same keys") {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}

	// What is no fingerprint is none of ours, and may be a secret.
	secret := base64.StdEncoding.EncodeToString(mine.secret()[:])
	for _, bad := range []string{"", secret, mine.ID.String(), mine.ID.String() + ":", mine.ID.String() + ":" + secret, ":0f1e2d3c4b5a6978", "00000000:0f1e2d3c4b5a6978"} {
		if err := k.Knows(bad); err == nil || strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("Knows(%q): %v", bad, err)
		}
	}
	none := open(t, ProviderFunc(func(context.Context) ([]Key, error) { return []Key{mine}, nil }), nil)
	none.read = func(context.Context) ([]Key, error) { return []Key{{ID: mine.ID, Dropped: time.Now()}}, nil }
	none.Reload(t.Context()) // which says that there is no key any more
	if got := none.Fingerprint(); got != "" {
		t.Errorf("without a key the fingerprint is %q", got)
	}
}

// sameID returns a key with other bytes under the ID of another.
func sameID(t *testing.T, k Key) Key {
	t.Helper()
	other := ago(2 * time.Hour)
	other.ID = k.ID
	return other
}
