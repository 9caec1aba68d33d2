package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Connections that programs of this host open (Outgoing). In the order in which their
// packets meet it:
//
//  1. nft chain out (output, of type route) decides about the connection at its SYN and
//     notes the decision as a label of connection tracking. What is captured is pinned and
//     marked like a client's packets, and the kernel then routes it anew: into the TUN.
//     The source stays the address that the kernel has chosen before.
//  2. nft chains out_guard (output, later) and out_left (postrouting) refuse or drop what is
//     captured and would leave by anything else than the TUN. They stay when the process
//     ends.
//  3. Answers come from the TUN and are delivered to the program's socket.
//
// The decision is kept because the user of a packet is that of its socket: when a program
// has closed the socket, and the kernel still sends what is left, there is no user any
// more. A packet in the middle of an unknown connection (it is older than the table, or
// somebody has flushed connection tracking) is decided about by what it shows, and
// captured if its user is not known: stack answers it with a RST.
//
// What leaves by lo never leaves the host and is not captured: neither connections to
// 127.0.0.1 and ::1 nor those to another address of this host. If a destination NAT makes
// it leave, it is dropped. sslgate's own sockets have
// a mark (OwnMark) and are not captured either.
//
// No cgroup is matched: nft resolves its path to a number when the rule is written, and a
// unit that restarts has another number.

// Outgoing says which connections of programs of this host are captured.
type Outgoing struct {
	// OwnMark is the firewall mark (SO_MARK) of sslgate's own sockets, which are not
	// captured; within SteerConfig.Mask, and none of the other marks.
	OwnMark uint32
	// Ports are those of SteerConfig.Ports that are captured here too; empty: all.
	Ports []uint16
	// Users and Groups are the numbers of users and groups whose connections are captured,
	// as the network namespace's user namespace has them; both empty: everybody's.
	Users, Groups []uint32
	// ExceptUsers are the numbers of users whose connections are not captured.
	ExceptUsers []uint32
	// To are the destinations that are captured, at most 64; empty: all.
	To []netip.Prefix
}

// maxOutTo bounds Outgoing.To: each costs a rule. maxOutUsers bounds each list of users.
const (
	maxOutTo    = 64
	maxOutUsers = 1000
)

// noUser is no user's number (INVALID_UID in include/linux/uidgid.h).
const noUser = 0xffffffff

func (c *SteerConfig) checkOut() error {
	o := c.Out
	if o == nil {
		return nil
	}
	taken := []uint32{c.Mark}
	if c.ClientSource {
		taken = append(taken, c.ReturnMark, c.SocketMark())
	}
	if c.Twin != (Twin{}) {
		taken = append(taken, c.Twin.Mark)
	}
	switch {
	case o.OwnMark == 0 || o.OwnMark&^c.Mask != 0:
		return fmt.Errorf("mark %#x of sslgate's own sockets must be within the mask %#x, and not 0", o.OwnMark, c.Mask)
	case slices.Contains(taken, o.OwnMark):
		return fmt.Errorf("mark %#x of sslgate's own sockets has another meaning already", o.OwnMark)
	case len(o.To) > maxOutTo || max(len(o.Users), len(o.Groups), len(o.ExceptUsers)) > maxOutUsers:
		return fmt.Errorf("more than %d destinations, or %d users", maxOutTo, maxOutUsers)
	case slices.ContainsFunc(o.Ports, func(p uint16) bool { return !c.AllPorts && !slices.Contains(c.Ports, p) || p == 0 }):
		return errors.New("a port of outgoing connections is not captured")
	}
	return nil
}

// sorted is a copy, without what is there twice.
func (o *Outgoing) sorted() *Outgoing {
	if o == nil {
		return nil
	}
	s := *o
	s.Ports = slices.Compact(slices.Sorted(slices.Values(o.Ports)))
	for _, list := range []*[]uint32{&s.Users, &s.Groups, &s.ExceptUsers} {
		*list = slices.Compact(slices.Sorted(slices.Values(*list)))
	}
	s.To = slices.Clone(o.To)
	return &s
}

// chosenLabel is the label of connections of this host's programs that are captured: bit
// 103. passedLabel is that of connections about which it was decided that they are not:
// bit 104. See outgoingLabel.
func chosenLabel() []byte {
	label := make([]byte, 16)
	label[12] = 0x80
	return label
}

func passedLabel() []byte {
	label := make([]byte, 16)
	label[13] = 0x01
	return label
}

func labelled(label []byte) []expr.Any { return concat(ct(expr.CtKeyLABELS), masked(label)) }

// ownLabel is the label of connections of sslgate itself: bit 105. staysLabel is that of
// connections that would be captured if they left the host: bit 106.
func ownLabel() []byte {
	label := make([]byte, 16)
	label[13] = 0x02
	return label
}

func staysLabel() []byte {
	label := make([]byte, 16)
	label[13] = 0x04
	return label
}

// ownPriority is that of the chain that knows sslgate's own sockets by their mark: right
// behind connection tracking (-200), before chains of others change the mark.
const ownPriority = -199

