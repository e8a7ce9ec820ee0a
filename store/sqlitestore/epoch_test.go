package sqlitestore

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func TestEpochRisesForEveryoneAtOnce(t *testing.T) {
	s := open(t, nil)
	other := reopen(t, s.path, nil)
	rec := insert(t, s, record(1, "ada"))
	for range 3 {
		was := must2(other.Load(background, rec.ID, roam.Want{})).Epoch
		epoch := must2(s.Restored(background))
		if epoch <= was {
			t.Errorf("got epoch %d after %d, want a higher one", epoch, was)
		}
		if got := must2(other.Load(background, rec.ID, roam.Want{})).Epoch; got != epoch {
			t.Errorf("load by another store: got epoch %d, want %d", got, epoch)
		}
		rec = must2(other.Update(background, rec))
		if rec.Epoch != epoch {
			t.Errorf("update by another store: got epoch %d, want %d", rec.Epoch, epoch)
		}
		if got := insert(t, other, record(uint32(rec.Version)+100, "bob")).Epoch; got != epoch {
			t.Errorf("insert by another store: got epoch %d, want %d", got, epoch)
		}
	}
}

func TestOldBackupBeginsTheHighestEpoch(t *testing.T) {
	s := open(t, nil)
	dir := t.TempDir()
	backup := filepath.Join(dir, "backup.db")
	must(t, raw(t, s.path).exec("VACUUM INTO '"+backup+"'"))
	last := must2(s.Restored(background))
	bytes, err := os.ReadFile(backup)
	must(t, err)
	for i := range 5 {
		path := filepath.Join(dir, string(rune('a'+i)))
		must(t, os.WriteFile(path, bytes, 0o600))
		time.Sleep(2 * time.Millisecond) // a backup takes longer than that to put back
		epoch := must2(reopen(t, path, nil).Restored(background))
		if epoch <= last {
			t.Errorf("backup put back for the %d. time: got epoch %d, want one above %d", i+1, epoch, last)
		}
		last = epoch
	}
}

func TestEpochRisesWithAClockSetBack(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	const future = 1 << 62
	must(t, raw(t, s.path).exec("DROP VIEW epoch; CREATE VIEW epoch AS SELECT 4611686018427387904 AS epoch"))
	if got := must2(s.Load(background, rec.ID, roam.Want{})).Epoch; got != future {
		t.Errorf("got epoch %d, want %d", got, future)
	}
	if got := must2(s.Restored(background)); got != future+1 {
		t.Errorf("got epoch %d, want %d", got, future+1)
	}
}
