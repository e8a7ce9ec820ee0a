package postgresstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/roam-web/roam"
)

// Ends implements [roam.Store]. A cursor is an epoch and a snapshot: which
// transactions were over when the log was read, and which were not. So nothing
// is missed and nothing comes twice, in whatever order transactions commit. A
// transaction that writes for long makes it slower, not wrong.
func (s *Store) Ends(ctx context.Context, after roam.Cursor) (log roam.Log, err error) {
	epoch, snapshot := parseCursor(after)
	for {
		var at *primary
		if at, err = s.alive(ctx); err != nil {
			return roam.Log{}, s.explain("ends", err)
		}
		q := readLogAfter
		if snapshot == "" || epoch != at.epoch {
			q = readLog
		}
		p, err := s.call(ctx, kindRead, q, func(a *args) {
			log = roam.Log{}
			if q == readLogAfter {
				a.text(snapshot)
			}
		}, func(p *primary, v [][]byte) error {
			if err := p.sure(v[1]); err != nil {
				return err
			}
			log.Now, log.Epoch = moment(v[0]), p.epoch
			log.Next = roam.Cursor(fmt.Sprintf("%d/%s", p.epoch, v[2]))
			if v[3] == nil {
				return nil
			}
			e := roam.End{Version: uint64(number(v[4])), Why: roam.Reason(v[5]), At: moment(v[6])}
			copy(e.ID[:], v[3])
			log.Ends = append(log.Ends, e)
			log.Now = later(log.Now, e.At)
			return nil
		})
		if err != nil {
			return roam.Log{}, s.explain("ends", err)
		}
		if p == at || p.epoch == at.epoch {
			return log, nil
		}
		// Another epoch began in between, and the cursor is not of it.
	}
}

// parseCursor returns nothing for what no Store has made.
func parseCursor(c roam.Cursor) (epoch uint64, snapshot string) {
	first, rest, ok := strings.Cut(string(c), "/")
	epoch, err := strconv.ParseUint(first, 10, 64)
	if !ok || err != nil {
		return 0, ""
	}
	// xmin:xmax:xip,xip in ascending order, as PostgreSQL reads it.
	parts := strings.Split(rest, ":")
	if len(parts) != 3 {
		return 0, ""
	}
	xmin, err1 := strconv.ParseUint(parts[0], 10, 63)
	xmax, err2 := strconv.ParseUint(parts[1], 10, 63)
	if err1 != nil || err2 != nil || xmin == 0 || xmin > xmax {
		return 0, ""
	}
	if parts[2] != "" {
		last := xmin
		for x := range strings.SplitSeq(parts[2], ",") {
			n, err := strconv.ParseUint(x, 10, 63)
			if err != nil || n < last || n >= xmax {
				return 0, ""
			}
			last = n
		}
	}
	return epoch, rest
}
