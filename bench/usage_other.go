//go:build !linux

package main

import (
	"net"
	"strconv"
	"time"
)

// Outside Linux nothing is counted here; there the servers do not start either.

type wire struct {
	port int
	seen map[uint64]uint32
}

func (w *wire) sent() int64 { return 0 }

type family int

func (f family) cpu() time.Duration { return 0 }

func ownCPU() time.Duration   { return 0 }
func parentOf(pid int) family { return 0 }

func portOf(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return n
}
