// Package roam keeps web sessions that no server owns: the session lives in a
// database, the browser holds a key that is new at each login, and any web
// server serves any request.
//
// Start with [New], which makes a [Manager] of sessions with data of your own
// type T, and [NewWeb], which adds the cookie:
//
//	sessions := roam.Must(roam.New[Cart](store, nil))
//	web := roam.Must(roam.NewWeb(sessions, nil))
//
//	mux.HandleFunc("POST /cart/{item}", func(w http.ResponseWriter, r *http.Request) {
//		_, err := web.Update(w, r, func(c *Cart) error {
//			c.Items = append(c.Items, r.PathValue("item"))
//			return nil
//		})
//		…
//	})
//
// There are three layers, each usable without the one above it:
//
//	Web[T]      cookies:  Get, Update, Login, Logout over (w, r)
//	Manager[T]  your T:   the same verbs over a Token, without HTTP
//	Store       bytes:    memory, SQLite, PostgreSQL
//
// Ask for no more than a page needs: a page that calls nothing pays nothing;
// Identify says who it is and costs no trip to the store while [Manager.Run]
// runs; Get is the session, and costs none if package nearcache is in front of
// the store and has it; Fresh always asks.
//
// Reading and changing are different calls. A read changes nothing but the time
// of last use. Update runs a function on the data and swaps the result in if
// nobody else was faster, else runs it again: no locks and no lost update. Reads
// never wait for anybody, and updates of one session take turns inside a process
// where they would only race.
//
// # What it promises
//
// An Update that returned nil is in the data. A session that ended stays dead,
// whatever was still in flight. A store that does not answer is an
// [ErrUnavailable], never a logout. A login has a new secret, and the old one
// is dead when Login returns. A read writes neither a record nor a cookie, and
// visitors who were never given a session cost nothing. Limits of time are
// judged on every load, by the store's clock. What the store holds opens no
// session: it knows hashes of secrets only.
//
// # What it refuses
//
// There is no middleware, no wrapped ResponseWriter, no map of strings and no
// lock. Nothing starts a goroutine; background work is [Manager.Run], which
// you call. A token comes from its one cookie and from nowhere else. Session
// data is small: identifiers and unfinished work.
//
// This package imports the standard library only. Stores with a driver are
// modules of their own below store. Package roamtest helps to test programs
// that use roam; package storetest is the law for those who write a store. A
// site that keeps nothing but who-is-it can do without a store: see [Tickets],
// and what they give up.
package roam
