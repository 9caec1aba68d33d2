package main

// exitError ends sslgate with an exit code: 1 means the answer is no, 2 wrong usage or
// configuration, 3 exitDrained. Without a wrapped error nothing more is printed, because all was
// said already.
type exitError struct {
	code int
	err  error
}

// Error is the text of the error inside, "" without one.
func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap returns the error inside.
func (e *exitError) Unwrap() error { return e.err }
