package tun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

func testConfig() SteerConfig {
	return SteerConfig{TUN: "t0", Interfaces: []string{"g0"}, Ports: []uint16{443, 8443}, RejectUDP: true, Mark: 0x10, Mask: 0x70, Table: 5519, Preference: 5519,
		CTMask: 0x30, Twin: Twin{TUN: "t1", Mark: 0x40, Table: 5521}}
}

// gateway is the gateway's side of a lab: device, steering and what comes out
// of the TUN.
type gateway struct {
	*lab
	dev   *Device
	steer *Steering
	logs  *observer.ObservedLogs
	tun   chan []byte
}

func newGateway(t testing.TB, cfg SteerConfig) *gateway {
	t.Helper()
	return gatewayOn(t, newLab(t), cfg)
}

func gatewayOn(t testing.TB, l *lab, cfg SteerConfig) *gateway {
	t.Helper()
	g := &gateway{lab: l}
	g.open(t)
	core, logs := observer.New(zap.InfoLevel)
	g.logs = logs
	g.gw.do(func() (err error) {
		g.steer, err = Steer(cfg, zap.New(core))
		return err
	})
	t.Cleanup(func() { _ = g.steer.Close(false) })
	return g
}

func (g *gateway) open(t testing.TB) { t.Helper(); g.openAs(t, "t0") }

func (g *gateway) openAs(t testing.TB, name string) {
	t.Helper()
	g.gw.do(func() (err error) {
		g.dev, err = Open(Config{Name: name, Offload: OffloadOff})
		return err
	})
	g.tun = make(chan []byte, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		bufs, sizes := buffers(8, 65536)
		var fragments defrag
		for {
			n, err := g.dev.ReadBatch(bufs, sizes)
			if err != nil {
				return
			}
			for i := range n {
				p := append([]byte(nil), bufs[i][1][:sizes[i]-headerLen]...)
				if parse(p).dst.IsMulticast() { // the kernel's own MLD reports
					continue
				}
				if whole := fragments.add(p); whole != nil {
					g.tun <- whole
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = g.dev.Close()
		<-done
	})
}

func buffers(n, size int) ([][][]byte, []int) {
	bufs := make([][][]byte, n)
	for i := range bufs {
		bufs[i] = [][]byte{make([]byte, headerLen), make([]byte, size)}
	}
	return bufs, make([]int, n)
}

// watch runs Watch for the length of the test; its error is sent if it returns
// before.
func (g *gateway) watch(t testing.TB) <-chan error {
	ctx, cancel := context.WithCancel(context.Background())
	failed, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		if err := g.steer.Watch(ctx); err != nil {
			failed <- err
		}
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(testenv.Patience()):
			t.Error("Watch did not return")
		}
	})
	return failed
}

// syns are the ways to begin a connection to a captured port; each packet has
// the source port under which it is looked for.
func syns(sport uint16) map[string]packet {
	v4 := packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: sport, dport: 443}
	v6 := packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_TCP, sport: sport, dport: 443}
	with := func(p packet, f func(*packet)) packet { f(&p); return p }
	return map[string]packet{
		"v4":                    v4,
		"v4 second port":        with(v4, func(p *packet) { p.dport = 8443 }),
		"v4 fragments":          with(v4, func(p *packet) { p.fragment = 8 }),
		"v4 fragments, payload": with(v4, func(p *packet) { p.fragment, p.payload = 16, make([]byte, 200) }),
		"v6":                    v6,
		"v6 fragments":          with(v6, func(p *packet) { p.fragment, p.payload = 24, make([]byte, 200) }),
		"v6 atomic fragment":    with(v6, func(p *packet) { p.ext = []byte{unix.IPPROTO_FRAGMENT} }),
		"v6 hop-by-hop":         with(v6, func(p *packet) { p.ext = []byte{unix.IPPROTO_HOPOPTS} }),
		"v6 destination opts":   with(v6, func(p *packet) { p.ext = []byte{unix.IPPROTO_DSTOPTS, unix.IPPROTO_DSTOPTS} }),
		"v6 routing":            with(v6, func(p *packet) { p.ext = []byte{unix.IPPROTO_ROUTING} }),
		"v6 all of them": with(v6, func(p *packet) {
			p.ext = []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS}
		}),
	}
}

// brokenSYNs are forbidden by RFC 8200, section 4.5 (all headers in the first
// fragment). Linux neither puts them together nor drops the first fragment.
func brokenSYNs(sport uint16) map[string]packet {
	v6 := syns(sport)["v6"]
	split, second := v6, v6
	split.fragment = 8
	second.ext, second.fragment = []byte{unix.IPPROTO_DSTOPTS}, 8
	return map[string]packet{"TCP header split": split, "TCP header in the second fragment": second}
}

