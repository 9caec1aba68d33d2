// Package delays perturbs the order in which goroutines run, to find tests and code that are
// right by luck: what is waited for is done before what is relied upon. Its command, overlay,
// writes copies of the module's files that call At before many of their statements; a build
// with these copies is slow at places that a seed selects. `scripts/flakes --delays` does it.
//
// A few places are slow, and always: a random delay at every place would nearly never hit the
// one that matters. The environment of a perturbed program says which:
//
//	SSLGATE_DELAYS        the seed, a number; without it nothing is slow
//	SSLGATE_DELAYS_ONLY   a file with a place, such as policy/set.go:12, on each line: these are
//	                      slow instead, for as long as the seed says
//	SSLGATE_DELAYS_LOG    a file that gets a line for each place that has been slow
package delays

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// slowShare is the share of places that a seed makes slow, of 1<<32: a thirtieth.
	slowShare = 1 << 32 / 30
	// usual and long are the bounds of a delay. One slow place in six has long ones: some
	// orders that go wrong need a delay that outlasts several steps of another goroutine, and
	// many of them would use up the time that a handshake has.
	usual, long = 50 * time.Millisecond, 600 * time.Millisecond
	// always is how often a place is surely slow. After n passes it is slow with the chance
	// always/n, so a place in a loop does not stop the program.
	always = 2
)

// run is what the environment asks for. It is read before any function of the program runs.
var run = fromEnvironment(os.Getenv)

type choice struct {
	seed, share uint32
	only        map[string]bool
	log         string
	passes      [1 << 16]atomic.Uint32 // by the lower bits of a place's lot; nothing is allocated, tests count that
}

func fromEnvironment(get func(string) string) *choice {
	c := &choice{log: get("SSLGATE_DELAYS_LOG")}
	if seed := get("SSLGATE_DELAYS"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 32)
		if err != nil {
			panic(fmt.Sprintf("SSLGATE_DELAYS: %v", err))
		}
		c.seed, c.share = mix(uint32(n)), slowShare
	}
	if file := get("SSLGATE_DELAYS_ONLY"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		c.only, c.share = map[string]bool{}, 1<<32-1
		for site := range strings.FieldsSeq(string(text)) {
			c.only[site] = true
		}
	}
	return c
}

// mix spreads a number over 32 bits (the finalizer of MurmurHash3).
func mix(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// At is called at a place of the program: hash is any number that belongs to site.
func At(hash uint32, site string) {
	if run.slow(hash) {
		run.wait(mix(hash^run.seed), site)
	}
}

func (c *choice) slow(hash uint32) bool { return mix(hash^c.seed) < c.share }

// wait sleeps now and then. It blocks the thread: a time.Sleep would let the clock of a
// synctest bubble run on.
func (c *choice) wait(lot uint32, site string) {
	if c.only != nil && !c.only[site] {
		return
	}
	n := c.passes[lot%uint32(len(c.passes))].Add(1)
	if rand.Uint32N(n) >= always {
		return
	}
	if n == 1 && c.log != "" {
		c.write(site)
	}
	length := usual
	if lot%6 == 0 {
		length = long
	}
	left := syscall.NsecToTimespec(int64(time.Millisecond) + rand.Int64N(int64(length)))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR { // the runtime interrupts threads
		continue
	}
}

// write notes a place. The note is for a reader: a program that may not write goes on.
func (c *choice) write(site string) {
	f, err := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, site)
}
