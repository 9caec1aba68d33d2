package foreign

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// A rule of somebody else that sets the whole mark behind our marking takes our bits away
// from captured packets, or gives them to answers. What is captured is then routed past
// the TUN, where the guard drops it, and answers are routed back into the TUN.

// bits is a 32-bit mark as far as it is known: value is 0 where known is 0.
type bits struct{ value, known uint32 }

// marking is what a walk knows of the packet's mark and of its connection's (pins.go).
type marking struct {
	mark  bits
	ct    bits
	bits  map[uint32]bits // of registers that hold marks, in the current rule
	doubt bool            // the packet may not have come here

	chain string // of the current rule
	rule  uint64

	by       setter // the last rule that has surely set the mark
	replaced bool   // its source is not known

	ctBy       setter // the last rule that has surely set the connection's mark
	ctReplaced bool   // its source is not known
	untracked  setter // the rule that has surely exempted the packet from connection tracking
}

// setter is a rule that sets the mark.
type setter struct {
	chain string
	rule  uint64
}

// follow notes what an expression does to the mark. match says whether the rule has
// matched so far. It is called before the registers are changed.
func (w *walk) follow(match certainty, e expr.Any) {
	m := &w.marking
	switch e := e.(type) {
	case *expr.Meta:
		switch {
		case e.SourceRegister && e.Key == expr.MetaKeyMARK:
			w.setMark(match, w.bitsOf(e.Register))
		case e.SourceRegister:
		case e.Key == expr.MetaKeyMARK:
			m.bits[e.Register] = m.mark
		default:
			m.bits[e.Register] = bits{}
		}
	case *expr.Ct:
		switch {
		case e.SourceRegister && e.Key == expr.CtKeyMARK:
			w.setCTMark(match, w.bitsOf(e.Register))
		case e.SourceRegister:
		case e.Key == expr.CtKeyMARK:
			m.bits[e.Register] = m.ct
		default:
			m.bits[e.Register] = bits{}
		}
	case *expr.Notrack:
		w.notrack(match)
	case *expr.Bitwise:
		if len(e.Mask) != 4 || len(e.Xor) != 4 {
			delete(m.bits, e.DestRegister)
			return
		}
		was, mask, xor := w.bitsOf(e.SourceRegister), binary.NativeEndian.Uint32(e.Mask), binary.NativeEndian.Uint32(e.Xor)
		m.bits[e.DestRegister] = newBits(was.value&mask^xor, was.known|^mask)
	case *expr.Immediate:
		delete(m.bits, e.Register)
	case *expr.Target:
		w.xtMark(match, e)
	case *expr.Cmp, *expr.Counter, *expr.Log, *expr.Match, *expr.Verdict:
	default: // it may have written any register
		clear(m.bits)
	}
}

func newBits(value, known uint32) bits { return bits{value & known, known} }

// bitsOf is the content of a register as a mark.
func (w *walk) bitsOf(register uint32) bits {
	if v := w.regs[register]; len(v) == 4 {
		return newBits(binary.NativeEndian.Uint32(v), ^uint32(0))
	}
	return w.marking.bits[register]
}

// setMark gives the packet a mark, if it has surely come here.
func (w *walk) setMark(match certainty, b bits) {
	m := &w.marking
	if match != yes || m.doubt {
		m.mark = newBits(m.mark.value, m.mark.known&b.known&^(m.mark.value^b.value))
		m.replaced = false
		return
	}
	m.mark, m.by = b, setter{m.chain, m.rule}
	m.replaced = b.known&w.from.Mask == 0
}

// xtMark follows the targets of iptables-nft that change a mark, or connection tracking:
// struct xt_mark_tginfo2 of linux/netfilter/xt_mark.h, struct xt_connmark_tginfo1 and 2 of
// linux/netfilter/xt_connmark.h, struct xt_ct_target_info of linux/netfilter/xt_CT.h.
func (w *walk) xtMark(match certainty, e *expr.Target) {
	if e.Name == "NOTRACK" { // it has nothing to say
		w.notrack(match)
		return
	}
	info, ok := e.Info.(*xt.Unknown)
	if !ok {
		return
	}
	word := func(at int) uint32 { return binary.NativeEndian.Uint32((*info)[at:]) }
	was := w.marking.mark
	switch {
	case e.Name == "MARK" && e.Rev == 2 && len(*info) >= 8:
		value, mask := word(0), word(4)
		w.setMark(match, newBits(was.value&^mask^value, was.known|mask))
	case e.Name == "CONNMARK" && e.Rev == 1 && len(*info) >= 13:
		w.xtConnmark(match, (*info)[12], word(0), word(4), word(8))
	case e.Name == "CONNMARK" && e.Rev == 2 && len(*info) >= 15:
		if (*info)[13] != 0 { // bits are shifted: where they come to is not followed
			match = min(match, maybe)
		}
		w.xtConnmark(match, (*info)[14], word(0), word(4), word(8))
	case e.Name == "CT" && len(*info) >= 2 && binary.NativeEndian.Uint16(*info)&1 != 0: // XT_CT_NOTRACK
		w.notrack(match)
	}
}

