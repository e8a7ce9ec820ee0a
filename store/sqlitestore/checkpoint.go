package sqlitestore

import (
	"sync"
	"time"
)

const (
	frameSize = 4096 + 24 // a page and its header in the write-ahead log

	// checkpointEvery is how much the log grows, in frames, between two
	// checkpoints beside the writes: 4 MB.
	checkpointEvery = 4 << 20 / frameSize

	// restartWait bounds how long writes wait for a reader that keeps the
	// log from being used from its start again.
	restartWait = 50 * time.Millisecond
)

// A side copies the write-ahead log into the database beside the writes, on a
// connection of its own: done by the writer, as SQLite does it by itself, it
// makes every thousandth page's write wait for some 20 ms. It runs at most
// once at a time and ends by itself.
type side struct {
	open  func() (*conn, error)
	every int // frames from one checkpoint to the next
	limit int // frames from which on the writer does it

	mu      sync.Mutex
	closed  bool
	running chan struct{} // closed when the one that runs ends
	tried   int           // frames in the log when the last one began
	conn    *conn

	beside, inside int // checkpoints begun, for tests
}

// after looks after a commit whether there is enough to copy. c is the
// writer's connection.
func (s *side) after(c *conn) {
	s.mu.Lock()
	if c.frames < s.tried {
		s.tried = 0 // the log was restarted
	}
	due := c.frames-s.tried >= s.every
	if !due || s.closed {
		s.mu.Unlock()
		return
	}
	over := c.frames > s.limit
	running := s.running
	if !over && running == nil {
		s.tried = c.frames
		s.running = make(chan struct{})
		s.beside++
		go s.run()
	}
	s.mu.Unlock()
	if !over {
		return
	}

	// The log can only start over when all of it is copied and nobody reads
	// it, which under steady writing the side never reaches. So now the
	// writes wait; most is copied already.
	if running != nil {
		<-running
	}
	s.mu.Lock()
	s.tried = c.frames
	s.inside++
	s.mu.Unlock()
	guard(func() error {
		c.wait(restartWait)
		_, _, err := c.checkpoint(restart)
		return err // a reader is in the way: tried again when the log has grown
	})
}

func (s *side) run() {
	defer func() {
		s.mu.Lock()
		close(s.running)
		s.running = nil
		s.mu.Unlock()
	}()
	if s.conn == nil {
		c, err := s.open()
		if err != nil {
			return // a write that fails for the same reason tells
		}
		s.conn = c
	}
	err := guard(func() error {
		frames, copied, err := s.conn.checkpoint(look)
		if err != nil || frames-copied < s.every/2 {
			return err // another process has just done it
		}
		_, _, err = s.conn.checkpoint(passive)
		return err
	})
	if err != nil && failureOf(err) != busy {
		s.conn.close()
		s.conn = nil
	}
}

// close waits for the one that runs.
func (s *side) close() {
	s.mu.Lock()
	s.closed = true
	running := s.running
	s.mu.Unlock()
	if running != nil {
		<-running
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}
