package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A client is a browser with one connection to each server, which it keeps. It
// speaks as little HTTP as the sites' answers need: a load that costs more than
// what it measures would measure itself.
type client struct {
	conns []*conn
	next  int // whose turn it is; clients go round all servers
	v     *visitor
}

type conn struct {
	net.Conn
	in  *bufio.Reader
	out []byte
	got answer
	buf []byte
}

// dial makes n clients of a farm that has as many already as first says, each of
// them another user, and logged in.
func dial(farm []*process, first, n int) ([]*client, error) {
	var all []*client
	for i := range n {
		c := &client{next: i}
		all = append(all, c)
		for _, p := range farm {
			raw, err := net.Dial("tcp", p.addr)
			if err != nil {
				return all, err
			}
			c.conns = append(c.conns, &conn{Conn: raw, in: bufio.NewReaderSize(raw, 4096)})
		}
		v, err := arrive(c, nil, fmt.Sprintf("u%d", 300+first+i))
		if err != nil {
			return all, err
		}
		v.forged = farm[0].forged
		c.v = v
	}
	return all, nil
}

func (c *client) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

func (c *client) visit(p page) error { return c.v.visit(c, p) }

// ask implements caller on the next server.
func (c *client) ask(method, path, cookies string) (answer, error) {
	c.next++
	return c.conns[c.next%len(c.conns)].ask(method, path, cookies)
}

func (c *conn) ask(method, path, cookies string) (answer, error) {
	b := append(c.out[:0], method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nX-Forwarded-Proto: https\r\n"...)
	if cookies != "" {
		b = append(b, "Cookie: "...)
		b = append(b, cookies...)
		b = append(b, "\r\n"...)
	}
	if method != "GET" {
		b = append(b, "Content-Length: 0\r\n"...)
	}
	c.out = append(b, "\r\n"...)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(c.out); err != nil {
		return answer{}, err
	}
	return c.read()
}

// read reads a response that says how long it is, as all of these do.
func (c *conn) read() (answer, error) {
	c.got.set = c.got.set[:0]
	length := -1
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return answer{}, err
		}
		line = line[:max(0, len(line)-2)]
		if first {
			if len(line) < 12 {
				return answer{}, fmt.Errorf("%q is no status line", line)
			}
			c.got.status, err = strconv.Atoi(string(line[9:12]))
			if err != nil {
				return answer{}, err
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		// Only two headers matter, and both are longer than their names.
		if len(line) > 16 && (line[0] == 'C' || line[0] == 'c') && strings.EqualFold(string(line[:16]), "Content-Length: ") {
			if length, err = strconv.Atoi(string(line[16:])); err != nil {
				return answer{}, err
			}
		} else if len(line) > 12 && (line[0] == 'S' || line[0] == 's') && strings.EqualFold(string(line[:12]), "Set-Cookie: ") {
			c.got.set = append(c.got.set, string(line[12:]))
		}
	}
	if length < 0 {
		return answer{}, errors.New("an answer without Content-Length")
	}
	if cap(c.buf) < length {
		c.buf = make([]byte, length)
	}
	c.got.body = c.buf[:length]
	_, err := io.ReadFull(c.in, c.got.body)
	return c.got, err
}

// shopPage is the page that the n-th of a hundred requests to a shop is for: 70
// need no session, 20 ask who is it, 8 read it and 2 change it.
func shopPage(n int) page {
	switch {
	case n < 70:
		return pageNamed("untouched")
	case n < 90:
		return pageNamed("identify")
	case n < 98:
		return pageNamed("warm")
	}
	return pageNamed("update")
}
