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
	b.rule(chain, proto(unix.IPPROTO_TCP), syn(),
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
	b.seeLocal(chain)

	b.dropRedirects(captured)
	b.answersToUs(captured)
	b.drops(captured, DropFragment, ipv4Fragment())
	b.drops(captured, DropFragment, ipv6Fragment())
	if b.cfg.AllPorts {
		b.rule(captured, proto(unix.IPPROTO_TCP), port(2), in(b.except), accept())
	}
	// A DNAT of this host may have changed the port since it was marked.
	marked := concat(proto(unix.IPPROTO_TCP), b.isMark(b.cfg.Mark))
	for _, what := range [][]expr.Any{b.tcp(), marked, concat(proto(unix.IPPROTO_TCP), dialled())} {
		b.refuses(captured, DropOlder, what, older(), []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		b.drops(captured, DropLocal, what)
	}
	if b.cfg.RejectUDP {
		b.refuses(captured, DropQUIC, b.udp(), rejectUDP())
		b.refuses(captured, DropQUIC, proto(unix.IPPROTO_UDP), dialled(), rejectUDP())
	}
}

// seeLocal notes by which other interfaces connections to captured ports of this host
// come in: by a wrong name in the configuration they would pass in silence.
func (b *tableBuilder) seeLocal(chain *nftables.Chain) {
	b.rule(chain, name(expr.MetaKeyIIFNAME, b.cfg.TUN), accept())
	b.rule(chain, load(expr.MetaKeyIIF), equal(native32(loopbackIndex)), accept())
	b.rule(chain, load(expr.MetaKeyIIFNAME), in(b.exempt), accept())
	if b.cfg.AllPorts {
		b.rule(chain, proto(unix.IPPROTO_TCP), port(2), in(b.except), accept())
	}
	b.rule(chain, b.tcp(), syn(), see(b.uncapturedLocal))
}

func (c *SteerConfig) checkLocal() error {
	switch {
	case len(c.ExceptPorts) > 0 && !c.AllPorts:
		return fmt.Errorf("ports of this host are excepted, and not all ports captured")
	case c.Local && c.Preference <= LocalPreferences:
		return fmt.Errorf("preference %d of the ip rule: 1 to %d are for what is delivered to this host", c.Preference, LocalPreferences)
	}
	return nil
}
