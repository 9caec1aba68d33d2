package main

import (
	"context"
)

// untilSignal calls f, and does not wait for it any longer once ctx has ended:
// main catches SIGINT and SIGTERM, so without this a command that reads files
// would be deaf to them while a file server does not answer. f goes on then,
// until the process ends a moment later; it must not change anything.
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

// orSignal is untilSignal for a command that is done with an error.
func orSignal(ctx context.Context, f func() error) error {
	err, interrupted := untilSignal(ctx, f)
	if interrupted != nil {
		return interrupted
	}
	return err
}
