package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
	"github.com/roam-web/roam/sealed"
)

// Of two servers with different keys the second never gets a request, and its
// log says why; with the farm's keys it does.
func TestR028AServerWithOtherKeysIsNotReady(t *testing.T) {
	dir, err := os.MkdirTemp("", "roam") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	other := filepath.Join(dir, "other.json")
	if _, err := sealed.Create(other); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{farm.DefaultStore(dir), farm.NoStore} {
		stray := false // only the test and the farm, in turn, look at it
		f, err := farm.Start(t.Context(), farm.Options{Dir: dir, Servers: 2, Store: store, Env: func(server string) []string {
			if stray && server == "web2" {
				return []string{farm.EnvKeys + "=" + other}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Kill("web2"); err != nil {
			t.Fatal(err)
		}
		stray = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		started := make(chan error, 1)
		go func() { started <- f.StartServer(ctx, "web2") }()
		const why = "other servers have key"
		log := filepath.Join(dir, "logs", "web2.log")
		for text := ""; !strings.Contains(text, why); {
			select {
			case err := <-started:
				t.Fatalf("with %s, it started, or ended by itself: %v\n%s", store, err, text)
			case <-time.After(20 * time.Millisecond):
			}
			b, _ := os.ReadFile(log)
			text = string(b)
		}
		for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
			res, err := http.Get("http://" + f.Status()[1].Address + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("with %s, %s: status %d, want %d", store, path, res.StatusCode, want)
			}
		}
		if s := f.Status()[1]; s.State != farm.Starting {
			t.Errorf("with %s, the server is %s", store, s.State)
		}
		cancel()
		if err := <-started; err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("with %s, the operator is told: %v", store, err)
		}
		stray = false
		if err := f.StartServer(t.Context(), "web2"); err != nil {
			t.Errorf("with %s and the farm's keys: %v", store, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		os.Remove(log)
	}
	http.DefaultClient.CloseIdleConnections()
}
