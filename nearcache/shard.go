package nearcache

import (
	"reflect"
	"sync"
	"time"

	"github.com/roam-web/roam"
)

// A shard is a part of the memory, with a lock and a share of the bytes of its
// own.
type shard struct {
	mu       sync.Mutex
	readings map[roam.ID]*reading
	calls    map[roam.ID]*call

	// The entries are in the slots of a ring, with a hand that goes round to
	// find one to evict. This is how the garbage collector has the least work
	// with them: it skips a map without pointers, and reads ahead in a slice
	// as it cannot in a list.
	slots map[roam.ID]uint32
	ring  []*entry // nil in a slot that is free
	free  []uint32
	hand  int

	bytes, most int

	hits, refused, evicted uint64
}

// An entry is a record in memory. Its strings are parts of one, and Data is in
// another form, so that no reader can change what the next one sees.
type entry struct {
	rec     roam.Record
	data    string
	size    int
	visited bool // since the hand came by
}

// A reading is all the questions about one record that the store has not yet
// answered. What their answers must not overtake is noted here, and so for just
// as long as there are any. (The idea is the lease of Nishtala et al., Scaling
// Memcache at Facebook, NSDI 2013, section 3.2.1.)
type reading struct {
	n     int
	floor uint64 // versions below it are old
	void  bool   // any answer may be old
}

// A call is a question to the store that others may wait for.
type call struct {
	done chan struct{}
	err  error // the store's, for all; not that the caller gave up
}

func (sh *shard) init(most int) {
	sh.most = most
	sh.slots = make(map[roam.ID]uint32)
	sh.readings = make(map[roam.ID]*reading)
	sh.calls = make(map[roam.ID]*call)
}

// find returns the entry of a record, nil if there is none.
func (sh *shard) find(id roam.ID) *entry {
	if slot, ok := sh.slots[id]; ok {
		return sh.ring[slot]
	}
	return nil
}

// recall answers with a record that will do, if there is one.
func (sh *shard) recall(rec *roam.Record, id roam.ID, does func(*roam.Record) bool) bool {
	sh.mu.Lock()
	e := sh.find(id)
	if e == nil || !does(&e.rec) {
		sh.mu.Unlock()
		return false
	}
	e.visited = true
	sh.hits++
	*rec = e.rec
	data := e.data
	sh.mu.Unlock()
	if data != "" {
		rec.Data = []byte(data) // the caller's own
	}
	return true
}

// begin says that the store is about to be asked.
func (sh *shard) begin(id roam.ID) *reading {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.readings[id]
	if r == nil {
		r = new(reading)
		sh.readings[id] = r
	}
	r.n++
	return r
}

// finish says that it has answered.
func (sh *shard) finish(id roam.ID, r *reading) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r.n--; r.n == 0 && sh.readings[id] == r {
		delete(sh.readings, id)
	}
}

// bar keeps out all answers to what has been asked about a record so far.
func (sh *shard) bar(id roam.ID) {
	if r := sh.readings[id]; r != nil {
		r.void = true
		delete(sh.readings, id)
	}
}

// join returns the call for this record that is under way, or a new one that
// the caller makes and leaves.
func (sh *shard) join(id roam.ID) (c *call, leads bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c = sh.calls[id]; c != nil {
		return c, false
	}
	c = &call{done: make(chan struct{})}
	sh.calls[id] = c
	return c, true
}

func (sh *shard) leave(id roam.ID, c *call) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.calls, id)
	close(c.done)
}

// keep remembers an answer to a reading, unless something newer is known.
func (sh *shard) keep(r *reading, rec *roam.Record) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.find(rec.ID)
	old := r.void || rec.Version < r.floor || e != nil && rec.Version < e.rec.Version
	r.floor = max(r.floor, rec.Version)
	switch {
	case old:
		sh.refused++
		if e != nil && e.rec.Version < rec.Version {
			sh.remove(e) // it is older still
		}
	case e != nil && e.rec.Version == rec.Version:
		e.rec.Now, e.rec.Seen = later(e.rec.Now, rec.Now), later(e.rec.Seen, rec.Seen)
	default:
		sh.put(e, rec)
	}
}

