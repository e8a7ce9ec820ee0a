package conformance

import (
	"path/filepath"
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/store/sqlitestore"
	"github.com/roam-web/roam/storetest"
)

func openSQLite(tb testing.TB) roam.Store {
	return openFile(tb, filepath.Join(tb.TempDir(), "sessions.db"))
}

func openFile(tb testing.TB, path string) *sqlitestore.Store {
	tb.Helper()
	s, err := sqlitestore.Open(path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestSQLite(t *testing.T)      { t.Parallel(); storetest.Run(t, openSQLite) }
func FuzzSQLite(f *testing.F)      { storetest.Fuzz(f, openSQLite) }
func BenchmarkSQLite(b *testing.B) { storetest.Bench(b, openSQLite) }
