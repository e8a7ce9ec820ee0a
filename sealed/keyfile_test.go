package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// entryOf is the text of a key in a key file.
func entryOf(id, secret string) string {
	return fmt.Sprintf(`{"id":%q,"created":"2026-11-21T10:00:00Z","seal_after":"2020-11-21T10:01:00Z","secret":%q}`, id, secret)
}

func listOf(entries ...string) string {
	return `{"format":"roam-keys/1","keys":[` + strings.Join(entries, ",") + `]}`
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// fine is a secret that could be random.
func fine(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(h[:])
}

func TestR028AServerRefusesToStartWithoutAGoodKey(t *testing.T) {
	counted := make([]byte, 32)
	for i := range counted {
		counted[i] = byte(i)
	}
	vector := known(t).Keys[0].Secret
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                 {"", "no list of keys"},
		"no JSON":                 {"changeme", "no list of keys"},
		"a bare secret":           {fine("a"), "no list of keys"},
		"no keys":                 {listOf(), "no key that may be used"},
		"another format":          {`{"format":"roam-keys/2","keys":[]}`, "format"},
		"no format":               {`{"keys":[` + entryOf("00000001", fine("a")) + `]}`, "format"},
		"something behind":        {listOf(entryOf("00000001", fine("a"))) + "x", "something follows"},
		"a field misspelt":        {listOf(`{"id":"00000001","droped":"2026-11-21T10:00:00Z"}`), "not the JSON"},
		"no secret":               {listOf(entryOf("00000001", "")), "0 bytes"},
		"changeme":                {listOf(entryOf("00000001", "changeme")), "bytes"},
		"changeme in base64":      {listOf(entryOf("00000001", b64("changeme"))), "8 bytes"},
		"changeme to fill":        {listOf(entryOf("00000001", b64("changemechangemechangemechangeme"))), "text"},
		"base64 of a placeholder": {listOf(entryOf("00000001", b64(b64("replace-this-secret-key")))), "text"},
		"a passphrase":            {listOf(entryOf("00000001", b64("correct horse battery staple 123"))), "text"},
		"hex taken for bytes":     {listOf(entryOf("00000001", b64("0123456789abcdef0123456789abcdef"))), "text"},
		"31 bytes":                {listOf(entryOf("00000001", b64(strings.Repeat("\x01\xfe", 16)[:31]))), "31 bytes"},
		"33 bytes":                {listOf(entryOf("00000001", b64(strings.Repeat("\x01\xfe", 17)[:33]))), "33 bytes"},
		"zeros":                   {listOf(entryOf("00000001", b64(string(make([]byte, 32))))), "all bytes"},
		"one byte all over":       {listOf(entryOf("00000001", b64(strings.Repeat("\xa7", 32)))), "all bytes"},
		"counted":                 {listOf(entryOf("00000001", b64(string(counted)))), "pattern"},
		"few bytes":               {listOf(entryOf("00000001", b64(strings.Repeat("\x01\xfe\x80\x33", 8)))), "pattern"},
		"one half twice":          {listOf(entryOf("00000001", b64(strings.Repeat(string(append(counted[5:20:20], 0xf0)), 2)))), "pattern"},
		"one of the tests'":       {listOf(entryOf("00000001", b64(string(unhex(t, vector))))), "published"},
		"no base64":               {listOf(entryOf("00000001", fine("a")[:40]+"!!!=")), "base64"},
		"base64 with loose bits":  {listOf(entryOf("00000001", fine("a")[:42]+"9=")), "base64"},
		"two ids of one secret":   {listOf(entryOf("00000001", fine("a")), entryOf("00000002", fine("a"))), "same secret"},
		"one id twice":            {listOf(entryOf("00000001", fine("a")), entryOf("00000001", fine("b"))), "twice"},
		"dropped and alive":       {listOf(entryOf("00000001", fine("a")), `{"id":"00000001","dropped":"2026-11-21T10:00:00Z"}`), "twice"},
		"dropped with a secret":   {listOf(`{"id":"00000001","dropped":"2026-11-21T10:00:00Z","secret":"` + fine("a") + `"}`), "remove the secret"},
		"only dropped":            {listOf(`{"id":"00000001","dropped":"2026-11-21T10:00:00Z"}`), "no key that may be used"},
		"id 0":                    {listOf(entryOf("00000000", fine("a"))), "8 lower-case hex digits"},
		"a secret as id":          {listOf(entryOf(fine("a"), "00000001")), "44 characters"},
		"an upper-case id":        {listOf(entryOf("0000000A", fine("a"))), "8 lower-case hex digits"},
		"no time to seal":         {listOf(`{"id":"00000001","secret":"` + fine("a") + `"}`), "does not say from when"},
		"a secret as time":        {listOf(`{"id":"00000001","seal_after":"` + fine("a") + `"}`), "is no time"},
		"not yet":                 {listOf(strings.Replace(entryOf("00000001", fine("a")), "2020", "2220", 1)), "no current key"},
		"too many": {listOf(func() (all []string) {
			for i := range maxKeys + 1 {
				all = append(all, entryOf(ID(i+1).String(), fine(fmt.Sprint(i))))
			}
			return all
		}()...), "at most"},
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("ROAM_TEST_KEYS", c.text)
		for from, provider := range map[string]Provider{"file": FromFile(path), "environment": FromEnv("ROAM_TEST_KEYS")} {
			k, err := New(t.Context(), provider, nil)
			if err == nil || k != nil {
				t.Errorf("%s, from the %s: New accepts it: %v", name, from, k)
				continue
			}
			want := c.want
			if from == "environment" && c.text == "" {
				want = "is empty"
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s, from the %s: got %q, want something with %q", name, from, err, want)
			}
			for _, secret := range []string{fine("a"), fine("a")[:20], "changemech", "passphrase"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s, from the %s: the error shows the secret: %q", name, from, err)
				}
			}
			if n := strings.Count(err.Error(), "sealed: "); n != 1 {
				t.Errorf("%s, from the %s: %q says %d times who says so", name, from, err, n)
			}
		}
	}
	if _, err := New(t.Context(), FromFile(filepath.Join(t.TempDir(), "none")), nil); err == nil {
		t.Error("New accepts a file that does not exist")
	}
	// What is right is not refused.
	t.Setenv("ROAM_TEST_KEYS", listOf(entryOf("00000001", fine("a")), entryOf("00000002", fine("b")), `{"id":"00000003","dropped":"2026-11-21T10:00:00Z"}`))
	if _, err := New(t.Context(), FromEnv("ROAM_TEST_KEYS"), nil); err != nil {
		t.Errorf("New refuses good keys: %v", err)
	}
	for range 10000 {
		if k := NewKey(time.Now()); weak(k.secret()[:]) != nil {
			t.Fatalf("a random secret is refused: %v", weak(k.secret()[:]))
		}
	}
}

