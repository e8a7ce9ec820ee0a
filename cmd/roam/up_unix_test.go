//go:build unix

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// The first ^C waits for a request in flight; the second does not wait, and
// leaves no process behind.
func TestSecondInterruptForces(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("roam", "up", "--listen", "127.0.0.1:0", "--servers", "2", "--dir", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	scan := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the output ends without %q", want)
	}
	scan("^C stops the farm")
	info := infoOf(t, dir)
	pool, err := farm.Pool(info.RootCert)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	body, write := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodPost, info.URL+"/login", body)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := transport.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		failed <- err
	}()
	for inFlight := 0; inFlight == 0; time.Sleep(time.Millisecond) {
		for _, s := range infoOf(t, dir).Servers {
			inFlight += s.InFlight
		}
	}
	cmd.Process.Signal(os.Interrupt)
	scan("stopping: requests in flight are finished first")
	cmd.Process.Signal(os.Interrupt)
	for lines.Scan() {
		t.Errorf("after the second interrupt: %s", lines.Text())
	}
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want an end by SIGINT", err)
	}
	write.Close()
	if err := <-failed; err == nil {
		t.Error("the request in flight was answered")
	}
	for _, s := range info.Servers {
		for !dead(s.PID) {
			time.Sleep(time.Millisecond)
		}
	}
}

func infoOf(t *testing.T, dir string) (info farm.Info) {
	t.Helper()
	code, out, text := runIt(t, "status", "--json", "--dir", dir)
	if code != 0 {
		t.Fatal(text)
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatal(err)
	}
	return info
}

// dead reports whether a process is gone, or waits to be buried by somebody
// who is not of these tests.
func dead(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
