package sealed

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The format of a key file is JSON, so that whoever keeps secrets elsewhere can
// make one, and its times can be read:
//
//	{
//	  "format": "roam-keys/1",
//	  "keys": [
//	    {
//	      "id": "7f3a9c02",
//	      "created": "2026-11-21T10:00:00Z",
//	      "seal_after": "2026-11-21T10:01:00Z",
//	      "secret": "32 bytes in base64"
//	    },
//	    {
//	      "id": "11aa22bb",
//	      "created": "2026-10-21T10:00:00Z",
//	      "dropped": "2026-11-21T10:00:00Z",
//	      "check": "0f1e2d3c4b5a6978"
//	    }
//	  ]
//	}
type document struct {
	Format string  `json:"format"`
	Keys   []entry `json:"keys"`
}

// An entry has strings only, so that the errors of package json, which repeat
// what they cannot read, never see a value that may be a misplaced secret.
type entry struct {
	ID        string `json:"id"`
	Created   string `json:"created,omitempty"`
	SealAfter string `json:"seal_after,omitempty"`
	Secret    string `json:"secret,omitempty"`
	Dropped   string `json:"dropped,omitempty"`
	Check     string `json:"check,omitempty"`
}

const (
	format  = "roam-keys/1"
	maxFile = 1 << 20
	maxKeys = 1024
)

// ParseKeys reads the text of a key file, from wherever it is kept. It judges
// the form; whether the keys may be used together is judged by [New].
func ParseKeys(text []byte) ([]Key, error) {
	keys, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	return keys, nil
}

func parse(text []byte) ([]Key, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("a list of keys of more than %d bytes", maxFile)
	}
	var doc document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // a misspelt "dropped" must not go unnoticed
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("no list of keys: what follows byte %d is not the JSON of the format %s; make one with \"roam key new\"", dec.InputOffset(), format)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the list of keys, at byte %d", dec.InputOffset())
	}
	if doc.Format != format {
		return nil, fmt.Errorf("a list of keys whose format is not %s: it is of another version of roam, or none", format)
	}
	keys := make([]Key, len(doc.Keys))
	for i, e := range doc.Keys {
		k, err := e.key()
		if err != nil {
			return nil, fmt.Errorf("key %d of the list: %w", i+1, err)
		}
		keys[i] = k
	}
	return keys, nil
}

func (e *entry) key() (k Key, err error) {
	if k.ID, err = parseID(e.ID); err != nil {
		return Key{}, err
	}
	for _, t := range []struct {
		name, text string
		time       *time.Time
	}{{"created", e.Created, &k.Created}, {"seal_after", e.SealAfter, &k.SealAfter}, {"dropped", e.Dropped, &k.Dropped}} {
		if t.text == "" {
			continue
		}
		if *t.time, err = time.Parse(time.RFC3339, t.text); err != nil {
			return Key{}, fmt.Errorf("key %s: %q is no time such as 2026-11-21T10:00:00Z", k.ID, t.name)
		}
	}
	if !k.Dropped.IsZero() {
		b, err := hex.DecodeString(e.Check)
		switch {
		case e.Secret != "":
			return Key{}, fmt.Errorf("key %s is dropped and has a secret: remove the secret", k.ID)
		case e.Check != "" && (err != nil || len(b) != len(k.check)):
			return Key{}, fmt.Errorf("key %s: its \"check\" is not 16 hex digits", k.ID)
		}
		copy(k.check[:], b)
		return k, nil
	}
	if e.Check != "" {
		return Key{}, fmt.Errorf("key %s has a \"check\" but is not dropped", k.ID)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(e.Secret)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: its secret is not base64, as of \"openssl rand -base64 32\"", k.ID)
	}
	if err := weak(secret); err != nil {
		return Key{}, fmt.Errorf("key %s: %w", k.ID, err)
	}
	made := newKey(k.ID, [secretLen]byte(secret), k.SealAfter)
	made.Created = k.Created
	return made, nil
}

