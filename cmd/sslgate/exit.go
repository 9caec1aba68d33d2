package main

import (
	"context"
)

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

// untilSignal calls f, and stops waiting for it when ctx ends. main catches SIGINT and
// SIGTERM, so without this a command that reads files would ignore them while a file server
// does not answer. f continues until the process ends a moment later, so it must not change
// anything.
func untilSignal[T any](ctx context.Context, f func() T) (T, error) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case v := <-done:
		return v, nil
	case <-ctx.Done():
		var none T
		return none, &exitError{code: 1, err: context.Cause(ctx)}
	}
}

// orSignal is untilSignal for a function that returns only an error.
func orSignal(ctx context.Context, f func() error) error {
	err, interrupted := untilSignal(ctx, f)
	if interrupted != nil {
		return interrupted
	}
	return err
}
