package tun

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// secondOn is a gateway in the other slot, joined and not more.
func secondOn(t *testing.T, first *gateway, cfg SteerConfig) *gateway {
	t.Helper()
	cfg = cfg.Swapped()
	g := &gateway{lab: first.lab}
	g.openAs(t, cfg.TUN)
	core, logs := observer.New(zap.InfoLevel)
	g.logs = logs
	g.gw.do(func() (err error) {
		g.steer, err = Join(cfg, zap.New(core))
		return err
	})
	t.Cleanup(func() { _ = g.steer.Close(false) })
	return g
}

// take moves the steering from one gateway to the other.
func take(t *testing.T, from, to *gateway) {
	t.Helper()
	from.steer.Give()
	to.gw.do(to.steer.Take)
}

// conn is a connection of a client, as its packets are.
type conn struct {
	way    string
	packet packet
}

func (c conn) with(flags byte) packet { c.packet.flags = flags; return c.packet }

// comesTo sends a packet of the connection, which must come out of the TUN of one gateway
// and of nothing else.
func (c conn) comesTo(t *testing.T, what string, flags byte, to, not *gateway) {
	t.Helper()
	p := c.with(flags)
	if got := to.leaked("g0", p.packets()...); len(got) > 0 {
		t.Errorf("%s, %s: reached the server: %v", c.way, what, got)
	}
	until(t, to.tun, p.sport)
	if not == to {
		return
	}
	select {
	case p := <-not.tun:
		t.Errorf("%s, %s: came to the other gateway: %v", c.way, what, parse(p))
	default:
	}
}

// opens makes a connection that a gateway gets and answers.
func (c conn) opens(t *testing.T, what string, to, not *gateway) {
	t.Helper()
	c.comesTo(t, what+", SYN", tcpSYN, to, not)
	to.write(t, packet{src: c.packet.dst, dst: c.packet.src, proto: unix.IPPROTO_TCP, sport: c.packet.dport, dport: c.packet.sport, synack: true}.bytes())
	c.comesTo(t, what+", ACK", tcpACK, to, not)
}

// conns makes a connection of each kind, from port on.
func conns(port uint16) []conn {
	all := []conn{}
	for i, way := range []string{"v4", "v4 fragments", "v6", "v6 fragments", "v6 all of them"} {
		all = append(all, conn{way, syns(port + uint16(i))[way]})
	}
	return all
}

// lenient makes connection tracking take segments whatever their numbers: those of the
// tests have none that fit. And the client's kernel, which knows nothing of these
// connections, does not end them.
func lenient(g *gateway) {
	g.gw.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
	g.client.table(`table inet t { chain O { type filter hook output priority 0; tcp flags rst drop; } }`)
}

// TestHandOver: a hand-over, the way back and the end of the other gateway, as packets of
// every kind meet them.
func TestHandOver(t *testing.T) {
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprintf("local %v", local), func(t *testing.T) {
			cfg := testConfig()
			cfg.Local = local
			testHandOver(t, cfg)
		})
	}
}