// out builds the chains that capture.
func (b *tableBuilder) out() {
	own := b.base("out_own", nftables.ChainHookOutput, ownPriority)
	for _, mark := range b.ownMarks() {
		b.rule(own, proto(unix.IPPROTO_TCP), b.isMark(mark), setLabel(ownLabel()))
	}
	chain := b.baseOf(nftables.ChainTypeRoute, "out", nftables.ChainHookOutput, steerPriority)
	b.choose(chain, "out", [][]expr.Any{b.outPort(unix.IPPROTO_TCP)}, func(from *nftables.Chain, chosen ...[]expr.Any) {
		is := concat(proto(unix.IPPROTO_TCP), concat(chosen...))
		// A destination NAT of this host may make it leave after all (outGuard).
		b.rule(from, is, onLoopback(), setLabel(staysLabel()), accept())
		b.rule(from, is, setLabel(chosenLabel()), toChain(b.pin))
	})
}

// ownMarks are the marks of all sockets of sslgate.
func (b *tableBuilder) ownMarks() []uint32 {
	if b.cfg.ClientSource {
		return []uint32{b.cfg.Out.OwnMark, b.cfg.SocketMark()}
	}
	return []uint32{b.cfg.Out.OwnMark}
}

func onLoopback() []expr.Any { return concat(load(expr.MetaKeyOIF), equal(native32(loopbackIndex))) }

// fromTUN labels and pins in prerouting what comes from the TUN for a program of this host.
// It belongs to a captured connection, also where connection tracking has forgotten that
// and takes the answer for the connection's first packet: what the program sends would
// then be an answer, of a service.
func (b *tableBuilder) fromTUN(steer *nftables.Chain) {
	for i, device := range b.tuns() {
		is := concat(name(expr.MetaKeyIIFNAME, device), proto(unix.IPPROTO_TCP), []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}}, equal(native32(unix.RTN_LOCAL)))
		b.rule(steer, is, setLabel(chosenLabel()))
		if b.cfg.CTMask != 0 {
			b.rule(steer, is, b.isPinned(0), b.setPinned(b.cfg.pinned(b.cfg.Slot^Slot(i))))
		}
	}
}

// outGuard builds the chains that hold back what should be in the TUN and is not. In the
// hook output a packet has the interface that it was routed to first; by which one it
// leaves is known in postrouting.
//
// What is captured and not marked is refused with a RST: no gateway has run yet, or a
// destination NAT of this host has made a captured port of another one. What is marked and
// leaves by another interface is dropped in silence: the program sends it again, and the
// steering may be repaired by then.
func (b *tableBuilder) outGuard() {
	left := b.base("out_left", nftables.ChainHookPostrouting, verifyPriority)
	for _, device := range b.tuns() {
		b.rule(left, name(expr.MetaKeyOIFNAME, device), accept())
	}
	b.rule(left, onLoopback(), accept())
	chain := b.base("out_guard", nftables.ChainHookOutput, guardPriority)
	for _, mark := range b.marks() {
		b.drops(left, DropLocalOut, b.isMark(mark), proto(unix.IPPROTO_TCP))
		b.rule(chain, b.isMark(mark), accept())
	}
	b.drops(left, DropLocalOut, proto(unix.IPPROTO_TCP), labelled(chosenLabel()))
	b.drops(left, DropLocalOut, proto(unix.IPPROTO_TCP), labelled(staysLabel()), ct(expr.CtKeyDIRECTION), equal([]byte{0}))
	b.rule(chain, onLoopback(), accept())
	kinds := [][]expr.Any{b.outPort(unix.IPPROTO_TCP)}
	if b.cfg.RejectUDP {
		kinds = append(kinds, b.outPort(unix.IPPROTO_UDP))
	}
	b.choose(chain, "out_guard", kinds, func(from *nftables.Chain, chosen ...[]expr.Any) {
		is := concat(chosen...)
		b.refuses(from, DropLocalOut, is, proto(unix.IPPROTO_TCP), []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		if b.cfg.RejectUDP {
			b.refuses(from, DropQUIC, is, proto(unix.IPPROTO_UDP), rejectUDP())
		}
	})
}

// choose adds to chain the rules that decide about a packet of this host, which must be of
// one of the kinds. then adds the rules for those that are captured to the chain that it is
// given, behind the conditions.
func (b *tableBuilder) choose(chain *nftables.Chain, name string, kinds [][]expr.Any, then func(from *nftables.Chain, chosen ...[]expr.Any)) {
	o := b.cfg.Out
	tcp := proto(unix.IPPROTO_TCP)
	// UDP is not labelled: the next program may have the same port.
	pass := func(from *nftables.Chain, is ...[]expr.Any) {
		b.rule(from, concat(is...), tcp, setLabel(passedLabel()))
		b.rule(from, concat(is...), accept())
	}
	b.rule(chain, tcp, labelled(ownLabel()), accept())
	for _, mark := range b.ownMarks() { // where connection tracking is told to leave it alone
		b.rule(chain, b.isMark(mark), accept())
	}
	// A SYN is decided about anew: the port may be another program's by now.
	then(chain, tcp, noSYN(), labelled(chosenLabel()))
	b.rule(chain, tcp, noSYN(), labelled(passedLabel()), accept())
	// Answers of a service of this host.
	b.rule(chain, tcp, reply(), accept())
	b.rule(chain, proto(unix.IPPROTO_UDP), ct(expr.CtKeyDIRECTION), equal([]byte{1}), accept())
	who := b.chain(name + "_who")
	for _, kind := range kinds {
		b.rule(chain, kind, toChain(who))
	}
	if b.cfg.AllPorts {
		// The same, picked up in the middle.
		b.rule(who, tcp, noSYN(), port(0), in(b.except), accept())
	}
	to := b.chain(name + "_to")
	if len(o.ExceptUsers) > 0 {
		pass(who, load(expr.MetaKeySKUID), in(b.outExcept))
	}
	if len(o.Users) > 0 {
		b.rule(who, load(expr.MetaKeySKUID), in(b.outUsers), toChain(to))
	}
	if len(o.Groups) > 0 {
		b.rule(who, load(expr.MetaKeySKGID), in(b.outGroups), toChain(to))
	}
	if len(o.Users)+len(o.Groups) > 0 {
		// Whoever else it is. Without a user the rule does not match.
		pass(who, load(expr.MetaKeySKUID), notEqual(native32(noUser)))
		// What begins without a user is the kernel's own (NFS, iSCSI): a program's SYN has one.
		pass(who, tcp, syn())
		b.rule(who, proto(unix.IPPROTO_UDP), accept())
	}
	b.rule(who, toChain(to))

	if len(o.To) == 0 {
		then(to)
		return
	}
	for _, p := range o.To {
		then(to, toNetwork(p))
	}
	pass(to)
}

// outPort matches packets of the protocol to a port that is captured of this host's
// programs.
func (b *tableBuilder) outPort(of byte) []expr.Any {
	switch {
	case len(b.cfg.Out.Ports) > 0:
		return concat(proto(of), port(2), in(b.outPorts))
	case of == unix.IPPROTO_UDP:
		return b.udp()
	}
	return b.tcp()
}

// toNetwork matches packets to a network.
func toNetwork(p netip.Prefix) []expr.Any {
	of, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		of, offset = unix.NFPROTO_IPV6, 24
	}
	net := ipNet(p.Masked())
	return concat(family(of), network(offset, uint32(len(net.Mask))), bits(net.Mask), equal(net.IP))
}