// The modes of CONNMARK (linux/netfilter/xt_connmark.h).
const (
	connmarkSet = iota
	connmarkSave
	connmarkRestore
)

// xtConnmark follows CONNMARK (connmark_tg_shift of net/netfilter/xt_connmark.c).
func (w *walk) xtConnmark(match certainty, mode byte, ctmark, ctmask, nfmask uint32) {
	m := &w.marking
	switch mode {
	case connmarkSet:
		w.setCTMark(match, newBits(m.ct.value&^ctmask^ctmark, m.ct.known|ctmask))
	case connmarkSave:
		w.setCTMark(match, newBits(m.ct.value&^ctmask^m.mark.value&nfmask, (m.ct.known|ctmask)&(m.mark.known|^nfmask)))
	case connmarkRestore:
		w.setMark(match, newBits(m.mark.value, m.mark.known&^nfmask))
	}
}

// marks says whether a base chain may come to packets behind our marking. NAT chains see
// only the first packet of a connection.
func (l *look) marks(c *nftables.Chain) bool {
	return c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookPrerouting && priorityOf(c) >= l.Steer &&
		(c.Type == nftables.ChainTypeFilter || c.Type == nftables.ChainTypeNAT)
}

// remarks walks a base chain with each packet whose mark decides on its way.
func (l *look) remarks(c *nftables.Chain, family byte) (*Finding, error) {
	ports := l.walked()
	var packets []path
	for _, ifc := range l.Interfaces {
		for _, port := range ports {
			packets = append(packets, l.pair(c, family, ifc, port)...)
		}
	}
	packets = append(packets, l.others(c, family, ports)...)
	for _, packet := range packets {
		if c.Type == nftables.ChainTypeNAT && packet.reply {
			continue
		}
		w := l.walk(c, &packet)
		w.marking.mark = newBits(l.marked(&packet), l.Mask)
		got, err := w.base(c)
		if err != nil {
			return nil, err
		}
		if m := &w.marking; got != dropped && m.by.rule != 0 && l.misled(&packet, m) {
			return l.remarked(c, &packet, m), nil
		}
	}
	return nil, nil
}

// marked is the mark that a packet has from us.
func (l *look) marked(p *path) uint32 {
	switch {
	case p.answersUs():
		return l.ReturnMark
	case p.reply:
		return 0
	}
	return l.Mark
}

// misled says whether a packet that had the right mark goes elsewhere now.
func (l *look) misled(p *path, m *marking) bool {
	value, known := m.mark.value&l.Mask, m.mark.known&l.Mask
	if p.reply && !p.answersUs() {
		return known == l.Mask && (value == l.Mark || l.ReturnMark != 0 && value == l.ReturnMark)
	}
	return m.replaced || value != l.marked(p)&known
}

func (l *look) remarked(c *nftables.Chain, p *path, m *marking) *Finding {
	what, harm := "IPv4", "it is routed past the TUN"
	if p.family == unix.NFPROTO_IPV6 {
		what = "IPv6"
	}
	fatal := p.family == unix.NFPROTO_IPV4 && priorityOf(c) > l.Steer
	switch {
	case p.answersUs():
		harm = "it does not come to its socket"
	case p.reply:
		harm = "it is routed as if a client had sent it"
	case l.ByPort: // a rule by interface and port leads the rest there
		fatal, harm = false, "other rules may lead it past the TUN, and ICMP errors about it are lost"
	}
	fix := ""
	if c.Type == nftables.ChainTypeFilter { // to accept in a NAT chain would skip the NAT
		fix = l.fix(c, &loss{path: *p})
	}
	return &Finding{
		Interface: p.iif,
		Text: fmt.Sprintf("the rule with handle %d in chain %s of table %s %s sets the whole firewall mark of %s %s, behind sslgate's chain (chain %s has priority %d): %s. Let the rule leave the bits %#x alone: nft `meta mark set meta mark & %#x | VALUE`, iptables `--set-xmark VALUE/%#x`",
			m.by.rule, m.by.chain, nftname.Family(c.Table.Family), c.Table.Name, what, p.what, c.Name, priorityOf(c), harm, l.Mask, l.Mask, ^l.Mask),
		Fix: fix, Fatal: fatal,
	}
}
