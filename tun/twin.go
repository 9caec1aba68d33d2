package tun

import (
	"errors"
	"fmt"
	mathbits "math/bits"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
)

// Two gateways may run on one host while one hands over to the other. Each has a TUN, a
// mark and a routing table of its own. One of them has the steering (owns): it writes the
// nft table and takes the new connections. The other one keeps the connections that are
// pinned to it. Two bits of the ct mark of connection tracking say which gateway a
// connection is pinned to (SteerConfig.CTMask).
//
// In the nft table:
//
//  1. chain pin gives a captured connection that is not pinned yet to a gateway. It looks
//     at the ct mark, never at the state: a SYN that is sent again is still new, and must
//     go where the first one went.
//  2. chain send gives the packet the mark of the gateway that its connection is pinned
//     to. ip rule fwmark leads the mark to the table of that gateway.
//
// While a gateway is alone, it pins every connection to itself and gets every packet.
// When the other one has ended, however it ended, its TUN is gone. The owner sees that
// and is alone from then on. What was pinned to the other one comes to it, which answers
// with a RST, because its stack does not know the connection.

// Slot is one of the two places for a gateway on a host.
type Slot uint8

// The first gateway of a host is in SlotA. Whoever takes over is in the other slot.
const (
	SlotA Slot = iota
	SlotB
)

// String returns "a" or "b".
func (s Slot) String() string { return string(rune('a' + s&1)) }

// Twin is the other slot: what the gateway in it has of its own.
type Twin struct {
	TUN   string
	Mark  uint32
	Table int
}

// Swapped is the configuration as the gateway in the other slot has it.
func (c SteerConfig) Swapped() SteerConfig {
	own := Twin{c.TUN, c.Mark, c.Table}
	c.TUN, c.Mark, c.Table = c.Twin.TUN, c.Twin.Mark, c.Twin.Table
	c.Twin = own
	c.Slot ^= 1
	return c
}

// pinned is the value within CTMask of connections that are pinned to the gateway in this
// slot.
func (c *SteerConfig) pinned(s Slot) uint32 {
	lower := c.CTMask & -c.CTMask
	if s == SlotA {
		return lower
	}
	return c.CTMask &^ lower
}

func (c *SteerConfig) checkTwin() error {
	t := &c.Twin
	if n := mathbits.OnesCount32(c.CTMask); n != 0 && n != 2 {
		return fmt.Errorf("the mask of the ct mark, %#x, has %d bits, not two", c.CTMask, n)
	}
	if *t == (Twin{}) {
		return nil
	}
	switch {
	case c.CTMask == 0:
		return errors.New("two gateways need two bits of the ct mark")
	case t.TUN == c.TUN:
		return fmt.Errorf("device %s is that of both gateways", t.TUN)
	case t.Mark == 0 || t.Mark&^c.Mask != 0 || t.Mark == c.Mark:
		return fmt.Errorf("mark %#x of the other gateway must be another one than %#x within the mask %#x", t.Mark, c.Mark, c.Mask)
	case c.ClientSource && (t.Mark == c.ReturnMark || t.Mark == c.SocketMark()):
		return fmt.Errorf("mark %#x of the other gateway is that of answers, %#x, or the one after it", t.Mark, c.ReturnMark)
	case systemTable(t.Table) || t.Table == c.Table || c.ClientSource && t.Table == c.ReturnTable:
		return fmt.Errorf("routing table %d of the other gateway is the kernel's, or one of ours", t.Table)
	}
	return checkName(t.TUN)
}

