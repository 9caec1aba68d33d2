package tun

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connections that sslgate makes under a client's address (ClientSource): how their
// answers, which are addressed to the client, reach our sockets. In the order in which
// packets meet it:
//
//  1. nft chain own (output): what our sockets send has their mark and goes into a zone
//     of connection tracking of its own. The source port may be one that the client
//     already uses towards the same destination; in one zone both would be the same
//     connection.
//  2. nft chains keep and verify (postrouting, nat.go): the source address stays the
//     client's, or the packet is dropped.
//  3. nft chain answers (prerouting, before connection tracking): an answer is TCP from a
//     captured port that a socket of ours waits for, or an ICMP error about our packet.
//     It goes into the same zone.
//  4. nft chain steer, first rules: the answer gets a mark of its own, and so never that
//     of captured traffic, whatever its interface and port.
//  5. ip rule fwmark: a table with `local default dev lo` delivers it here.
//  6. nft chain guard: drops what has the answers' mark. It also drops what comes from a
//     captured port and would be forwarded to a captured interface: no connection to that
//     port was ever forwarded, so it answers a connection of ours whose socket is gone
//     (after a crash).

// returnZone is the zone of connection tracking of our connections, 16 bits. It is not 0,
// the default zone.
const returnZone = 0x551a

// loopbackIndex is the index of lo in every namespace (LOOPBACK_IFINDEX in
// include/net/flow.h).
const loopbackIndex = 1

// zonePriority is the priority of the chains that set a zone: before connection tracking
// (-200, NF_IP_PRI_CONNTRACK).
const zonePriority = -300

func (c *SteerConfig) checkSource() error {
	switch {
	case !c.ClientSource:
		return nil
	case c.ReturnMark == 0 || c.SocketMark() == 0 || c.ReturnMark == c.Mark || c.SocketMark() == c.Mark:
		return fmt.Errorf("mark %#x of answers, and the one after it within the mask %#x, must be neither 0 nor that of captured packets, %#x", c.ReturnMark, c.Mask, c.Mark)
	case c.ReturnMark&^c.Mask != 0:
		return fmt.Errorf("mark %#x of answers has bits outside of the mask %#x", c.ReturnMark, c.Mask)
	case systemTable(c.ReturnTable) || c.ReturnTable == c.Table:
		return fmt.Errorf("routing table %d of answers is the kernel's, or that of captured packets", c.ReturnTable)
	}
	return nil
}

func systemTable(n int) bool {
	return n < 1 || n >= unix.RT_TABLE_DEFAULT && n <= unix.RT_TABLE_LOCAL
}

// SetClientSource prepares for connections under a client's address if Steer was not told
// to. It cannot be undone, because connections that need it may live on.
func (s *Steering) SetClientSource() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.ClientSource {
		return nil
	}
	if !s.owns {
		return errors.New("another process has the steering, and does not lead answers back to connections under a client's address")
	}
	s.cfg.ClientSource = true
	err := s.cfg.check()
	if err == nil {
		err = s.writeTable(true)
	}
	if err == nil {
		_, err = s.ensureRouting()
	}
	if err != nil {
		s.cfg.ClientSource = false
		return errors.Join(err, s.writeTable(true))
	}
	return nil
}

// ClientSource says whether connections under a client's address are prepared for.
func (s *Steering) ClientSource() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.ClientSource
}

// source builds the chains for connections under a client's address.
func (b *tableBuilder) source() {
	setZone := []expr.Any{
		&expr.Immediate{Register: 1, Data: zone()},
		&expr.Ct{Key: expr.CtKeyZONE, SourceRegister: true, Register: 1},
	}
	own := b.base("own", nftables.ChainHookOutput, zonePriority)
	b.rule(own, b.isMark(b.cfg.SocketMark()), setZone)

	answers := b.base("answers", nftables.ChainHookPrerouting, zonePriority)
	b.answers(answers, b.chain("answers_zone"), setZone)
}

// markAnswers adds the first rules of the chain steer.
func (b *tableBuilder) markAnswers(steer *nftables.Chain) {
	b.answers(steer, b.chain("answers_mark"), concat(b.setMark(b.cfg.ReturnMark), accept()))
}

// guardAnswers adds its rules to the chain guard.
func (b *tableBuilder) guardAnswers(guard *nftables.Chain) {
	b.drops(guard, DropClientAnswer, b.isMark(b.cfg.ReturnMark))
	b.drops(guard, DropClientAnswer, load(expr.MetaKeyOIFNAME), in(b.names), b.tcpFrom())
	b.drops(guard, DropClientAnswer, load(expr.MetaKeyOIF), in(b.indexes), b.tcpFrom())
}

// answers adds rules that jump to the chain to, which applies then to answers to our
// connections. A SYN alone is no answer. Any other packet is one only if its socket has
// our mark: a client's packet must never reach another program's transparent listener
// this way. A socket in TIME_WAIT has no mark to read, and does not listen.
func (b *tableBuilder) answers(from, to *nftables.Chain, then []expr.Any) {
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}
	b.rule(from, b.tcpFrom(), noSYN(), jump)
	foreign := concat([]expr.Any{&expr.Socket{Key: expr.SocketKeyMark, Register: 1}}, bits(native32(b.cfg.Mask)))
	b.rule(to, foreign, notEqual(native32(b.cfg.SocketMark())), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	socket := concat([]expr.Any{&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}}, equal([]byte{1}))
	b.rule(to, socket, then)
	// The socket expression itself reads the packet quoted in ICMP errors
	// (nf_sk_lookup_slow_v4).
	for _, f := range []struct{ family, icmp byte }{{unix.NFPROTO_IPV4, unix.IPPROTO_ICMP}, {unix.NFPROTO_IPV6, unix.IPPROTO_ICMPV6}} {
		b.rule(from, family(f.family), proto(f.icmp), b.quoted(f.family, 2), jump)
	}
}

// tcpFrom matches TCP from a captured port.
func (b *tableBuilder) tcpFrom() []expr.Any {
	if b.cfg.AllPorts {
		return proto(unix.IPPROTO_TCP)
	}
	return concat(proto(unix.IPPROTO_TCP), port(0), in(b.ports))
}

func zone() []byte { return binary.NativeEndian.AppendUint16(nil, returnZone) }

// returnRoute is the route that delivers here what is marked as an answer.
func (s *Steering) returnRoute(family int) *netlink.Route {
	r := &netlink.Route{Family: family, Dst: anywhere(family), Table: s.cfg.ReturnTable, Protocol: RuleProtocol, Type: unix.RTN_LOCAL, LinkIndex: loopbackIndex}
	if family == unix.AF_INET {
		r.Scope = unix.RT_SCOPE_HOST
	}
	return r
}

// routeHint adds the command that helps to an error of setting the returnRoute.
func routeHint(err error, r *netlink.Route) string {
	if r.Type == unix.RTN_LOCAL && errors.Is(err, unix.ENETDOWN) {
		return ": `ip link set lo up`"
	}
	return ""
}