func testHandOver(t *testing.T, cfg SteerConfig) {
	a := newGateway(t, cfg)
	lenient(a)
	a.watch(t)
	held := conns(41000)
	for _, c := range held {
		c.opens(t, "a alone", a, a)
	}
	before := normal(a.gw.run("nft list table inet sslgate"))

	b := secondOn(t, a, cfg)
	b.watch(t)
	if now := normal(a.gw.run("nft list table inet sslgate")); now != before {
		t.Errorf("joining has changed the nft table:\n%s\nwas:\n%s", now, before)
	}
	for _, c := range conns(41100) {
		c.opens(t, "b has joined", a, b)
	}

	again := conns(41200)
	for _, c := range again {
		c.comesTo(t, "before the hand-over", tcpSYN, a, b)
	}
	take(t, a, b)
	for _, c := range held {
		c.comesTo(t, "held by a", tcpACK, a, b)
	}
	for _, c := range again {
		c.comesTo(t, "a SYN that is sent again", tcpSYN, a, b)
	}
	young := conns(41300)
	for _, c := range young {
		c.opens(t, "after the hand-over", b, a)
	}
	for _, c := range conns(41400) {
		c.comesTo(t, "picked up in the middle", tcpACK, a, b)
	}

	take(t, b, a)
	for _, c := range conns(41500) {
		c.opens(t, "back again", a, b)
	}
	for _, c := range held {
		c.comesTo(t, "held by a, back again", tcpACK, a, b)
	}
	for _, c := range young {
		c.comesTo(t, "held by b, back again", tcpACK, b, a)
	}

	// As after kill -9 of b. What was b's comes to a, whose stack answers with a RST.
	if err := b.dev.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, func() string {
		if now := normal(a.gw.run("nft list table inet sslgate")); now != before {
			return "the nft table is not as it was:\n" + now + "\nwas:\n" + before
		}
		for _, line := range []string{"ip rule", "ip -6 rule"} {
			if now := a.gw.run(line); strings.Contains(now, "5521") {
				return "rules of the gateway that has ended are left:\n" + now
			}
		}
		return ""
	})
	for _, c := range young {
		c.comesTo(t, "b is dead", tcpACK, a, a)
	}
	for _, c := range held {
		c.comesTo(t, "held by a, b is dead", tcpACK, a, a)
	}
}

// TestOldGatewayEnds: the older gateway closes in order while the newer one has the
// steering. Nothing of the newer one's is removed, and it does not open the host.
func TestOldGatewayEnds(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprintf("fail open %v", open), func(t *testing.T) {
			cfg := testConfig()
			a := newGateway(t, cfg)
			lenient(a)
			old := conns(42000)[0]
			old.opens(t, "a alone", a, a)
			b := secondOn(t, a, cfg)
			b.watch(t)
			take(t, a, b)
			young := conns(42100)[0]
			young.opens(t, "after the hand-over", b, a)
			if err := a.dev.Close(); err != nil {
				t.Fatal(err)
			}
			a.gw.do(func() error { return a.steer.Close(open) })
			within(t, func() string {
				if rules := a.gw.run("ip rule"); strings.Contains(rules, "lookup 5519") || !strings.Contains(rules, "lookup 5521") {
					return "rules:\n" + rules
				}
				if table := a.gw.run("nft list table inet sslgate"); strings.Contains(table, `"t0"`) {
					return "the nft table still has t0:\n" + table
				}
				return ""
			})
			old.comesTo(t, "a has ended", tcpACK, b, b)
			young.comesTo(t, "a has ended", tcpACK, b, b)
			for _, c := range conns(42200) {
				c.opens(t, "a has ended", b, b)
			}
		})
	}
}