// chainsOfTwo builds the chains pin and send. Packets that rules lead into the TUN go to
// one of them.
func (b *tableBuilder) chainsOfTwo() {
	b.send, b.pin = b.chain("send"), b.chain("pin")
	own, twin := b.cfg.pinned(b.cfg.Slot), b.cfg.pinned(b.cfg.Slot^1)

	if b.beside {
		// Such a packet belongs to no connection that connection tracking can name. Whoever
		// does not know it would answer with a RST that ends the connection at the other one.
		b.drops(b.send, DropNotSteered, ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitINVALID)))
		// What connection tracking was told to leave alone stays with the older gateway.
		b.rule(b.send, b.setMark(b.cfg.Twin.Mark))
		b.rule(b.send, b.isPinned(own), b.setMark(b.cfg.Mark))
	} else {
		b.rule(b.send, b.setMark(b.cfg.Mark))
	}

	switch {
	case b.cfg.CTMask == 0:
	case b.beside:
		b.rule(b.pin, b.isPinned(0), flags(tcpSYN|tcpACK), equal([]byte{tcpSYN}), b.setPinned(own))
		// Picked up in the middle: connection tracking does not know the connection, so it
		// is older than this gateway, or conntrack -F was called.
		b.rule(b.pin, b.isPinned(0), b.setPinned(twin))
	default:
		b.rule(b.pin, b.pinnedBits(), notEqual(native32(own)), b.setPinned(own))
	}
	b.rule(b.pin, toChain(b.send))
}

func toChain(c *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: c.Name}}
}

// pinnedBits loads our bits of the ct mark. A packet without connection tracking matches
// no rule with it.
func (b *tableBuilder) pinnedBits() []expr.Any {
	return concat(ct(expr.CtKeyMARK), bits(native32(b.cfg.CTMask)))
}

func (b *tableBuilder) isPinned(to uint32) []expr.Any {
	return concat(b.pinnedBits(), equal(native32(to)))
}

// setPinned sets our bits of the ct mark and leaves the others as they are.
func (b *tableBuilder) setPinned(to uint32) []expr.Any {
	return concat(ct(expr.CtKeyMARK), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(^b.cfg.CTMask), Xor: native32(to)},
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
	})
}

// tuns are the devices that captured packets go into.
func (b *tableBuilder) tuns() []string {
	if b.beside {
		return []string{b.cfg.TUN, b.cfg.Twin.TUN}
	}
	return []string{b.cfg.TUN}
}

// marks are the marks of captured packets.
func (b *tableBuilder) marks() []uint32 {
	if b.beside {
		return []uint32{b.cfg.Mark, b.cfg.Twin.Mark}
	}
	return []uint32{b.cfg.Mark}
}

// Join prepares this gateway to take over from the one in the other slot: it sets the rules
// and routes of this slot and changes nothing of the other's. Captured traffic comes only
// after Take. Watch must run from then on.
func Join(cfg SteerConfig, log *zap.Logger) (*Steering, error) {
	s, err := newSteering(cfg, log)
	if err != nil {
		return nil, err
	}
	if err := s.join(); err != nil {
		s.closeSockets()
		return nil, err
	}
	return s, nil
}

func (s *Steering) join() error {
	if s.cfg.Twin == (Twin{}) {
		return errors.New("there is no second slot to take over from")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.findTUN(); err != nil {
		return err
	}
	if err := errors.Join(s.refuseInterfaces(), s.refuseForeign()); err != nil {
		return err
	}
	at, err := s.lookAtInterfaces()
	if err != nil {
		return err
	}
	s.at, s.aside = at, true
	if err := s.refuseUnpinned(at.own); err != nil {
		return err
	}
	_, err = s.ensureRouting()
	return err
}

// Take takes the steering in one transaction: from then on this gateway gets the new
// connections and repairs the nft table. If the other gateway runs, it keeps the
// connections that are pinned to it.
func (s *Steering) Take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the steering is closed")
	}
	beside, err := s.exists(s.cfg.Twin.TUN)
	if err != nil {
		return err
	}
	// Whoever had the steering has noted in the table what it changed.
	s.gro, s.redirects = s.listNoted(groSet), s.listNoted(redirectsSet)
	owned, before := s.owns, s.beside
	s.owns, s.beside, s.aside = true, beside, false
	turn, redirects := s.planGRO(), s.planRedirects(s.at.names)
	if err := s.writeTable(true); err != nil {
		s.owns, s.beside, s.aside = owned, before, !owned
		return err
	}
	s.turnGRO(turn, true)
	s.turnRedirects(redirects, false)
	if _, err := s.ensureRouting(); err != nil {
		return err
	}
	if beside {
		return s.removePlainOfTwin()
	}
	return s.removeStale()
}

