package handshake

import (
	"testing"
	"time"
)

func TestChainCacheIsBounded(t *testing.T) {
	var c ChainCache
	now := time.Now()
	for i := range maxVerified + 100 {
		c.put([32]byte{byte(i), byte(i >> 8)}, &Peer{Authority: "a"}, now)
	}
	if len(c.m) != maxVerified {
		t.Errorf("%d entries", len(c.m))
	}
	// Those that have ended go while others come, full or not.
	const later = maxVerified / 2
	for i := range later {
		c.put([32]byte{byte(i), byte(i >> 8), 1}, &Peer{Authority: "a"}, now.Add(time.Hour))
	}
	if len(c.m) > later+later/10 {
		t.Errorf("%d entries, all but %d have ended", len(c.m), later)
	}
}