func TestSteer(t *testing.T) {
	g := newGateway(t, testConfig())
	sport := uint16(50000)
	for name := range syns(0) {
		sport++
		p := syns(sport)[name]
		t.Run(name, func(t *testing.T) {
			if got := g.leaked("g0", p.packets()...); len(got) > 0 {
				t.Errorf("reached the server: %v", got)
			}
			if before := until(t, g.tun, sport); len(before) > 0 {
				t.Errorf("more came out of the TUN: %v", describe(before))
			}
		})
	}
}

func TestSteerBrokenFragments(t *testing.T) {
	g := newGateway(t, testConfig())
	for name, p := range brokenSYNs(50100) {
		if got := g.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: reached the server: %v", name, got)
		}
	}
}

// TestFragmentsUntracked: the guard holds even if somebody has switched off connection
// tracking, and defragmentation with it.
func TestFragmentsUntracked(t *testing.T) {
	g := newGateway(t, testConfig())
	g.gw.run("nft add table inet fast")
	g.gw.run("nft add chain inet fast raw { type filter hook prerouting priority -500 ; }")
	g.gw.run("nft add rule inet fast raw notrack")
	sport := uint16(50200)
	for name, p := range syns(sport) {
		if got := g.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: reached the server: %v", name, got)
		}
	}
	for name, p := range brokenSYNs(sport) {
		if got := g.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: reached the server: %v", name, got)
		}
	}
}

func TestSteerLeavesTheRestAlone(t *testing.T) {
	g := newGateway(t, testConfig())
	for _, p := range []packet{
		{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 1, dport: 80},
		{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_TCP, sport: 2, dport: 80},
		{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 3, dport: 53},
		{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 4, dport: 53, fragment: 8, payload: make([]byte, 100)},
	} {
		g.send(g.client, "c0", "g0", p.packets()...)
		until(t, g.sniff.got, p.sport)
	}
	select {
	case p := <-g.tun:
		t.Errorf("came out of the TUN: %v", parse(p))
	default:
	}
}

func TestUDP(t *testing.T) {
	udp := packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 5, dport: 443}
	udp6 := packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_UDP, sport: 6, dport: 443}
	t.Run("reject", func(t *testing.T) {
		g := newGateway(t, testConfig())
		back := newSniffer(t, g.client, "c0")
		if got := g.leaked("g0", udp.bytes(), udp6.bytes()); len(got) > 0 {
			t.Errorf("reached the server: %v", got)
		}
		want := map[string]bool{"1/3.3": true, "58/1.4": true} // port unreachable, RFC 792 and RFC 4443, section 3.1
		for timeout := time.After(testenv.Patience()); len(want) > 0; {
			select {
			case p := <-back.got:
				if i := parse(p); len(i.body) > 1 {
					delete(want, fmt.Sprintf("%d/%d.%d", i.proto, i.body[0], i.body[1]))
				}
			case <-timeout:
				t.Fatalf("the client was not sent %v", want)
			}
		}
	})
	t.Run("reject with all ports", func(t *testing.T) {
		cfg := testConfig()
		cfg.AllPorts, cfg.Ports = true, nil
		g := newGateway(t, cfg)
		if got := g.leaked("g0", udp.bytes()); len(got) > 0 {
			t.Errorf("reached the server: %v", got)
		}
	})
	t.Run("ignore", func(t *testing.T) {
		cfg := testConfig()
		cfg.RejectUDP = false
		g := newGateway(t, cfg)
		g.send(g.client, "c0", "g0", udp.bytes())
		until(t, g.sniff.got, udp.sport)
	})
}

func TestAllPorts(t *testing.T) {
	cfg := testConfig()
	cfg.AllPorts, cfg.Ports = true, nil
	g := newGateway(t, cfg)
	for i, dport := range []uint16{1, 80, 443, 65535} {
		sport := uint16(51000 + i)
		p := packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: sport, dport: dport, fragment: 8}
		if got := g.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("port %d reached the server: %v", dport, got)
		}
		until(t, g.tun, sport)
	}
}

// TestICMP: an error about a captured connection that a router on the client's side sends
// to the server goes into the TUN; others are forwarded.
func TestICMP(t *testing.T) {
	g := newGateway(t, testConfig())
	type end struct {
		client, server  string
		proto, typ, cod byte
	}
	sport := uint16(52000)
	atClient := newSniffer(t, g.client, "c0")
	for _, e := range []end{
		{"10.0.1.2", "10.0.2.2", unix.IPPROTO_ICMP, 3, 4},     // fragmentation needed
		{"fd00:1::2", "fd00:2::2", unix.IPPROTO_ICMPV6, 2, 0}, // packet too big
	} {
		for _, dport := range []uint16{443, 80} {
			sport++
			syn := packet{src: e.client, dst: e.server, proto: unix.IPPROTO_TCP, sport: sport, dport: dport}
			answer := packet{src: e.server, dst: e.client, proto: unix.IPPROTO_TCP, sport: dport, dport: sport, synack: true}
			tooBig := packet{src: e.client, dst: e.server, proto: e.proto, icmpType: e.typ, icmpCode: e.cod, payload: answer.bytes()}
			raw := tooBig.bytes()
			if e.proto == unix.IPPROTO_ICMPV6 {
				fixICMPv6(raw)
			}
			g.send(g.client, "c0", "g0", syn.bytes())
			if dport == 443 {
				until(t, g.tun, sport)
				g.write(t, answer.bytes())
				g.send(g.client, "c0", "g0", raw)
				waitICMP(t, g.tun, e.proto, e.typ)
			} else {
				until(t, g.sniff.got, sport)
				g.send(g.server, "s0", "g1", answer.bytes())
				until(t, atClient.got, dport) // it is tracked
				g.send(g.client, "c0", "g0", raw)
				waitICMP(t, g.sniff.got, e.proto, e.typ)
			}
		}
	}
}