// A secret that a program also uses elsewhere can be found out at its start.
func TestR028ASecretInAnotherRoleIsFound(t *testing.T) {
	key := ago(0)
	k := open(t, these(key), nil)
	if !k.Holds(key.secret()[:]) {
		t.Error("Holds does not know the secret of its key")
	}
	other := ago(0)
	for _, secret := range [][]byte{nil, {}, other.secret()[:], key.secret()[:31]} {
		if k.Holds(secret) {
			t.Errorf("Holds knows %d bytes that are no key", len(secret))
		}
	}
}

// A provider of one's own is judged as a file is.
func TestR028AProvidersKeysAreJudged(t *testing.T) {
	if _, err := KeyFrom(1, []byte("correct horse battery staple 123"), time.Now()); err == nil {
		t.Error("KeyFrom takes a passphrase")
	}
	secret, _ := base64.StdEncoding.DecodeString(fine("a"))
	good, err := KeyFrom(7, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	clear(secret) // it is the caller's
	if _, err := New(t.Context(), these(good), nil); err != nil {
		t.Errorf("New refuses a good key: %v", err)
	}
	nameless, timeless, renamed := good, good, good
	nameless.ID, timeless.SealAfter, renamed.ID = 0, time.Time{}, 8
	for name, keys := range map[string][]Key{
		"none": nil, "a zero Key": {{}}, "no secret": {{ID: 1, SealAfter: time.Now()}}, "no ID": {nameless},
		"no time": {timeless}, "a copy": {good, renamed},
	} {
		if _, err := New(t.Context(), these(keys...), nil); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
	// A key is its secret for good.
	list := []Key{good}
	k := open(t, ProviderFunc(func(context.Context) ([]Key, error) { return list, nil }), nil)
	s := k.Sealer("name", "audience", "purpose")
	value := s.Seal(nil, nil, nil)
	swapped := NewKey(time.Now())
	swapped.ID = good.ID
	list = []Key{swapped}
	if err := k.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "another secret") {
		t.Errorf("another secret under the same id: %v", err)
	}
	if _, err := s.Open(nil, value, nil); err != nil {
		t.Errorf("the key at hand is gone: %v", err)
	}
}

func TestAKeyFileThatOthersCanReachIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	path, id := keyFile(t)
	for _, c := range []struct {
		mode os.FileMode
		ok   bool
	}{{0o600, true}, {0o400, true}, {0o640, false}, {0o604, false}, {0o660, false}, {0o644, false}, {0o620, false}, {0o601, false}} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := New(t.Context(), FromFile(path), nil)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%04o", c.mode)) {
			t.Errorf("mode %04o: got %v, want accepted = %v", c.mode, err, c.ok)
		}
		if _, err := Rotate(path, nil); (err == nil) != c.ok {
			t.Errorf("mode %04o: Rotate: got %v, want accepted = %v", c.mode, err, c.ok)
		}
		if _, err := Drop(path, id, nil); (err == nil) != c.ok {
			t.Errorf("mode %04o: Drop: got %v, want accepted = %v", c.mode, err, c.ok)
		}
		if info, err := os.Stat(path); c.ok && (err != nil || info.Mode().Perm() != 0o600) {
			t.Errorf("mode %04o: after a change it is %v, %v, want 0600", c.mode, info.Mode(), err)
		}
	}
	dir := t.TempDir()
	if _, err := New(t.Context(), FromFile(dir), nil); err == nil || !strings.Contains(err.Error(), "plain file") {
		t.Errorf("a directory: got %v", err)
	}
}

