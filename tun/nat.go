package tun

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The host's own source NAT. Two kinds of packets must keep the client's address: those
// that enter the TUN, because policy, record and limits depend on their source; and those
// of connections that sslgate makes under a client's address (clientaddr.go). A masquerade
// rule of the host that names no outgoing interface, or matches a mark that many packets
// have, would replace it by the gateway's address. A client that a rule denies would then
// be let in by the rule for everybody else.
//
//  1. nft chain keep (postrouting, before the source NAT of others) binds the source
//     address to itself. Connection tracking asks once, for the first packet of a
//     connection, and keeps the answer.
//  2. nft chain verify (postrouting, last) drops the packet if NAT has changed the source
//     all the same, because it came first or the connection began before keep existed.
//
// Destination NAT is left alone: the policy sees the destination after it.

// KeepPriority is the priority of the chain keep: after connection tracking (-200),
// before all source NAT (100). verifyPriority comes after all of it.
const (
	KeepPriority   = -190
	verifyPriority = 250
)

// ipsSrcNAT is IPS_SRC_NAT of linux/netfilter/nf_conntrack_common.h: the source
// was changed.
const ipsSrcNAT = 1 << 4

// keepSource builds the chains keep and verify. Without nat, on a kernel that has no NAT
// for nftables, it builds only verify.
func (b *tableBuilder) keepSource(nat bool) {
	var ours [][]expr.Any
	for _, device := range b.tuns() {
		ours = append(ours, name(expr.MetaKeyOIFNAME, device))
	}
	if b.cfg.ClientSource {
		ours = append(ours, concat(ct(expr.CtKeyZONE), equal(zone())))
	}
	if nat {
		keep := b.baseOf(nftables.ChainTypeNAT, "keep", nftables.ChainHookPostrouting, KeepPriority)
		for _, these := range ours {
			for _, f := range []struct {
				family      byte
				offset, len uint32 // of the source address in the IP header
			}{{unix.NFPROTO_IPV4, 12, 4}, {unix.NFPROTO_IPV6, 8, 16}} {
				b.rule(keep, these, family(f.family), network(f.offset, f.len),
					[]expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.family), RegAddrMin: 1}})
			}
		}
	}
	verify := b.base("verify", nftables.ChainHookPostrouting, verifyPriority)
	for _, these := range ours {
		b.drops(verify, DropSourceChanged, these, ct(expr.CtKeySTATUS), masked(native32(ipsSrcNAT)))
	}
}
