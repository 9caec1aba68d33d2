package pki

import (
	"errors"
	"fmt"
)

// ErrNoCA is returned by everything but Init for a directory that holds no CA.
var ErrNoCA = errors.New("no CA here")

// ErrExists is returned instead of overwriting a file.
var ErrExists = errors.New("exists already")

// ErrBusy is returned if another process works in the CA's directory for
// longer than lockWait.
var ErrBusy = errors.New("another process works in this directory")

// ErrNotIssued is returned by Revoke for a certificate this CA did not issue.
var ErrNotIssued = errors.New("not issued by this CA")

// ErrRevoked is returned by Revoke for a certificate that is revoked already.
var ErrRevoked = errors.New("revoked already")

// UsageError is a mistake in the request, found before anything was changed: an invalid
// name, an unknown kind of key. The text is complete.
type UsageError struct{ err error }

// Error is the text of the mistake.
func (e *UsageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}
