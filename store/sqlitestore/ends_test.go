package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

// news returns what the log has after a cursor, one "number version why" each,
// in order, and moves the cursor on.
func news(t testing.TB, s *Store, cursor *roam.Cursor) (entries []string) {
	t.Helper()
	log, err := s.Ends(background, *cursor)
	must(t, err)
	for _, e := range log.Ends {
		n := uint32(e.ID[12])<<24 | uint32(e.ID[13])<<16 | uint32(e.ID[14])<<8 | uint32(e.ID[15])
		entries = append(entries, strings.TrimSpace(fmt.Sprintf("%d %d %s", n, e.Version, e.Why)))
	}
	slices.Sort(entries)
	*cursor = log.Next
	return entries
}

func sameEntries(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q in the log, want %q", what, got, want)
	}
}

// The trigger hears of whatever anybody writes, and of nothing that is not so.
func TestNoStatementForgetsTheLog(t *testing.T) {
	s := open(t, nil)
	for i := range uint32(5) {
		insert(t, s, record(i, "ada"))
	}
	c := raw(t, s.path)
	var cursor roam.Cursor
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{"UPDATE session SET user = 'bob', data = 'x', seen = seen + 1, previous = x'00', idle = 1e12, version = version", nil},
		{"UPDATE session SET proof = proof, level = level, ended = NULL, why = ''", nil},
		{"UPDATE session SET proof = x'07', version = version + 1 WHERE id = (SELECT id FROM session WHERE n = 1)", []string{"0 2"}},
		{"UPDATE session SET level = 9 WHERE n = 2", []string{"1 1"}},
		{"UPDATE session SET level = 2, proof = x'08', version = 7 WHERE n = 2", []string{"1 7"}},
		{"BEGIN; UPDATE session SET level = 3 WHERE n = 1; ROLLBACK", nil},
		{"BEGIN; UPDATE session SET level = 3 WHERE n = 1; UPDATE session SET level = 4 WHERE n = 1; COMMIT", []string{"0 2", "0 2"}},
		{"UPDATE session SET ended = 1, why = 'in 1970' WHERE n = 3", []string{"2 1 in 1970"}},
		{"UPDATE session SET ended = 1e18, why = 'in the year 33658' WHERE n = 4", []string{"3 1 in the year 33658"}},
		{"UPDATE session SET version = version + 1, ended = 1000000 * unixepoch(), why = 'all' WHERE ended IS NULL", []string{"0 3 all", "1 8 all", "4 2 all"}},
		{"UPDATE session SET ended = NULL, version = 99 WHERE n = 1", []string{"0 99"}}, // nobody should
		{"DELETE FROM session", nil},
	} {
		before := clock()
		must(t, c.exec(test.sql))
		log := must2(s.Ends(background, cursor))
		for _, e := range log.Ends {
			if at := e.At.UnixMicro(); at < before-1000 || at > clock()+1000 {
				t.Errorf("%s: got %v in the log, want about %v", test.sql, e.At, moment(before))
			}
		}
		sameEntries(t, test.sql, news(t, s, &cursor), test.want...)
	}
	must(t, s.Check(background))
}

// old makes a file as version 100 left it, with three sessions.
func old(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sessions.db")
	must(t, os.WriteFile(path, nil, 0o600))
	schema, err := os.ReadFile("testdata/schema-100.sql")
	must(t, err)
	c := raw(t, path)
	must(t, c.exec("PRAGMA journal_mode = WAL; "+string(schema)))
	must(t, c.exec(fmt.Sprintf("CREATE VIEW epoch AS SELECT 7777 AS epoch; PRAGMA application_id = %d; PRAGMA user_version = 100", applicationID)))
	for n := range 3 {
		must(t, c.exec(fmt.Sprintf(`INSERT INTO session (id, version, proof, user, level, agent, created, logged_in, seen, idle, lifetime, writes, data)
			VALUES (x'0000000000004000800000000000000%d', 5, x'01', 'ada', 1, '', %d, %d, %d, 3600000000000, 86400000000000, x'', '{}')`, n, clock(), clock(), clock())))
	}
	must(t, c.close())
	return path
}

