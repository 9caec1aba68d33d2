package tun

import (
	"net/netip"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// natChain makes a chain of the host for source NAT with one rule.
func (n *ns) natChain(priority, rule string) {
	n.t.Helper()
	for _, line := range []string{
		"nft add table inet hostnat", "nft delete table inet hostnat", "nft add table inet hostnat",
		"nft add chain inet hostnat post { type nat hook postrouting priority " + priority + " ; }",
		"nft add rule inet hostnat post " + rule,
	} {
		n.run(line)
	}
}

// What enters the TUN keeps the client's address, whatever NAT the host has.
func TestSourceIsKept(t *testing.T) {
	g := newGateway(t, testConfig())
	g.gw.run("nft add table inet marks")
	g.gw.run("nft add chain inet marks pre { type filter hook prerouting priority mangle ; }")
	g.gw.run("nft add rule inet marks pre meta mark set meta mark or 0x4000")
	sport := uint16(45000)
	for _, rule := range []string{
		"masquerade",
		"ip saddr 10.0.0.0/8 masquerade",
		"meta mark and 0x4000 == 0x4000 masquerade fully-random",
		"meta l4proto tcp snat ip to 10.0.2.1:1024-2048",
		"meta nfproto ipv6 snat ip6 to fd00:2::1",
		"oifname != lo ip saddr 10.0.1.2 snat ip to 10.0.2.77",
		"oifname t0 masquerade",
	} {
		g.gw.natChain("srcnat", rule)
		for _, way := range []string{"v4", "v4 fragments", "v6", "v6 hop-by-hop"} {
			sport++
			p := syns(sport)[way]
			g.send(g.client, "c0", "g0", p.packets()...)
			g.arrivesAs(t, rule+", "+way, sport, p.src, p.dst)
		}
	}
	// A DNAT is what policy is to see.
	for _, line := range []string{
		"nft add chain inet hostnat pre { type nat hook prerouting priority dstnat ; }",
		"nft add rule inet hostnat pre ip daddr 10.0.2.2 tcp dport 443 dnat ip to 10.0.2.9:8443",
	} {
		g.gw.run(line)
	}
	p := syns(46000)["v4"]
	g.send(g.client, "c0", "g0", p.bytes())
	g.arrivesAs(t, "DNAT", 46000, p.src, "10.0.2.9")
}

// arrivesAs expects a packet with source port sport at the TUN, before any other.
func (g *gateway) arrivesAs(t *testing.T, what string, sport uint16, src, dst string) {
	t.Helper()
	p := <-g.tun
	if i := parse(p); i.sport != sport || i.src != netip.MustParseAddr(src) || i.dst != netip.MustParseAddr(dst) {
		t.Errorf("%s: %v at the TUN, want %s:%d to %s", what, i, src, sport, dst)
	}
}

// If the source is changed all the same, the packet is dropped: by NAT that comes before
// ours, or by NAT of a connection that is older than the gateway.
func TestChangedSourceIsDropped(t *testing.T) {
	g := newGateway(t, testConfig())
	plain := func(what string, sport uint16, src string) {
		t.Helper()
		g.send(g.client, "c0", "g0", packet{src: src, dst: "fd00:2::2", proto: unix.IPPROTO_TCP, sport: sport, dport: 443}.bytes())
		if before := until(t, g.tun, sport); len(before) > 0 {
			t.Errorf("%s: %v came to the TUN", what, describe(before))
		}
	}
	for i, rule := range []string{"ip saddr 10.0.1.2 snat ip to 10.0.2.77", "ip saddr 10.0.1.2 masquerade", "ip saddr 10.0.1.2 meta l4proto tcp snat ip to 10.0.1.2:5-6"} {
		sport := uint16(47000 + 10*i)
		g.gw.natChain("-195", rule)
		if got := g.leaked("g0", syns(sport)["v4"].bytes(), syns(sport + 1)["v4 fragments"].bytes()); len(got) > 0 {
			t.Errorf("%s: at the server: %v", rule, got)
		}
		plain(rule, sport+2, "fd00:1::2")
	}
	// A connection that began without the gateway, under another address.
	g.gw.natChain("srcnat", "ip saddr 10.0.1.2 snat ip to 10.0.2.1")
	g.server.mute()
	if err := g.steer.Close(true); err != nil {
		t.Fatal(err)
	}
	p := syns(47500)["v4"]
	g.send(g.client, "c0", "g0", p.bytes())
	for i := parse(<-g.sniff.got); i.proto != unix.IPPROTO_TCP; i = parse(<-g.sniff.got) {
	}
	g.gw.do(func() (err error) { g.steer, err = Steer(testConfig(), zap.NewNop()); return err })
	g.send(g.client, "c0", "g0", p.bytes()) // once more
	plain("connection from before", 47501, "fd00:1::2")
}
