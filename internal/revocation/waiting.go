package revocation

import "context"

type waitingKey struct{}

// Waiting gives Check a function that runs what waits for a responder: a caller
// that holds something others need gives it back meanwhile. It must run what it
// is given, once.
func Waiting(ctx context.Context, run func(ask func())) context.Context {
	return context.WithValue(ctx, waitingKey{}, run)
}

// waits runs ask as the caller of Check has asked for.
func waits(ctx context.Context, ask func()) {
	if run, ok := ctx.Value(waitingKey{}).(func(func())); ok {
		run(ask)
		return
	}
	ask()
}
