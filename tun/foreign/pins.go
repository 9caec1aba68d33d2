package foreign

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// While one gateway takes over from another, two bits of the mark of connection tracking say
// which of them a connection belongs to. A rule of somebody else that sets the whole mark of
// the connection takes these bits away: its next packet comes to the older gateway, which
// answers with a RST unless it knows the connection. A rule that exempts captured packets from
// connection tracking leaves nothing to pin.

// Gateway is one of the two that may run beside each other: the mark of its packets under
// Capture.Mask, and that of its connections under Capture.CTMask.
type Gateway struct{ Mark, Pin uint32 }

// setCTMark gives the packet's connection a mark, if the packet has surely come here.
func (w *walk) setCTMark(match certainty, b bits) {
	m := &w.marking
	if match != yes || m.doubt {
		m.ct = newBits(m.ct.value, m.ct.known&b.known&^(m.ct.value^b.value))
		m.ctReplaced = false
		return
	}
	m.ct, m.ctBy = b, setter{m.chain, m.rule}
	m.ctReplaced = b.known&w.from.CTMask == 0
}

// notrack exempts the packet from connection tracking, if it has surely come here.
func (w *walk) notrack(match certainty) {
	if m := &w.marking; match == yes && !m.doubt {
		m.untracked = setter{m.chain, m.rule}
	}
}

// mayUnpin says whether rules of a base chain may take pins away. NAT chains see only the
// first packet of a connection.
func (l *look) mayUnpin(c *nftables.Chain) bool {
	if len(l.Gateways) == 0 || c.Hooknum == nil || c.Type != nftables.ChainTypeFilter && c.Type != nftables.ChainTypeNAT {
		return false
	}
	switch *c.Hooknum {
	case *nftables.ChainHookPrerouting, *nftables.ChainHookForward, *nftables.ChainHookPostrouting:
		return true
	}
	return false
}

// untracks says whether a chain comes before connection tracking, where a packet can be
// exempted from it.
func untracks(c *nftables.Chain) bool {
	return *c.Hooknum == *nftables.ChainHookPrerouting && priorityOf(c) < *nftables.ChainPriorityConntrack
}

// behind says whether a chain comes after ours in which connections are pinned.
func (l *look) behind(c *nftables.Chain) bool {
	return *c.Hooknum != *nftables.ChainHookPrerouting || priorityOf(c) > l.Steer
}

// pinned are the packets of a captured connection whose pin a chain may take away. The first
// packet has its pin behind our chain only.
func (l *look) pinned(c *nftables.Chain, family byte, ifc string, port uint16) []path {
	pair := l.pair(c, family, ifc, port)
	first, answer := pair[0], pair[1]
	later := first
	later.state = expr.CtStateBitESTABLISHED
	switch {
	case untracks(c):
		return []path{first}
	case c.Type == nftables.ChainTypeNAT && !l.behind(c):
		return nil
	case c.Type == nftables.ChainTypeNAT:
		return []path{first}
	case !l.behind(c):
		return []path{later, answer}
	}
	return []path{first, later, answer}
}

// mayTakePins says whether a rule of the table sets marks of connections, or exempts from
// connection tracking. Most tables have none, and are not walked for it.
func (l *look) mayTakePins(t *nftables.Table) (bool, error) {
	for _, c := range l.chains {
		if c.Table.Name != t.Name || c.Table.Family != t.Family {
			continue
		}
		rules, err := l.rulesOf(t, c.Name)
		if err != nil {
			return false, err
		}
		for _, r := range rules {
			if slices.ContainsFunc(r.exprs, takesPins) {
				return true, nil
			}
		}
	}
	return false, nil
}

func takesPins(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Ct:
		return e.SourceRegister && e.Key == expr.CtKeyMARK
	case *expr.Notrack:
		return true
	case *expr.Target:
		return e.Name == "CONNMARK" || e.Name == "CT" || e.Name == "NOTRACK"
	}
	return false
}

// unpins walks a base chain with the packets of captured connections of both gateways. These
// walks have steps of their own, so that they keep no other look from its end.
func (l *look) unpins(c *nftables.Chain, family byte) (*Finding, error) {
	if may, err := l.mayTakePins(c.Table); !may || err != nil {
		return nil, err
	}
	l.left, l.pins = l.pins, l.left
	defer func() { l.left, l.pins = l.pins, l.left }()
	for _, ifc := range l.Interfaces {
		for _, port := range l.walked() {
			for _, packet := range l.pinned(c, family, ifc, port) {
				for _, of := range l.Gateways {
					found, err := l.unpin(c, &packet, of)
					if found != nil || err != nil {
						return found, err
					}
				}
			}
		}
	}
	return nil, nil
}

func (l *look) unpin(c *nftables.Chain, p *path, of Gateway) (*Finding, error) {
	w := l.walk(c, p)
	w.marking.ct = newBits(of.Pin, l.CTMask)
	switch {
	case !l.behind(c):
	case p.reply:
		w.marking.mark = newBits(0, l.Mask)
	default:
		w.marking.mark = newBits(of.Mark, l.Mask)
	}
	got, err := w.base(c)
	if err != nil || got == dropped {
		return nil, err
	}
	m := &w.marking
	switch {
	case untracks(c) && m.untracked.rule != 0:
		return l.unpinned(c, p, m.untracked, "exempts from connection tracking",
			"nothing can be kept at one of two gateways, so `sslgate upgrade` is refused, and fragments are dropped. Leave captured traffic out of the rule: `accept` it before"), nil
	case untracks(c) || m.ctBy.rule == 0:
		return nil, nil
	case m.ctReplaced || m.ct.value&l.CTMask != of.Pin&m.ct.known:
		return l.unpinned(c, p, m.ctBy, "sets the whole connection mark (ct mark) of", fmt.Sprintf(
			"connections are not kept at one of two gateways, so `sslgate upgrade` is refused. Let the rule leave the bits %#x alone: nft `ct mark set ct mark & %#x | VALUE`, iptables `CONNMARK --set-xmark VALUE/%#[2]x`, `CONNMARK --save-mark --mask %#[2]x`; or choose two bits that nobody sets (upgrade.ct_mask)", l.CTMask, ^l.CTMask)), nil
	}
	return nil, nil
}

// unpinned says what a rule does to a packet, and what comes of it.
func (l *look) unpinned(c *nftables.Chain, p *path, by setter, does, harm string) *Finding {
	what := "IPv4"
	if p.family == unix.NFPROTO_IPV6 {
		what = "IPv6"
	}
	return &Finding{
		Interface: p.iif,
		Text: fmt.Sprintf("the rule with handle %d in chain %s of table %s %s (chain %s has priority %d) %s %s %s: %s",
			by.rule, by.chain, nftname.Family(c.Table.Family), c.Table.Name, c.Name, priorityOf(c), does, what, p.what, harm),
	}
}
