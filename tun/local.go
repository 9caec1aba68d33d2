package tun

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Packets to this host itself on a captured interface and port. In the order in which
// they meet it:
//
//  1. nft chain steer marks them like all others, unless they belong to a connection that
//     this host has opened.
//  2. ip rules (localrules.go): with Local our rules come before the local table, so
//     marked packets go into the TUN. sslgate dials the service by lo.
//  3. nft chain local (input) drops what comes to a socket all the same: while no gateway
//     runs, without Local, and packets of connections that are older than the gateway.
//     The kernel hands these to their socket before it asks any routing rule
//     (net.ipv4.tcp_early_demux); they are answered with a RST.
//
// A connection that this host has opened has a label of connection tracking. Only the SYN
// that the host sends sets it. The direction alone would not do: a forged packet could
// have it, or a server's packet of a connection that is older than connection tracking.

// outgoingLabel is the label of connections that this host has opened: bit 100. A
// connection has 128 label bits (NF_CT_LABELS_MAX_SIZE). We set and read single bits, so
// labels of others are not touched.
func outgoingLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x10
	return label
}

// outgoing builds the chain that labels connections which this host opens.
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

// local builds the chain that drops what would be delivered to this host.
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
	// The mark too, because a DNAT of this host may have changed the port since.
	refused := [][]expr.Any{b.tcp()}
	for _, mark := range b.marks() {
		refused = append(refused, concat(proto(unix.IPPROTO_TCP), b.isMark(mark)))
	}
	for _, what := range append(refused, concat(proto(unix.IPPROTO_TCP), dialled())) {
		b.refuses(captured, DropOlder, what, older(), []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		b.drops(captured, DropLocal, what)
	}
	if b.cfg.RejectUDP {
		b.refuses(captured, DropQUIC, b.udp(), rejectUDP())
		b.refuses(captured, DropQUIC, proto(unix.IPPROTO_UDP), dialled(), rejectUDP())
	}
}

// seeLocal notes on which other interfaces connections to captured ports of this host
// arrive. With a wrong name in the configuration they would pass without any message.
func (b *tableBuilder) seeLocal(chain *nftables.Chain) {
	if len(b.cfg.Interfaces) == 0 {
		return
	}
	for _, device := range b.tuns() {
		b.rule(chain, name(expr.MetaKeyIIFNAME, device), accept())
	}
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
