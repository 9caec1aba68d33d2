package tun

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// The guard drops what would be forwarded uninspected. It lists what may pass and drops
// everything else. A list of what may not pass could be evaded by a packet that the
// kernel, and so these rules, read differently than the destination does.
//
// So, except from exempt interfaces, only these are forwarded without going through the
// TUN:
//
//   - TCP to a port that is not captured, and was not captured before a DNAT of this host
//     either (dialledLabel), and replies to a captured port (see reply);
//   - UDP; from captured interfaces not to captured ports (RejectUDP);
//   - ICMP in IPv4 and ICMPv6 in IPv6, but no redirects (redirects.go);
//   - the IP protocols of SteerConfig.Protocols.
//
// For IPv6 the protocol is the one behind the extension headers that the kernel knows
// (ipv6_find_hdr: hop-by-hop, routing, fragment, authentication, destination options).
// Other stacks skip other headers, such as 253 (RFC 4727), and find TCP behind them.
// Tunnels in IP (4, 41, 47) and encrypted packets (50) may hold anything, so they are not
// forwarded either unless they are listed.

// guard builds the chain that drops. Its ICMP rules hold a ct expression, so connection
// tracking and defragmentation are on even with the guard alone.
func (b *tableBuilder) guard() {
	chain := b.base("guard", nftables.ChainHookForward, guardPriority)
	for _, device := range b.tuns() {
		b.rule(chain, name(expr.MetaKeyOIFNAME, device), accept())
		b.rule(chain, name(expr.MetaKeyIIFNAME, device), accept())
	}
	for _, mark := range b.marks() {
		b.drops(chain, DropNotSteered, b.isMark(mark))
	}
	if b.cfg.ClientSource {
		b.guardAnswers(chain)
	}
	if len(b.cfg.Interfaces) == 0 {
		return // programs of this host alone are captured, and it forwards for whom it likes
	}
	captured, known := b.chain("captured"), b.chain("known")
	b.dropRedirects(chain)
	b.ifCaptured(chain, captured)
	b.rule(chain, load(expr.MetaKeyIIFNAME), in(b.exempt), accept())
	b.drops(chain, DropFragment, ipv4Fragment())
	b.drops(chain, DropFragment, ipv6Fragment())
	if b.cfg.AllPorts {
		// Only exempt interfaces begin connections that are forwarded, and the replies
		// return to them.
		b.rule(chain, load(expr.MetaKeyOIFNAME), in(b.exempt), b.tcp(), reply(), accept())
	} else {
		b.rule(chain, b.tcp(), reply(), accept())
	}
	if b.cfg.RejectUDP && b.missing { // the missing interface may be there under an unknown name
		b.refuses(chain, DropQUIC, b.udp(), rejectUDP())
	}
	b.rule(chain, b.tcp(), syn(), see(b.uncaptured))
	b.drops(chain, DropUncaptured, b.tcp())
	b.drops(chain, DropPortChanged, proto(unix.IPPROTO_TCP), dialled())
	b.rule(chain, toChain(known))

	b.drops(captured, DropNotSteered, b.tcp())
	b.drops(captured, DropPortChanged, proto(unix.IPPROTO_TCP), dialled())
	b.drops(captured, DropNotSteered, b.icmpAboutCaptured(unix.NFPROTO_IPV4))
	b.drops(captured, DropNotSteered, b.icmpAboutCaptured(unix.NFPROTO_IPV6))
	b.drops(captured, DropFragment, ipv4Fragment())
	b.drops(captured, DropFragment, ipv6Fragment())
	if b.cfg.RejectUDP {
		b.refuses(captured, DropQUIC, b.udp(), rejectUDP())
		b.refuses(captured, DropQUIC, proto(unix.IPPROTO_UDP), dialled(), rejectUDP())
	}
	b.rule(captured, toChain(known))
	b.known(known)
}

// udp matches the UDP that RejectUDP rejects.
func (b *tableBuilder) udp() []expr.Any {
	if b.cfg.AllPorts {
		return concat(proto(unix.IPPROTO_UDP), port(2), equal([]byte{443 >> 8, 443 & 0xff}))
	}
	return concat(proto(unix.IPPROTO_UDP), port(2), in(b.ports))
}

func rejectUDP() []expr.Any {
	return []expr.Any{
		&expr.Counter{},
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH},
	}
}

// dialledLabel is the label of connections whose client dialled a captured port: bit 101,
// see outgoingLabel. The label survives where the packet's port and mark do not: a DNAT
// of this host changes the port, and chains after steer may change the mark.
func dialledLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x20
	return label
}

// labelDialled labels such connections in prerouting, before a DNAT.
func (b *tableBuilder) labelDialled(chain *nftables.Chain) {
	kinds := [][]expr.Any{b.udp()}
	if !b.cfg.AllPorts { // with AllPorts all TCP is dropped anyway, whatever its port
		kinds = append(kinds, b.tcp())
	}
	for _, kind := range kinds {
		b.rule(chain, kind, ct(expr.CtKeyDIRECTION), equal([]byte{0}), setLabel(dialledLabel()))
	}
}

