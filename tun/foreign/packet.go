package foreign

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// path is a TCP packet on its way through a hook, as far as it is known there.
type path struct {
	what         string // in words
	family       byte   // NFPROTO_IPV4 or 6
	iif, oif     string // "": not known
	sport, dport uint16 // 0: not known
	state        uint32 // of connection tracking: a bit of expr.CtStateBit...; 0: not known
	reply        bool
	nat          bool // chains of others may have changed the addresses and the port
	back         wayBack
	ownMark      uint32 // the mark of its socket, of ours
	self         bool   // ownMark is that of all other sockets of ours
	byMark       bool   // back holds only for look-ups with the packet's mark; for others it is not known
}

// wayBack is where a route to the packet's source leads.
type wayBack uint8

const (
	anywhere  wayBack = iota // not known
	elsewhere                // to another interface than the packet came in by
	nowhere                  // to this host itself, which is no way (RTN_LOCAL)
)

// answersUs says whether the packet answers a connection of sslgate under a client's
// address.
func (p *path) answersUs() bool { return p.byMark && p.back == nowhere }

// pair is a client's packet by this interface to this port, on its way into the TUN, and
// the answer, as the chain c meets them.
func (l *look) pair(c *nftables.Chain, family byte, ifc string, port uint16) []path {
	in := path{what: "from " + ifc + " to " + l.TUN, family: family, dport: port, state: expr.CtStateBitNEW}
	out := path{what: "from " + l.TUN + " to " + ifc, family: family, sport: port, state: expr.CtStateBitESTABLISHED, reply: true}
	// A packet marked as captured is routed into the TUN, and so is a look-up with its
	// mark. Packets from the TUN have the addresses of destinations, which are elsewhere.
	hook, priority := *c.Hooknum, priorityOf(c)
	if hook == *nftables.ChainHookForward || priority > l.Steer {
		in.back, in.byMark = elsewhere, true
	}
	out.back = elsewhere
	if hook != *nftables.ChainHookPostrouting { // in postrouting the input interface depends on the kernel
		in.iif, out.iif = ifc, l.TUN
	}
	if hook != *nftables.ChainHookPrerouting {
		in.oif, out.oif = l.TUN, ifc
	} else if priority <= *nftables.ChainPriorityConntrack { // no packet has a state yet
		in.state, out.state = 0, 0
	}
	return []path{in, out}
}

// others are the other packets: answers of this host's own services, from the TUN, and
// answers to connections under a client's address.
func (l *look) others(c *nftables.Chain, family byte, ports []uint16) []path {
	var all []path
	if l.Local {
		for _, ifc := range l.Interfaces {
			for _, port := range ports {
				own := l.pair(c, family, ifc, port)[1]
				own.back, own.what = nowhere, own.what+" that this host's own services answer"
				all = append(all, own)
			}
		}
	}
	if l.ReturnMark != 0 && *c.Hooknum == *nftables.ChainHookPrerouting && priorityOf(c) > l.Steer {
		// They have a mark that is routed to this host.
		all = append(all, path{what: "that answers connections under a client's address", family: family,
			state: expr.CtStateBitESTABLISHED, reply: true, back: nowhere, byMark: true})
	}
	return all
}

func priorityOf(c *nftables.Chain) nftables.ChainPriority {
	if c.Priority == nil {
		return 0
	}
	return *c.Priority
}

func (p *path) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyIIFNAME:
		return known(p.iif)
	case expr.MetaKeyOIFNAME:
		return known(p.oif)
	case expr.MetaKeyNFPROTO:
		return []byte{p.family}
	case expr.MetaKeyL4PROTO:
		return []byte{unix.IPPROTO_TCP}
	case expr.MetaKeyPROTOCOL:
		if p.family == unix.NFPROTO_IPV6 {
			return []byte{unix.ETH_P_IPV6 >> 8, unix.ETH_P_IPV6 & 0xff}
		}
		return []byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}
	}
	return nil
}

// known is the name of an interface, nil where it is not known.
func known(ifc string) []byte {
	if ifc == "" {
		return nil
	}
	return nftname.Interface(ifc)
}

