package workerpool

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// await waits until n goroutines wait for work.
func (c *Crew) await(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, strconv.Itoa(n)+" wait for work", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.idle) == n
	})
}

// id is the number of the goroutine that calls it.
func id() string {
	b := make([]byte, 64)
	return strings.Fields(string(b[:runtime.Stack(b, false)]))[1]
}

// Functions one after the other run in the same goroutine, functions at the same time in
// several; all have run when Wait returns.
func TestCrew(t *testing.T) {
	var c Crew
	var first string
	for i := range 10 {
		done := make(chan string)
		c.Go(func() { done <- id() })
		switch by := <-done; {
		case i == 0:
			first = by
		case by != first:
			t.Errorf("run %d by goroutine %s, not %s", i, by, first)
		}
		c.await(t, 1)
	}
	const many = 3 * mostIdle
	var ran atomic.Int32
	var together sync.WaitGroup
	together.Add(many)
	for range many {
		c.Go(func() {
			together.Done()
			together.Wait() // all at the same time
			ran.Add(1)
		})
	}
	together.Wait()
	c.await(t, mostIdle) // and no more
	c.Wait()
	if ran.Load() != many {
		t.Errorf("%d of %d ran", ran.Load(), many)
	}
	late := make(chan bool, 1)
	c.Go(func() { late <- true })
	c.Wait()
	if !<-late {
		t.Error("never ran")
	}
}

// Goroutines that were not needed since the last trim end, the others stay.
func TestTrim(t *testing.T) {
	var c Crew
	defer c.Wait()
	hold := make(chan bool)
	for range 8 {
		c.Go(func() { <-hold })
	}
	close(hold)
	c.await(t, 8)
	c.trim() // begins to look
	c.await(t, 8)
	again := make(chan bool)
	for range 3 {
		c.Go(func() { <-again })
	}
	c.await(t, 5)
	close(again)
	c.await(t, 8)
	c.trim()
	c.await(t, 3)
	c.trim()
	c.await(t, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		t.Error("looks on although nobody waits")
	}
}
