package revocation

import "context"

type waitingKey struct{}

// Waiting gives Check a function that runs every wait for a responder. With it a caller
// can release meanwhile what others need. run must call ask once.
func Waiting(ctx context.Context, run func(ask func())) context.Context {
	return context.WithValue(ctx, waitingKey{}, run)
}

// waits runs ask through the function of Waiting, if there is one.
func waits(ctx context.Context, ask func()) {
	if run, ok := ctx.Value(waitingKey{}).(func(func())); ok {
		run(ask)
		return
	}
	ask()
}
