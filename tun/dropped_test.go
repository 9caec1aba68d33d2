package tun

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// drops lets Watch look once and returns what the guard has dropped.
func (g *gateway) drops() Drops {
	g.gw.t.Helper()
	g.gw.do(g.steer.check)
	return g.steer.Drops()
}

// of is how often the guard dropped for the reason.
func (d *Drops) of(reason string) uint64 {
	for _, c := range d.Counts {
		if c.Reason == reason {
			return c.Packets
		}
	}
	return 0
}

// TestDropsAreCounted: each way in which the guard drops a packet has its reason,
// with a cause, and the count outlives table and process.
func TestDropsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name, reason, setup string
		from                string // c0 by g0, or x0 by o0
		packet              packet
	}{
		{"captured port by another interface", DropUncaptured, "", "x0", packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 41001, dport: 443}},
		{"the same of IPv6", DropUncaptured, "", "x0", packet{src: "fd00:3::2", dst: "fd00:2::2", proto: unix.IPPROTO_TCP, sport: 41002, dport: 8443}},
		{"a rule of somebody else comes first", DropNotSteered, "ip rule add pref 100 lookup main", "c0", packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 41003, dport: 443}},
		{"QUIC", DropQUIC, "", "c0", packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 41004, dport: 443}},
		{"a protocol that is not known", DropProtocol, "", "c0", packet{src: "10.0.1.2", dst: "10.0.2.2", proto: 47, sport: 41005}},
		{"DNAT to a port that is not captured", DropPortChanged, "nft add table ip other; nft add chain ip other pre '{ type nat hook prerouting priority -100; }'; nft add rule ip other pre tcp dport 443 dnat to 10.0.2.2:7000; ip rule add pref 100 lookup main; nft add chain ip other early '{ type filter hook prerouting priority -130; }'; nft add rule ip other early meta mark set 0",
			"c0", packet{src: "10.0.1.2", dst: "10.0.2.9", proto: unix.IPPROTO_TCP, sport: 41006, dport: 443}},
		{"from a captured port, by the wrong interface", DropReversePath, "", "x0", packet{src: "10.0.2.2", dst: "10.0.1.2", proto: unix.IPPROTO_TCP, sport: 443, dport: 41007}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, testConfig())
			if c.setup != "" {
				g.gw.script(c.setup)
			}
			from, by := g.client, "g0"
			if c.from == "x0" {
				from, by = g.other, "o0"
			}
			before := g.drops()
			g.send(from, c.from, by, c.packet.bytes())
			within(t, func() string {
				now := g.drops()
				if now.of(c.reason) != before.of(c.reason)+1 {
					return "not counted"
				}
				return ""
			})
			after := g.drops()
			for _, d := range after.Counts {
				if d.Cause == "" {
					t.Errorf("%s has no cause", d.Reason)
				}
				if d.Reason != c.reason && d.Packets != before.of(d.Reason) {
					t.Errorf("%d packets were counted as %s", d.Packets, d.Reason)
				}
			}
			g.gw.run("nft delete table inet sslgate") // Watch writes it again
			if now := g.drops(); now.of(c.reason) != after.of(c.reason) {
				t.Errorf("%d packets after a repair, %d before", now.of(c.reason), after.of(c.reason))
			}
			g.gw.do(func() error {
				found, there, err := ReadDrops()
				if err != nil || !there || found.of(c.reason) != after.of(c.reason) {
					t.Errorf("read by another process: %+v, %v, %v", found, there, err)
				}
				return nil
			})
		})
	}
}

// TestStrayIsNoClient: a segment in the middle of an old or unknown connection is
// dropped, and no interface is reported for it.
func TestStrayIsNoClient(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	before := g.drops()
	for i, flags := range []byte{0x10, 0x11, 0x04, 0x19} {
		stray := packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: uint16(43001 + i), dport: 443, flags: flags}
		g.send(g.other, "x0", "o0", stray.bytes())
	}
	within(t, func() string {
		if now := g.drops(); now.of(DropUncaptured) < before.of(DropUncaptured)+4 {
			return "not counted"
		}
		return ""
	})
	if d := g.drops(); len(d.Uncaptured) > 0 {
		t.Errorf("%v", d.Uncaptured)
	}
}

