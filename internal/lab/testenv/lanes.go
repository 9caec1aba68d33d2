package testenv

import (
	"flag"
	"strconv"
)

// Lanes sets how many tests that say t.Parallel run at the same time, unless -parallel says
// it. The default, one for each core, is too few for tests that mostly wait. Call it in
// TestMain.
func Lanes(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // every test binary has the flag
	}
}
