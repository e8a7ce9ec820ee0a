// Package graceful stops an [http.Server] without losing a request.
//
// Start with [New] and [Server.Run], which serves until its context is done
// and then stops in the order below. Mount [Livez] and [Server.Readyz] for
// whoever watches the server, use [Server.Draining] in handlers that live long
// (server-sent events, WebSockets), and take the listening socket from
// [Listener] so that a parent process or systemd can hold it across restarts.
// Signals are the caller's: see the example of [Server.Run].
//
// # Why not Shutdown
//
// [http.Server.Shutdown] drops requests while traffic still arrives: it closes
// idle connections under the client's feet, and a request that was read after
// the call is dropped without an answer (golang/go#75591, #36819, #23829).
// SetKeepAlivesEnabled(false) closes idle connections at once, too. Run does
// this instead:
//
//  1. Readyz answers 503 for [Options].Notice. All else is served as before,
//     so that a balancer which polls it takes the server out.
//  2. The listener is closed first. A refused connection can be tried
//     elsewhere, even by a POST; a connection that is cut cannot.
//  3. Draining is signalled, and each answer says "Connection: close" (a
//     GOAWAY on HTTP/2), which is the one way to end a kept-alive connection
//     that no client can misread.
//  4. When no request is in flight, and every connection is closed or has been
//     idle for [Options].Linger, the rest is closed. Connections that never
//     carried a request do not hold this up for five seconds as they hold up
//     Shutdown (golang/go#22682, #21204). Idle HTTP/2 connections get a GOAWAY
//     and the second that net/http then gives them.
//  5. At [Options].Timeout everything is closed, and a [CutError] says how many
//     requests that cost.
//
// # What is not promised
//
// A kept-alive HTTP/1.1 connection on which nothing was sent for Linger is
// closed, and a client that sends in that very instant gets no answer. HTTP/1.1
// has no way around this (RFC 9112, section 9.5). Linger should exceed the
// pauses of whoever keeps connections; behind a busy balancer they are short.
//
// Closing a listening socket that no other process holds resets the
// connections which the kernel has queued and the server has not yet accepted.
// A Notice that the balancer obeys leaves none, and a socket that is shared
// (see [Listener]) leaves them to the next server.
//
// A server that is killed loses what it was doing. Only a handler that may be
// run twice, or an idempotency key, helps there.
//
// The package wraps no ResponseWriter, so Flusher, Hijacker and ReaderFrom work
// as before, and no constructor starts a goroutine.
package graceful
