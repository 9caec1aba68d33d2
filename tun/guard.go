package tun

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// The guard drops what would be forwarded uninspected. It names what may pass
// and drops the rest, whatever that is: a packet of which the kernel, and so
// these rules, read something else than the destination reads in it is a way
// round every rule that names what may not.
//
// So, but from interfaces that are exempt, these alone are forwarded by anything
// but the TUN:
//
//   - TCP to a port that is not captured, and was not before a DNAT of this host
//     either (dialledLabel), and replies to one that is (see reply);
//   - UDP; from captured interfaces not to captured ports (RejectUDP);
//   - ICMP in IPv4 and ICMPv6 in IPv6, but for redirects (redirects.go);
//   - the IP protocols of SteerConfig.Protocols.
//
// For IPv6 the protocol is the one behind the extension headers that the kernel
// knows (ipv6_find_hdr: hop-by-hop, routing, fragment, authentication,
// destination options). Other stacks skip others, such as 253 (RFC 4727), and
// find TCP behind them. Tunnels in IP (4, 41, 47) and encrypted packets (50) may
// hold anything, and are not forwarded either unless they are named.

// guard is the chain that drops. Its ICMP rules hold a ct expression, and so
// connection tracking and defragmentation are on with the guard alone.
func (b *tableBuilder) guard() {
	chain := b.base("guard", nftables.ChainHookForward, guardPriority)
	captured := b.chain("captured")
	known := b.chain("known")

	b.rule(chain, name(expr.MetaKeyOIFNAME, b.cfg.TUN), accept())
	b.rule(chain, name(expr.MetaKeyIIFNAME, b.cfg.TUN), accept())
	b.drops(chain, DropNotSteered, b.isMark(b.cfg.Mark))
	b.dropRedirects(chain)
	if b.cfg.ClientSource {
		b.guardAnswers(chain)
	}
	b.ifCaptured(chain, captured)
	b.rule(chain, load(expr.MetaKeyIIFNAME), in(b.exempt), accept())
	b.drops(chain, DropFragment, ipv4Fragment())
	b.drops(chain, DropFragment, ipv6Fragment())
	if b.cfg.AllPorts {
		// Only what is exempt begins connections that are forwarded, and the replies
		// go back there.
		b.rule(chain, load(expr.MetaKeyOIFNAME), in(b.exempt), b.tcp(), reply(), accept())
	} else {
		b.rule(chain, b.tcp(), reply(), accept())
	}
	if b.cfg.RejectUDP && b.missing { // it may be there by a name that nobody has announced
		b.refuses(chain, DropQUIC, b.udp(), rejectUDP())
	}
	b.rule(chain, b.tcp(), syn(), see(b.uncaptured))
	b.drops(chain, DropUncaptured, b.tcp())
	b.drops(chain, DropPortChanged, proto(unix.IPPROTO_TCP), dialled())
	b.rule(chain, toKnown(known))

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
	b.rule(captured, toKnown(known))
	b.known(known)
}

// udp matches UDP that RejectUDP is about.
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

// dialledLabel is the label of connections to a captured port, as the client has
// dialled it: bit 101, see outgoingLabel. A DNAT of this host changes the port, and
// whoever comes after steer may change the mark.
func dialledLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x20
	return label
}

// labelDialled labels them in prerouting, before a DNAT.
func (b *tableBuilder) labelDialled(chain *nftables.Chain) {
	kinds := [][]expr.Any{b.udp()}
	if !b.cfg.AllPorts { // or all TCP is dropped, whatever its port
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

// known is the end of the guard: it accepts what is known and drops the rest,
// also a packet whose headers or ports cannot be read at all, for which no rule
// that reads them matches.
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

func toKnown(known *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: known.Name}}
}

// reply matches TCP that answers a connection which began at the other side. A
// SYN without ACK answers nothing: who opens his connection by one forged SYN
// "from the destination" makes his own SYN a reply in the eyes of connection
// tracking (a simultaneous open, RFC 9293, section 3.5), and no listener takes
// a connection without it. A packet without connection tracking has no direction
// and is no reply. See also origin.
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

// flags loads those of a packet's TCP flags that are in mask.
func flags(mask byte) []expr.Any {
	return concat(transport(13, 1), bits([]byte{mask}))
}

// noSYN matches TCP that does not begin a connection: SYN without ACK does.
func noSYN() []expr.Any { return concat(flags(tcpSYN|tcpACK), notEqual([]byte{tcpSYN})) }

// syn matches TCP that begins a connection, and nothing that Linux would not take for
// that.
func syn() []expr.Any {
	return concat(flags(tcpFIN|tcpSYN|tcpRST|tcpACK), equal([]byte{tcpSYN}))
}

// older matches TCP in the middle of a connection: ACK, neither SYN nor RST.
func older() []expr.Any {
	return concat(flags(tcpSYN|tcpRST|tcpACK), equal([]byte{tcpACK}))
}

// origin drops in prerouting what begins a connection from a captured port and
// came in by an interface to which the way back to its sender does not lead: the
// replies to it would be packets to a captured port, see reply. It is a strict
// rp_filter (RFC 3704, section 2.2) for these alone, whatever the host's is, and
// of both families. What connection tracking has never seen before is new to it,
// whatever its flags are. With AllPorts nothing but an exempt interface begins a
// connection that is forwarded.
func (b *tableBuilder) origin(chain *nftables.Chain) {
	if b.cfg.AllPorts {
		return
	}
	fromElsewhere := concat(load(expr.MetaKeyIIFNAME), notEqual(nftname.Interface(b.cfg.TUN)))
	b.drops(chain, DropReversePath, b.tcpFrom(), ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitNEW)), fromElsewhere, []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
	}, equal(native32(0)))
}

// ownSource drops in the chain mark what a client sends in the name of this host. What
// stack answered would be delivered to this host, whose kernel sends the destination a
// RST then, though nobody was let through to it; and of a connection that this host has
// with that destination it could be a part. Linux drops such packets of IPv4 (RFC 1812,
// section 5.3.8) unless accept_local is set, and those of IPv6 never.
func (b *tableBuilder) ownSource(mark *nftables.Chain) {
	for _, kind := range []uint32{unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST} {
		b.drops(mark, DropReversePath, b.tcp(), []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}}, equal(native32(kind)))
	}
}

// ipv4Fragment and ipv6Fragment match what is still a fragment although
// connection tracking should have put everything together: somebody's rule took
// it out of that before, or it is an IPv6 first fragment without all headers,
// which is forbidden (RFC 8200, section 4.5) and which Linux lets through
// (nf_ct_frag6_gather). For IPv6 a Fragment header that is left is enough, also
// one that takes nothing apart (an atomic fragment, RFC 6946): connection
// tracking looks at the outermost only, and below it a fragment may be whose
// beginning holds no TCP header.
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