// GuardsOut says whether the guard that is set in the caller's network namespace holds
// connections of this host's programs back, and whether it does as cfg says: what it should
// be is written in a network namespace that nobody is in, and read. That takes
// CAP_SYS_ADMIN.
func GuardsOut(cfg SteerConfig) (there, same bool, err error) {
	s, err := newSteering(cfg, zap.NewNop())
	if err != nil {
		return false, false, err
	}
	defer s.closeSockets()
	now, err := s.listTable()
	if err != nil {
		return false, false, fmt.Errorf("list the nft table: %w", err)
	}
	is := outLines(now)
	if is == "" {
		return false, false, nil
	}
	both := []SteerConfig{cfg}
	if cfg.Twin != (Twin{}) {
		both = append(both, cfg.Swapped())
	}
	for _, c := range both {
		wanted, err := guardElsewhere(c)
		if err != nil {
			return true, false, err
		}
		if is == outLines(wanted) {
			return true, true, nil
		}
	}
	return true, false, nil
}

// guardElsewhere is the listing of a guard in a network namespace of its own, which ends
// with the thread.
func guardElsewhere(cfg SteerConfig) (listing string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("make a network namespace: %w", err)
			return
		}
		var s *Steering
		if s, err = newSteering(cfg, zap.NewNop()); err != nil {
			return
		}
		defer s.closeSockets()
		err = s.writeTable(false)
		listing = s.written
	}()
	<-done
	return listing, err
}

// outLines are the lines of a listing that hold this host's programs back.
func outLines(listing string) string {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(listing) {
		if f := strings.Fields(line); len(f) > 1 && !strings.HasPrefix(line, " ") {
			inside = strings.HasPrefix(f[1], "out_guard") || f[1] == "out_left" || f[0] == "set" && (strings.HasPrefix(f[1], "out_") || strings.HasSuffix(f[1], "ports"))
		}
		if inside {
			out.WriteString(line)
		}
	}
	return out.String()
}

// HasAddress says whether the kernel takes packets to an address as its own now, in the
// network namespace of the caller. Chain mark asks the same of a client's address
// (ownSource), so nobody else has it.
func HasAddress(a netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(a.Unmap().AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false, nil // no way there, or none that may be taken
	case err != nil:
		return false, fmt.Errorf("look up %s: %w", a, err)
	}
	return len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL, nil
}
