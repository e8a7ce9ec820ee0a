package sealed

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
)

// A Provider says where keys come from.
type Provider interface {
	// Keys returns all keys there are, the dropped ones too, in any order.
	// It is called again and again by [Keyring.Run], and must give up when
	// ctx is done. Its errors must not contain secrets: they are logged.
	Keys(ctx context.Context) ([]Key, error)
}

// A ProviderFunc is a function as a Provider.
type ProviderFunc func(ctx context.Context) ([]Key, error)

// Keys calls f.
func (f ProviderFunc) Keys(ctx context.Context) ([]Key, error) { return f(ctx) }

// FromFile provides the keys of a file that was made by [Create]. Only its owner
// may have access to it (mode 0600 or 0400); a file that others can read is
// refused. It is read anew each time.
func FromFile(path string) Provider { return file(path) }

type file string

func (path file) Keys(context.Context) ([]Key, error) {
	keys, _, err := readFile(string(path))
	return keys, err
}

// readFile also returns what is known of the file, such as its owner.
func readFile(path string) ([]Key, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: cannot read the key file: %w; \"roam key new\" makes one", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("sealed: key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("sealed: key file %s is a %v: it must be a plain file", path, info.Mode())
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0: // Windows has no such bits
		return nil, nil, fmt.Errorf("sealed: key file %s has mode %04o: others than its owner can reach it; chmod 600 it, and if others could read it, drop its keys", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: key file: %w", err)
	}
	keys, err := parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("sealed: key file %s: %w", path, err)
	}
	return keys, info, nil
}

// FromEnv provides the keys of an environment variable, which holds the text of
// a key file. A program sees a change of its environment only after a restart,
// so give [Rotate] a Propagation that is longer than restarting the farm takes.
func FromEnv(name string) Provider { return env(name) }

type env string

func (name env) Keys(context.Context) ([]Key, error) {
	text := os.Getenv(string(name))
	if text == "" {
		return nil, fmt.Errorf("sealed: environment variable %s is empty: set it to the text of a key file; make one with \"roam key new\"", string(name))
	}
	keys, err := parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("sealed: environment variable %s: %w", string(name), err)
	}
	return keys, nil
}
