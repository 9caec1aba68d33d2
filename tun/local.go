package tun

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What is delivered to this host itself on a captured interface and port. In the
// order the packets meet it:
//
//  1. nft chain steer marks it like everything else, unless it belongs to a
//     connection that this host has opened.
//  2. ip rules (localrules.go): with Local the local table is asked behind ours,
//     so what is marked goes into the TUN. sslgate dials the service by lo.
//  3. nft chain local (input) drops whatever comes to a socket all the same: while
//     no gateway runs, without Local, and packets of connections that are older
//     than the gateway, which the kernel hands to their socket before any rule of
//     routing is asked (net.ipv4.tcp_early_demux). Those are answered with a RST.
//
// A connection that this host has opened has a label of connection tracking. It is
// given by the SYN that the host sends, and to nothing else: direction alone could
// be had by a forged packet, or by a server's packet of a connection that was
// there before connection tracking was.

// outgoingLabel is the label of connections that this host has opened: bit 100.
// A connection has 128 bits of labels (NF_CT_LABELS_MAX_SIZE), which are set and
// read one by one, so nobody else's are touched.
func outgoingLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x10
	return label
}

// outgoing labels what this host opens.
func (b *tableBuilder) outgoing() {
	chain := b.base("outgoing", nftables.ChainHookOutput, steerPriority)
	syn := concat(transport(13, 1), []expr.Any{ // RFC 9293, section 3.1: FIN 1, SYN 2, RST 4, ACK 16
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}},
	}, equal([]byte{0x02}))
	b.rule(chain, proto(unix.IPPROTO_TCP), syn,
		ct(expr.CtKeyDIRECTION), equal([]byte{0}), ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitNEW)),
		setLabel(outgoingLabel()))
}

// answersToUs accepts in chain what answers a connection that this host has
// opened: TCP, and ICMP errors about it.
func (b *tableBuilder) answersToUs(chain *nftables.Chain) {
	labelled := concat(ct(expr.CtKeyLABELS), masked(outgoingLabel()))
	b.rule(chain, proto(unix.IPPROTO_TCP), reply(), labelled, accept())
	b.rule(chain, ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitRELATED)), labelled, accept())
}

// local is the chain that drops what would be delivered here.
func (b *tableBuilder) local() {
	chain := b.base("local", nftables.ChainHookInput, guardPriority)
	captured := b.chain("local_captured")
	b.ifCaptured(chain, captured)

	b.answersToUs(captured)
	b.rule(captured, ipv4Fragment(), drop())
	b.rule(captured, ipv6Fragment(), drop())
	if b.cfg.AllPorts {
		b.rule(captured, proto(unix.IPPROTO_TCP), port(2), in(b.except), accept())
	}
	// A DNAT of this host may have changed the port since it was marked.
	marked := concat(proto(unix.IPPROTO_TCP), b.isMark(b.cfg.Mark))
	for _, what := range [][]expr.Any{b.tcp(), marked, concat(proto(unix.IPPROTO_TCP), dialled())} {
		b.rule(captured, what, older(), []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		b.rule(captured, what, drop())
	}
	if b.cfg.RejectUDP {
		b.rule(captured, b.udp(), rejectUDP())
		b.rule(captured, proto(unix.IPPROTO_UDP), dialled(), rejectUDP())
	}
}

// older matches TCP in the middle of a connection: ACK, neither SYN nor RST.
func older() []expr.Any {
	return concat(transport(13, 1), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x16}, Xor: []byte{0}},
	}, equal([]byte{0x10}))
}

func (c *SteerConfig) checkLocal() error {
	switch {
	case len(c.ExceptPorts) > 0 && !c.AllPorts:
		return fmt.Errorf("ports of this host are excepted, and not all ports captured")
	case c.Local && c.Preference <= localPreference:
		return fmt.Errorf("preference %d of the ip rule: 1 to %d are for what is delivered to this host", c.Preference, localPreference)
	}
	return nil
}
