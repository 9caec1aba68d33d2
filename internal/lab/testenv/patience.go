package testenv

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// The patience on a machine that does the measured work within usualWork. The work takes a
// third of usualWork on a free core of 2020, and all of it with the race detector. A slower
// or busier machine gets more patience, up to maxSlowness times.
const (
	basePatience = 30 * time.Second
	usualWork    = 30 * time.Millisecond
	maxSlowness  = 4
)

var patience = sync.OnceValue(func() time.Duration { return patienceFor(measure()) })

// patienceFor is the patience on a machine that took this long for the measured work.
func patienceFor(took time.Duration) time.Duration {
	slowness := min(max(took.Seconds()/usualWork.Seconds(), 1), maxSlowness)
	return time.Duration(slowness * float64(basePatience))
}

// measure times a fixed piece of work: sorting numbers and switching between goroutines. It
// reads the wall clock, because tests wait by the wall clock too: a core that others use
// counts as a slow one.
func measure() time.Duration {
	start := time.Now()
	source := rand.New(rand.NewPCG(1, 2))
	numbers := make([]int, 60_000)
	for i := range numbers {
		numbers[i] = source.Int()
	}
	slices.Sort(numbers)
	ping, pong := make(chan int), make(chan int)
	go func() {
		defer close(pong)
		for n := range ping {
			pong <- n
		}
	}()
	for i := range 2000 {
		ping <- i
		<-pong
	}
	close(ping)
	<-pong
	return time.Since(start)
}

// Patience is how long a test waits for an event that must come: at least 30 s, and up to two
// minutes on a slow machine. The machine is measured once in a process. The wait is long
// because it costs time only when a test fails.
func Patience() time.Duration { return patience() }

// Deadline is the time at which the patience that begins now ends, for
// SetDeadline and the like.
func Deadline() time.Time { return time.Now().Add(Patience()) }

// Context returns a context that ends with the patience, and with the test.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience())
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until the condition holds. It checks at once, then after a millisecond,
// then less often. The condition runs in the caller's goroutine. If it does not hold within
// the patience, the test fails with the name of what it waited for and with what states
// return at that moment.
func Eventually(t testing.TB, what string, cond func() bool, states ...func() any) {
	t.Helper()
	eventually(t, Patience(), what, cond, states)
}

// EventuallyWithin is Eventually for what takes its time by design, such as the life of a certificate:
// within is more than one patience, and a multiple of it.
func EventuallyWithin(t testing.TB, within time.Duration, what string, cond func() bool, states ...func() any) {
	t.Helper()
	eventually(t, within, what, cond, states)
}

func eventually(t testing.TB, within time.Duration, what string, cond func() bool, states []func() any) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			for _, state := range states {
				t.Logf("%+v", state())
			}
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(pause)
	}
}

// Receive waits for a value of the channel, or for its close, which gives the zero value. If
// neither comes within the patience, the test fails with the name of what it waited for.
func Receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	timer := time.NewTimer(Patience())
	defer timer.Stop()
	select {
	case v := <-from:
		return v
	case <-timer.C:
		t.Fatalf("not within %v: %s", Patience(), what)
		panic("unreachable")
	}
}

// Settled waits until a value stays the same for ten looks in a row, 20 ms apart, and returns
// it. Use it for a value that is compared with another reading, or with a bound, and must not
// be changing.
func Settled[T comparable](t testing.TB, what string, look func() T) T {
	t.Helper()
	last, same := look(), 0
	Eventually(t, what+" stays the same", func() bool {
		time.Sleep(20 * time.Millisecond)
		now := look()
		if same++; now != last {
			same = 0
		}
		last = now
		return same == 10
	}, func() any { return last })
	return last
}

// Scaled converts a bound that a fast machine keeps (such as "ends within five seconds") for
// this machine: it grows by the same factor as the patience.
func Scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * Patience().Seconds() / basePatience.Seconds())
}
