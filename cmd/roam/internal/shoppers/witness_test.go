package shoppers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A server that does not hear of ends at all, and one that hears of them at
// once. Nothing here depends on how long anything takes: with a bound of
// nothing, to be served once is too much.
func TestAServerThatDoesNotHearOfAnEndIsFound(t *testing.T) {
	t.Parallel()
	site := &stall{marks: true}
	site.start(t)
	var deaf atomic.Bool
	direct := httptest.NewServer(site)
	defer direct.Close()
	remembers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deaf.Load() && strings.HasPrefix(r.URL.Path, "/api/") {
			w.Write([]byte(`{"user":"ann","cart":{"mug":1}}`))
			return
		}
		site.ServeHTTP(w, r)
	}))
	defer remembers.Close()
	w := &Witness{
		Servers: map[string]string{"web1": direct.Listener.Addr().String(), "web2": remembers.Listener.Addr().String()},
		Account: "ann", Password: "tea", Product: "mug", Every: time.Millisecond,
	}
	for _, hears := range []bool{true, false} {
		deaf.Store(false)
		keys, err := w.LoggedIn(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		deaf.Store(!hears)
		if err := w.End(t.Context(), keys[0], "web1", 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		e := w.Endings(0)
		if got := e.Beyond+e.Unseen > 0; got == hears {
			t.Errorf("a server that hears of ends (%v): %+v", hears, e)
		}
		if e.Longest["web1"] != 0 || e.Sessions != 1 {
			t.Errorf("the server that ended it: %+v", e)
		}
	}
}