// text is what ParseKeys reads.
func text(keys []Key) ([]byte, error) {
	doc := document{Format: format, Keys: make([]entry, len(keys))}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	for i, k := range keys {
		e := entry{ID: k.ID.String(), Created: stamp(k.Created), SealAfter: stamp(k.SealAfter), Dropped: stamp(k.Dropped)}
		switch {
		case k.secret != nil:
			e.Secret = base64.StdEncoding.EncodeToString(k.secret()[:])
		case k.check != check{}:
			e.Check = k.check.String()
		}
		doc.Keys[i] = e
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	return append(b, '\n'), err
}

// Create makes a key file with one new key, which seals at once. It never
// replaces a file.
func Create(path string) ([]Info, error) {
	return edit(path, true, func(_ []Key, now time.Time) ([]Key, error) {
		return []Key{add(now, 0)}, nil
	})
}

// Rotate adds a new key to a key file, which servers begin to seal with when
// [Options.Propagation] has passed, and removes the keys that retired or were
// dropped longer ago than the longest lifetime. opts are those of the servers
// that read the file; nil is ready to use and keeps keys the longest.
func Rotate(path string, opts *Options) ([]Info, error) {
	o, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	return edit(path, false, func(keys []Key, now time.Time) ([]Key, error) {
		over := now.Add(-o.keep())
		live := living(keys)
		keys = slices.DeleteFunc(keys, func(k Key) bool {
			if !k.Dropped.IsZero() {
				return k.Dropped.Before(over)
			}
			i := slices.IndexFunc(live, func(l Key) bool { return l.ID == k.ID })
			return i+1 < len(live) && live[i+1].SealAfter.Before(over)
		})
		return append(keys, add(now, o.Propagation)), nil
	})
}

// Drop makes everything that was sealed with a key worthless, on each server as
// soon as it has read the file. To drop a key again changes nothing.
//
// If it was the current key, Drop adds a new one as Rotate does. Until that one
// seals, servers seal with the newest one that is retired; if there is none, the
// new one seals at once, and for as long as a server has not read it, it cannot
// open what others seal.
func Drop(path string, id ID, opts *Options) ([]Info, error) {
	o, err := opts.resolved()
	if err != nil {
		return nil, err
	}
	return edit(path, false, func(keys []Key, now time.Time) ([]Key, error) {
		i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("sealed: %s has no key %s: \"roam key list\" shows those it has", path, id)
		}
		if !keys[i].Dropped.IsZero() {
			return keys, nil
		}
		was := current(living(keys), now)
		keys[i] = Key{ID: id, Created: keys[i].Created, Dropped: now, check: keys[i].check}
		live := living(keys)
		switch newest := len(live) - 1; {
		case newest < 0:
			keys = append(keys, add(now, 0))
		case was.ID == id && !live[newest].SealAfter.After(now):
			keys = append(keys, add(now, o.Propagation))
		}
		return keys, nil
	})
}

// List returns the keys of a key file, newest first, with the state that they
// have by this machine's clock.
func List(path string) ([]Info, error) {
	keys, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return infos(keys, current(living(keys), time.Now()).ID), nil
}

// add makes a key for a file, whose times have whole seconds.
func add(now time.Time, wait time.Duration) Key {
	k := NewKey(now.Add(wait + time.Second - 1).Truncate(time.Second))
	k.Created = now
	return k
}

// edit changes a key file. The new text is written to a file beside it, which
// takes its place when it is safely on disk, so that a reader sees the old keys
// or the new ones and a crash loses neither. That second file is also the lock:
// of two editors one fails, and nothing that the other wrote is lost.
func edit(path string, create bool, change func(keys []Key, now time.Time) ([]Key, error)) (_ []Info, err error) {
	if !create {
		if path, err = filepath.EvalSymlinks(path); err != nil { // replace the file and not the link
			return nil, fmt.Errorf("sealed: cannot read the key file: %w; \"roam key new\" makes one", err)
		}
	}
	lock := path + ".lock"
	f, err := os.OpenFile(lock, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("sealed: %s exists: somebody else is changing the keys, so try again; if nobody is, a change was cut short: remove that file", lock)
	} else if err != nil {
		return nil, fmt.Errorf("sealed: cannot change the keys: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(lock)
		}
	}()

	var keys []Key
	var info os.FileInfo
	if create {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("sealed: %s exists: \"roam key rotate\" adds a key to it, and no command replaces it", path)
		}
	} else if keys, info, err = readFile(path); err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	if keys, err = change(keys, now); err != nil {
		return nil, err
	}
	if err = judge(keys); err != nil {
		return nil, err
	}
	data, err := text(keys)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err != nil {
		return nil, fmt.Errorf("sealed: cannot write the keys: %w", err)
	}
	if info != nil {
		if err = keepOwner(f, info); err != nil {
			return nil, fmt.Errorf("sealed: cannot give the new key file to the owner of the old one, and servers could not read it: %w", err)
		}
	}
	if err = f.Sync(); err != nil {
		return nil, fmt.Errorf("sealed: cannot write the keys: %w", err)
	}
	if err = f.Close(); err != nil {
		return nil, fmt.Errorf("sealed: cannot write the keys: %w", err)
	}
	if err = os.Rename(lock, path); err != nil {
		return nil, fmt.Errorf("sealed: cannot change the keys: %w", err)
	}
	if dir, openErr := os.Open(filepath.Dir(path)); openErr == nil {
		dir.Sync() // where a directory cannot be synced, the rename is as durable as it gets
		dir.Close()
	}
	return infos(keys, current(living(keys), now).ID), nil
}
