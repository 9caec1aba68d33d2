package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
)

// The next update of a list may be any date: what is left is counted in days
// beyond the 292 years of a Duration too.
func TestStatusOfFarDates(t *testing.T) {
	for year, want := range map[int]string{
		9999: ", next update in 29", 2400: ", next update in 1", 1950: ", next update was due 2", 1: ", next update was due 7",
	} {
		next := time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)
		var b strings.Builder
		printRevocation(func(name, format string, args ...any) { fmt.Fprintf(&b, name+" "+format+"\n", args...) },
			admin.Status{Revocation: []admin.AuthorityRevocation{{Authority: "far", Mode: "hard", NextUpdate: &next}}})
		if s := b.String(); !strings.Contains(s, want) || !strings.Contains(s, " days") || strings.Contains(s, "h") && strings.Contains(s, "m0s") {
			t.Errorf("%d: %s", year, s)
		}
	}
}
