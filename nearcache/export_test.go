package nearcache

import "time"

// Skew moves this server's two clocks apart by what off returns each time.
func (s *Store) Skew(off func() (mono, wall time.Duration)) {
	s.clock = func() moment {
		m := now()
		mono, wall := off()
		return moment{m.mono + mono, m.wall + wall}
	}
}

// Readings returns how many records the store is being asked about.
func (s *Store) Readings() (n int) {
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].readings) + len(s.shards[i].calls)
		s.shards[i].mu.Unlock()
	}
	return n
}
