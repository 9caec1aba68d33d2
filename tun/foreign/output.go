package foreign

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// A rule of somebody else in an output chain may set the whole mark of packets that this
// host sends. Before the chain that gives connections under a client's address their zone,
// that takes the mark away by which the chain knows them. Where connections of this host's
// programs are captured, the same holds for the mark of sslgate's own sockets before the
// chain that captures, and whatever looks like one of these passes that chain. In a chain of type route the
// kernel looks for a route by the new mark: one that looks like captured leads into the
// TUN, one that looks like an answer leads back to this host.

// sends says whether a base chain may set the mark of what this host sends.
func sends(c *nftables.Chain) bool {
	return c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookOutput &&
		(c.Type == nftables.ChainTypeFilter || c.Type == nftables.ChainTypeRoute)
}

// sent are the packets that this host sends to destinations.
func (l *look) sent(c *nftables.Chain, family byte) []path {
	state := expr.CtStateBitNEW
	if priorityOf(c) <= *nftables.ChainPriorityConntrack {
		state = 0
	}
	all := []path{{what: "that this host sends", family: family, state: state}}
	if l.ReturnMark != 0 {
		all = append(all, path{what: "of connections under a client's address", family: family, state: state, ownMark: l.SocketMark})
	}
	if l.OwnMark != 0 {
		all = append(all, path{what: "of sslgate itself", family: family, state: state, ownMark: l.OwnMark, self: true})
	}
	return all
}

// sentMarks walks an output chain with what this host sends.
func (l *look) sentMarks(c *nftables.Chain, family byte) (*Finding, error) {
	for _, packet := range l.sent(c, family) {
		w := l.walk(c, &packet)
		w.marking.mark = newBits(packet.ownMark, l.Mask)
		got, err := w.base(c)
		if err != nil {
			return nil, err
		}
		if m := &w.marking; got != dropped && m.by.rule != 0 {
			if harm := l.misleads(c, &packet, m); harm != "" {
				return l.sentMarked(c, &packet, m, harm), nil
			}
		}
	}
	return nil, nil
}

// misleads says what harm the mark does that a packet has behind the chain; "" is none.
func (l *look) misleads(c *nftables.Chain, p *path, m *marking) string {
	value, known := m.mark.value&l.Mask, m.mark.known&l.Mask
	routed := c.Type == nftables.ChainTypeRoute
	switch {
	case p.self && priorityOf(c) < l.Steer && (m.replaced || value != p.ownMark&known):
		return "sslgate's own connections are captured like a program's, and come back to it"
	case p.self:
		return "" // they have a label by then
	case l.OwnMark != 0 && p.ownMark == 0 && priorityOf(c) < l.Steer && known == l.Mask && value == l.OwnMark:
		return "it is taken for sslgate's own, and not captured"
	case p.ownMark != 0 && priorityOf(c) < l.Zone && (m.replaced || value != p.ownMark&known):
		return "the connection gets no zone of its own, and may be taken for the client's"
	case p.ownMark != 0 && priorityOf(c) < l.Steer:
		return "" // our chain of that priority gives it the right mark again
	case !routed || known != l.Mask:
		return ""
	case value == l.Mark:
		return "it is routed into the TUN, as if a client had sent it"
	case l.ReturnMark != 0 && value == l.ReturnMark:
		return "it is routed back to this host"
	}
	return ""
}

func (l *look) sentMarked(c *nftables.Chain, p *path, m *marking, harm string) *Finding {
	what := "IPv4"
	if p.family == unix.NFPROTO_IPV6 {
		what = "IPv6"
	}
	return &Finding{
		Interface: l.TUN,
		Text: fmt.Sprintf("the rule with handle %d in chain %s of table %s %s sets the whole firewall mark of %s %s, in an output chain (chain %s has priority %d): %s. Let the rule leave the bits %#x alone: nft `meta mark set meta mark & %#x | VALUE`, iptables `--set-xmark VALUE/%#x`",
			m.by.rule, m.by.chain, nftname.Family(c.Table.Family), c.Table.Name, what, p.what, c.Name, priorityOf(c), harm, l.Mask, ^l.Mask, ^l.Mask),
	}
}
