package testenv

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// ends is a run of tests that passes, and leaves a goroutine for a while.
type ends struct{ after time.Duration }

func (e ends) Run() int {
	go func() { time.Sleep(e.after) }()
	return 0
}

// A goroutine that ends late is no leak.
func TestNoLeaksWaits(t *testing.T) {
	if code := (settling{ends{time.Second}}).Run(); code != 0 {
		t.Errorf("the run ends with %d", code)
	}
	if err := goleak.Find(); err != nil {
		t.Errorf("it has not waited: %v", err)
	}
}