// end applies an entry of the log.
func (sh *shard) end(end roam.End) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r := sh.readings[end.ID]; r != nil {
		r.floor = max(r.floor, end.Version)
	}
	if e := sh.find(end.ID); e != nil && e.rec.Version < end.Version {
		sh.remove(e)
	}
}

// touch moves Seen to where the store has moved it, or if that cannot be told
// from here forgets the record. The store leaves alone what is over.
func (sh *shard) touch(t roam.Touch, earliest, latest time.Time) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.bar(t.ID)
	e := sh.find(t.ID)
	if e == nil {
		return
	}
	if _, _, over := e.rec.Over(latest); over || t.At.After(earliest) {
		sh.remove(e)
		return
	}
	e.rec.Seen = later(e.rec.Seen, t.At.UTC().Truncate(time.Microsecond))
}

// forget drops a record and all answers that are on their way.
func (sh *shard) forget(id roam.ID) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.bar(id)
	if e := sh.find(id); e != nil {
		sh.remove(e)
	}
}

// drop forgets all records.
func (sh *shard) drop() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id := range sh.readings {
		sh.bar(id)
	}
	clear(sh.slots)
	clear(sh.ring)
	sh.ring, sh.free, sh.hand, sh.bytes = sh.ring[:0], sh.free[:0], 0, 0
}

// put stores a record, in the place of e if that is not nil.
func (sh *shard) put(e *entry, rec *roam.Record) {
	fresh := pack(rec)
	if e != nil {
		fresh.visited = e.visited
		sh.remove(e)
	}
	if fresh.size > sh.most/4 {
		return // it would cost too many others their places
	}
	for sh.bytes+fresh.size > sh.most {
		sh.evict()
	}
	slot := uint32(len(sh.ring))
	if n := len(sh.free); n > 0 {
		slot, sh.free = sh.free[n-1], sh.free[:n-1]
		sh.ring[slot] = fresh
	} else {
		sh.ring = append(sh.ring, fresh)
	}
	sh.slots[rec.ID] = slot
	sh.bytes += fresh.size
}

func (sh *shard) remove(e *entry) {
	slot := sh.slots[e.rec.ID]
	delete(sh.slots, e.rec.ID)
	sh.ring[slot] = nil
	sh.free = append(sh.free, slot)
	sh.bytes -= e.size
}

// evict makes room by the CLOCK rule, or second chance: whom somebody asked for
// since the hand came by is spared once. So a hit only sets a bit.
func (sh *shard) evict() {
	for {
		e := sh.ring[sh.hand]
		sh.hand = (sh.hand + 1) % len(sh.ring)
		switch {
		case e == nil:
		case e.visited:
			e.visited = false
		default:
			sh.remove(e)
			sh.evicted++
			return
		}
	}
}

// overhead is what an entry takes besides what has no fixed size: itself, and
// its places in the ring and in the map, as measured.
var overhead = int(reflect.TypeFor[entry]().Size()) + 64

// pack makes an entry of a record. All that has no fixed size is copied into
// one string: so it is known how much memory that holds, whatever the store's
// answer was a part of. What the data is decoded into, which the record's memo
// remembers, is taken to be as large as the data.
func pack(rec *roam.Record) *entry {
	text := rec.User + rec.From.Agent + string(rec.Why) + string(rec.Data)
	e := &entry{rec: *rec, size: overhead + len(text) + len(rec.Data)}
	e.rec.User, text = text[:len(rec.User)], text[len(rec.User):]
	e.rec.From.Agent, text = text[:len(rec.From.Agent)], text[len(rec.From.Agent):]
	e.rec.Why, text = roam.Reason(text[:len(rec.Why)]), text[len(rec.Why):]
	e.rec.Data, e.data = nil, text
	return e
}
