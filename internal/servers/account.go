package servers

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
)

// An account is the user that servers run as.
type account struct {
	UID, GID uint32
	Groups   []uint32
}

// accountFor returns the user that a server has to run as: ourselves, which is
// nil, unless we are root, as PostgreSQL and PgBouncer refuse to be.
func accountFor(name, install string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("as root, the server runs as the user %s, whom there is not (%s): %w", name, install, ErrMissing)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of the user %s: %w", name, err)
	}
	a := &account{}
	for i, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the user %s has the id %q, which is not a number", name, id)
		}
		switch i {
		case 0:
			a.UID = uint32(n)
		case 1:
			a.GID = uint32(n)
		default:
			a.Groups = append(a.Groups, uint32(n))
		}
	}
	return a, nil
}

// tempParent returns where temporary folders of a's go. A temporary folder may
// well lie where only root can go: TMPDIR=/root/tmp, or one of mode 0700.
func tempParent(a *account) (string, error) {
	dirs := []string{os.TempDir(), "/var/tmp", "/tmp"}
	for _, dir := range dirs {
		if a == nil || a.canEnter(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the user with the id %d, whom the servers run as, cannot enter any of %q; set TMPDIR to a folder that everybody can enter", a.UID, dirs)
}

// canEnter tells whether a can pass through dir and everything above it.
func (a *account) canEnter(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() {
			return false
		}
		owner, group := ownerOf(info)
		bit := 0o001
		switch {
		case owner == a.UID:
			bit = 0o100
		case group == a.GID || slices.Contains(a.Groups, group):
			bit = 0o010
		}
		if int(info.Mode())&bit == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}
