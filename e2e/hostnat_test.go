package e2e

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// The host's own source NAT does not change who a client is: a client that a rule denies by
// address is denied, and the record has the client's address.
func TestMasqueradeOfTheHost(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	for _, rule := range []string{
		"masquerade", "meta mark and 0x4000 == 0x4000 masquerade", "ip saddr " + lab.ClientAddr(false).String() + " snat ip to " + lab.GatewayAddr(false).String(),
	} {
		t.Run(strings.Fields(rule)[0], func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveEcho)
			w.origin(server(true), serveEcho)
			w.sh("nft add table inet hostnat; nft 'add chain inet hostnat pre { type filter hook prerouting priority mangle ; }'; nft add rule inet hostnat pre meta mark set meta mark or 0x4000;" +
				"nft 'add chain inet hostnat post { type nat hook postrouting priority srcnat ; }'; nft 'add rule inet hostnat post " + rule + "'")
			w.start(w.config(`
    - name: not-this-one
      from: ["`+lab.ClientAddr(false).String()+`", "`+lab.ClientAddr(true).String()+`"]
      to: ["*:443"]
      action: deny`+payRule, ""))
			for i, six := range []bool{false, true} {
				ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
				c, err := w.lab.Dial(ctx, lab.Client, "tcp", server(six))
				cancel()
				if err == nil {
					_ = c.Close()
					t.Errorf("IPv6 %v: the client that is denied has connected", six)
				}
				r := w.last(i + 1)
				if got := r.str("client"); r.str("reason") != "rule_deny" || !strings.Contains(got, lab.ClientAddr(six).String()) {
					t.Errorf("IPv6 %v: record %v", six, r)
				}
			}
		})
	}
}

// A DNAT to a port that is not captured leaves a record that says so. A DNAT to a captured
// port leads to the rule for the destination behind it.
func TestDestinationNAT(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	w := newWorld(t, lab.Options{})
	w.start(w.config(payRule, ""))
	for i, c := range []struct{ to, reason string }{{"9443", "port_not_captured"}, {"8443", "no_rule"}, {"80", "port_not_captured"}} {
		w.sh("nft add table ip hostnat; nft delete table ip hostnat; nft add table ip hostnat; nft 'add chain ip hostnat pre { type nat hook prerouting priority dstnat ; }';" +
			"nft add rule ip hostnat pre tcp dport 443 dnat to " + lab.ServerAddr(0, false).String() + ":" + c.to)
		ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
		conn, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false))
		cancel()
		if err == nil {
			_ = conn.Close()
			t.Errorf("to %s: connected", c.to)
		}
		r := w.last(i + 1)
		if r.str("reason") != c.reason || !strings.HasSuffix(r.str("destination"), ":"+c.to) {
			t.Errorf("to %s: record %v", c.to, r)
		}
		if c.reason == "port_not_captured" && !strings.Contains(r.str("detail"), "port "+c.to+" is not in capture.ports") {
			t.Errorf("to %s: detail %q", c.to, r.str("detail"))
		}
	}
}

// Nothing passes in packets that the kernel may read differently from a destination: behind
// extension headers, in fragments of fragments, or in tunnels; without the gateway, and
// beside it.
func TestNothingPassesBehindHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	config := w.config(payRule, "")
	c4, c6 := lab.ClientAddr(false), lab.ClientAddr(true)
	watch := func() *lab.Sniffer {
		s, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
			return (p.Src.Addr() == c4 || p.Src.Addr() == c6) && p.Proto != unix.IPPROTO_ICMPV6 && p.Dst.Port() != 9
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	send := func() {
		t.Helper()
		seg := lab.Segment{Src: netip.AddrPortFrom(c6, 47000), Dst: netip.AddrPortFrom(lab.ServerAddr(0, true), port), Flags: lab.SYN, Seq: 1}
		tcp := seg.TCP()
		six := func(first byte, body ...[]byte) []byte {
			p := seg.Packet()[:40:40]
			for _, b := range body {
				p = append(p, b...)
			}
			p[5], p[6] = byte(len(p)-40), first
			return p
		}
		frag := func(next byte, off int, more byte, id byte) []byte {
			return []byte{next, 0, 0, byte(off) | more, 0, 0, 0, id}
		}
		options := []byte{6, 0, 1, 4, 0, 0, 0, 0}
		packets := [][]byte{
			six(44, frag(44, 0, 0, 2), frag(60, 0, 1, 3), options), six(44, frag(44, 0, 0, 2), frag(60, 8, 0, 3), tcp),
			six(59, tcp), six(50, tcp), six(41, seg.Packet()), six(47, []byte{0, 0, 0x86, 0xdd}, seg.Packet()),
		}
		for _, unknown := range []byte{253, 254, 135, 139, 140, 143, 200} {
			packets = append(packets, six(unknown, []byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp), six(60, []byte{unknown, 0, 1, 4, 0, 0, 0, 0}, []byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp))
		}
		if err := w.lab.SendRaw(lab.Client, packets...); err != nil {
			t.Fatal(err)
		}
	}
	open := watch()
	send()
	testenv.Eventually(t, "the sniffer sees 10 packets where nothing is in the way", func() bool { return open.Count() >= 10 }, func() any { return open.Count() })
	if out, err := w.command("guard", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("guard: %v\n%s", err, out)
	}
	s := watch()
	send()
	w.nothingLeaked(s, "guard alone")
	w.start(config)
	send()
	w.nothingLeaked(s, "gateway running")
}