func TestAnOldFileGetsItsLog(t *testing.T) {
	path := old(t)
	before := raw(t, path) // an older program that runs on
	st, _, err := before.db.Prepare("UPDATE session SET version = version + 1, ended = ?, why = 'logged out', level = 0, data = NULL WHERE n = ?")
	must(t, err)
	defer st.Close()
	end := func(n int64) {
		t.Helper()
		st.BindInt64(1, clock())
		st.BindInt64(2, n)
		must(t, st.Exec())
		if got := before.changes(); got != 1 {
			t.Errorf("the older program ended %d sessions, want 1", got)
		}
	}
	end(1)

	stores := make([]*Store, 4) // that upgrade it at once
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = Open(path, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var cursor roam.Cursor
	s := stores[0]
	sameEntries(t, "the upgrade", news(t, s, &cursor))
	end(2)
	sameEntries(t, "the older program", news(t, s, &cursor), "1 6 logged out")
	rec := must2(s.Load(background, record(2, "").ID, roam.Want{}))
	if rec.Epoch != 7777 || rec.Version != 5 || string(rec.Data) != "{}" {
		t.Errorf("got epoch %d, version %d and data %q, want it as it was", rec.Epoch, rec.Version, rec.Data)
	}
	rec.Proof[0]++
	must2(stores[1].Update(background, rec))
	sameEntries(t, "this one", news(t, stores[2], &cursor), "2 6")
	for _, s := range stores {
		must(t, s.Check(background))
		must(t, s.Close())
	}
	c := raw(t, path)
	for sql, want := range map[string]string{
		"PRAGMA user_version": "101",
		"SELECT count(*) FROM sqlite_schema WHERE name IN ('log', 'session_log')": "2",
	} {
		if got, err := c.text(sql); err != nil || got != want {
			t.Errorf("%s: got %q, error %v, want %s", sql, got, err, want)
		}
	}

	// A file that is made anew has the same as one that was brought up to date.
	all := "SELECT group_concat(type || name || sql, char(10) ORDER BY name) FROM sqlite_schema WHERE name <> 'epoch'"
	upgraded, err := c.text(all)
	must(t, err)
	made, err := raw(t, open(t, nil).path).text(all)
	must(t, err)
	if upgraded != made {
		t.Errorf("an old file became\n%s\nand a new one is\n%s", upgraded, made)
	}
}

func TestAnUpgradeThatFailsLeavesTheOldFile(t *testing.T) {
	path := old(t)
	c := raw(t, path)
	must(t, c.exec("CREATE TRIGGER session_log AFTER DELETE ON session BEGIN SELECT 1; END")) // somebody's own
	_, err := Open(path, nil)
	tells(t, err, path, "session_log")
	if got, err := c.text("SELECT (SELECT user_version FROM pragma_user_version) || (SELECT count(*) FROM sqlite_schema WHERE name = 'log')"); err != nil || got != "1000" {
		t.Errorf("got version and tables %q, error %v, want version 100 without the table", got, err)
	}
	must(t, c.exec("DROP TRIGGER session_log"))
	must(t, reopen(t, path, nil).Check(background))
}

func TestPruneForgetsOldEntriesOnly(t *testing.T) {
	s := open(t, nil)
	const n = 2*trimChunk + 500
	must(t, s.queue.write(background, func(c *conn, now int64) error {
		for i := range uint32(n + 3) {
			rec := record(i, "ada")
			if _, err := c.stmt(insertRecord); err != nil {
				return err
			}
			q := &c.stmts[insertRecord]
			q.bindInt(1, now)
			q.bindInt(2, now)
			bindRecord(q, &rec)
			if err := errors.Join(q.run(), end(c, rec.ID, roam.Revoked, now)); err != nil {
				return err
			}
		}
		return nil
	}))
	var cursor roam.Cursor
	if got := len(news(t, s, &cursor)); got != n+3 {
		t.Fatalf("got %d entries, want %d", got, n+3)
	}
	c := raw(t, s.path)
	// All but three are as old as they may get, the first is of a clock that
	// was ahead.
	must(t, c.exec(fmt.Sprintf("UPDATE log SET at = at - %d WHERE n NOT IN (SELECT n FROM log ORDER BY n DESC LIMIT 2) AND n > (SELECT min(n) FROM log)", (roam.LogKept+time.Second).Microseconds())))
	groups := s.queue.groups.Load()
	must2(s.Prune(background, time.Hour, 10))
	if got := s.queue.groups.Load() - groups; got != 3 {
		t.Errorf("got %d transactions of at most %d entries, want 3", got, trimChunk)
	}
	from := roam.Cursor("")
	sameEntries(t, "after Prune", news(t, s, &from), "0 2 revoked", "2501 2 revoked", "2502 2 revoked")
	groups = s.queue.groups.Load()
	must2(s.Prune(background, time.Hour, 10))
	if got := s.queue.groups.Load() - groups; got != 0 {
		t.Errorf("got %d transactions to forget nothing, want none", got)
	}
	sameEntries(t, "the old cursor", news(t, s, &cursor))

	// Numbers go on when nothing is left to count from.
	must(t, c.exec("DELETE FROM log"))
	sameEntries(t, "an emptied log", news(t, s, &cursor))
	insert(t, s, record(5000, ""))
	must(t, s.End(background, record(5000, "").ID, roam.LoggedOut))
	sameEntries(t, "the old cursor of an emptied log", news(t, s, &cursor), "5000 2 logged out")
}

func TestEveryCursorOfAnEpochBeforeIsTheBeginning(t *testing.T) {
	s := open(t, nil)
	other := reopen(t, s.path, nil)
	for i := range uint32(3) {
		insert(t, s, record(i, "ada"))
		must(t, s.End(background, record(i, "").ID, roam.LoggedOut))
	}
	all := []string{"0 2 logged out", "1 2 logged out", "2 2 logged out"}
	var cursor roam.Cursor
	sameEntries(t, "at first", news(t, other, &cursor), all...)
	sameEntries(t, "then", news(t, other, &cursor))
	epoch := must2(s.Restored(background))
	sameEntries(t, "in the next epoch", news(t, other, &cursor), all...)
	sameEntries(t, "then", news(t, other, &cursor))
	if log := must2(other.Ends(background, cursor)); log.Epoch != epoch {
		t.Errorf("got epoch %d, want %d", log.Epoch, epoch)
	}
	if rec, err := other.Load(background, roam.ID{}, roam.Want{}); err != roam.ErrNotFound || rec.Epoch != epoch {
		t.Errorf("load of nothing: got epoch %d and error %v, want %d", rec.Epoch, err, epoch)
	}
}

// A backup that was put back has an older log. Without its ends a server would
// rely on what was before.
func TestABackupsLogIsReadAgain(t *testing.T) {
	s := open(t, nil)
	for i := range uint32(4) {
		insert(t, s, record(i, "ada"))
	}
	must(t, s.End(background, record(0, "").ID, roam.LoggedOut))
	backup := filepath.Join(t.TempDir(), "backup.db")
	must(t, raw(t, s.path).exec("VACUUM INTO '"+backup+"'"))
	var cursor roam.Cursor
	for i := range uint32(2) {
		must(t, s.End(background, record(i+1, "").ID, roam.LoggedOut))
	}
	sameEntries(t, "before", news(t, s, &cursor), "0 2 logged out", "1 2 logged out", "2 2 logged out")
	restored := reopen(t, backup, nil)
	must2(restored.Restored(background))
	must(t, restored.End(background, record(3, "").ID, roam.LoggedOut))
	sameEntries(t, "with the cursor from before", news(t, restored, &cursor), "0 2 logged out", "3 2 logged out")
}
