package tun

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"golang.org/x/sys/unix"
)

// withMSS is a TCP packet with an MSS option (RFC 9293, section 3.2).
func withMSS(p packet, mss uint16) []byte {
	p.payload = binary.BigEndian.AppendUint16([]byte{2, 4}, mss)
	b := p.bytes()
	tcp := parse(b).body
	// The checksum is a sum: adding to a word takes as much off it.
	tcp[12] += 1 << 4
	sum := uint32(binary.BigEndian.Uint16(tcp[16:])) + 0xffff - 1<<12
	binary.BigEndian.PutUint16(tcp[16:], uint16(sum+sum>>16))
	return b
}

// mssOf reads it.
func mssOf(t *testing.T, b []byte) uint16 {
	t.Helper()
	tcp := parse(b).body
	if len(tcp) < 24 || tcp[20] != 2 || tcp[21] != 4 {
		t.Fatalf("no MSS in %x", b)
	}
	return binary.BigEndian.Uint16(tcp[22:])
}

// large is a packet of the destination to the client of n bytes, with DF set.
func large(src, dst string, dport uint16, n int) []byte {
	head := 40
	if strings.Contains(src, ":") {
		head = 60
	}
	b := packet{src: src, dst: dst, proto: unix.IPPROTO_TCP, sport: 443, dport: dport, flags: 0x18, payload: make([]byte, n-head)}.bytes()
	if head == 40 {
		b[6] |= 0x40
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	}
	return b
}

// next is the first packet that is wanted, which must come.
func next(t *testing.T, got <-chan []byte, wanted func([]byte) bool) []byte {
	t.Helper()
	timeout := time.After(testenv.Patience())
	for {
		select {
		case p := <-got:
			if wanted(p) {
				return p
			}
		case <-timeout:
			t.Fatal("nothing came")
		}
	}
}

// The MSS of the client's SYN becomes what the route back to the client carries, and that
// of the SYN-ACK what the route there carries: the MTU of the interface or of a route, at
// the time when the connection begins. It is never raised.
func TestMSSIsOfTheWayBack(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	g.warm()
	toClient := newSniffer(t, g.client, "c0")
	sport := uint16(52000)
	for _, c := range []struct {
		name   string
		lines  []string // typed in the gateway
		offer  uint16
		v4, v6 uint16 // 0: not tried
	}{
		{"as wide as the TUN", nil, 1460, 1460, 1440},
		{"client's own is less", nil, 500, 500, 500},
		{"WireGuard", []string{"ip link set g0 mtu 1420"}, 1460, 1380, 1360},
		{"client of a wide network", nil, 8960, 1380, 1360},
		{"PPPoE in GRE", []string{"ip link set g0 mtu 1468"}, 1460, 1428, 1408},
		{"the least of IPv6", []string{"ip link set g0 mtu 1280"}, 1460, 1240, 1220},
		{"a route", []string{"ip link set g0 mtu 1500", "ip route add 10.0.1.2/32 dev g0 mtu 1400", "ip -6 route add fd00:1::2/128 dev g0 mtu 1390"}, 1460, 1360, 1330},
		{"the route is gone", []string{"ip route del 10.0.1.2/32", "ip -6 route del fd00:1::2/128"}, 1460, 1460, 1440},
		{"wider than the TUN", []string{"ip link set g0 mtu 9000"}, 8960, 1460, 1440},
		{"the least of IPv4", []string{"ip link set g0 mtu 576"}, 1460, 536, 0},
	} {
		for _, line := range c.lines {
			g.gw.run(line)
		}
		for _, f := range []struct {
			src, dst string
			want     uint16
		}{{"10.0.1.2", "10.0.2.2", c.v4}, {"fd00:1::2", "fd00:2::2", c.v6}} {
			if f.want == 0 {
				continue
			}
			sport++
			syn := packet{src: f.src, dst: f.dst, proto: unix.IPPROTO_TCP, sport: sport, dport: 443}
			g.send(g.client, "c0", "g0", withMSS(syn, c.offer))
			got := next(t, g.tun, func(p []byte) bool { return parse(p).sport == sport })
			if mss := mssOf(t, got); mss != f.want {
				t.Errorf("%s: the MSS of %s is %d in the SYN, want %d", c.name, f.src, mss, f.want)
			}
			if sum := checksum(append(pseudo(got), parse(got).body...)); sum != 0 {
				t.Errorf("%s: checksum of the SYN is off by %#x", c.name, sum)
			}
			answer := packet{src: f.dst, dst: f.src, proto: unix.IPPROTO_TCP, sport: 443, dport: sport, synack: true}
			g.write(t, withMSS(answer, c.offer))
			back := next(t, toClient.got, func(p []byte) bool { return parse(p).dport == sport })
			if mss := mssOf(t, back); mss != f.want {
				t.Errorf("%s: the MSS of %s is %d in the SYN-ACK, want %d", c.name, f.src, mss, f.want)
			}
		}
	}
}

// pseudo is the pseudo-header of a TCP packet without extension headers.
func pseudo(p []byte) []byte {
	i := parse(p)
	b := append(i.src.AsSlice(), i.dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(i.body)))
	return append(b, 0, 0, 0, unix.IPPROTO_TCP)
}

