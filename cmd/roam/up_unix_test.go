//go:build unix

package main

import (
	"bufio"
	"bytes"
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
	var errs bytes.Buffer
	cmd.Stderr = &errs
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
	until(t, "the request is in flight", func() bool {
		select {
		case err := <-failed:
			t.Fatalf("the request was answered too soon: %v", err)
		default:
		}
		inFlight := 0
		for _, s := range infoOf(t, dir).Servers {
			inFlight += s.InFlight
		}
		return inFlight > 0
	})
	cmd.Process.Signal(os.Interrupt)
	scan("stopping: requests in flight are finished first")
	cmd.Process.Signal(os.Interrupt)
	for lines.Scan() {
		t.Errorf("after the second interrupt: %s", lines.Text())
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	if got, want := errs.String(), "error: stopped at once by a second signal\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	write.Close()
	if err := <-failed; err == nil {
		t.Error("the request in flight was answered")
	}
	for _, s := range info.Servers {
		until(t, s.Name+" is dead", func() bool { return dead(s.PID) })
	}
}

// until waits for what must come, however slow the machine is.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
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
