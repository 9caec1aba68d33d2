package tun

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// fakeLink is an interface of a kind that this kernel may not have.
type fakeLink struct {
	netlink.LinkAttrs
	kind string
}

func (l *fakeLink) Attrs() *netlink.LinkAttrs { return &l.LinkAttrs }
func (l *fakeLink) Type() string              { return l.kind }

// links makes interfaces of lines "INDEX KIND NAME [master=N] [parent=N] [netns=N] [alt=NAME]...".
func links(t *testing.T, lines ...string) []netlink.Link {
	t.Helper()
	var all []netlink.Link
	for _, line := range append([]string{"1 loopback lo"}, lines...) {
		l := &fakeLink{LinkAttrs: netlink.NewLinkAttrs()}
		words := strings.Fields(line)
		if _, err := fmt.Sscan(line, &l.Index, &l.kind, &l.Name); err != nil {
			t.Fatal(err)
		}
		for _, w := range words[3:] {
			key, value, _ := strings.Cut(w, "=")
			n := 0
			_, _ = fmt.Sscan(value, &n)
			switch key {
			case "master":
				l.MasterIndex = n
			case "parent":
				l.ParentIndex = n
			case "netns":
				l.NetNsID = n
			case "alt":
				l.AltNames = append(l.AltNames, value)
			default:
				t.Fatal(line)
			}
		}
		all = append(all, l)
	}
	return all
}

