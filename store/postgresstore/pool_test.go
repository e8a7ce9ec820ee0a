package postgresstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// pipes returns a pool of connections to nothing, and how many were opened.
func pipes(t *testing.T, max int) (*pool, *int) {
	var mu sync.Mutex
	opened := new(int)
	var ends []net.Conn
	p := newPool(max, func(context.Context) (*conn, error) {
		mu.Lock()
		defer mu.Unlock()
		*opened++
		here, there := net.Pipe()
		ends = append(ends, there)
		c := &conn{born: time.Now(), used: time.Now()}
		c.sock.Store(&socket{Conn: here})
		return c, nil
	})
	t.Cleanup(func() {
		p.close(errClosed)
		p.done.Wait()
		for _, c := range ends {
			c.Close()
		}
	})
	return p, opened
}

func take(t *testing.T, p *pool, write bool) *conn {
	t.Helper()
	c, err := p.get(background, time.Now().Add(10*time.Second), write)
	must(t, err)
	return c
}

func TestPoolOpensNoMoreThanItsSize(t *testing.T) {
	t.Parallel()
	p, opened := pipes(t, 4)
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			c, err := p.get(background, time.Now().Add(10*time.Second), false)
			if err != nil {
				t.Error(err)
				return
			}
			p.put(c)
		})
	}
	callers.Wait()
	if *opened > 4 || len(p.open) != len(p.idle) {
		t.Errorf("%d connections opened, %d open and %d idle, want at most 4, all idle", *opened, len(p.open), len(p.idle))
	}
}

func TestPoolKeepsPlacesForReads(t *testing.T) {
	t.Parallel()
	p, _ := pipes(t, 4)
	var writes []*conn
	for range 3 {
		writes = append(writes, take(t, p, true))
	}
	if _, err := p.get(background, time.Now().Add(time.Millisecond), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v for a fourth write, want that it waits for the others", err)
	}
	read := take(t, p, false)
	p.put(writes[0])
	p.drop(writes[1])
	p.put(take(t, p, true))
	p.put(read)
	p.put(writes[2])
	if n := len(p.writes); n != 0 {
		t.Errorf("%d places are counted as a write's, want none", n)
	}
}

func TestPoolHandsOutNothingFromBeforeABreak(t *testing.T) {
	t.Parallel()
	p, _ := pipes(t, 4)
	broke, inUse, idle := take(t, p, false), take(t, p, false), take(t, p, false)
	p.put(idle)
	p.refresh(broke)
	p.drop(broke)
	p.put(inUse) // it is as old as the one that broke
	fresh := take(t, p, false)
	if fresh == inUse || fresh == idle {
		t.Error("a connection from before was handed out")
	}
	p.refresh(inUse) // that is known already
	p.put(fresh)
	if got := take(t, p, false); got != fresh {
		t.Error("a connection from after it was not")
	}
}

func TestClosedPoolLetsNobodyWait(t *testing.T) {
	t.Parallel()
	p, _ := pipes(t, 1)
	c := take(t, p, false)
	errs := make(chan error)
	for i := range 4 {
		go func() {
			_, err := p.get(background, time.Now().Add(time.Minute), i%2 == 0)
			errs <- err
		}()
	}
	until(t, "they wait", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.waiting) == 3 // and one waits for another write
	})
	p.close(errSilent)
	for range 4 {
		if err := <-errs; !errors.Is(err, errSilent) {
			t.Errorf("got error %v, want why the pool was closed", err)
		}
	}
	if _, err := c.sock.Load().Write([]byte("x")); err == nil {
		t.Error("a connection in use was left open")
	}
	p.put(c)
	if len(p.open) != 0 {
		t.Errorf("%d connections left", len(p.open))
	}
}

// A failure to connect is told at once to all who wait for it.
func TestPoolThatCannotConnectSaysWhy(t *testing.T) {
	t.Parallel()
	p := newPool(2, func(context.Context) (*conn, error) { return nil, errSilent })
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, err := p.get(background, time.Now().Add(time.Minute), false); !errors.Is(err, errSilent) {
				t.Errorf("got error %v, want why", err)
			}
		})
	}
	callers.Wait()
	p.close(errClosed)
	p.done.Wait()
}