// removePlainOfTwin removes the other gateway's rules without a mark: only the one that has the
// steering has such, or the last one. The reverse path filter asks them about what comes from a
// TUN (__fib_validate_source), and the older ones of one preference answer. When their gateway
// ends its TUN goes first, their table says unreachable, and the other's answers are dropped.
func (s *Steering) removePlainOfTwin() error {
	return s.removeRouting(func(r *netlink.Rule) bool { return r.Table != s.cfg.Twin.Table || r.IifName == "" },
		func(*netlink.Route) bool { return true })
}

// Keep makes this gateway the one that has the steering, though Take has failed: Watch writes
// the table as soon as it can.
func (s *Steering) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.owns, s.aside, s.written = true, false, ""
	s.beside, _ = s.exists(s.cfg.Twin.TUN) // repairTwin looks again
}

// ownerSet names in the nft table the device of the gateway that has written it.
const ownerSet = "owner"

// yields says whether the gateway in the other slot has written the table and lives. Both
// believe then that the steering is theirs: one of them was thought dead, and was not. Whoever
// wrote last has it, or else they would repair each other for ever.
func (s *Steering) yields() bool {
	if s.cfg.Twin == (Twin{}) || !slices.Contains(s.listNoted(ownerSet), s.cfg.Twin.TUN) {
		return false
	}
	if there, err := s.exists(s.cfg.Twin.TUN); err != nil || !there {
		return false
	}
	s.owns, s.beside, s.aside = false, false, true
	s.log.Error("the other gateway has taken the steering: this one keeps its own flows and gets no new ones", zap.String("tun", s.cfg.Twin.TUN))
	return true
}

// TwinThere says whether the gateway in the other slot lives: its device is gone with it.
func (s *Steering) TwinThere() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exists(s.cfg.Twin.TUN)
}

// Beside says whether the gateway in the other slot still has connections of its own.
func (s *Steering) Beside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owns && s.beside
}

// Owns says whether this gateway has the steering.
func (s *Steering) Owns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owns
}

// Give gives the steering up: another gateway takes it. This one keeps its own rules and
// routes, and no longer repairs or changes the nft table.
func (s *Steering) Give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owns, s.beside, s.aside = false, false, true
}

// Tidy removes what a process has left in the other slot that has not taken the steering.
func (s *Steering) Tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.owns || s.beside {
		return
	}
	if err := s.removeStale(); err != nil {
		s.failed("remove rules of the other slot", err)
	}
}

// repairTwin makes this gateway the only one when the other one has ended.
func (s *Steering) repairTwin() {
	if !s.owns || !s.beside {
		return
	}
	there, err := s.exists(s.cfg.Twin.TUN)
	if err != nil {
		s.failed("look at the other gateway's TUN", err)
		return
	}
	if there {
		return
	}
	s.beside = false
	err = s.writeTable(true)
	if err == nil {
		err = s.removeStale()
	}
	if err != nil {
		s.beside = true // the next check tries again
		s.failed("take over what was the other gateway's", err)
		return
	}
	s.log.Info("the other gateway has ended: this one has all of the steering", zap.String("tun", s.cfg.Twin.TUN))
}

// lookAside sees whether this gateway, without the steering, is the last one.
func (s *Steering) lookAside() (last bool, err error) {
	if s.owns {
		return false, nil
	}
	there, err := s.exists(s.cfg.Twin.TUN)
	if err == nil {
		last, s.aside = s.aside && !there, there
	}
	return last, err
}

// exists says whether there is a device of this name.
func (s *Steering) exists(name string) (bool, error) {
	if name == "" {
		return false, nil
	}
	_, err := s.rt.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for device %s: %w", name, err)
	}
	return true, nil
}

// OwnAddress is the first IPv4 address of the interfaces, in the network namespace of the
// caller; false if none has one.
func OwnAddress(interfaces ...string) (netip.Addr, bool) {
	for _, name := range interfaces {
		link, err := netlink.LinkByName(name)
		if err != nil {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) == 0 {
			continue
		}
		return netip.AddrFromSlice(addrs[0].IP.To4())
	}
	return netip.Addr{}, false
}
