package tun

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The path to a client may carry less than the MTU of the TUN: WireGuard, PPPoE and GRE
// take some of it, and so may a router further away. sslgate writes packets into the TUN
// with the destination's address as source, and this host forwards them to the client.
// So:
//
//  1. nft chain mss (forward) lowers the MSS in the client's SYN, which bounds what is
//     sent to the client, to what the route back to the client carries. It lowers the MSS
//     in the SYN-ACK to what the route to the client carries. It never raises an MSS.
//  2. nft chain too_big (output, of type route): if an MTU becomes smaller later, this
//     host sends an ICMP error to the destination, which it takes for the sender. The
//     chain leads that error into the TUN.
//  3. nft chain steer leads the ICMP errors of routers on the path to the client into the
//     TUN too. They may come in by any interface, because the path back to a client need
//     not be the one its packets take.
//
// A label of connection tracking tells captured connections. It is needed because the
// server's answers to clients that are not captured may be too big, too. stack checks the
// errors against what it has sent (gate.go).

// takenLabel is the label of connections that were led into the TUN: bit 102, see
// outgoingLabel.
func takenLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x40
	return label
}

// mssPriority is the priority of chains that change forwarded packets (NF_IP_PRI_MANGLE).
const mssPriority = -150

// The ICMP messages: "fragmentation needed" is code 4 of type 3 (RFC 792); "packet too
// big" is type 2 (RFC 4443, section 3.2).
const (
	icmpUnreachable  = 3
	icmpFragNeeded   = 4
	icmpv6PacketBig  = 2
	tcpOptionMSS     = 2 // RFC 9293, section 3.2: kind, length, 16 bits of MSS
	tcpOptionMSSSize = 2
)

// labelTaken labels in the chain mark the connections that are led into the TUN.
func (b *tableBuilder) labelTaken(mark *nftables.Chain) {
	b.rule(mark, b.tcp(), ct(expr.CtKeyDIRECTION), equal([]byte{0}), setLabel(takenLabel()))
}

// errorsAboutTaken marks ICMP errors about connections in the TUN.
func (b *tableBuilder) errorsAboutTaken(steer *nftables.Chain) {
	for _, f := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		b.rule(steer, b.icmpAboutCaptured(f), taken(), toChain(b.send))
	}
}

func taken() []expr.Any { return concat(ct(expr.CtKeyLABELS), masked(takenLabel())) }

// tooBig builds the chain that leads into the TUN the ICMP errors of this host itself
// about packets from the TUN.
func (b *tableBuilder) tooBig() {
	chain := b.baseOf(nftables.ChainTypeRoute, "too_big", nftables.ChainHookOutput, steerPriority)
	if b.cfg.ClientSource {
		// A restored mark would be that of answers, which leads back to this host.
		b.rule(chain, ct(expr.CtKeyZONE), equal(zone()), b.setMark(b.cfg.SocketMark()))
	}
	for _, m := range []struct {
		family byte
		kind   []byte // type, and code if it matters
	}{
		{unix.NFPROTO_IPV4, []byte{icmpUnreachable, icmpFragNeeded}},
		{unix.NFPROTO_IPV6, []byte{icmpv6PacketBig}},
	} {
		b.rule(chain, b.icmpAboutCaptured(m.family), transport(0, uint32(len(m.kind))), equal(m.kind), taken(), toChain(b.send))
	}
}

// mss builds the chain that lowers the MSS. `rt mtu` of nft is the smaller of what the
// route of the packet and the route back to its source carry (get_tcpmss in the kernel's
// nft_rt.c), less the headers. The kernel writes the value only if it is smaller than the
// packet's (nft_exthdr_tcp_set_eval).
func (b *tableBuilder) mss() {
	chain := b.base("mss", nftables.ChainHookForward, mssPriority)
	syn := concat(proto(unix.IPPROTO_TCP), transport(13, 1), masked([]byte{0x02})) // RFC 9293, section 3.1
	lower := []expr.Any{
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: tcpOptionMSS, Offset: 2, Len: tcpOptionMSSSize, Op: expr.ExthdrOpTcpopt},
	}
	for _, device := range b.tuns() {
		b.rule(chain, name(expr.MetaKeyOIFNAME, device), syn, lower)
		b.rule(chain, name(expr.MetaKeyIIFNAME, device), syn, lower)
	}
}