// What a configuration's names mean, by kind of interface. This covers VLANs, bonds and
// VRFs, which no test with packets covers if the kernel lacks them.
func TestResolve(t *testing.T) {
	for name, c := range map[string]struct {
		links            []string
		captured, exempt string
		before           []int
		names, indexes   string
		exempted         string
	}{
		"own name":              {[]string{"2 device g0", "3 device g1"}, "g0", "", nil, "g0", "2", ""},
		"alternative name":      {[]string{"2 device g0 alt=enp3s0 alt=enxabc"}, "enxabc", "", nil, "enxabc g0", "2", ""},
		"own before another's":  {[]string{"2 device g0 alt=lan", "3 device lan"}, "lan", "", nil, "lan", "3", ""},
		"not there":             {[]string{"3 device g1"}, "g0", "", nil, "g0", "", ""},
		"renamed":               {[]string{"2 device h0"}, "g0", "", []int{2}, "g0", "2", ""},
		"exempt by another":     {[]string{"2 device g0", "3 device o0 alt=wan"}, "g0", "wan", nil, "g0", "2", "o0 wan"},
		"exempt is captured":    {[]string{"2 device g0 alt=wan"}, "g0", "wan", nil, "g0", "2", "wan"},
		"VLAN":                  {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0", "", nil, "g0 g0.10", "2 3", ""},
		"VLAN, exempt":          {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0", "g0.10", nil, "g0", "2", "g0.10"},
		"VLAN of another":       {[]string{"2 device g0", "3 vlan g1.10 parent=4", "4 device g1"}, "g0", "", nil, "g0", "2", ""},
		"VLAN elsewhere":        {[]string{"2 device g0", "3 vlan g0.10 parent=2 netns=7"}, "g0", "", nil, "g0", "2", ""},
		"VLAN in VLAN":          {[]string{"5 vlan q parent=3", "3 vlan s parent=2", "2 device g0"}, "g0", "", nil, "g0 q s", "2 3 5", ""},
		"the VLAN alone":        {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0.10", "", nil, "g0.10", "3", ""},
		"macvlan":               {[]string{"2 device g0", "3 macvlan m0 parent=2"}, "g0", "", nil, "g0 m0", "2 3", ""},
		"bridge of a port":      {[]string{"2 device g0 master=3", "3 bridge br0"}, "g0", "", nil, "br0 g0", "2 3", ""},
		"VLAN on that":          {[]string{"2 device g0 master=3", "3 bridge br0", "4 vlan br0.5 parent=3"}, "g0", "", nil, "br0 br0.5 g0", "2 3 4", ""},
		"port of a bridge":      {[]string{"2 device g0 master=3", "3 bridge br0"}, "br0", "", nil, "br0", "3", ""},
		"bond of a port":        {[]string{"2 device g0 master=3", "3 bond b0"}, "g0", "", nil, "b0 g0", "2 3", ""},
		"VRF of an interface":   {[]string{"2 device g0 master=3", "3 vrf red"}, "g0", "", nil, "g0 red", "2 3", ""},
		"veth and its peer":     {[]string{"2 veth g0 parent=3", "3 veth p0 parent=2"}, "g0", "", nil, "g0", "2", ""},
		"the TUN is never ours": {[]string{"2 device g0 master=3", "3 tun t0"}, "g0", "", nil, "g0", "2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := SteerConfig{TUN: "t0", Interfaces: strings.Fields(c.captured), Exempt: strings.Fields(c.exempt)}
			all := links(t, c.links...)
			for range 2 { // in whatever order the kernel lists them
				r := resolve(all, &cfg, c.before)
				names, indexes, exempted := strings.Join(r.names, " "), strings.Trim(fmt.Sprint(r.indexes), "[]"), strings.Join(r.exempt, " ")
				if names != c.names || indexes != c.indexes || exempted != c.exempted {
					t.Errorf("captured %s, indexes %s, exempt %s", names, indexes, exempted)
				}
				slices.Reverse(all)
			}
		})
	}
}

func TestTroubles(t *testing.T) {
	for name, c := range map[string]struct {
		links            []string
		captured, exempt string
		want             string // of the text; "" for none
		fatal            bool
	}{
		"fine":              {[]string{"2 device g0 alt=lan", "3 device o0"}, "lan", "o0", "", false},
		"not there yet":     {nil, "g0", "o0", "", false},
		"port of a bridge":  {[]string{"2 device g0 master=3", "3 bridge br0"}, "g0", "", "g0 belongs to the bridge br0", true},
		"port, other name":  {[]string{"2 device g0 master=3 alt=lan", "3 bridge br0"}, "lan", "", "lan belongs to the bridge br0", true},
		"port of a bond":    {[]string{"2 device g0 master=3", "3 bond b0"}, "g0", "", "belongs to the bond b0", true},
		"port of a team":    {[]string{"2 device g0 master=3", "3 team m0"}, "g0", "", "belongs to the team m0", true},
		"in a VRF":          {[]string{"2 device g0 master=3", "3 vrf red"}, "g0", "", "the VRF red", true},
		"a VRF":             {[]string{"2 device g0 master=3", "3 vrf red"}, "red", "", "the VRF red", true},
		"a bridge":          {[]string{"2 device g0 master=3", "3 bridge br0"}, "br0", "", "", false},
		"captured and not":  {[]string{"2 device g0 alt=lan"}, "g0", "lan", "lan is another name of g0", true},
		"twice":             {[]string{"2 device g0 alt=lan"}, "g0 lan", "", "g0 and lan are one interface", true},
		"the TUN":           {[]string{"2 tun t0 alt=lan"}, "lan", "", "another name of the TUN", true},
		"loopback":          {[]string{"2 device g0"}, "lo", "", "carries the gateway's own", true},
		"VLAN":              {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0", "", "come in by g0.10 (vlan)", false},
		"VLAN listed":       {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0 g0.10", "", "", false},
		"VLAN exempt":       {[]string{"2 device g0", "3 vlan g0.10 parent=2"}, "g0", "g0.10", "", false},
		"VLAN exempt by an": {[]string{"2 device g0", "3 vlan g0.10 parent=2 alt=mgmt"}, "g0", "mgmt", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := SteerConfig{TUN: "t0", Interfaces: strings.Fields(c.captured), Exempt: strings.Fields(c.exempt)}
			found := troubles(links(t, c.links...), &cfg)
			switch {
			case c.want == "" && len(found) > 0, c.want != "" && len(found) != 1:
				t.Errorf("%+v", found)
			case c.want != "" && (!strings.Contains(found[0].Text, c.want) || found[0].Fatal != c.fatal):
				t.Errorf("%+v, want %q, fatal %t", found[0], c.want, c.fatal)
			}
		})
	}
}

// What a captured bridge switches past netfilter is said where it switches anything.
func TestBridgeTroubles(t *testing.T) {
	for name, c := range map[string]struct {
		links    []string
		captured string
		unseen   []string
		want     string // "" for none
	}{
		"two ports":        {[]string{"2 veth g0 master=4", "3 veth g1 master=4", "4 bridge br0"}, "br0", []string{"IPv4", "IPv6"}, "br0 switches from one of its ports to another (g0, g1)"},
		"by another name":  {[]string{"2 veth g0 master=4", "3 tun v1 master=4", "4 bridge br0 alt=lan"}, "lan", []string{"IPv6"}, "IPv6 of it passes"},
		"netfilter sees":   {[]string{"2 veth g0 master=4", "3 veth g1 master=4", "4 bridge br0"}, "br0", nil, ""},
		"one port":         {[]string{"2 veth g0 master=4", "3 veth g1", "4 bridge br0"}, "br0", []string{"IPv4"}, ""},
		"a bond":           {[]string{"2 device g0 master=4", "3 device g1 master=4", "4 bond b0"}, "b0", []string{"IPv4"}, ""},
		"another's bridge": {[]string{"2 veth g0 master=4", "3 veth g1 master=4", "4 bridge br0", "5 device e0"}, "e0", []string{"IPv4"}, ""},
		"not there":        {nil, "br0", []string{"IPv4"}, ""},
	} {
		cfg := SteerConfig{TUN: "t0", Interfaces: []string{c.captured}}
		found := bridgeTroubles(links(t, c.links...), &cfg, func(string) []string { return c.unseen })
		if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || found[0].Fatal || !strings.Contains(found[0].Text, c.want)) {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// quic is UDP to a captured port, of both families.
func quic(sport uint16) [][]byte {
	return [][]byte{
		packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: sport, dport: 443}.bytes(),
		packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_UDP, sport: sport, dport: 443}.bytes(),
	}
}

// An interface that is captured by an alternative name is captured as by its own,
// TCP and UDP, whatever happens to it while the gateway runs.
func TestAlternativeName(t *testing.T) {
	cfg := testConfig()
	cfg.Interfaces = []string{"enp3s0lan"}
	l := newLab(t)
	l.gw.run("ip link property add dev g0 altname enp3s0lan altname enxfeed")
	g := &gateway{lab: l}
	g.open(t)
	g.gw.do(func() (err error) {
		g.steer, err = Steer(cfg, zap.NewNop())
		return err
	})
	t.Cleanup(func() { _ = g.steer.Close(false) })
	g.watch(t)
	captured := func(when string) {
		t.Helper()
		if got := g.leaked("g0", quic(7)...); len(got) > 0 {
			t.Errorf("%s: QUIC reached the server: %v", when, got)
		}
		sport := g.sport + 1000
		for name, p := range syns(sport) {
			if got := g.leaked("g0", p.packets()...); len(got) > 0 {
				t.Errorf("%s: %s reached the server: %v", when, name, got)
			}
			until(t, g.tun, sport)
		}
	}
	rules := func(iif string) {
		t.Helper()
		within(t, func() string {
			if now := g.gw.run("ip rule"); strings.Count(now, "iif "+iif+" ") != 2 || strings.Count(now, "iif ") != 2 {
				return "not the two rules of " + iif + ":\n" + now
			}
			return ""
		})
	}
	captured("at the start")
	rules("g0")

	g.gw.run("ip link set g0 down")
	g.gw.run("ip link set g0 name h0")
	g.gw.run("ip link set h0 up")
	g.gw.run("ip addr add fd00:1::1/64 dev h0 nodad")
	rules("h0")
	captured("renamed")

	g.gw.run("ip link property del dev h0 altname enp3s0lan")
	captured("without its other name")
	g.gw.run("ip link delete h0")
	g.wire("n0", g.client, "c0", 1)
	g.macs["g0"] = g.macs["n0"]
	g.gw.run("ip link property add dev n0 altname enp3s0lan")
	rules("n0")
	captured("made anew")
}

// Guard and exemption by alternative names, and what is refused by them.
func TestAlternativeNameExempt(t *testing.T) {
	l := newLab(t)
	l.gw.run("ip link property add dev g0 altname lan")
	l.gw.run("ip link property add dev o0 altname mgmt")
	cfg := testConfig()
	cfg.Interfaces, cfg.Exempt = []string{"lan"}, []string{"mgmt"}
	l.gw.do(func() error { return Guard(cfg) })
	if got := l.leaked("g0", quic(8)...); len(got) > 0 {
		t.Errorf("QUIC reached the server: %v", got)
	}
	l.guarded(t, "guard by another name")
	syn := packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 56100, dport: 443}
	l.send(l.other, "x0", "o0", syn.bytes())
	until(t, l.sniff.got, syn.sport)

	g := &gateway{lab: l}
	g.open(t)
	l.gw.run("ip link property add dev t0 altname tunnel")
	for name, change := range map[string]func(*SteerConfig){
		"captured and exempt": func(c *SteerConfig) { c.Exempt = []string{"g0"} },
		"twice":               func(c *SteerConfig) { c.Interfaces = []string{"lan", "g0"} },
		"the TUN":             func(c *SteerConfig) { c.Interfaces = []string{"tunnel"} },
	} {
		bad := testConfig()
		bad.Interfaces = []string{"lan"}
		change(&bad)
		err := l.gw.try(func() error {
			s, err := Steer(bad, zap.NewNop())
			if err == nil {
				_ = s.Close(true)
			}
			return err
		})
		if err == nil {
			t.Errorf("%s: was not refused", name)
		}
	}
}

// A bridge: what comes in by its ports comes in by it. Its port is refused by
// name; one that becomes a port while the gateway runs stays captured.
func TestBridge(t *testing.T) {
	cfg := testConfig()
	g := newGateway(t, cfg)
	g.watch(t)
	g.gw.run("ip link add br0 type bridge")
	g.gw.run("ip link set br0 up")
	g.gw.run("ip addr add 10.0.1.1/24 dev br0")
	g.gw.run("ip addr add fd00:1::1/64 dev br0 nodad")
	g.gw.run("ip addr flush dev g0")
	g.gw.run("ip link set g0 master br0")
	g.gw.do(func() error {
		link, err := netlink.LinkByName("br0")
		if err == nil {
			g.macs["g0"] = link.Attrs().HardwareAddr
		}
		return err
	})
	within(t, func() string {
		if now := g.gw.run("nft list set inet sslgate captured"); !strings.Contains(now, "br0") {
			return "the bridge is not captured: " + now
		}
		return ""
	})
	if got := g.leaked("g0", quic(9)...); len(got) > 0 {
		t.Errorf("QUIC of a port reached the server: %v", got)
	}
	for name, p := range syns(46100) {
		if got := g.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s of a port reached the server: %v", name, got)
		}
		until(t, g.tun, 46100)
	}
	err := g.gw.try(func() error {
		s, err := Steer(cfg, zap.NewNop())
		if err == nil {
			_ = s.Close(true)
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "bridge br0") {
		t.Errorf("a port of a bridge was not refused: %v", err)
	}
}

// As long as a captured interface is missing, it may be there by a name that
// nobody has announced: QUIC is rejected from every interface that is not exempt.
func TestMissingInterface(t *testing.T) {
	l := newLab(t)
	cfg := testConfig()
	cfg.Interfaces = []string{"g0", "nosuch0"}
	fromOther := packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 10, dport: 443}.bytes()
	l.gw.do(func() error { return Guard(cfg) })
	if got := l.leakedFrom(l.other, "x0", "o0", "10.0.3.2", fromOther); len(got) > 0 {
		t.Errorf("reached the server: %v", got)
	}
	cfg.Exempt = []string{"o0"}
	l.gw.do(func() error { return Guard(cfg) })
	l.send(l.other, "x0", "o0", fromOther)
	until(t, l.sniff.got, 10)
	l.gw.do(func() error { return Guard(testConfig()) }) // none is missing
	l.send(l.other, "x0", "o0", fromOther)
	until(t, l.sniff.got, 10)
}
