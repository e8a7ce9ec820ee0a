package shoppers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// patience is how long a shopper waits for an answer before it counts as none.
const patience = 15 * time.Second

// maxAnswer bounds what a shopper reads of one answer.
const maxAnswer = 1 << 20

// A line is one tab's connection to the site. It exists because
// [http.Transport] is too kind for a witness: when a reused connection turns
// out to be dead it quietly sends a GET again, and the failure that a visitor
// would have seen is never counted. A line writes each request once and reads
// its answer. It opens a new connection only before it sends anything.
//
// One goroutine at a time may use a line.
type line struct {
	addr   string
	config *tls.Config

	conn    net.Conn // nil before the first request and after a failure
	answers chan answer
	done    chan struct{} // closed when conn is given up
}

// An answer is what came back for one request, or why nothing did.
type answer struct {
	status int
	header http.Header
	body   []byte
	sent   time.Time // when the first byte was, at the earliest
	at     time.Time // when the last byte had arrived
	proved glance    // what the cookies that were sent prove
	last   bool      // the site closes the connection after this answer
	err    error
}

// A hold keeps back the last byte of a request, so that it is in flight at a
// web server, whose handler waits for the rest, for as long as one likes.
type hold struct {
	once sync.Once
	sent chan struct{} // closed when all else is written, or cannot be
	free chan struct{} // closed to let the last byte go
}

func newHold() *hold { return &hold{sent: make(chan struct{}), free: make(chan struct{})} }

func (h *hold) reached() {
	if h != nil {
		h.once.Do(func() { close(h.sent) })
	}
}

// send writes the request and returns its answer.
func (l *line) send(ctx context.Context, req *http.Request, hold *hold) answer {
	defer hold.reached() // whatever happens, nobody waits for it for ever
	var text bytes.Buffer
	if err := req.Write(&text); err != nil {
		return answer{err: fmt.Errorf("writing the request: %w", err), at: time.Now()}
	}
	if err := l.ready(ctx); err != nil {
		return answer{err: err, at: time.Now()}
	}
	conn := l.conn
	conn.SetDeadline(time.Now().Add(patience))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() {
			conn.SetDeadline(time.Time{})
		}
	}()

	whole := text.Bytes()
	if hold != nil && len(whole) > 0 {
		last := len(whole) - 1
		if _, err := conn.Write(whole[:last]); err != nil {
			return l.broken(err)
		}
		hold.reached()
		select {
		case <-hold.free:
		case <-ctx.Done():
		}
		whole = whole[last:]
	}
	if _, err := conn.Write(whole); err != nil {
		return l.broken(err)
	}
	a := <-l.answers
	if a.err != nil || a.last {
		l.close()
	}
	return a
}

// ready makes sure that there is a connection that is not known to be dead.
// This is the only place that may try again, as nothing has been sent yet.
func (l *line) ready(ctx context.Context) error {
	if l.conn != nil {
		select {
		case <-l.answers: // it was closed while idle, or spoke out of turn
			l.close()
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: l.config}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	l.conn, l.answers, l.done = conn, make(chan answer, 1), make(chan struct{})
	go listen(conn, l.answers, l.done)
	return nil
}

// broken gives the connection up. The site may have answered before it broke
// off, for instance with a refusal; that is an answer all the same.
func (l *line) broken(err error) answer {
	select {
	case a := <-l.answers:
		l.close()
		if a.err == nil {
			return a
		}
		return answer{err: errors.Join(err, a.err), at: time.Now()}
	case <-time.After(100 * time.Millisecond):
		l.close()
		return answer{err: err, at: time.Now()}
	}
}

func (l *line) close() {
	if l.conn == nil {
		return
	}
	close(l.done)
	l.conn.Close()
	l.conn = nil
}

// listen reads answers until the connection ends. It reads while the line is
// idle too, which is how a dead connection is noticed before it is used.
func listen(conn net.Conn, answers chan<- answer, done <-chan struct{}) {
	br := bufio.NewReader(conn)
	for {
		a := read(br)
		select {
		case answers <- a:
		case <-done:
			return
		}
		if a.err != nil || a.last {
			return
		}
	}
}

func read(br *bufio.Reader) answer {
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return answer{err: err, at: time.Now()}
		}
		if res.StatusCode < 200 { // 100 Continue and the like precede the answer
			continue
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
		if err == nil && len(body) > maxAnswer {
			err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		if err != nil {
			return answer{err: err, at: time.Now()}
		}
		return answer{status: res.StatusCode, header: res.Header, body: body, at: time.Now(), last: res.Close}
	}
}
