package tun

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Packets to a captured port do not pass although a DNAT of the host changes the port:
// QUIC, TCP whose mark was changed after ours was set, and TCP from an interface that is
// neither captured nor exempt.
func TestDialledPortDecides(t *testing.T) {
	t.Parallel()
	for mode, set := range map[string]func(*testing.T) *lab{
		"steered": func(t *testing.T) *lab { return newGateway(t, testConfig()).lab },
		"guard alone": func(t *testing.T) *lab {
			l := newLab(t)
			l.gw.do(func() error { return Guard(testConfig()) })
			return l
		},
	} {
		t.Run(mode, func(t *testing.T) {
			l := set(t)
			l.warm()
			l.gw.run("nft add table inet others")
			l.gw.run("nft add chain inet others pre { type nat hook prerouting priority dstnat ; }")
			l.gw.run("nft add chain inet others marks { type filter hook prerouting priority dstnat + 5 ; }")
			for _, to := range []string{"ip to 10.0.2.2:9443", "ip6 to [fd00:2::2]:9443"} {
				l.gw.run("nft add rule inet others pre meta l4proto { tcp, udp } th dport { 443, 8443, 80 } dnat " + to)
			}
			sport := uint16(52000)
			sent := func(from *ns, ifc, gwIf, v4, v6, src, dst string, proto byte, dport uint16) []string {
				sport++
				p := packet{src: src, dst: dst, proto: proto, sport: sport, dport: dport}
				return l.arrived(from, ifc, gwIf, v4, v6, p.bytes())
			}
			for _, mark := range []string{"", "0", "0x1", "ct mark"} {
				if mark != "" {
					l.gw.run("nft flush chain inet others marks")
					l.gw.run("nft add rule inet others marks meta mark set " + mark)
				}
				for _, way := range []struct {
					from              *ns
					ifc, gwIf, v4, v6 string
					protos            []byte
				}{
					{l.client, "c0", "g0", "10.0.1.2", "fd00:1::2", []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}},
					{l.other, "x0", "o0", "10.0.3.2", "fd00:3::2", []byte{unix.IPPROTO_TCP}},
				} {
					for _, f := range [][2]string{{way.v4, "10.0.2.2"}, {way.v6, "fd00:2::2"}, {way.v4, "10.0.2.1"}} {
						for _, proto := range way.protos {
							what := fmt.Sprintf("mark %q, %s, protocol %d, %s to %s", mark, way.gwIf, proto, f[0], f[1])
							for _, port := range []uint16{443, 8443} {
								if got := sent(way.from, way.ifc, way.gwIf, way.v4, way.v6, f[0], f[1], proto, port); len(got) > 0 {
									t.Errorf("%s:%d: reached the server: %v", what, port, got)
								}
							}
							if got := sent(way.from, way.ifc, way.gwIf, way.v4, way.v6, f[0], f[1], proto, 80); len(got) != 1 {
								t.Errorf("%s:80: %v, want it at the server", what, got)
							}
						}
					}
				}
			}
		})
	}
}

// The same if the DNAT leads to this host itself.
func TestDialledPortDecidesLocally(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.gw.do(func() error { return Guard(testConfig()) })
	for _, line := range []string{
		"nft add table inet others",
		"nft add chain inet others pre { type nat hook prerouting priority dstnat ; }",
		"nft add chain inet others marks { type filter hook prerouting priority dstnat + 5 ; }",
		"nft add rule inet others marks meta mark set 0",
		"nft add rule inet others pre meta l4proto { tcp, udp } th dport { 443, 8443, 80 } redirect to :9443",
		"nft add chain inet others in { type filter hook input priority 300 ; }",
		"nft add counter inet others arrived",
		"nft add rule inet others in iifname g0 meta l4proto { tcp, udp } th dport 9443 counter name arrived",
	} {
		l.gw.run(line)
	}
	sport, want := uint16(53000), 0
	for _, port := range []uint16{443, 8443, 80} {
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			for _, f := range [][2]string{{"10.0.1.2", "10.0.1.1"}, {"fd00:1::2", "fd00:2::1"}} {
				sport++
				l.send(l.client, "c0", "g0", packet{src: f[0], dst: f[1], proto: proto, sport: sport, dport: port}.bytes())
				l.leaked("g0") // whatever was sent before has been handled
				if port == 80 {
					want++
				}
				if out := l.gw.run("nft list counter inet others arrived"); !strings.Contains(out, fmt.Sprintf("packets %d ", want)) {
					t.Fatalf("protocol %d to %s port %d, redirected: %s, want %d", proto, f[1], port, out, want)
				}
			}
		}
	}
}
