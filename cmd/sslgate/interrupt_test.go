package main

import (
	"context"
	"errors"
	"testing"
)

func TestUntilSignal(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	wrong := errors.New("wrong")
	if err := orSignal(ctx, func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	if err := orSignal(ctx, func() error { return nil }); err != nil {
		t.Errorf("%v", err)
	}
	began, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go func() { <-began; stop() }()
	err := orSignal(ctx, func() error { close(began); <-end; return nil })
	var e *exitError
	if !errors.As(err, &e) || e.code != 1 || !errors.Is(e.err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
