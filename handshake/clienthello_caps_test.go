package handshake

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// ids are n numbers from first on.
func ids(first, n int) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = uint16(first + i)
	}
	return out
}

// shares are key shares of one byte each.
func oneByteShares(groups []uint16) []byte {
	var list []byte
	for _, g := range groups {
		list = append(list, byte(g>>8), byte(g), 0, 1, 0)
	}
	return prefixed(list...)
}

func alpnData(n int) []byte {
	var list []byte
	for i := range n {
		list = append(list, 3, 'p', byte(i>>8), byte(i))
	}
	return prefixed(list...)
}

// emptyExtensions adds n extensions without content.
func (h *hello) emptyExtensions(n int) *hello {
	for i := range n {
		h = h.with(uint16(0x4000+i), nil)
	}
	return h
}

// cappedList is a list of a hello that has a cap.
type cappedList struct {
	name string
	cap  int // entries that are allowed
	most int // entries that fit a hello
	make func(n int) *hello
}

// cappedLists are all of them. The caps are what the documentation states.
func cappedLists() []cappedList {
	return []cappedList{
		{"CipherSuites", 512, 32000, func(n int) *hello {
			h := goodHello()
			h.suites = append(ids(0x4000, n-1), 0x1301)
			return h
		}},
		{"extensions", 128, 16000, func(n int) *hello {
			h := goodHello()
			return h.emptyExtensions(n - len(h.exts))
		}},
		{"groups", 128, 30000, func(n int) *hello {
			return goodHello().with(ExtSupportedGroups, list16(append(ids(0x4000, n-1), 29)...))
		}},
		{"key shares", 32, 9300, func(n int) *hello {
			groups := ids(0x4000, n)
			return goodHello().with(ExtSupportedGroups, list16(groups...)).with(ExtKeyShare, oneByteShares(groups))
		}},
		{"key shares, supported_groups after them", 32, 9300, func(n int) *hello {
			groups := ids(0x4000, n)
			return goodHello().without(ExtSupportedGroups).without(ExtKeyShare).with(ExtKeyShare, oneByteShares(groups)).with(ExtSupportedGroups, list16(groups...))
		}},
		{"signature_algorithms", 128, 30000, func(n int) *hello {
			return goodHello().with(ExtSignatureAlgorithms, list16(append(ids(0x4000, n-1), 0x0403)...))
		}},
		{"signature_algorithms_cert", 128, 30000, func(n int) *hello {
			return goodHello().with(ExtSignatureAlgsCert, list16(ids(0x4000, n)...))
		}},
		{"ALPN", 64, 16000, func(n int) *hello { return goodHello().with(ExtALPN, alpnData(n)) }},
		{"pre-shared keys", 32, 1400, func(n int) *hello {
			return goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, pskData(n, n))
		}},
		{"binders alone", 32, 1800, func(n int) *hello {
			return goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, pskData(min(n, 32), n))
		}},
	}
}

// Every list may be as long as its cap and no longer, and what is longer is
// refused before it is read: a hello of 64 KiB costs its own copy and little
// more. Memory is counted, not time: a list that is not kept is not compared.
func TestHelloCaps(t *testing.T) {
	for _, c := range cappedLists() {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseClientHello(c.make(c.cap).bytes()); err != nil {
				t.Errorf("%d: %v", c.cap, err)
			}
			for _, n := range []int{c.cap + 1, 2*c.cap + 3, c.most} {
				if n > c.most {
					continue
				}
				msg := c.make(n).bytes()
				h, err := ParseClientHello(msg)
				if h != nil {
					t.Fatalf("%d: a hello", n)
				}
				wantRefusal(t, err, reason.HelloTooMany, AlertIllegalParameter)
				if allocs := testing.AllocsPerRun(3, func() { _, _ = ParseClientHello(msg) }); allocs > 3*MaxExtensions {
					t.Errorf("%d: %v allocations", n, allocs)
				}
			}
		})
	}
}

// Whatever passes has only lists within their caps.
func TestWhatPassesIsShort(t *testing.T) {
	lists := cappedLists()
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(lists).Draw(t, "list")
		n := rapid.IntRange(c.cap/2, min(c.most, 3*c.cap)).Draw(t, "entries")
		msg := c.make(n).bytes()
		h, err := ParseClientHello(msg)
		if (err == nil) != (n <= c.cap) {
			t.Fatalf("%d %s: %v", n, c.name, err)
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
func overCap(h *ClientHello) string {
	for _, l := range []struct {
		name   string
		n, cap int
	}{
		{"CipherSuites", len(h.CipherSuites), MaxCipherSuites},
		{"extensions", len(h.Extensions), MaxExtensions},
		{"groups", len(h.Groups), MaxGroups},
		{"key shares", len(h.KeyShares), MaxKeyShares},
		{"signature algorithms", len(h.SignatureSchemes), MaxSchemes},
		{"signature algorithms of certificates", len(h.SignatureSchemesCert), MaxSchemes},
		{"ALPN protocols", len(h.ALPN), MaxALPN},
		{"versions", len(h.SupportedVersions), 127},
	} {
		if l.n > l.cap {
			return fmt.Sprintf("%d %s", l.n, l.name)
		}
	}
	return ""
}

// After a HelloRetryRequest crypto/tls reads the second hello itself: the caps
// hold before it does.
func TestSecondHelloHasCaps(t *testing.T) {
	first := inRecords(goodHello().with(ExtKeyShare, []byte{0, 0}).bytes(), 1<<14)
	for _, c := range cappedLists() {
		o := handshakeWith(t, serverParams(), nil, func(conn *net.TCPConn) {
			_ = conn.SetDeadline(testenv.Deadline())
			_, _ = conn.Write(first)
			if n, err := conn.Read(make([]byte, 4096)); n == 0 {
				t.Errorf("no HelloRetryRequest: %v", err)
			}
			second := inRecords(c.make(c.most).bytes(), 1<<14)
			for i := 0; i < len(second); i += RecordHeader + RecordLen(second[i:]) {
				second[i+1], second[i+2] = 3, 3 // the version is agreed on by now
			}
			_, _ = conn.Write(second)
			_, _ = io.Copy(io.Discard, conn)
		})
		if o.err == nil || o.err.Reason != reason.HelloTooMany || o.l.AlertSent() != AlertIllegalParameter {
			t.Errorf("%s: %v, alert %s", c.name, o.err, o.l.AlertSent())
		}
	}
}
