package main

import (
	"slices"
	"strings"
	"testing"
)

// What a record has of a hello is what the client sent, not how it is shown: protocols
// that are no text decide with explain as they did on the wire.
func TestFactsOfARecordAreTheClients(t *testing.T) {
	for recorded, want := range map[string][]string{
		`"h2"`:                       {"h2"},
		`"\\n\\n","h2"`:              {"\n\n", "h2"}, // GREASE 0x0a0a, as it is escaped
		`"\\x1a\\x1a","h2"`:          {"\x1a\x1a", "h2"},
		`"h2","\\xfa\\xfa"`:          {"h2", "\xfa\xfa"},
		`"\\x00\\u202e","corp\\\\1"`: {"\x00\u202e", `corp\1`},
		`"` + strings.Repeat(`a","`, 32) + `... 7 more"`: slices.Repeat([]string{"a"}, 32),
		`"... 7 more"`: {"... 7 more"}, // a client's own words
	} {
		line := strings.Replace(goodAuditLine, `["h2"]`, `[`+recorded+`]`, 1)
		found, bad, err := scanFlow(strings.NewReader(line), "ab-1")
		if err != nil || found == nil {
			t.Fatalf("%s: %v %v", line, bad, err)
		}
		facts, err := found.facts()
		if err != nil {
			t.Fatalf("%s: %v", recorded, err)
		}
		if !slices.Equal(facts.Hello.ALPN, want) {
			t.Errorf("%s is taken for %q, want %q", recorded, facts.Hello.ALPN, want)
		}
		if only := !strings.Contains(recorded, "corp") && !strings.Contains(recorded, "more"); facts.Hello.OnlyNegotiated() != only {
			t.Errorf("%s: needs an answer: %v", recorded, !only)
		}
	}
}
