package main

import (
	"context"
)

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