// TestAnswersWhileTheOtherEnds: what a gateway sends to clients arrives although the device of the
// other one is gone and its rules are not yet.
func TestAnswersWhileTheOtherEnds(t *testing.T) {
	for _, local := range []bool{false, true} {
		for name, olderEnds := range map[string]bool{"the older one ends": true, "the newer one ends": false} {
			t.Run(fmt.Sprintf("%s, local %v", name, local), func(t *testing.T) {
				cfg := testConfig()
				cfg.Local = local
				a := newGateway(t, cfg)
				lenient(a)
				old := conns(42800)[:4]
				for _, c := range old {
					c.opens(t, "a alone", a, a)
				}
				b := secondOn(t, a, cfg) // nobody watches: the rules stay as they are
				take(t, a, b)
				young := conns(42900)[:4]
				for _, c := range young {
					c.opens(t, "after the hand-over", b, a)
				}
				at := newSniffer(t, a.client, "c0")
				answered := func(g *gateway, all []conn) {
					t.Helper()
					for _, c := range all {
						// As the RST to a SYN that is refused, which nobody sends again.
						p := packet{src: c.packet.dst, dst: c.packet.src, proto: unix.IPPROTO_TCP, sport: c.packet.dport, dport: c.packet.sport, flags: tcpRST | tcpACK}
						g.write(t, p.bytes())
						testenv.Eventually(t, c.way+": the answer arrives", func() bool {
							for {
								select {
								case got := <-at.got:
									if parse(got).dport == c.packet.sport {
										return true
									}
								default:
									return false
								}
							}
						})
					}
				}
				answered(a, old[:1])
				answered(b, young[:1])
				ends, stays, all := a, b, young
				if !olderEnds {
					ends, stays, all = b, a, old
					b.steer.Give()
					a.gw.do(a.steer.Take)
				}
				if err := ends.dev.Close(); err != nil {
					t.Fatal(err)
				}
				answered(stays, all[1:])
				if olderEnds {
					return
				}
				// The one that has the steering ends, and its rules stay: the other one takes the
				// rules without a mark over.
				c := secondOn(t, a, cfg)
				take(t, a, c)
				a.watch(t)
				within(t, func() string {
					if rules := a.gw.run("ip rule"); regexp.MustCompile(`iif g0.*lookup 5519`).MatchString(rules) || !strings.Contains(rules, "iif g0") {
						return "rules:\n" + rules
					}
					return ""
				})
				if err := c.dev.Close(); err != nil {
					t.Fatal(err)
				}
				within(t, func() string {
					if rules := a.gw.run("ip rule"); regexp.MustCompile(`iif g0.*lookup 5521`).MatchString(rules) || !strings.Contains(rules, "iif g0") {
						return "rules:\n" + rules
					}
					return ""
				})
				answered(a, all[1:])
			})
		}
	}
}

// TestLastGatewayOpens: of two gateways that end in order with `fail: open` the first one leaves
// everything that the other needs, whichever had the steering, and the last one opens the host.
func TestLastGatewayOpens(t *testing.T) {
	for name, newerFirst := range map[string]bool{"the newer one ends first": true, "the older one ends first": false} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			a := newGateway(t, cfg)
			lenient(a)
			old := conns(42400)[0]
			old.opens(t, "a alone", a, a)
			b := secondOn(t, a, cfg)
			take(t, a, b)
			young := conns(42500)[0]
			young.opens(t, "after the hand-over", b, a)
			first, last, held := b, a, old
			if !newerFirst {
				first, last, held = a, b, young
			}
			end := func(g *gateway) {
				t.Helper()
				if err := g.dev.Close(); err != nil {
					t.Fatal(err)
				}
				a.gw.do(func() error { return g.steer.Close(true) })
			}
			end(first)
			held.comesTo(t, "of the one that still runs", tcpACK, last, last)
			if got := a.leaked("g0", conns(42600)[0].with(tcpSYN).packets()...); len(got) > 0 && newerFirst {
				t.Errorf("captured traffic passes while the older one still has connections: %v", got)
			}
			end(last)
			if rest := a.gw.run("nft list tables") + a.gw.run("ip rule") + a.gw.run("ip -6 rule"); strings.Contains(rest, "sslgate") || strings.Contains(rest, "lookup 55") {
				t.Errorf("left behind:\n%s", rest)
			}
			if got := a.leaked("g0", conns(42700)[0].with(tcpSYN).packets()...); len(got) == 0 {
				t.Error("captured traffic does not pass though both have ended with `fail: open`")
			}
		})
	}
}

// TestStartBesideOld: a gateway that starts anew while an older one still has connections
// leaves them to it.
func TestStartBesideOld(t *testing.T) {
	cfg := testConfig()
	a := newGateway(t, cfg)
	lenient(a)
	held := conns(43000)
	for _, c := range held {
		c.opens(t, "a alone", a, a)
	}
	a.steer.Give()
	b := &gateway{lab: a.lab}
	b.openAs(t, "t1")
	b.gw.do(func() (err error) {
		b.steer, err = Steer(cfg.Swapped(), zap.NewNop())
		return err
	})
	t.Cleanup(func() { _ = b.steer.Close(false) })
	for _, c := range conns(43100) {
		c.opens(t, "b has started", b, a)
	}
	for _, c := range held {
		c.comesTo(t, "held by a", tcpACK, a, b)
	}
}