// Whoever changes a key file loses nothing that another wrote, and a reader
// always sees a whole list.
func TestAKeyFileIsChangedByOneAtATime(t *testing.T) {
	path, _ := keyFile(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := make(map[ID]bool)
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := List(path); err != nil {
				t.Errorf("a reader: %v", err)
				return
			}
		}
	})
	var editors sync.WaitGroup
	for range 4 {
		editors.Go(func() {
			for range 25 {
				list, err := Rotate(path, nil)
				if err != nil {
					if !strings.Contains(err.Error(), "somebody else is changing") {
						t.Errorf("Rotate: %v", err)
					}
					continue
				}
				mu.Lock()
				for _, i := range list {
					made[i.ID] = true
				}
				mu.Unlock()
			}
		})
	}
	editors.Wait()
	close(done)
	wg.Wait()
	list, err := List(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), len(made); got != want || got < 5 {
		t.Errorf("the file has %d keys, and %d were made", got, want)
	}
	if _, err := os.Stat(path + ".lock"); !os.IsNotExist(err) {
		t.Errorf("the lock is left behind: %v", err)
	}
}

// A change that was cut short leaves the keys as they were, and is not stepped
// over: somebody may be at it.
func TestAChangeThatWasCutShortIsSaid(t *testing.T) {
	path, id := keyFile(t)
	if err := os.WriteFile(path+".lock", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() ([]Info, error){
		"Rotate": func() ([]Info, error) { return Rotate(path, nil) },
		"Drop":   func() ([]Info, error) { return Drop(path, id, nil) },
	} {
		if _, err := change(); err == nil || !strings.Contains(err.Error(), path+".lock") {
			t.Errorf("%s: got %v, want the name of the lock", name, err)
		}
	}
	if list, err := List(path); err != nil || len(list) != 1 {
		t.Errorf("List: %v, %v", list, err)
	}
	open(t, FromFile(path), nil)
}

func TestChangesThatCannotBeAreRefusedAndChangeNothing(t *testing.T) {
	path, id := keyFile(t)
	before, _ := os.ReadFile(path)
	none := filepath.Join(t.TempDir(), "none")
	for name, change := range map[string]func() ([]Info, error){
		"Create over it":  func() ([]Info, error) { return Create(path) },
		"Drop of another": func() ([]Info, error) { return Drop(path, id^1, nil) },
		"Rotate of none":  func() ([]Info, error) { return Rotate(none, nil) },
		"Drop of none":    func() ([]Info, error) { return Drop(none, id, nil) },
		"List of none":    func() ([]Info, error) { return List(none) },
		"Create nowhere":  func() ([]Info, error) { return Create(filepath.Join(none, "keys.json")) },
	} {
		if list, err := change(); err == nil || list != nil {
			t.Errorf("%s: got %v, no error", name, list)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Errorf("the file has changed from\n%s\nto\n%s", before, after)
	}
	if _, err := os.Stat(path + ".lock"); !os.IsNotExist(err) {
		t.Errorf("the lock is left behind: %v", err)
	}
	if _, err := os.Stat(none + ".lock"); !os.IsNotExist(err) {
		t.Errorf("a lock is left behind for a file that does not exist: %v", err)
	}
}

// Behind a link is the file that is changed; the link stays.
func TestALinkToAKeyFileStaysALink(t *testing.T) {
	path, _ := keyFile(t)
	link := filepath.Join(t.TempDir(), "keys.json")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	if _, err := Rotate(link, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if list, err := List(path); err != nil || len(list) != 2 {
		t.Errorf("the file has %v, %v, want 2 keys", list, err)
	}
}

// A key file of a server that is not root can be changed by root, and is still
// the server's.
func TestTheOwnerOfAKeyFileStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path, _ := keyFile(t)
	if err := os.Chown(path, 12345, 23456); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(path, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", info.Sys()); !strings.Contains(got, "Uid:12345 Gid:23456") {
		t.Errorf("the owner has changed: %s", got)
	}
}

// What is written is read again as it was, and a drop leaves no secret.
func TestAKeyFileHoldsWhatItWasGiven(t *testing.T) {
	path, first := keyFile(t)
	k := open(t, FromFile(path), nil)
	secret := *k.ring.Load().order[0].secret()
	if _, err := Rotate(path, nil); err != nil {
		t.Fatal(err)
	}
	list, err := Drop(path, first, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range forms(secret[:]) {
		if bytes.Contains(data, []byte(form)) {
			t.Errorf("the secret of a dropped key is still in the file:\n%s", data)
		}
	}
	keys, err := ParseKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := text(keys)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("read and written it is\n%s\n%v, want\n%s", again, err, data)
	}
	if got, want := list[len(list)-1].Check, checkOf(secret[:]).String(); got != want {
		t.Errorf("the check of the dropped key is %s, want %s", got, want)
	}
}

// forms are the ways in which a secret, or a part of it, may be printed.
func forms(secret []byte) []string {
	part := secret[8:16]
	all := []string{string(part), strings.ToUpper(hex.EncodeToString(part))}
	for _, verb := range []string{"%d", "%x", "% x", "%#v", "%o", "%b", "%q", "%U"} {
		all = append(all, strings.Trim(strings.TrimPrefix(fmt.Sprintf(verb, part), "[]byte"), `[]{}"`))
	}
	all = append(all, strings.ReplaceAll(all[2], " ", ","), strings.ReplaceAll(all[2], " ", ", "))
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(secret[shift:])[4:20]
		all = append(all, text, strings.NewReplacer("+", "-", "/", "_").Replace(text))
	}
	return all
}

// A vault is a Provider that holds secrets, and does not care who prints it.
type vault struct {
	name string
	file []byte
}

func (v *vault) Keys(context.Context) ([]Key, error) { return ParseKeys(v.file) }

// Whatever the verb and whoever encodes, a key shows its name and its state.
func TestKeysNeverPrint(t *testing.T) {
	path, id := keyFile(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	k := open(t, &vault{"in memory", file}, nil)
	key := k.ring.Load().order[0].Key
	s := k.Sealer("name", "audience", "purpose")
	value := s.Seal(nil, nil, nil)
	s.Open(nil, value, nil)
	type holder struct {
		key     Key
		keys    []Key
		Public  Key
		keyring *Keyring
		Keyring *Keyring
		sealer  *Sealer
		any     any
		byID    map[ID]Key
	}
	h := holder{key, []Key{key}, key, k, k, s, key, map[ID]Key{id: key}}
	var out strings.Builder
	for _, v := range []any{key, &key, []Key{key}, k, s, h, &h, k.Keys(), FromFile(path)} {
		for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %o %b %c %U %t %e %T %p %w") {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		if text, err := json.Marshal(v); err == nil {
			out.Write(text)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("look", "value", v, slog.Group("in", "it", v))
		}
	}
	secret := *key.secret()
	for _, form := range append(forms(secret[:]), forms([]byte(base64.StdEncoding.EncodeToString(secret[:])))...) {
		if i := strings.Index(out.String(), form); i >= 0 {
			t.Errorf("the secret is printed, as %q, near %q", form, out.String()[max(0, i-80):i])
		}
	}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %t %U") {
		for _, v := range []fmt.Stringer{key, k} {
			if got, want := fmt.Sprintf(verb, v), v.String(); got != want {
				t.Errorf("%s prints %q, want %q", verb, got, want)
			}
		}
	}
	for name, got := range map[string]string{
		"Key": fmt.Sprintf("%#v", key), "Keyring": fmt.Sprintf("%+v", k), "slog": slog.AnyValue(key).Resolve().String(),
	} {
		if !strings.Contains(got, id.String()) {
			t.Errorf("%s prints as %q, want its id %s", name, got, id)
		}
	}
	if got, want := fmt.Sprint(k), id.String()+" current"; got != want {
		t.Errorf("a keyring prints as %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(Key{ID: id, Dropped: time.Now()}), "key "+id.String()+", dropped"; got != want {
		t.Errorf("a dropped key prints as %q, want %q", got, want)
	}
}

func TestAnIDIsReadAsItIsWritten(t *testing.T) {
	for _, id := range []ID{1, 0x7f3a9c02, 1<<32 - 1} {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("ParseID(%q): got %v, %v", id.String(), got, err)
		}
		var got ID
		if text, err := id.MarshalText(); err != nil || got.UnmarshalText(text) != nil || got != id {
			t.Errorf("%s: marshalled and unmarshalled it is %s", id, got)
		}
	}
	for _, bad := range []string{"", "0", "00000000", "7F3A9C02", "7f3a9c0", "7f3a9c022", " 7f3a9c02", "7f3a9c0g", "+7f3a9c0"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q): got %v, want an error", bad, id)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(listOf(entryOf("00000001", fine("a")), `{"id":"00000003","dropped":"2026-11-21T10:00:00Z","check":"0011223344556677"}`)))
	f.Add([]byte(listOf()))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if err != nil {
			return
		}
		out, err := text(keys)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKeys(out)
		if err != nil || len(again) != len(keys) {
			t.Fatalf("written it cannot be read: %v\n%s", err, out)
		}
	})
}
