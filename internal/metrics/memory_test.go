package metrics

import (
	"strings"
	"testing"
)

// The figures of limits.memory are there, and left out where there is none.
func TestMemory(t *testing.T) {
	text := scrape(t, full())
	for _, want := range []string{
		"sslgate_memory_ceiling_bytes 100", "sslgate_memory_limit_bytes 80", "sslgate_memory_in_use_bytes 60", "sslgate_memory_level 2",
		"sslgate_memory_refused_flows_total 5", "sslgate_memory_shed_flows_total 3", "sslgate_memory_shed_bytes_total 9", "sslgate_memory_loaned_bytes 11", "sslgate_memory_loans_refused_total 2", `sslgate_memory_bytes{part="part"} 5`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	if text := scrape(t, New(Info{}, Sources{Memory: func() *Memory { return nil }})); strings.Contains(text, "sslgate_memory_") {
		t.Error("figures of no limit")
	}
}
