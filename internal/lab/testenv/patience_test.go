package testenv

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A slow machine gets more patience in proportion, none gets less than the base
// or more than two minutes.
func TestPatienceScales(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 30 * time.Second, usualWork / 3: 30 * time.Second, usualWork: 30 * time.Second,
		usualWork * 3 / 2: 45 * time.Second, 2 * usualWork: time.Minute, 4 * usualWork: 2 * time.Minute, time.Hour: 2 * time.Minute,
	} {
		if got := patienceFor(took); got != want {
			t.Errorf("%v of work: %v, want %v", took, got, want)
		}
	}
	if p := Patience(); p < basePatience || p != Patience() {
		t.Errorf("patience of %v, then %v", p, Patience())
	}
	if d := Scaled(10 * time.Second); (d - Patience()/3).Abs() > time.Microsecond { // it is counted in floating point
		t.Errorf("scaled: %v with a patience of %v", d, Patience())
	}
	if took := measure(); took <= 0 {
		t.Errorf("the work took %v", took)
	}
}

// recorder is a testing.TB that keeps what a failure says.
type recorder struct {
	testing.TB
	log    []string
	failed bool
}

func (*recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
	runtime.Goexit()
}

// watched runs f as a test would be run.
func watched(f func(t testing.TB)) *recorder {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

// In a bubble of synctest the time is that of the waiting alone.
func TestEventually(t *testing.T) {
	Patience() // outside the bubble, where it can be measured
	for name, c := range map[string]struct {
		after time.Duration // when the condition begins to hold
		fails bool
	}{
		"at once": {0, false}, "soon": {3 * time.Millisecond, false}, "late": {Patience() - time.Second, false}, "too late": {Patience() + time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				r := watched(func(t testing.TB) {
					Eventually(t, "the thing", func() bool { return time.Since(begin) >= c.after }, func() any { return struct{ Left int }{7} })
				})
				if took := time.Since(begin); r.failed != c.fails || took > c.after+20*time.Millisecond {
					t.Errorf("failed: %v after %v", r.failed, took)
				}
				if said := strings.Join(r.log, "\n"); c.fails && (!strings.Contains(said, "the thing") || !strings.Contains(said, "{Left:7}")) || !c.fails && said != "" {
					t.Errorf("it says %q", said)
				}
			})
		})
	}
}

// What changes now and then settles only when it has stopped; what never stops
// fails the test.
func TestSettled(t *testing.T) {
	Patience()
	for name, c := range map[string]struct {
		every time.Duration // the pace of the changes
		until time.Duration // when they stop
		fails bool
	}{
		"still": {time.Second, 0, false}, "fast, then still": {time.Millisecond, time.Second, false},
		"slow, then still": {150 * time.Millisecond, 3 * time.Second, false}, "for ever": {100 * time.Millisecond, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				look := func() int { return int(min(time.Since(begin), c.until) / c.every) }
				got := 0
				r := watched(func(t testing.TB) { got = Settled(t, "the value", look) })
				if r.failed != c.fails || !c.fails && got != look() {
					t.Errorf("%d, now %d, failed %v: %q", got, look(), r.failed, r.log)
				}
			})
		})
	}
}

func TestReceive(t *testing.T) {
	Patience()
	for name, c := range map[string]struct {
		send  func(chan<- int)
		want  int
		fails bool
	}{
		"a value": {func(ch chan<- int) { ch <- 5 }, 5, false},
		"the end": {func(ch chan<- int) { close(ch) }, 0, false},
		"late":    {func(ch chan<- int) { time.Sleep(Patience() - time.Second); ch <- 6 }, 6, false},
		"nothing": {func(chan<- int) {}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := make(chan int, 1)
				go c.send(ch)
				got := 0
				r := watched(func(t testing.TB) { got = Receive(t, "a number", ch) })
				if r.failed != c.fails || got != c.want || c.fails != strings.Contains(strings.Join(r.log, "\n"), "a number") {
					t.Errorf("%d, failed %v: %q", got, r.failed, r.log)
				}
			})
		})
	}
}

// The context of a test ends before its clean-ups do.
func TestContext(t *testing.T) {
	ctx := Context(t)
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > Patience() || time.Until(d) < Patience()/2 {
		t.Errorf("deadline %v", d)
	}
	t.Cleanup(func() {
		if ctx.Err() == nil {
			t.Error("the context outlives the test")
		}
	})
	if ctx.Err() != nil {
		t.Error(ctx.Err())
	}
}

// Work counts, waiting does not.
func TestCPU(t *testing.T) {
	if took := CPU(func() { time.Sleep(50 * time.Millisecond) }); took > 40*time.Millisecond {
		t.Errorf("a sleep of 50 ms takes %v of CPU time", took)
	}
	busy := CPU(func() {
		for begin := threadTime(); threadTime()-begin < 20*time.Millisecond; {
			continue
		}
	})
	if busy < 20*time.Millisecond {
		t.Errorf("20 ms of work are %v", busy)
	}
}
