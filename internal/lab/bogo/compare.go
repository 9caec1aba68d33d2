package bogo

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// results are what the runner wrote with -json-output: of each test that ran, PASS, FAIL or
// SKIP.
type results map[string]string

// readResults reads a file of the runner's.
func readResults(name string) (results, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var file struct {
		Tests map[string]struct{ Actual string }
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out := results{}
	for test, r := range file.Tests {
		out[test] = r.Actual
	}
	return out, nil
}

// compare holds the native engine's results against crypto/tls's by the names of tests: what
// the one passes the other passes, is left out for a reason, or is skipped, for BoGo speaks
// TLS 1.2 alone there to a client that has TLS 1.3. It writes how many there are of each,
// and says whether any failed or did not run for no reason.
func compare(std, native results, list []feature, out io.Writer) (good bool) {
	left := map[string]int{}
	passed, skipped, bad := 0, 0, []string{}
	for _, test := range slices.Sorted(maps.Keys(std)) {
		if std[test] != "PASS" {
			continue
		}
		switch native[test] {
		case "PASS":
			passed++
		case "SKIP":
			skipped++
		case "":
			if why := reasonOf(list, test); why != "" {
				left[why]++
				continue
			}
			fallthrough
		default:
			bad = append(bad, test)
		}
	}
	fmt.Fprintf(out, "bogo: of what std passes, native passes %d, skips %d (TLS 1.2 towards destinations)\n", passed, skipped)
	for _, why := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(out, "bogo: native leaves out %d: %s\n", left[why], why)
	}
	for _, test := range bad {
		fmt.Fprintf(out, "bogo: std passes, and native does not: %s\n", test)
	}
	return len(bad) == 0
}

// reasonOf is why the native engine's run leaves a test out, "" where it does not.
func reasonOf(list []feature, test string) string {
	for _, f := range list {
		for _, p := range f.patterns {
			if ok, err := filepath.Match(p, test); f.of("native") && err == nil && ok {
				return f.reason
			}
		}
	}
	return ""
}

// compareFiles is compare of two files.
func compareFiles(std, native string, stdout, stderr io.Writer) int {
	list, err := features(disabledText)
	a, aerr := readResults(std)
	b, berr := readResults(native)
	for _, err := range []error{err, aerr, berr} {
		if err != nil {
			fmt.Fprintln(stderr, err)
			return exitFailed
		}
	}
	if !compare(a, b, list, stdout) {
		return exitFailed
	}
	return exitOK
}
