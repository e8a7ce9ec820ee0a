package conformance

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/store/postgresstore"
	"github.com/roam-web/roam/store/sqlitestore"
)

// A shared store is one that several processes can have open.
type shared interface {
	roam.Store
	Close() error
}

// eachShared runs a test on each kind of shared store. address says where a
// new and empty one is, also to another process.
func eachShared(t *testing.T, test func(t *testing.T, address string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, filepath.Join(t.TempDir(), "sessions.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url, table := tables(t, plainPostgres(t).Primary.URL())
		test(t, url+"#"+table)
	})
	t.Run("PgBouncer", func(t *testing.T) {
		t.Parallel()
		url, table := tables(t, pooled(t))
		test(t, url+"#"+table)
	})
}

// openAddress opens a file, or with a URL the tables named behind #.
func openAddress(ctx context.Context, address string) (shared, error) {
	if url, table, ok := strings.Cut(address, "#"); ok {
		return postgresstore.Open(ctx, url, patient(table))
	}
	return sqlitestore.Open(address, nil)
}

func openShared(t *testing.T, address string) shared {
	t.Helper()
	s, err := openAddress(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
