package tun

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSavedMarks: rules of others that save the whole mark with a connection and restore it,
// as hosts with several uplinks have them, lead no answer back into the TUN, and those to
// connections under a client's address come to their sockets.
func TestSavedMarks(t *testing.T) {
	t.Parallel()
	g := newGateway(t, sourceConfig())
	back := newSniffer(t, g.client, "c0")
	conns := g.listen443(t)
	for _, table := range []string{
		`table inet t { chain P { type filter hook prerouting priority -150; meta mark set ct mark; } chain O { type route hook output priority -150; meta mark set ct mark; } chain Q { type filter hook postrouting priority -150; ct mark set meta mark; } }`,
		`table inet t { chain P { type filter hook prerouting priority -150; ct mark != 0 meta mark set ct mark; } chain O { type route hook output priority -150; ct mark != 0 meta mark set ct mark; } chain Q { type filter hook prerouting priority -130; ct mark set meta mark; } }`,
		`table inet t { chain P { type filter hook prerouting priority -150; ct mark != 0 meta mark set ct mark; } chain O { type route hook output priority -150; ct mark != 0 meta mark set ct mark; } chain I { type filter hook input priority -150; ct mark set meta mark; } chain F { type filter hook forward priority -150; ct mark set meta mark; } }`,
	} {
		g.gw.table(table)
		for i := range clients {
			g.sport++
			in := packet{src: clients[i], dst: servers[i], proto: unix.IPPROTO_TCP, sport: g.sport, dport: 443}
			g.send(g.client, "c0", "g0", in.bytes())
			until(t, g.tun, g.sport)
			g.write(t, packet{src: servers[i], dst: clients[i], proto: unix.IPPROTO_TCP, sport: 443, dport: g.sport, synack: true}.bytes())
			until(t, back.got, 443)
			in.flags = 0x10
			g.send(g.client, "c0", "g0", in.bytes())
			until(t, g.tun, g.sport)
			g.connected(t, conns, clients[i], 0, servers[i])
		}
		g.gw.run("nft delete table inet t")
	}
}

// TestWholeMarksBehindOurs: where a rule of somebody else sets the whole mark behind ours,
// the kernel routes captured packets past the TUN or answers into it, and that is a trouble
// whose command mends it.
func TestWholeMarksBehindOurs(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.CTMask = 0x300                                                     // else the ct mark of a captured packet looks like its mark
	for port := uint16(1001); len(cfg.Ports) < 2*maxPortRules; port += 2 { // too many for rules by port
		cfg.Ports = append(cfg.Ports, port)
	}
	g := newGateway(t, cfg)
	back := newSniffer(t, g.client, "c0")
	const seen = ` chain F { type filter hook forward priority -200; tcp flags syn iifname "g0" oifname != "t0" counter drop; tcp flags syn iifname "t0" oifname "t0" counter drop; } }` // not the RSTs with which the client answers
	for _, c := range []struct {
		table    string
		captured bool // the captured packets are lost, not the answers
	}{
		{`table inet t { chain P { type filter hook prerouting priority -130; iifname "g0" meta mark set 0x1; }` + seen, true},
		{`table inet t { chain P { type filter hook prerouting priority 0; iifname "g0" meta mark set ct mark; }` + seen, true},
		{`table inet t { chain P { type filter hook prerouting priority -130; iifname "t0" meta mark set 0xf1f; }` + seen, false},
	} {
		g.gw.table(c.table)
		found := g.troublesNow()
		if len(found) != 1 || !found[0].Fatal || !strings.Contains(found[0].Text, "chain P of table inet t sets the whole firewall mark") {
			t.Fatalf("%s: %+v", c.table, found)
		}
		lost := g.kernelLoses(t, back, c.table)
		for i := range lost {
			if lost[i].captured != c.captured || lost[i].answer == c.captured {
				t.Errorf("%s: the kernel loses %+v", c.table, lost)
			}
		}
		g.gw.script(found[0].Fix)
		if lost := g.kernelLoses(t, back, c.table); lost != [2]ways{} {
			t.Errorf("with %s the kernel loses %+v", found[0].Fix, lost)
		}
		if left := g.troublesNow(); len(left) > 0 {
			t.Errorf("not mended by %s: %v", found[0].Fix, left)
		}
		g.gw.run("nft delete table inet t")
	}
}