// tooBigMTU is the MTU that an ICMP error reports; 0 of every other packet.
func tooBigMTU(p []byte) int {
	switch i := parse(p); {
	case len(i.body) < 8:
	case i.proto == unix.IPPROTO_ICMP && i.body[0] == 3 && i.body[1] == 4:
		return int(binary.BigEndian.Uint16(i.body[6:]))
	case i.proto == unix.IPPROTO_ICMPV6 && i.body[0] == 2:
		return int(binary.BigEndian.Uint32(i.body[4:]))
	}
	return 0
}

func isTooBig(p []byte) bool { return tooBigMTU(p) > 0 }

// If an MTU has become smaller since the connection began, this host's errors about
// packets that are too big go into the TUN and not to the destination, for clients behind
// it and for itself, and also behind the firewall marks of others.
func TestTooBigIsLedBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		cfg      SteerConfig
		dst4, d6 string
		lines    []string
	}{
		{"forwarded", testConfig(), "10.0.2.2", "fd00:2::2", nil},
		{"all ports", allPorts(testConfig()), "10.0.2.2", "fd00:2::2", nil},
		{"this host itself", localConfig(), "10.0.1.1", "fd00:1::1", nil},
		{"this host, another address", localConfig(), "10.0.2.1", "fd00:2::1", nil},
		{"marked by others too", testConfig(), "10.0.2.2", "fd00:2::2", []string{
			"nft add table inet other",
			"nft add chain inet other out { type route hook output priority -150 ; }",
			"nft add rule inet other out meta mark set 0x2000",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, c.cfg)
			g.warm()
			for _, line := range c.lines {
				g.gw.run(line)
			}
			for _, f := range []struct{ src, dst string }{{"10.0.1.2", c.dst4}, {"fd00:1::2", c.d6}} {
				g.gw.run("ip link set g0 mtu 1500")
				g.send(g.client, "c0", "g0", packet{src: f.src, dst: f.dst, proto: unix.IPPROTO_TCP, sport: 53000, dport: 443}.bytes())
				until(t, g.tun, 53000)
				g.write(t, packet{src: f.dst, dst: f.src, proto: unix.IPPROTO_TCP, sport: 443, dport: 53000, synack: true}.bytes())
				g.gw.run("ip link set g0 mtu 1400")
				g.write(t, large(f.dst, f.src, 53000, 1500))
				p := next(t, g.tun, isTooBig)
				if to := parse(p).dst.String(); tooBigMTU(p) != 1400 || to != f.dst {
					t.Errorf("%s: MTU %d to %v", f.dst, tooBigMTU(p), to)
				}
			}
			if got := g.leaked("g0"); len(got) > 0 {
				t.Errorf("reached the destination: %v", got)
			}
		})
	}
}

func allPorts(cfg SteerConfig) SteerConfig {
	cfg.AllPorts, cfg.Ports = true, nil
	return cfg
}

// A router on another path to the client than the one its packets come by sends the
// error: it goes into the TUN, too. Errors about connections that are not captured go to
// their owners.
func TestTooBigOfOthers(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Exempt = []string{"o0"}
	g := newGateway(t, cfg)
	g.warm()
	for _, f := range []struct {
		client, other, server string
		icmp, kind, code      byte
	}{
		{"10.0.1.2", "10.0.3.2", "10.0.2.2", unix.IPPROTO_ICMP, 3, 4},
		{"fd00:1::2", "fd00:3::2", "fd00:2::2", unix.IPPROTO_ICMPV6, 2, 0},
	} {
		tooBig := func(src string, quoted []byte) []byte {
			return packet{src: src, dst: f.server, proto: f.icmp, icmpType: f.kind, icmpCode: f.code, icmpMTU: 1400, payload: quoted[:100]}.bytes()
		}
		// The client's packets come in by g0, the router is behind o0.
		g.send(g.client, "c0", "g0", packet{src: f.client, dst: f.server, proto: unix.IPPROTO_TCP, sport: 54000, dport: 443}.bytes())
		until(t, g.tun, 54000)
		g.write(t, packet{src: f.server, dst: f.client, proto: unix.IPPROTO_TCP, sport: 443, dport: 54000, synack: true}.bytes())
		about := large(f.server, f.client, 54000, 1500)
		g.send(g.other, "x0", "o0", tooBig(f.other, about))
		if mtu := tooBigMTU(next(t, g.tun, isTooBig)); mtu != 1400 {
			t.Errorf("MTU %d", mtu)
		}
		// The exempt client's own connection.
		g.send(g.other, "x0", "o0", packet{src: f.other, dst: f.server, proto: unix.IPPROTO_TCP, sport: 54001, dport: 443}.bytes())
		until(t, g.sniff.got, 54001)
		g.send(g.server, "s0", "g1", packet{src: f.server, dst: f.other, proto: unix.IPPROTO_TCP, sport: 443, dport: 54001, synack: true}.bytes())
		g.gw.run("ip link set o0 mtu 1390")
		g.send(g.server, "s0", "g1", large(f.server, f.other, 54001, 1500))
		if mtu := tooBigMTU(next(t, g.sniff.got, isTooBig)); mtu != 1390 {
			t.Errorf("MTU %d to the server of an exempt client", mtu)
		}
		g.gw.run("ip link set o0 mtu 1500")
		select {
		case p := <-g.tun:
			if isTooBig(p) {
				t.Errorf("in the TUN: %v", parse(p))
			}
		default:
		}
	}
}