// TestTwoOwners: a gateway that was thought dead is not. Whoever has written the table last
// has the steering, and the two do not repair each other.
func TestTwoOwners(t *testing.T) {
	cfg := testConfig()
	a := newGateway(t, cfg)
	lenient(a)
	a.watch(t)
	held := conns(43200)
	for _, c := range held {
		c.opens(t, "a alone", a, a)
	}
	b := secondOn(t, a, cfg)
	b.watch(t)
	b.gw.do(b.steer.Take)
	within(t, func() string {
		if a.steer.Owns() || !b.steer.Owns() {
			return fmt.Sprintf("a has the steering: %v, b has it: %v", a.steer.Owns(), b.steer.Owns())
		}
		return ""
	})
	for _, c := range held {
		c.comesTo(t, "held by a", tcpACK, a, b)
	}
	for _, c := range conns(43300) {
		c.opens(t, "after the hand-over", b, a)
	}
	if err := a.gw.try(a.steer.SetClientSource); err == nil || !strings.Contains(err.Error(), "another process has the steering") {
		t.Errorf("a prepares connections under a client's address: %v", err)
	}
	a.gw.do(a.steer.Take)
	within(t, func() string {
		if !a.steer.Owns() || b.steer.Owns() {
			return "the way back is not seen"
		}
		return ""
	})
	// With the other one dead, what it wrote is repaired.
	b.gw.do(b.steer.Take)
	within(t, func() string {
		if a.steer.Owns() {
			return "a has not seen that b took the steering"
		}
		return ""
	})
	if err := b.dev.Close(); err != nil {
		t.Fatal(err)
	}
	a.steer.Keep()
	within(t, func() string {
		if table := a.gw.run("nft list table inet sslgate"); !strings.Contains(table, `elements = { "t0" }`) {
			return "a does not repair the table of the dead:\n" + table
		}
		return ""
	})
	for _, c := range conns(43400) {
		c.opens(t, "b is dead", a, a)
	}
}

// TestKeep: where the table cannot be written at once, it is as soon as it can be.
func TestKeep(t *testing.T) {
	cfg := testConfig()
	a := newGateway(t, cfg)
	lenient(a)
	a.watch(t)
	held := conns(43500)
	for _, c := range held {
		c.opens(t, "a alone", a, a)
	}
	a.steer.Give()
	// Somebody has made the table his own: nobody else can write it for as long as he lives.
	owner := exec.Command("nft", "-i")
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.gw.do(owner.Start)
	stop := sync.OnceFunc(func() { _ = in.Close(); _ = owner.Process.Kill(); _ = owner.Wait() })
	t.Cleanup(stop)
	if _, err := io.WriteString(in, "delete table inet sslgate\nadd table inet sslgate { flags owner; }\n"); err != nil {
		t.Fatal(err)
	}
	within(t, func() string {
		if table, _ := a.gw.command("nft list table inet sslgate"); !strings.Contains(table, "flags owner") {
			return "the table has no owner:\n" + table
		}
		return ""
	})
	if err := a.gw.try(a.steer.Take); err == nil || a.steer.Owns() {
		t.Fatalf("somebody else's table was written: %v", err)
	}
	a.steer.Keep()
	within(t, func() string {
		if said := a.logs.FilterMessageSnippet("steering not repaired"); said.Len() == 0 {
			return "it does not say that it cannot write the table"
		}
		return ""
	})
	stop() // his table goes with him
	within(t, func() string {
		if table, _ := a.gw.command("nft list table inet sslgate"); !strings.Contains(table, `elements = { "t0" }`) {
			return "the table is not written:\n" + table
		}
		return ""
	})
	for _, c := range held {
		c.comesTo(t, "held", tcpACK, a, a)
	}
	for _, c := range conns(43600) {
		c.opens(t, "kept", a, a)
	}
}

