package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/roam-web/roam"
)

const (
	// streamFor is how long a stream lasts; then the browser opens the next one,
	// on whichever server. It bounds how long a server that is to be replaced
	// has to wait, because a balancer that gives it no new requests cannot tell
	// it to end those it has.
	streamFor = 5 * time.Second

	// streamAgain is how soon the browser does so.
	streamAgain = 200 * time.Millisecond
)

// News are what a stream tells: whom it watches, or that the session is over
// and why.
type news struct {
	Server  string      `json:"server"`
	Session bool        `json:"session"` // there is one to watch
	User    string      `json:"user"`
	Ended   roam.Reason `json:"ended"`
	Rotated bool        `json:"rotated"` // by a login in another tab, whose cookie this one has too
	Text    string      `json:"text"`    // Ended for people
}

// watch tells a browser when its session ends, wherever that happens: on another
// server, from another device, by an operator. These are server-sent events (HTML
// standard, section 9.2), of two kinds, "watching" and "ended".
//
// It asks no database: the manager hears of ends anyway, twice a second, and
// ends the context of those it concerns. A stream is not use of the session, so
// a page that is left open keeps nobody logged in.
func (s *Shop) watch(w http.ResponseWriter, r *http.Request) error {
	ctx, who, err := s.web.Watch(w, r)
	ended := (*roam.EndedError)(nil)
	if err != nil && !errors.As(err, &ended) { // unknown is not gone: the script tries again
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it back
	stream := http.NewResponseController(w)
	tell := func(event string, it news) error {
		it.Server = s.server
		data, err := json.Marshal(it)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "retry: %d\nevent: %s\ndata: %s\n\n", streamAgain.Milliseconds(), event, data)
		return stream.Flush()
	}
	if ended == nil {
		if err := tell("watching", news{Session: !who.ID.IsZero(), User: who.User}); err != nil {
			return nil // the visitor has left; nobody is there to be told
		}
		select {
		case <-ctx.Done():
			errors.As(context.Cause(ctx), &ended) // or the visitor has left
		case <-s.stopping:
		case <-time.After(streamFor):
		}
	}
	if ended != nil {
		tell("ended", news{Ended: ended.Reason, Rotated: ended.Reason == roam.Rotated, Text: translate(languageOf(r), farewell(ended.Reason))})
	}
	return nil
}
