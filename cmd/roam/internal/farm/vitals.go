package farm

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"time"
)

// Vitals are what a web server says of itself, a few times a second, as lines
// of JSON on its standard output, whose other end the farm has. A path of the
// site would be for everybody to ask, and could not be answered by a server that
// has something to hide behind; a pipe can.
type Vitals struct {
	Goroutines int `json:"goroutines"`

	// StoreDown says that the server does not reach its store of sessions.
	StoreDown bool `json:"store_down,omitempty"`

	// StoreConns is how many connections to the store it has, -1 if not known.
	StoreConns int `json:"store_conns"`

	// LostWrites is how many writes that it had acknowledged the store was
	// found to have lost; see [roam.Manager.Lost].
	LostWrites uint64 `json:"lost_writes,omitempty"`
}

// sayEvery is how often a server reports.
const sayEvery = 200 * time.Millisecond

// report writes vitals until ctx ends or nobody listens any more.
func report(ctx context.Context, out io.Writer, vitals func() Vitals) {
	lines := json.NewEncoder(out)
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		v := vitals()
		v.Goroutines = runtime.NumGoroutine()
		if lines.Encode(v) != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// listen keeps what the process says of itself. It ends with the process.
func (p *process) listen(heard *os.File) {
	defer heard.Close()
	lines := bufio.NewScanner(heard)
	for lines.Scan() {
		var v Vitals
		if json.Unmarshal(lines.Bytes(), &v) == nil {
			p.vitals.Store(&v)
		}
	}
	io.Copy(io.Discard, heard) // after a line that is too long: the server must not wait for us
}
