package shop

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Password is the password of every sample account. The login page shows it.
const Password = "tea"

// accountsFile has a line per account: the name, a colon and the hash of the
// password as a PHC string. The parameters are the least that OWASP's Password
// Storage Cheat Sheet asks of Argon2id: 19 MiB, two passes, one lane.
//
//go:embed accounts.txt
var accountsFile string

// Passwords knows the passwords of the sample accounts by their hashes.
type Passwords struct {
	hashes map[string]string
	names  []string
	slots  chan struct{} // as many checks run at once; each takes 19 MiB
}

// NewPasswords allows as many checks at once as there are processors: more
// would not be faster, and a storm of logins waits instead of eating all
// memory.
func NewPasswords() *Passwords {
	a := &Passwords{hashes: make(map[string]string), slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	for line := range strings.Lines(accountsFile) {
		if name, phc, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			a.hashes[name] = phc
			a.names = append(a.names, name)
		}
	}
	return a
}

// Accounts returns the names of the sample accounts, sorted.
func Accounts() []string { return slices.Sorted(slices.Values(NewPasswords().names)) }

// Check reports whether the password is the user's. A user who does not exist
// costs the same work, so that its time does not tell who has an account.
func (a *Passwords) Check(ctx context.Context, user, password string) (bool, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	phc, known := a.hashes[user]
	if !known {
		phc = a.hashes[a.names[0]]
	}
	same, err := verify(phc, password)
	return same && known, err
}

// verify compares a password with a PHC string such as
// $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func verify(phc, password string) (bool, error) {
	var version, memory, passes uint32
	var lanes uint8
	part := strings.Split(phc, "$")
	if len(part) != 6 || part[1] != "argon2id" {
		return false, fmt.Errorf("shop: password hash of %d parts: want $argon2id$v=…$m=…,t=…,p=…$salt$hash", len(part))
	}
	if _, err := fmt.Sscanf(part[2]+" "+part[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &lanes); err != nil || version != argon2.Version {
		return false, fmt.Errorf("shop: password hash with parameters %s and %s: want v=%d and m, t, p", part[2], part[3], argon2.Version)
	}
	salt, err := base64.RawStdEncoding.Strict().DecodeString(part[4])
	if err != nil {
		return false, fmt.Errorf("shop: salt of a password hash: %w", err)
	}
	want, err := base64.RawStdEncoding.Strict().DecodeString(part[5])
	if err != nil || len(want) < 16 {
		return false, fmt.Errorf("shop: password hash of %d bytes: want 16 or more in unpadded base64", len(want))
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
