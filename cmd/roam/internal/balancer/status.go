package balancer

import "time"

// A State says whether a server gets requests.
type State string

// The states of a server. Draining is the operator's word and hides the other
// two; [ServerStatus.Ready] tells them apart.
const (
	Up       State = "up"       // gets requests
	Down     State = "down"     // failed a check or broke a connection
	Draining State = "draining" // gets no new requests because Drain was called
)

// A ServerStatus is the state of one server at one moment. Counters run from
// the first Set of the server's name and survive a change of its address.
type ServerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   State  `json:"state"`
	// Ready is the outcome of the last check, also while draining.
	Ready bool `json:"ready"`
	// InFlight counts requests that are with the server now, InFlightUnsafe
	// those of them that are not GET, HEAD or OPTIONS.
	InFlight       int `json:"in_flight"`
	InFlightUnsafe int `json:"in_flight_unsafe"`
	// Requests counts requests given to the server. Of these, Failed ended in
	// an error for the client and RetriedAway went on to another server.
	Requests    uint64 `json:"requests"`
	Failed      uint64 `json:"failed"`
	RetriedAway uint64 `json:"retried_away"`
	// BytesOut counts the bytes that the server sent, headers included.
	BytesOut int64 `json:"bytes_out"`
	// LastError is the last failure, or empty. It is kept after a recovery.
	LastError string `json:"last_error,omitempty"`
	// Since is when State last changed.
	Since time.Time `json:"since"`
}

// Status returns the state of all servers in the order in which they were set.
func (b *Balancer) Status() []ServerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]ServerStatus, 0, len(b.servers))
	for _, s := range b.servers {
		list = append(list, ServerStatus{
			Name:           s.name,
			Address:        s.address,
			State:          s.state(),
			Ready:          s.ready,
			InFlight:       s.inFlight,
			InFlightUnsafe: s.unsafe,
			Requests:       s.requests,
			Failed:         s.failed,
			RetriedAway:    s.retriedAway,
			BytesOut:       s.bytesOut.Load(),
			LastError:      s.lastError,
			Since:          s.since,
		})
	}
	return list
}

// UnsafeInFlight returns how many requests other than GET, HEAD and OPTIONS a
// server is working on now: what would be lost if it were killed now. It
// returns 0 for an unknown server.
func (b *Balancer) UnsafeInFlight(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.find(name); s != nil {
		return s.unsafe
	}
	return 0
}
