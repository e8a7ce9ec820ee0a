package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/sealed"
)

// sameKeys makes a server ready only when it has had the key that the farm has
// told it of, and is ready otherwise. A server with other keys would take
// everybody whom the others have logged in for a stranger. The log says so, once.
func sameKeys(keys *sealed.Keyring, log *slog.Logger, ready func(context.Context) error) func(context.Context) error {
	want := os.Getenv(farm.EnvKey)
	var same atomic.Bool // for good: a key is removed one day, and its server as good as before
	same.Store(keys == nil || want == "")
	var say sync.Once
	return func(ctx context.Context) error {
		if !same.Load() {
			if err := keys.Knows(want); err != nil {
				say.Do(func() { log.Error("not ready: visitors of the other servers would be strangers here", "error", err) })
				return err
			}
			same.Store(true)
		}
		if ready == nil {
			return nil
		}
		return ready(ctx)
	}
}