// TestUncapturedInterfaces: with the wrong name in the configuration, the right one is
// reported. Exempt interfaces, answers and the loopback are not.
func TestUncapturedInterfaces(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Interfaces, cfg.Exempt = []string{"o0"}, []string{"g1"} // the client comes in by g0
	g := newGateway(t, cfg)
	for _, dst := range []string{"10.0.2.2", "10.0.1.1"} { // through the host, and to it
		g.send(g.client, "c0", "g0", packet{src: "10.0.1.2", dst: dst, proto: unix.IPPROTO_TCP, sport: 42001, dport: 443}.bytes())
		g.send(g.client, "c0", "g0", packet{src: "10.0.1.2", dst: dst, proto: unix.IPPROTO_TCP, sport: 42002, dport: 80}.bytes())
		g.send(g.server, "s0", "g1", packet{src: "10.0.2.2", dst: "10.0.2.1", proto: unix.IPPROTO_TCP, sport: 42003, dport: 443}.bytes())
	}
	within(t, func() string {
		if d := g.drops(); len(d.Uncaptured) == 0 || len(d.UncapturedLocal) == 0 {
			return "not seen"
		}
		return ""
	})
	d := g.drops()
	if want := []string{"g0"}; !slices.Equal(d.Uncaptured, want) || !slices.Equal(d.UncapturedLocal, want) {
		t.Errorf("%+v", d)
	}
	for i, w := range d.Warnings() {
		if through := i == 0; through && strings.Contains(w, "exempt") {
			t.Errorf("advises to open what is dropped: %s", w)
		}
		if n := g.logs.FilterField(zap.String("what", w)).Len(); n != 1 {
			t.Errorf("%d lines of the log: %s", n, w)
		}
	}
	if n := g.logs.FilterMessage("the guard drops packets").Len(); n != 1 {
		t.Errorf("%d lines of the log that the guard drops", n)
	}
}

// TestCountersOutliveWhatIsTold: the log says what was dropped since the start, and no
// difference is negative after somebody has reset the counters.
func TestCountersOutliveWhatIsTold(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	said := func() []int64 {
		var all []int64
		for _, e := range g.logs.FilterMessage("the guard drops packets").All() {
			if n, ok := e.ContextMap()["packets"].(uint64); ok {
				all = append(all, int64(n))
			}
		}
		return all
	}
	stray := func(n int) {
		t.Helper()
		before := g.drops()
		for range n {
			g.sport++
			g.send(g.other, "x0", "o0", packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: g.sport, dport: 443}.bytes())
		}
		within(t, func() string {
			if now := g.drops(); now.of(DropUncaptured) < before.of(DropUncaptured)+uint64(n) {
				return "not counted"
			}
			return ""
		})
	}
	stray(1)
	total := func() (n int64) {
		for _, p := range said() {
			n += p
		}
		return n
	}
	if total() != 1 {
		t.Errorf("said %v of one packet", said())
	}
	// Another process on the same table.
	if err := g.steer.Close(false); err != nil {
		t.Fatal(err)
	}
	g.gw.do(func() (err error) {
		g.steer, err = Steer(testConfig(), g.steer.log)
		return err
	})
	if d := g.drops(); d.of(DropUncaptured) != 1 || total() != 1 {
		t.Errorf("after a restart %d dropped, said %v", d.of(DropUncaptured), said())
	}
	g.steer.counts = nil // as `nft reset rules` leaves them
	g.gw.run("nft delete table inet sslgate")
	g.gw.do(g.steer.check) // sees none
	stray(2)
	g.steer.told[DropUncaptured] = told{packets: g.steer.told[DropUncaptured].packets} // ten minutes later
	g.gw.do(g.steer.check)
	if total() != 3 {
		t.Errorf("after a reset said %v of two packets more", said())
	}
	// One counter is above what was logged and one below, in the same check.
	g.steer.told[DropUncaptured] = told{packets: 1000}
	g.gw.do(g.steer.check)
	if total() != 5 {
		t.Errorf("said %v", said())
	}
}
