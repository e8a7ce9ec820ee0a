package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Ports come from below the range that systems take the ports of outgoing
// connections from (32768 and up on Linux, 49152 and up elsewhere). Port 0 would
// give one from inside it, and while a server is down somebody's connection
// might take it.
const (
	lowestPort  = 15000
	highestPort = 32000
)

// usedPorts are those this process has handed out, so that two servers that
// start at once get two ports, and one that is down keeps its own.
var usedPorts struct {
	sync.Mutex
	m map[int]bool
}

// freeAddress returns a loopback address nobody listens on. Another process may
// be quicker to: who starts a server there tries again with another one.
func freeAddress() (string, error) {
	usedPorts.Lock()
	defer usedPorts.Unlock()
	if usedPorts.m == nil {
		usedPorts.m = make(map[int]bool)
	}
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if usedPorts.m[port] {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			ln.Close()
			usedPorts.m[port] = true
			return addr, nil
		}
	}
	return "", fmt.Errorf("no free port found between %d and %d: %w", lowestPort, highestPort, err)
}

// giveBack returns an address that is used no more.
func giveBack(addr string) {
	usedPorts.Lock()
	defer usedPorts.Unlock()
	_, port, _ := strings.Cut(addr, ":")
	n, _ := strconv.Atoi(port)
	delete(usedPorts.m, n)
}

// onFreeAddress calls start with free addresses until it is not for the address
// that it fails.
func onFreeAddress(start func(addr string) error) error {
	for attempt := 1; ; attempt++ {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		if err = start(addr); err == nil {
			return nil
		}
		giveBack(addr)
		if attempt == 10 || !addressTaken(err) {
			return err
		}
	}
}

// addressTaken tells whether err, which may quote a server's log, is about an
// address that somebody else listens on.
func addressTaken(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "address already in use")
}
