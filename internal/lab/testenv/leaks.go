package testenv

import (
	"time"

	"go.uber.org/goleak"
)

// NoLeaks runs the tests of a package. If they pass, no goroutine may be left. One that is about
// to end gets the patience of this machine: goleak by itself waits for less than half a second.
// Call it in TestMain.
func NoLeaks(m goleak.TestingM) { goleak.VerifyTestMain(settling{m}) }

// settling is a run of tests that lasts until their goroutines have ended, or the patience has.
type settling struct{ goleak.TestingM }

// Run is called once.
func (s settling) Run() int {
	code := s.TestingM.Run()
	for end := Deadline(); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
		continue // Find has waited
	}
	return code
}
