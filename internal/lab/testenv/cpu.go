package testenv

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the CPU time that f takes in its own goroutine, in user mode and in the
// kernel: unlike the time on the clock it does not grow with what else the machine does.
func CPU(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	f()
	return threadTime() - began
}

// threadTime is the CPU time of this thread so far.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime: %v", err)) // the clock is in every Linux since 2.6.12
	}
	return time.Duration(t.Nano())
}
