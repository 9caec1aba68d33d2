package tun

import (
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
