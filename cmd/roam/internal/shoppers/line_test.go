package shoppers

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func lineTo(t *testing.T, h http.HandlerFunc) (*line, *httptest.Server) {
	t.Helper()
	site := httptest.NewTLSServer(h)
	t.Cleanup(site.Close)
	l := &line{
		addr:   site.Listener.Addr().String(),
		config: &tls.Config{RootCAs: site.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "127.0.0.1"},
	}
	t.Cleanup(l.close)
	return l, site
}

func sendGet(t *testing.T, l *line, url string) answer {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l.send(t.Context(), req, nil)
}

// This is what http.Transport does not do: it would send the second GET again.
func TestARequestIsSentOnce(t *testing.T) {
	var got atomic.Int64
	l, site := lineTo(t, func(w http.ResponseWriter, r *http.Request) {
		if got.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
	})
	if a := sendGet(t, l, site.URL); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("first: %+v", a)
	}
	if a := sendGet(t, l, site.URL); a.err == nil {
		t.Errorf("second: got status %d, want an error", a.status)
	}
	if n := got.Load(); n != 2 {
		t.Errorf("the site got %d requests, want 2", n)
	}
	if a := sendGet(t, l, site.URL); a.err != nil || a.status != http.StatusOK {
		t.Errorf("third, on a new connection: %+v", a)
	}
}

func TestADeadConnectionIsNoticedBeforeSending(t *testing.T) {
	l, site := lineTo(t, func(w http.ResponseWriter, r *http.Request) {})
	if a := sendGet(t, l, site.URL); a.err != nil {
		t.Fatal(a.err)
	}
	old := l.conn
	site.CloseClientConnections()
	for len(l.answers) == 0 { // the listener has not heard of it yet
		time.Sleep(time.Millisecond)
	}
	if a := sendGet(t, l, site.URL); a.err != nil {
		t.Errorf("got %v, want an answer over a new connection", a.err)
	}
	if l.conn == old {
		t.Error("the dead connection is still in use")
	}
}

func TestAHeldRequestIsInFlightUntilItIsFreed(t *testing.T) {
	begun, ended := make(chan bool), make(chan string, 1)
	l, site := lineTo(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		ended <- r.PostFormValue("product")
	})
	req, err := http.NewRequest("POST", site.URL, strings.NewReader("product=green-tea"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	h := newHold()
	answered := make(chan answer)
	go func() { answered <- l.send(context.Background(), req, h) }()
	<-h.sent
	<-begun
	select {
	case v := <-ended:
		t.Errorf("the handler has read %q before the request was freed", v)
	case a := <-answered:
		t.Fatalf("answered before it was freed: %+v", a)
	default:
	}
	close(h.free)
	if a := <-answered; a.err != nil || a.status != http.StatusOK {
		t.Errorf("got %+v, want an answer", a)
	}
	if v := <-ended; v != "green-tea" {
		t.Errorf("the handler read %q, want green-tea", v)
	}
}
