package roam

import (
	"errors"
	"fmt"
	"time"
)

// The errors of this package. Test for them with [errors.Is]; for the reason
// why a session is over, use [errors.As] with an [*EndedError].
var (
	// ErrEnded says that the token's session is over or never was. The
	// error is always an *EndedError, which knows the reason.
	ErrEnded = errors.New("roam: session ended")

	// ErrUnavailable says that the store gave no answer. Nothing is known
	// about the session, so it must not be read as "logged out": answer 503
	// and leave the cookie alone. A Store wraps it where it knows that it
	// has written nothing.
	ErrUnavailable = errors.New("roam: store unavailable")

	// ErrUnknown says that a write was sent and that nobody can tell whether
	// it landed. The same error is also an ErrUnavailable.
	ErrUnknown = errors.New("roam: outcome of a write unknown")

	// ErrConflict says that a session changed under an update again and
	// again until its tries were used up. From a Store it says that the
	// record is not at the wanted version, or not alive.
	ErrConflict = errors.New("roam: too many concurrent changes of one session")

	// ErrTooLarge says that a session's data is over [Options.MaxData].
	ErrTooLarge = errors.New("roam: session data too large")

	// ErrUndecodable says that one session's stored data is not a T, for
	// instance after an incompatible change of the type. The record is left
	// as it is, so that a fixed program can read it.
	ErrUndecodable = errors.New("roam: session data cannot be decoded")

	// ErrRequest says that a request cannot carry a session: it came over
	// plain HTTP, or it has several session cookies. Answer 400.
	ErrRequest = errors.New("roam: request cannot carry a session")

	// ErrNotFound is what [Store.Load] returns for an ID it has no record of.
	ErrNotFound = errors.New("roam: no such record")
)

// A Reason says why a session is over. The constants are the reasons that roam
// gives by itself; an application may pass a short name of its own, at most 64
// bytes, to [Manager.Revoke].
type Reason string

const (
	LoggedOut       Reason = "logged out"
	Revoked         Reason = "revoked"
	PasswordChanged Reason = "password changed"
	OverLimit       Reason = "too many sessions" // see Options.SessionsPerUser
	Replaced        Reason = "replaced by another user's login"

	// Reasons that are judged and never stored.
	Idle     Reason = "idle too long"
	Lifetime Reason = "lifetime over"
	Rotated  Reason = "replaced by a newer login" // the token is from before the last Login
	Forged   Reason = "wrong secret"              // the ID exists, the secret never fitted, or not for two logins
	Missing  Reason = "no such session"           // never was, or ended so long ago that it was pruned
)

// fnError carries the error of a function that the application passed, so that
// it is never taken for one about the session.
type fnError struct{ error }

// own returns what the application gets to see of err.
func own(err error) error {
	if e, ok := err.(fnError); ok {
		return e.error
	}
	return err
}

// An EndedError says which session is over, why and, where known, since when
// in the store's time. It is an [ErrEnded].
type EndedError struct {
	ID     ID
	Reason Reason
	At     time.Time // zero if not known
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("roam: session %v ended: %s", e.ID, e.Reason)
}

// Is makes errors.Is(err, ErrEnded) true.
func (e *EndedError) Is(target error) bool { return target == ErrEnded }

// unavailable turns an error of a store's read into an ErrUnavailable.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// unknown turns what is known of a write that cannot be settled into an
// ErrUnknown.
func unknown(err error) error {
	return fmt.Errorf("%w: %w: %w", ErrUnknown, ErrUnavailable, err)
}
