package sqlitestore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/roam-web/roam"
)

// Ends implements [roam.Store]. A cursor is the epoch and the number of the last
// entry that was read. Entries are numbered in the order in which they can be
// seen, because SQLite has one writer at a time: so none is ever behind a cursor.
//
// If nothing is new it is one look into an index, and less than a Load. To ask
// PRAGMA data_version first would cost half of that each time.
func (s *Store) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	epoch, n := parseCursor(after)
	err = s.read(ctx, "ends", func(c *conn) error {
		q, err := c.stmt(readLog)
		if err != nil {
			return err
		}
		defer q.reset()
		q.bindInt(1, epoch)
		q.bindInt(2, n)
		log.Ends = nil
		for now := clock(); ; {
			row, err := q.step()
			if err != nil {
				return err
			}
			if !row {
				log.Now, log.Epoch = moment(now), uint64(epoch)
				return nil
			}
			if is := q.int(0); is != epoch {
				epoch, n = is, 0
			}
			if q.null(1) {
				continue // there is no entry
			}
			e := roam.End{Version: uint64(q.int(3)), Why: roam.Reason(q.bytes(4)), At: moment(q.int(5))}
			copy(e.ID[:], q.bytes(2))
			log.Ends = append(log.Ends, e)
			n, now = max(n, q.int(1)), max(now, q.int(5))
		}
	})
	if err != nil {
		return roam.Log{}, err
	}
	log.Next = roam.Cursor(fmt.Sprint(epoch, "/", n))
	return log, nil
}

// parseCursor returns zeros, which is the beginning, for what is no cursor.
func parseCursor(c roam.Cursor) (epoch, n int64) {
	first, second, _ := strings.Cut(string(c), "/")
	epoch, err := strconv.ParseInt(first, 10, 64)
	if err == nil {
		n, err = strconv.ParseInt(second, 10, 64)
	}
	if err != nil {
		return 0, 0
	}
	return epoch, n
}

// trimChunk bounds how many entries one transaction forgets.
const trimChunk = 1000

// trim forgets what was in the log for longer than roam.LogKept. Usually there
// is nothing, which it finds without a write.
func (s *Store) trim(ctx context.Context) error {
	before := clock() - roam.LogKept.Microseconds()
	for chunks := 0; ; chunks++ {
		var old bool
		err := s.read(ctx, "prune", func(c *conn) error {
			q, err := c.stmt(oldLog)
			if err != nil {
				return err
			}
			defer q.reset()
			q.bindInt(1, before)
			q.bindInt(2, trimChunk)
			_, err = q.step()
			old = q.int(0) != 0
			return err
		})
		if err != nil || !old {
			return partly(err, chunks*trimChunk)
		}
		err = s.write(ctx, "prune", func(c *conn, _ int64) error {
			q, err := c.stmt(trimLog)
			if err != nil {
				return err
			}
			q.bindInt(1, before)
			q.bindInt(2, trimChunk)
			return q.run()
		})
		if err != nil {
			return partly(err, chunks*trimChunk)
		}
	}
}
