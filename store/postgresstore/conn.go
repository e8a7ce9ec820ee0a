package postgresstore

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A conn is a connection to one host. It is used by one caller at a time.
type conn struct {
	pg     *pgconn.PgConn
	sock   atomic.Pointer[socket]
	sealed atomic.Bool // once it is connected nothing is dialled for it any more
	args   args
	warned bool // the server gave up waiting for its standby
	born   time.Time
	used   time.Time

	// The prepared statements, or nil each: then they are sent as text.
	prepared [numPrepared]*pgconn.StatementDescription
	abort    func()
	spoiled  bool // abort may still have an effect
	writes   bool // it counts as a write's, see pool.writes
}

// A socket is below a conn, and below its TLS.
type socket struct {
	net.Conn
	sent atomic.Bool // since the last statement began

	// left is set once nobody waits for an answer any more. Then the driver
	// no longer decides how long to wait for the server to hang up: see
	// pool.leave.
	left atomic.Bool
}

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if n > 0 {
		s.sent.Store(true)
	}
	return n, err
}

func (s *socket) SetDeadline(t time.Time) error {
	if s.left.Load() {
		return nil
	}
	return s.Conn.SetDeadline(t)
}

var errNoCancel = errors.New("this store sends no cancel requests")

// connect opens a connection to the only host of cfg.
//
// The driver would send a cancel request wherever a caller stops waiting, over
// a connection that it dials for that. But a commit that is cancelled while it
// waits for its synchronous standby does become visible and is not replicated.
// So once a connection is up, there is no dialling for it.
func connect(ctx context.Context, cfg *pgconn.Config) (*conn, error) {
	c := &conn{born: time.Now()}
	c.used = c.born
	cfg = cfg.Copy()
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if c.sealed.Load() {
			return nil, errNoCancel
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		giveUpOn(nc)
		s := &socket{Conn: nc}
		c.sock.Store(s)
		return s, nil
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.notice(n) }
	pg, err := pgconn.ConnectConfig(ctx, cfg)
	c.sealed.Store(true)
	if err != nil {
		return nil, err
	}
	c.pg = pg
	c.abort = c.cut
	return c, nil
}

// notice looks for the warning that a commit was not replicated. The routine's
// name is in no language. A pooler may leave it out; then any warning counts.
func (c *conn) notice(n *pgconn.Notice) {
	severity := n.SeverityUnlocalized
	if severity == "" {
		severity = n.Severity
	}
	if n.Routine == "SyncRepWaitForLSN" || severity == "WARNING" && n.Routine == "" {
		c.warned = true
	}
}

// prepare prepares what is used most, in one trip, and learns which server
// this is.
func (c *conn) prepare(ctx context.Context, all *[numQueries]statement, named bool) (system int64, timeline string, err error) {
	p := c.pg.StartPipeline(ctx)
	id := &all[identify]
	p.SendQueryParams(id.sql, nil, id.oids, nil, binary1)
	if named {
		for i := range numPrepared {
			p.SendPrepare(all[i].name, all[i].sql, all[i].oids)
		}
	}
	err = p.Sync()
	for n, done := query(0), false; err == nil && !done; {
		var r any
		if r, err = p.GetResults(); err != nil {
			break
		}
		switch r := r.(type) {
		case *pgconn.ResultReader:
			for r.NextRow() {
				v := r.Values()
				system, timeline = number(v[0]), string(v[1])
			}
			_, err = r.Close()
		case *pgconn.StatementDescription:
			r.Name = all[n].name // a pipeline does not tell
			c.prepared[n] = r
			n++
		case *pgconn.PipelineSync:
			done = true
		}
	}
	if e := p.Close(); err == nil {
		err = e
	}
	if err != nil {
		c.unprepare()
	}
	return system, timeline, err
}

// unprepare makes the connection send statements as text.
func (c *conn) unprepare() { clear(c.prepared[:]) }

// misnamed reports whether a prepared statement was not there, or another one
// was: the connection is shared, by a pooler, between clients.
func misnamed(err error) bool {
	switch state(err) {
	case "42P05", "26000":
		return true
	}
	return false
}

var binary1 = []int16{1}

// exec sends the statement with c.args as its parameters and calls row with
// each row of the answer, which it must not keep. If it returns an error, and
// may is false, nothing was sent.
//
// When ctx or time ends, exec returns at once, with the connection closed.
func (c *conn) exec(ctx context.Context, deadline time.Time, q query, st *statement, row func(v [][]byte) error) (may bool, err error) {
	s := c.sock.Load()
	s.sent.Store(false)
	c.warned = false
	s.SetDeadline(deadline)
	var stop func() bool
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, c.abort)
	}
	var rr *pgconn.ResultReader
	if q < numPrepared && c.prepared[q] != nil {
		rr = c.pg.ExecStatement(context.Background(), c.prepared[q], c.args.values, binary1, binary1)
	} else {
		rr = c.pg.ExecParams(context.Background(), st.sql, c.args.values, st.oids, binary1, binary1)
	}
	var rowErr error
	for rr.NextRow() {
		if rowErr == nil {
			rowErr = row(rr.Values())
		}
	}
	_, err = rr.Close()
	if stop != nil && !stop() {
		c.spoiled = true
		if err != nil {
			err = ctx.Err()
		}
	}
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		err = context.DeadlineExceeded
	case err == nil && c.warned:
		err = errReplica
	case err == nil:
		err = rowErr
	}
	return err == nil || s.sent.Load(), err
}

// cut ends whatever the connection is doing.
func (c *conn) cut() {
	if s := c.sock.Load(); s != nil {
		s.Conn.SetDeadline(time.Unix(1, 0))
	}
}

// close closes the connection hard, so that whoever reads from it returns.
func (c *conn) close() {
	c.sealed.Store(true)
	if s := c.sock.Load(); s != nil {
		s.Conn.Close()
	}
}

// quit says goodbye, and closes the connection.
func (c *conn) quit() {
	if s := c.sock.Load(); s != nil && c.pg != nil && !c.pg.IsClosed() {
		s.SetDeadline(time.Now().Add(100 * time.Millisecond))
		c.pg.Close(context.Background())
	}
	c.close()
}
