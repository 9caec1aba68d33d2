package tun

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestOddSegments: TCP to a captured port is captured, or dropped where it comes in by an
// interface that is neither captured nor exempt, whatever its flags are and whether it
// carries data: SYN+FIN, null, xmas, SYN with data as of TCP Fast Open (RFC 7413), both
// halves of a simultaneous open, urgent data, resets nobody asked for.
func TestOddSegments(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	for name, flags := range map[string]byte{
		"SYN": 0x02, "SYN+FIN": 0x03, "SYN+RST": 0x06, "SYN+ACK": 0x12, "SYN+URG": 0x22, "null": 0x80 | 0x40, "FIN": 0x01, "RST": 0x04, "RST+ACK": 0x14,
		"xmas": 0x29, "all": 0x3f, "URG": 0x30, "PSH": 0x08, "ECN and CWR": 0xc2,
	} {
		for _, data := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n")} {
			for i, f := range []struct{ captured, other, server string }{{"10.0.1.2", "10.0.3.2", "10.0.2.2"}, {"fd00:1::2", "fd00:3::2", "fd00:2::2"}} {
				p := packet{src: f.captured, dst: f.server, proto: unix.IPPROTO_TCP, sport: 46000, dport: 443, flags: flags, payload: data}
				if got := g.leaked("g0", p.bytes()); len(got) > 0 {
					t.Errorf("%s, %d bytes, way %d: came past the gateway: %v", name, len(data), i, got)
				}
				p.src = f.other
				if got := g.leakedFrom(g.other, "x0", "o0", "10.0.3.2", p.bytes()); len(got) > 0 {
					t.Errorf("%s, %d bytes, way %d: forwarded from an interface that is not captured: %v", name, len(data), i, got)
				}
			}
		}
	}
}