// TestPinsOfOthers: connection tracking in states that a hand-over did not make.
func TestPinsOfOthers(t *testing.T) {
	cfg := testConfig()
	a := newGateway(t, cfg)
	lenient(a)
	b := secondOn(t, a, cfg)
	take(t, a, b)
	young := conns(44000)
	for _, c := range young {
		c.opens(t, "after the hand-over", b, a)
	}

	// Without its entries nobody knows whose a connection is: the older gateway gets it.
	// That is right for the older one's connections only.
	a.gw.do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	for _, c := range young {
		c.comesTo(t, "after conntrack -F", tcpACK, a, b)
	}

	// Bits of the ct mark outside of the mask are not touched, and do not matter.
	a.gw.table(`table inet t { chain P { type filter hook prerouting priority -150; tcp dport 443 ct mark set ct mark or 0xff00; } }`)
	marked := conns(44100)
	for _, c := range marked {
		c.opens(t, "with a ct mark of others", b, a)
	}
	a.gw.do(func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		if !slices.ContainsFunc(flows, func(f *netlink.ConntrackFlow) bool {
			return f.Forward.SrcPort == marked[0].packet.sport && f.Mark == 0xff20
		}) {
			t.Errorf("the ct mark is not 0xff20: %v", flows)
		}
		return err
	})
	a.gw.run("nft delete table inet t")

	// What is not tracked cannot be pinned: all of it stays with the older gateway.
	a.gw.table(`table inet t { chain R { type filter hook prerouting priority -310; tcp dport 443 notrack; } }`)
	for _, c := range conns(44200) {
		if strings.Contains(c.way, "fragments") {
			continue // nobody puts them together: the guard drops them, see TestFragmentsUntracked
		}
		c.comesTo(t, "notrack", tcpSYN, a, b)
		c.comesTo(t, "notrack", tcpACK, a, b)
	}
	a.gw.run("nft delete table inet t")

	// What connection tracking takes for invalid goes to nobody: a RST of the wrong gateway
	// would end the connection.
	a.gw.run("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0")
	for _, c := range conns(44300) {
		p := c.with(tcpACK)
		if got := a.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: reached the server: %v", c.way, got)
		}
		for _, g := range []*gateway{a, b} {
			select {
			case p := <-g.tun:
				t.Errorf("%s: came out of %s: %v", c.way, g.steer.cfg.TUN, parse(p))
			default:
			}
		}
	}
}

// TestJoinNeedsATwin: a configuration without a second slot cannot hand over.
func TestJoinNeedsATwin(t *testing.T) {
	l := newLab(t)
	for want, change := range map[string]func(*SteerConfig){
		"no second slot": func(c *SteerConfig) { c.Twin = Twin{} },
		"has 1 bits":     func(c *SteerConfig) { c.CTMask = 0x10 },
		"two bits":       func(c *SteerConfig) { c.CTMask = 0 },
		"device t0":      func(c *SteerConfig) { c.Twin.TUN = "t0" },
		"mark 0x10":      func(c *SteerConfig) { c.Twin.Mark = c.Mark },
		"mark 0x80":      func(c *SteerConfig) { c.Twin.Mark = 0x80 },
		"mark 0x30": func(c *SteerConfig) {
			c.ClientSource, c.ReturnMark, c.ReturnTable, c.Twin.Mark = true, 0x20, 5520, 0x30
		},
		"table 5519": func(c *SteerConfig) { c.Twin.Table = c.Table },
	} {
		cfg := testConfig()
		change(&cfg)
		err := l.gw.try(func() error { _, err := Join(cfg, zap.NewNop()); return err })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
