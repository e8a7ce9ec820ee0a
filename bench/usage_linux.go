package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A wire counts the segments with data that this process has sent to a server,
// as the kernel counts them for each connection. A question to a database is
// one, whatever driver asks, and nothing has to be put in between. What a
// connection sent after the last look and before it was closed is missed.
type wire struct {
	port int
	seen map[uint64]uint32 // of each connection, by inode
	sum  int64
}

// sent returns how many there were until now.
func (w *wire) sent() int64 {
	if w.port == 0 {
		return 0
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, f := range fds {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		var port int
		switch a := peer.(type) {
		case *unix.SockaddrInet4:
			port = a.Port
		case *unix.SockaddrInet6:
			port = a.Port
		}
		if port != w.port {
			continue
		}
		var st unix.Stat_t
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || unix.Fstat(fd, &st) != nil {
			continue
		}
		was := w.seen[st.Ino]
		if info.Data_segs_out < was { // the number is another connection's by now
			was = 0
		}
		w.sum += int64(info.Data_segs_out - was)
		w.seen[st.Ino] = info.Data_segs_out
	}
	return w.sum
}

func portOf(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return n
}

// A family is a server's process and all that it has forked.
type family int

// cpu is the processor time of the family, to the nanosecond where it lives
// still, and to the hundredth of a second of those that have ended.
func (f family) cpu() time.Duration {
	if f == 0 {
		return 0
	}
	stat := procStat(int(f))
	if len(stat) < 18 {
		return 0
	}
	total := ranFor(int(f))
	for _, field := range stat[15:17] { // cutime and cstime
		ticks, _ := strconv.ParseInt(field, 10, 64)
		total += time.Duration(ticks) * (time.Second / 100)
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if s := procStat(pid); len(s) > 3 && s[3] == strconv.Itoa(int(f)) {
			total += ranFor(pid)
		}
	}
	return total
}

// procStat returns the fields of /proc/PID/stat, the second of which, the name, is
// without what could be taken for others.
func procStat(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	before, after, ok := strings.Cut(string(data), "(")
	i := strings.LastIndex(after, ")")
	if !ok || i < 0 {
		return nil
	}
	return strings.Fields(before + "name" + after[i+1:])
}

// ranFor is how long all threads of the process ran.
func ranFor(pid int) time.Duration {
	var total time.Duration
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		ns, _, _ := strings.Cut(string(data), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		total += time.Duration(n)
	}
	return total
}

// parentOf is for a server that tells the process of one connection only.
func parentOf(pid int) family {
	if s := procStat(pid); len(s) > 3 {
		n, _ := strconv.Atoi(s[3])
		return family(n)
	}
	return 0
}
