package handshake

import (
	"errors"
	"fmt"

	"github.com/sslgate/sslgate/internal/reason"
)

// Error is how every function of this package reports that a handshake ended:
// at which step, whose fault, with which stable reason, and which alert says
// it best. It ends the flow it belongs to and nothing else.
type Error struct {
	Step   Step
	Side   Side        // whose fault
	Reason reason.Code // stable, from internal/reason
	// Wanted is the alert that says it best; AlertNone where none is wanted.
	Wanted Alert
	// Received is the alert that the peer sent, AlertNone if it sent none.
	Received Alert
	Detail   string // for the record; may quote the peer, so it is escaped where it is shown
	Err      error  // the cause, may be nil
	// Peer is what the peer claimed to be, nil if it showed no certificate.
	// It is never Proven: that needs a handshake that ended well.
	Peer *Peer
}

// Error says the step, the reason and the detail.
func (e *Error) Error() string {
	s := fmt.Sprintf("step %d (%s): %s", e.Step, e.Step, e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Refuse builds the Error of a refusal with the alert that internal/reason
// lists for the code. The fault is the peer's.
func Refuse(step Step, code reason.Code, detail string) *Error {
	return &Error{
		Step: step, Side: SidePeer, Reason: code, Detail: detail,
		Wanted: AlertOf(code), Received: AlertNone,
	}
}

// OurFault is a failure that is our own doing.
func OurFault(detail string) *Error {
	return &Error{Reason: reason.Internal, Side: SideUs, Wanted: AlertInternalError, Received: AlertNone, Detail: detail}
}

// AsError returns the *Error inside err; where there is none it makes one that
// says internal_error, so that nothing is ever without a reason. nil gives nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: reason.Internal, Wanted: AlertInternalError, Received: AlertNone, Err: err}
}
