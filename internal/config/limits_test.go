package config

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// limits.chain and limits.chain_bytes reach the handshakes, and a ticket of
// before does not resume over a change.
func TestChainLimits(t *testing.T) {
	compile := func(limits string) *Runtime {
		t.Helper()
		file := copyExample(t, func(s string) string {
			if !strings.Contains(s, "\nlimits:\n") {
				t.Fatal("the example has no limits any more: add them")
			}
			return strings.Replace(s, "\nlimits:\n", "\nlimits:\n"+limits, 1)
		})
		f, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		rt, found := build(f, stdtls.New(), testNow)
		if rt == nil {
			t.Fatalf("%v", found)
		}
		return rt
	}
	def, tight := compile(""), compile("  chain: 2\n  chain_bytes: 8KiB\n")
	if def.Environment.MaxChain != 10 || def.Environment.MaxChainBytes != 64<<10 {
		t.Errorf("default %d, %d", def.Environment.MaxChain, def.Environment.MaxChainBytes)
	}
	if tight.Environment.MaxChain != 2 || tight.Environment.MaxChainBytes != 8<<10 {
		t.Errorf("%d, %d", tight.Environment.MaxChain, tight.Environment.MaxChainBytes)
	}
	if def.Set.ID() == tight.Set.ID() {
		t.Error("the digest of the policy does not know the bounds")
	}
}
