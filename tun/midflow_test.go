package tun

import (
	"strings"
	"testing"
)

// TestPickedUpInTheMiddle: a packet in the middle of a connection that connection tracking
// does not know has one rule, in one place, whatever its kind; what connection tracking takes
// for no part of a connection goes to nobody.
func TestPickedUpInTheMiddle(t *testing.T) {
	cfg := testConfig()
	a := newGateway(t, cfg)
	lenient(a)
	b := secondOn(t, a, cfg)
	take(t, a, b)

	// What pins is in one chain: a rule for what begins, and one for all else.
	chain := ""
	var pinning []string
	for line := range strings.Lines(a.gw.run("nft list table inet sslgate")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "chain "); ok {
			chain = strings.TrimSuffix(name, " {")
		}
		if strings.Contains(line, "ct mark set") {
			pinning = append(pinning, chain+": "+strings.TrimSpace(line))
		}
	}
	flags := func(rule string) bool {
		return strings.Contains(rule, "@th,104,8 ") || strings.Contains(rule, "tcp flags ")
	} // old nft, and new
	if len(pinning) != 2 || !strings.HasPrefix(pinning[0], "pin: ") || !flags(pinning[0]) ||
		!strings.HasPrefix(pinning[1], "pin: ") || flags(pinning[1]) {
		t.Errorf("the rules that pin:\n%s", strings.Join(pinning, "\n"))
	}

	const push = 0x08
	for what, flags := range map[string]byte{"an ACK": tcpACK, "data": tcpACK | push} {
		for _, c := range conns(45000 + uint16(flags)*10) {
			c.comesTo(t, what, flags, a, b)
			c.comesTo(t, what+", and the next", tcpACK, a, b)
		}
	}
	for what, flags := range map[string]byte{"a FIN": tcpFIN | tcpACK, "a RST": tcpRST, "a SYN-ACK": tcpSYN | tcpACK} {
		for _, c := range conns(46000 + uint16(flags)*10) {
			if got := a.leaked("g0", c.with(flags).packets()...); len(got) > 0 {
				t.Errorf("%s, %s: reached the server: %v", c.way, what, got)
			}
			for _, g := range []*gateway{a, b} {
				select {
				case p := <-g.tun:
					t.Errorf("%s, %s: came out of %s: %v", c.way, what, g.steer.cfg.TUN, parse(p))
				default:
				}
			}
		}
	}
	// A SYN is no such packet: it begins.
	for _, c := range conns(47000) {
		c.opens(t, "a SYN", b, a)
	}
}
