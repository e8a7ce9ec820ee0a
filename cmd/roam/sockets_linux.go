package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Sockets count this process's connections to a database by what the kernel
// says: so also those are counted that a driver has given up and not closed.
type sockets struct{ ports map[string]bool } // in hexadecimal

func newSockets(dsn string) *sockets {
	s := &sockets{ports: map[string]bool{}}
	_, rest, _ := strings.Cut(dsn, "://")
	authority, _, _ := strings.Cut(rest, "/")
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	for host := range strings.SplitSeq(hosts, ",") {
		port := 5432
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			port, _ = strconv.Atoi(host[i+1:])
		}
		s.ports[strings.ToUpper(strconv.FormatInt(int64(port)+1<<16, 16)[1:])] = true
	}
	return s
}

func (s *sockets) count() (n int) {
	own := map[string]bool{}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, f := range files {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			field := strings.Fields(lines.Text())
			if len(field) < 10 || !own[field[9]] {
				continue
			}
			if _, port, _ := strings.Cut(field[2], ":"); s.ports[port] {
				n++
			}
		}
		f.Close()
	}
	return n
}