// fixICMPv6 puts in the checksum with the pseudo-header of RFC 8200, section 8.1.
func fixICMPv6(p []byte) {
	p[42], p[43] = 0, 0
	pseudo := append([]byte(nil), p[8:40]...)
	pseudo = append(pseudo, 0, 0, p[4], p[5], 0, 0, 0, unix.IPPROTO_ICMPV6)
	sum := checksum(append(pseudo, p[40:]...))
	p[42], p[43] = byte(sum>>8), byte(sum)
}

func waitICMP(t *testing.T, got <-chan []byte, proto, typ byte) {
	t.Helper()
	for timeout := time.After(testenv.Patience()); ; {
		select {
		case p := <-got:
			if i := parse(p); i.proto == proto && len(i.body) > 0 && i.body[0] == typ {
				return
			}
		case <-timeout:
			t.Fatalf("no ICMP error of protocol %d, type %d", proto, typ)
		}
	}
}

// write writes an IP packet into the TUN, as the stack would.
func (g *gateway) write(t *testing.T, packets ...[]byte) {
	t.Helper()
	var pkts [][][]byte
	for _, p := range packets {
		pkts = append(pkts, [][]byte{make([]byte, headerLen), p})
	}
	if n, err := g.dev.WriteBatch(pkts); err != nil || n != len(packets) {
		t.Fatalf("wrote %d of %d packets: %v", n, len(packets), err)
	}
}

// TestAnswers: what is written into the TUN reaches the client, whatever
// rp_filter the host has.
func TestAnswers(t *testing.T) {
	for _, filter := range []string{"0", "1", "2"} {
		t.Run("rp_filter="+filter, func(t *testing.T) {
			g := newGateway(t, testConfig())
			g.gw.run("sysctl -qw net.ipv4.conf.all.rp_filter=" + filter)
			back := newSniffer(t, g.client, "c0")
			g.write(t, packet{src: "10.0.2.2", dst: "10.0.1.2", proto: unix.IPPROTO_TCP, sport: 443, dport: 8443, synack: true}.bytes())
			until(t, back.got, 443)
			g.write(t, packet{src: "fd00:2::2", dst: "fd00:1::2", proto: unix.IPPROTO_TCP, sport: 8443, dport: 443, synack: true}.bytes())
			until(t, back.got, 8443)
		})
	}
}

func TestSteerConfigCheck(t *testing.T) {
	for want, change := range map[string]func(*SteerConfig){
		"not the name":     func(c *SteerConfig) { c.TUN = "a/b" },
		"0 captured":       func(c *SteerConfig) { c.Interfaces = nil },
		"TUN itself":       func(c *SteerConfig) { c.Interfaces = []string{"t0"} },
		"exempt at once":   func(c *SteerConfig) { c.Exempt = []string{"g0"} },
		"ports are empty":  func(c *SteerConfig) { c.Ports = nil },
		"have a 0 among":   func(c *SteerConfig) { c.Ports = []uint16{0} },
		"mark 0":           func(c *SteerConfig) { c.Mark = 0 },
		"outside of the":   func(c *SteerConfig) { c.Mark = 0x4010 },
		"table 254 is the": func(c *SteerConfig) { c.Table = 254 },
		"preference 32765": func(c *SteerConfig) { c.Preference = 32765 },
	} {
		cfg := testConfig()
		change(&cfg)
		for name, f := range map[string]func(SteerConfig) error{
			"Guard": Guard, "Release": Release,
			"Steer": func(c SteerConfig) error { _, err := Steer(c, zap.NewNop()); return err },
		} {
			if err := f(cfg); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

func TestSteerWithoutTUN(t *testing.T) {
	l := newLab(t)
	err := l.gw.try(func() error { _, err := Steer(testConfig(), zap.NewNop()); return err })
	if err == nil || !strings.Contains(err.Error(), "t0") {
		t.Errorf("%v", err)
	}
	if errors.Is(err, ErrNoTUN) {
		t.Error("ErrNoTUN is for a device that was there")
	}
}
