package tun

import (
	"fmt"
	"strings"
	"testing"
)

// All programs share a packet's mark: bits of others stay as they are, and a mark that
// differs from ours within the mask decides nothing.
func TestMarkKeepsOtherBits(t *testing.T) {
	g := newGateway(t, testConfig())
	g.gw.run("nft add table inet others")
	g.gw.run("nft add chain inet others pre { type filter hook prerouting priority mangle ; }")
	g.gw.run("nft add chain inet others post { type filter hook postrouting priority 300 ; }")
	sport := uint16(59000)
	for _, theirs := range []uint32{0x4000, 0x80000, 0x3f00, 0x80, 0xcafe0000, 0xffffffff, 0x8f} {
		want := theirs&^0x70 | 0x10
		g.gw.run("nft flush chain inet others pre")
		g.gw.run("nft flush chain inet others post")
		g.gw.run(fmt.Sprintf("nft add rule inet others pre meta l4proto tcp meta mark set %#x", theirs))
		g.gw.run(fmt.Sprintf("nft add rule inet others post oifname t0 meta mark %#x counter", want))
		for _, family := range []string{"v4", "v6"} {
			sport++
			g.send(g.client, "c0", "g0", syns(sport)[family].bytes())
			until(t, g.tun, sport)
		}
		if out := g.gw.run("nft list chain inet others post"); !strings.Contains(out, "packets 2 ") {
			t.Errorf("with %#x of others, not both packets had %#x at the TUN:\n%s", theirs, want, out)
		}
	}
	// Not captured, and with the same bits of others: none of it is ours.
	g.gw.run("nft flush chain inet others pre")
	g.gw.run("nft add rule inet others pre meta mark set 0x4080")
	g.leaked("g0")
}

func TestNextMark(t *testing.T) {
	for _, c := range []struct{ mark, mask, next uint32 }{
		{0x20, 0x70, 0x30}, {0x70, 0x70, 0}, {0x551a, 0xffffffff, 0x551b}, {0xffffffff, 0xffffffff, 0},
		{0x1, 0x5, 0x4}, {0x5, 0x5, 0}, {0x80000000, 0x80000000, 0}, {0x10, 0x80000010, 0x80000000},
	} {
		if got := nextMark(c.mark, c.mask); got != c.next {
			t.Errorf("%#x within %#x: %#x, want %#x", c.mark, c.mask, got, c.next)
		}
	}
}
