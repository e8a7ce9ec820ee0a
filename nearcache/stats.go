package nearcache

import "time"

// Stats are what a [Store] has done since it was made, and what it holds.
type Stats struct {
	Hits    uint64 // answers from memory
	Misses  uint64 // reads that could have been, and were not
	Refused uint64 // answers of the store not remembered, because something newer was known
	Evicted uint64 // records that made room for others

	Entries, Bytes int // records in memory, and what they take

	// Age is how long ago the log of ends was last read: at most a second or
	// two while the feed is up, and beyond Options.Bound nothing is answered
	// from memory. It is -1 if the log has not been read in this epoch.
	Age time.Duration
}

// Stats returns them as of now.
func (s *Store) Stats() Stats {
	st := Stats{Misses: s.missed.Load(), Age: -1}
	if m := s.mark.Load(); m != nil {
		st.Age = s.clock().since(m.began)
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		st.Hits += sh.hits
		st.Refused += sh.refused
		st.Evicted += sh.evicted
		st.Entries += len(sh.slots)
		st.Bytes += sh.bytes
		sh.mu.Unlock()
	}
	return st
}
