package sqlitestore

import (
	"bytes"
	"os"
	"testing"

	"github.com/roam-web/roam"
)

// size returns a file's size, 0 if there is none.
func size(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// rewrite updates a record with 128 KB of data until the log has had so many
// more bytes.
func rewrite(t *testing.T, s *Store, rec roam.Record, bytes_ int) roam.Record {
	t.Helper()
	const each = 128 << 10
	for i := range bytes_ / each {
		rec.Data = bytes.Repeat([]byte{byte('a' + i%26)}, each)
		var err error
		rec, err = s.Update(background, rec)
		must(t, err)
	}
	return rec
}

// settle waits for a checkpoint that runs beside.
func settle(s *Store) {
	s.side.mu.Lock()
	running := s.side.running
	s.side.mu.Unlock()
	if running != nil {
		<-running
	}
}

func TestLogIsCopiedBesideTheWrites(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	rewrite(t, s, rec, 5<<20)
	settle(s)
	if s.side.beside == 0 {
		t.Error("got no checkpoint beside after 5 MB of log, want one")
	}
	if s.side.inside != 0 {
		t.Errorf("got %d checkpoints by the writer, want none", s.side.inside)
	}
	c := raw(t, s.path)
	must(t, c.exec("SELECT * FROM session"))
	_, copied, err := c.checkpoint(look)
	must(t, err)
	if copied < checkpointEvery {
		t.Errorf("got %d frames copied, want %d at least", copied, checkpointEvery)
	}
}

func TestLogIsBounded(t *testing.T) {
	const limit = 1 << 20
	s := open(t, &Options{MaxWAL: limit})
	rec := insert(t, s, record(1, "ada"))
	rewrite(t, s, rec, 20<<20)
	// Past the limit, the log grows until the next checkpoint is due.
	if got, want := size(s.path+"-wal"), int64(2*limit); got > want {
		t.Errorf("got a log of %d bytes after 20 MB of writes, want %d at most", got, want)
	}
	settle(s)
}

func TestLogShrinksWhenALongReaderHasGone(t *testing.T) {
	const limit = 1 << 20
	s := open(t, &Options{MaxWAL: limit})
	rec := insert(t, s, record(1, "ada"))
	c := raw(t, s.path)
	must(t, c.exec("BEGIN; SELECT * FROM session"))
	rec = rewrite(t, s, rec, 20<<20)
	if got := size(s.path + "-wal"); got < 16<<20 {
		t.Fatalf("got a log of %d bytes: the reader did not hold it", got)
	}
	must(t, c.exec("COMMIT"))
	rewrite(t, s, rec, 2<<20)
	if got, want := s.queue.conn.frames*frameSize, 2*limit; got > want {
		t.Errorf("got %d bytes of log in use, want %d at most", got, want)
	}
	if got, want := size(s.path+"-wal"), int64(16<<20); got > want {
		t.Errorf("got a log of %d bytes, want it cut to %d", got, want)
	}
	settle(s)
	must(t, s.Check(background))
}

// A consumer of a list that takes its time holds no read transaction.
func TestSlowListHoldsNothing(t *testing.T) {
	const limit = 1 << 20
	s := open(t, &Options{MaxWAL: limit, Readers: 1})
	for i := range uint32(3) {
		insert(t, s, record(i, "ada"))
	}
	rec := insert(t, s, record(9, ""))
	for range s.List(background, "ada") {
		rec = rewrite(t, s, rec, 4<<20)
		_, err := s.Load(background, rec.ID, roam.Want{}) // there is one connection
		must(t, err)
	}
	if got, want := size(s.path+"-wal"), int64(2*limit); got > want {
		t.Errorf("got a log of %d bytes, want %d at most", got, want)
	}
	settle(s)
}

func TestLastCloseLeavesOneFile(t *testing.T) {
	s := open(t, nil)
	rec := insert(t, s, record(1, "ada"))
	_, err := s.Load(background, rec.ID, roam.Want{})
	must(t, err)
	must(t, s.Close())
	if size(s.path) == 0 || size(s.path+"-wal") != 0 || size(s.path+"-shm") != 0 {
		t.Errorf("got sizes %d, %d and %d of the file, -wal and -shm, want the first alone", size(s.path), size(s.path+"-wal"), size(s.path+"-shm"))
	}
}