// fib looks up the way back to the source. The result is known only if the way leads
// nowhere, or elsewhere than asked for; both read as 0 (nft_fib_store_result of
// net/netfilter/nft_fib.c).
func (p *path) fib(e *expr.Fib) []byte {
	if !e.FlagSADDR || e.FlagDADDR || e.FlagOIF || !p.missing(e.FlagIIF, e.FlagMARK) {
		return nil
	}
	switch {
	case e.FlagPRESENT, e.ResultOIF: // a whole register
		return make([]byte, 4)
	case e.ResultOIFNAME:
		return make([]byte, unix.IFNAMSIZ)
	}
	return nil
}

// missing says whether a look-up of the way back surely finds none. With iif it asks for
// the interface that the packet came in by, with mark it uses the packet's mark.
func (p *path) missing(iif, mark bool) bool {
	if p.byMark && !mark {
		return false
	}
	return p.back == nowhere || p.back == elsewhere && iif
}

func (p *path) ct(key expr.CtKey) []byte {
	if p.state == 0 {
		return nil
	}
	switch key {
	case expr.CtKeySTATE:
		return binaryutil.NativeEndian.PutUint32(p.state)
	case expr.CtKeySTATUS:
		if p.nat {
			return nil
		}
		// No NAT bits. Of the other bits, those that such a connection has
		// (IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED).
		if p.reply {
			return binaryutil.NativeEndian.PutUint32(0x2 | 0x4 | 0x8)
		}
		return binaryutil.NativeEndian.PutUint32(0)
	case expr.CtKeyDIRECTION:
		if p.reply {
			return []byte{1}
		}
		return []byte{0}
	}
	return nil
}

func (p *path) payload(e *expr.Payload) []byte {
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader && p.family == unix.NFPROTO_IPV4 && e.Offset == 9 && e.Len == 1,
		e.Base == expr.PayloadBaseNetworkHeader && p.family == unix.NFPROTO_IPV6 && e.Offset == 6 && e.Len == 1:
		return []byte{unix.IPPROTO_TCP}
	case e.Base != expr.PayloadBaseTransportHeader || e.Len != 2 || p.nat: // a port is compared after DNAT
		return nil
	case e.Offset == 0 && p.sport != 0:
		return binary.BigEndian.AppendUint16(nil, p.sport)
	case e.Offset == 2 && p.dport != 0:
		return binary.BigEndian.AppendUint16(nil, p.dport)
	}
	return nil
}

// xtNAT are XT_CONNTRACK_STATE_SNAT and _DNAT of linux/netfilter/xt_conntrack.h.
const xtNAT = 0x40 | 0x80

// xtables evaluates a match that iptables-nft has not translated to an nft expression.
func (p *path) xtables(m *expr.Match) certainty {
	switch m.Name {
	case "comment", "tcp": // tcp checks ports and flags; iptables-nft rarely leaves it as a match
		if m.Name == "comment" {
			return yes
		}
	case "udp", "icmp", "icmp6", "sctp":
		return no
	case "conntrack", "state":
		var base xt.ConntrackMtinfoBase
		var state uint16
		switch i := m.Info.(type) {
		case *xt.ConntrackMtinfo1:
			base, state = i.ConntrackMtinfoBase, uint16(i.StateMask)
		case *xt.ConntrackMtinfo2:
			base, state = i.ConntrackMtinfoBase, i.StateMask
		case *xt.ConntrackMtinfo3:
			base, state = i.ConntrackMtinfoBase, i.StateMask
		default:
			return maybe
		}
		// XT_CONNTRACK_STATE of linux/netfilter/xt_conntrack.h is 1; the bits of the
		// states are those of expr.CtStateBit...
		if base.MatchFlags != 1 {
			return maybe
		}
		if p.state == 0 {
			return maybe
		}
		in := uint32(state)&p.state != 0
		if !in && p.nat && state&xtNAT != 0 {
			return maybe
		}
		return sure(in != (base.InvertFlags&1 != 0))
	case "rpfilter":
		flags, ok := m.Info.(*xt.Unknown)
		if !ok || len(*flags) < 1 {
			return maybe
		}
		return p.rpfilter((*flags)[0])
	}
	return maybe
}

// The flags of linux/netfilter/xt_rpfilter.h.
const (
	xtLoose = 1 << iota
	xtValidMark
	xtAcceptLocal
	xtInvert
)

func (p *path) rpfilter(flags byte) certainty {
	if !p.missing(flags&xtLoose == 0, flags&xtValidMark != 0) || flags&xtAcceptLocal != 0 && p.back == nowhere {
		return maybe
	}
	return sure(flags&xtInvert != 0)
}