// dialled matches what the client of such a connection sends.
func dialled() []expr.Any {
	return concat(ct(expr.CtKeyDIRECTION), equal([]byte{0}), ct(expr.CtKeyLABELS), masked(dialledLabel()))
}

// known builds the end of the guard: it accepts what is known and drops the rest. A
// packet whose headers or ports cannot be read is dropped too, because no rule that reads
// them matches.
func (b *tableBuilder) known(chain *nftables.Chain) {
	b.rule(chain, proto(unix.IPPROTO_UDP), port(2), notEqual([]byte{0, 0}), accept())
	if !b.cfg.AllPorts {
		b.rule(chain, proto(unix.IPPROTO_TCP), port(2), notIn(b.ports), accept())
	}
	b.rule(chain, family(unix.NFPROTO_IPV4), proto(unix.IPPROTO_ICMP), accept())
	b.rule(chain, family(unix.NFPROTO_IPV6), proto(unix.IPPROTO_ICMPV6), accept())
	b.rule(chain, load(expr.MetaKeyL4PROTO), in(b.protocols), accept())
	b.drops(chain, DropProtocol)
}

// reply matches TCP that answers a connection which began at the other side. A SYN
// without ACK is no answer: a client could forge one SYN "from the destination", and
// connection tracking would then take the client's own SYN for a reply (a simultaneous
// open, RFC 9293, section 3.5). No listener accepts a connection without a SYN. A packet
// without connection tracking has no direction and is no reply. See also origin.
func reply() []expr.Any {
	return concat(ct(expr.CtKeyDIRECTION), equal([]byte{1}), noSYN())
}

// The flags of TCP that rules look at (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// flags loads the TCP flags of a packet that are in mask.
func flags(mask byte) []expr.Any {
	return concat(transport(13, 1), bits([]byte{mask}))
}

// noSYN matches TCP that does not begin a connection: all but SYN without ACK.
func noSYN() []expr.Any { return concat(flags(tcpSYN|tcpACK), notEqual([]byte{tcpSYN})) }

// syn matches TCP that begins a connection, and nothing that Linux would not accept as
// such.
func syn() []expr.Any {
	return concat(flags(tcpFIN|tcpSYN|tcpRST|tcpACK), equal([]byte{tcpSYN}))
}

// older matches TCP in the middle of a connection: ACK set, neither SYN nor RST.
func older() []expr.Any {
	return concat(flags(tcpSYN|tcpRST|tcpACK), equal([]byte{tcpACK}))
}

// origin drops in prerouting a packet that begins a connection from a captured port and
// came in by an interface to which the way back to its sender does not lead. Otherwise
// the replies to it would be packets to a captured port that pass, see reply. It is a
// strict rp_filter (RFC 3704, section 2.2) for these packets alone, in both families,
// whatever the host's rp_filter is. A packet of a connection that connection tracking has
// not seen is new, whatever its flags. With AllPorts only an exempt interface begins
// connections that are forwarded.
func (b *tableBuilder) origin(chain *nftables.Chain) {
	if b.cfg.AllPorts || len(b.cfg.Interfaces) == 0 {
		return
	}
	fromElsewhere := load(expr.MetaKeyIIFNAME)
	for _, device := range b.tuns() {
		fromElsewhere = concat(fromElsewhere, notEqual(nftname.Interface(device)))
	}
	b.drops(chain, DropReversePath, b.tcpFrom(), ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitNEW)), fromElsewhere, []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
	}, equal(native32(0)))
}

// ownSource drops in the chain mark packets that a client sends from an address of this
// host. The answers of stack would be delivered to this host, whose kernel would then
// send a RST to the destination though the client was not let through to it. The packet
// could also be taken for part of a connection that this host has with that destination.
// Linux drops such IPv4 packets (RFC 1812, section 5.3.8) unless accept_local is set, but
// never such IPv6 packets.
func (b *tableBuilder) ownSource(mark *nftables.Chain) {
	for _, kind := range []uint32{unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST} {
		b.drops(mark, DropReversePath, b.tcp(), []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}}, equal(native32(kind)))
	}
}

// ipv4Fragment and ipv6Fragment match what is still a fragment although connection
// tracking should have put everything together. Either another program's rule exempted it
// from tracking, or it is an IPv6 first fragment without all headers, which is forbidden
// (RFC 8200, section 4.5) but let through by Linux (nf_ct_frag6_gather). In IPv6 any
// Fragment header that is left matches, even one that does not fragment (an atomic
// fragment, RFC 6946). Connection tracking handles only the outermost Fragment header,
// and a fragment without a TCP header may be below it.
func ipv4Fragment() []expr.Any {
	return concat(
		family(unix.NFPROTO_IPV4),
		network(6, 2), masked([]byte{0x3f, 0xff}), // MF flag and offset (RFC 791, section 3.1)
	)
}

func ipv6Fragment() []expr.Any {
	return concat(family(unix.NFPROTO_IPV6), []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Len: 1, Op: expr.ExthdrOpIpv6, Flags: unix.NFT_EXTHDR_F_PRESENT},
	}, equal([]byte{1}))
}
