package handshake_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// Every list may be as long as its cap and no longer, and what is longer is
// refused before it is read: a hello of 64 KiB costs its own copy and little
// more. Memory is counted, not time: a list that is not kept is not compared.
func TestHelloCaps(t *testing.T) {
	for _, c := range handshaketest.CappedLists() {
		t.Run(c.Name, func(t *testing.T) {
			if _, err := handshake.ParseClientHello(c.Make(c.Cap).Bytes()); err != nil {
				t.Errorf("%d: %v", c.Cap, err)
			}
			for _, n := range []int{c.Cap + 1, 2*c.Cap + 3, c.Most} {
				if n > c.Most {
					continue
				}
				msg := c.Make(n).Bytes()
				h, err := handshake.ParseClientHello(msg)
				if h != nil {
					t.Fatalf("%d: a hello", n)
				}
				wantRefusal(t, err, reason.HelloTooMany, handshake.AlertIllegalParameter)
				if allocs := testing.AllocsPerRun(3, func() { _, _ = handshake.ParseClientHello(msg) }); allocs > 3*handshake.MaxExtensions {
					t.Errorf("%d: %v allocations", n, allocs)
				}
			}
		})
	}
}

// Whatever passes has only lists within their caps.
func TestWhatPassesIsShort(t *testing.T) {
	lists := handshaketest.CappedLists()
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(lists).Draw(t, "list")
		n := rapid.IntRange(c.Cap/2, min(c.Most, 3*c.Cap)).Draw(t, "entries")
		msg := c.Make(n).Bytes()
		h, err := handshake.ParseClientHello(msg)
		if (err == nil) != (n <= c.Cap) {
			t.Fatalf("%d %s: %v", n, c.Name, err)
		}
		if err != nil {
			return
		}
		if what := overCap(h); what != "" {
			t.Fatal(what)
		}
		if !bytes.Equal(h.Marshal(), msg) {
			t.Fatal("something of it is lost")
		}
	})
}

// overCap names a list that is longer than it may be.
func overCap(h *handshake.ClientHello) string {
	for _, l := range []struct {
		name   string
		n, cap int
	}{
		{"CipherSuites", len(h.CipherSuites), handshake.MaxCipherSuites},
		{"extensions", len(h.Extensions), handshake.MaxExtensions},
		{"groups", len(h.Groups), handshake.MaxGroups},
		{"key shares", len(h.KeyShares), handshake.MaxKeyShares},
		{"signature algorithms", len(h.SignatureSchemes), handshake.MaxSchemes},
		{"signature algorithms of certificates", len(h.SignatureSchemesCert), handshake.MaxSchemes},
		{"ALPN protocols", len(h.ALPN), handshake.MaxALPN},
		{"versions", len(h.SupportedVersions), 127},
	} {
		if l.n > l.cap {
			return fmt.Sprintf("%d %s", l.n, l.name)
		}
	}
	return ""
}
