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

func (d *door) Readiness() admin.Readiness { return d.ready }

// With --ready the exit code answers, for checks that look at nothing else.
func TestStatusReady(t *testing.T) {
	for name, c := range map[string]struct {
		ready admin.Readiness
		code  int
		out   string
	}{
		"ready":         {admin.Readiness{Ready: true}, 0, ""},
		"with warnings": {admin.Readiness{Ready: true, Reasons: []string{"a certificate ends"}}, 0, ""},
		"not":           {admin.Readiness{Reasons: []string{"draining\x1b", "full"}}, 1, "not ready: draining\\x1b\nnot ready: full\n"},
	} {
		socket := openDoor(t, &door{ready: c.ready}, admin.NewHub())
		if code, out, errs := called("status", "--ready", "--socket", socket); code != c.code || out != c.out || errs != "" {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
		if code, _, errs := called("status", "--ready", "--kinds", "stop,mine", "--socket", socket); code != 2 || !strings.Contains(errs, "stop, own, identity, shared and load") {
			t.Errorf("no such kind: %d %q", code, errs)
		}
		if code, out, _ := called("status", "--ready", "--json", "--socket", socket); code != c.code || !strings.Contains(out, `"ready"`) {
			t.Errorf("%s as JSON: %d %q", name, code, out)
		}
		if code, _, errs := called("status", "--ready", "--socket", socket+"x"); code != 1 || !strings.Contains(errs, "no gateway answers") {
			t.Errorf("no gateway: %d %q", code, errs)
		}
	}
}

// With --kinds a reason of another kind is none.
func TestStatusReadyKinds(t *testing.T) {
	load := admin.Cause{Kind: admin.ReadyLoad, Text: "limits.flows is reached: 7"}
	stop := admin.Cause{Kind: admin.ReadyStop, Text: "draining\x1b"}
	for name, c := range map[string]struct {
		causes []admin.Cause
		kinds  []string
		code   int
		out    string
	}{
		"all kinds":      {[]admin.Cause{load, stop}, nil, 1, "not ready: limits.flows is reached: 7 (load)\nnot ready: draining\\x1b (stop)\n"},
		"one of two":     {[]admin.Cause{load, stop}, []string{"--kinds", "stop,own"}, 1, "not ready: draining\\x1b (stop)\n"},
		"none of them":   {[]admin.Cause{load}, []string{"--kinds", "stop,own"}, 0, ""},
		"nothing at all": {nil, []string{"--kinds", "own"}, 0, ""},
	} {
		r := admin.Readiness{Ready: len(c.causes) == 0, Causes: c.causes, Reasons: []string{"a warning"}}
		socket := openDoor(t, &door{ready: r}, admin.NewHub())
		if code, out, errs := called(append([]string{"status", "--ready", "--socket", socket}, c.kinds...)...); code != c.code || out != c.out || errs != "" {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
	}
}
