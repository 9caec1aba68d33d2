package foreign

import (
	"bytes"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// outcome is a set of the possible fates of a packet in a chain.
type outcome uint8

const (
	accepted outcome = 1 << iota
	dropped
	fallen // the packet comes to the end of the chain, or returns
)

// certainty is whether a rule, or an expression of it, matches.
type certainty uint8

const (
	no certainty = iota
	maybe
	yes
)

// walk leads one packet through the chains of a table.
type walk struct {
	from   *look
	packet *path
	table  *nftables.Table
	done   map[string]outcome // chains that were walked
	regs   map[uint32][]byte  // known values of registers, in the current rule

	wayBack bool // some rule depended on the way back to the packet's source
	marking marking
}

func (l *look) walk(c *nftables.Chain, packet *path) *walk {
	return &walk{from: l, packet: packet, table: c.Table, done: map[string]outcome{}, regs: map[uint32][]byte{},
		marking: marking{bits: map[uint32]bits{}}}
}

// base walks a base chain.
func (w *walk) base(c *nftables.Chain) (outcome, error) {
	got, err := w.chain(c.Name)
	if got&fallen != 0 {
		got &^= fallen
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			got |= dropped
		} else {
			got |= accepted
		}
	}
	return got, err
}

// chain walks a chain. Jumps cannot form a circle; the kernel prevents that.
func (w *walk) chain(name string) (outcome, error) {
	if got, ok := w.done[name]; ok {
		return got, nil
	}
	rules, err := w.from.rulesOf(w.table, name)
	if err != nil {
		return 0, err
	}
	var all outcome
	for _, r := range rules {
		if w.from.left -= 1 + len(r.exprs); w.from.left < 0 {
			w.from.short = true
			return 0, errTooMany
		}
		w.marking.chain, w.marking.rule = name, r.handle
		match, then, err := w.rule(r.exprs)
		if err != nil {
			return 0, err
		}
		if match == no || then == fallen {
			continue
		}
		w.marking.doubt = w.marking.doubt || match == maybe || then&fallen != 0 && then&^returns != fallen
		goes := then&returns != 0 // the rule ends the chain for what matches
		then &^= returns
		if goes {
			all |= then
		} else {
			all |= then &^ fallen
		}
		if match == yes && (goes || then&fallen == 0) {
			w.done[name] = all
			return all, nil
		}
	}
	all |= fallen
	w.done[name] = all
	return all, nil
}

// returns is set beside an outcome of a rule if a fallen packet has left the rule's chain
// too: after return and goto.
const returns outcome = 1 << 7

// rule says whether a rule matches and the outcome then; fallen means that the packet
// goes on to the next rule.
func (w *walk) rule(r []expr.Any) (certainty, outcome, error) {
	regs := w.regs
	clear(regs)
	clear(w.marking.bits)
	match := yes
	for _, e := range r {
		var got certainty
		w.follow(match, e)
		switch e := e.(type) {
		case *expr.Verdict:
			then, err := w.verdict(match, e)
			return match, then, err
		case *expr.Reject:
			return match, dropped, nil
		case *expr.Target:
			return match, target(e.Name), nil
		case *expr.Queue:
			return match, accepted | dropped, nil
		case *expr.Lookup:
			c, verdict := w.lookup(regs, e)
			if verdict != nil {
				match = min(match, c)
				then, err := w.verdict(match, verdict)
				return match, then, err
			}
			got = c
		default:
			got = w.match(regs, e)
		}
		if match = min(match, got); match == no {
			return no, fallen, nil
		}
	}
	return match, fallen, nil
}

func (w *walk) verdict(match certainty, v *expr.Verdict) (outcome, error) {
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictStop:
		return accepted, nil
	case expr.VerdictDrop:
		return dropped, nil
	case expr.VerdictReturn:
		return fallen | returns, nil
	case expr.VerdictJump:
		return w.jump(match, v.Chain)
	case expr.VerdictGoto:
		got, err := w.jump(match, v.Chain)
		return got | returns, err
	case expr.VerdictContinue, expr.VerdictBreak:
		return fallen, nil
	}
	return accepted | dropped | fallen, nil
}

// jump walks a chain that a rule leads to.
func (w *walk) jump(match certainty, name string) (outcome, error) {
	before := w.marking.doubt
	w.marking.doubt = before || match == maybe
	got, err := w.chain(name)
	if match == maybe && got == fallen { // all of it comes back
		w.marking.doubt = before
	}
	return got, err
}

// target is the outcome of a target of iptables-nft.
func target(name string) outcome {
	switch name {
	case "ACCEPT":
		return accepted
	case "DROP", "REJECT":
		return dropped
	case "NFQUEUE", "SYNPROXY":
		return accepted | dropped
	}
	return fallen // LOG, MARK, TCPMSS, ...
}

// match evaluates an expression that loads a register or compares one. An unknown value
// leaves the register unknown, and a comparison with an unknown register is a maybe.
func (w *walk) match(regs map[uint32][]byte, e expr.Any) certainty {
	switch e := e.(type) {
	case *expr.Meta:
		if !e.SourceRegister {
			set(regs, e.Register, w.packet.meta(e.Key))
		}
	case *expr.Ct:
		if !e.SourceRegister {
			set(regs, e.Register, w.packet.ct(e.Key))
		}
	case *expr.Payload:
		set(regs, e.DestRegister, w.packet.payload(e))
	case *expr.Bitwise:
		set(regs, e.DestRegister, bitwise(regs[e.SourceRegister], e))
	case *expr.Immediate:
		set(regs, e.Register, e.Data)
	case *expr.Cmp:
		return compare(regs[e.Register], e)
	case *expr.Match:
		got := w.packet.xtables(e)
		w.wayBack = w.wayBack || e.Name == "rpfilter" && got != maybe
		return got
	case *expr.Counter, *expr.Log, *expr.Notrack, *expr.FlowOffload:
	case *expr.Fib:
		v := w.packet.fib(e)
		w.wayBack = w.wayBack || v != nil
		set(regs, e.Register, v)
	default: // nil (an unknown expression), a limit, a quota, a change of a set (ends the rule if the set is full), and all others
		clear(regs)
		return maybe
	}
	return yes
}

func set(regs map[uint32][]byte, r uint32, v []byte) {
	if v == nil {
		delete(regs, r)
		return
	}
	regs[r] = v
}

func bitwise(v []byte, e *expr.Bitwise) []byte {
	if len(v) < len(e.Mask) || len(e.Mask) != len(e.Xor) || len(e.Mask) == 0 {
		return nil
	}
	out := make([]byte, len(e.Mask))
	for i := range out {
		out[i] = v[i]&e.Mask[i] ^ e.Xor[i]
	}
	return out
}

func compare(v []byte, e *expr.Cmp) certainty {
	if len(v) < len(e.Data) {
		return maybe // or the value is not known
	}
	// Shorter data is a prefix: the "eth+" of iptables.
	c := bytes.Compare(v[:len(e.Data)], e.Data)
	switch e.Op {
	case expr.CmpOpEq:
		return sure(c == 0)
	case expr.CmpOpNeq:
		return sure(c != 0)
	case expr.CmpOpLt:
		return sure(c < 0)
	case expr.CmpOpLte:
		return sure(c <= 0)
	case expr.CmpOpGt:
		return sure(c > 0)
	case expr.CmpOpGte:
		return sure(c >= 0)
	}
	return maybe
}

func sure(b bool) certainty {
	if b {
		return yes
	}
	return no
}

// setContent is the content of a set as far as a walk understands it.
type setContent struct {
	known    bool // all elements are single values
	length   int  // of each element, bytes
	elements map[string]*expr.Verdict
}

// lookup evaluates a lookup. If the set is a verdict map, the verdict found decides.
func (w *walk) lookup(regs map[uint32][]byte, e *expr.Lookup) (certainty, *expr.Verdict) {
	s := w.from.setOf(w.table, e.SetName)
	key, ok := regs[e.SourceRegister]
	verdicts := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT
	if e.IsDestRegSet && !verdicts {
		delete(regs, e.DestRegister)
	}
	if !ok || !s.known {
		if verdicts { // any verdict of the map is possible
			return maybe, &expr.Verdict{Kind: expr.VerdictQueue}
		}
		return maybe, nil
	}
	verdict, in := s.elements[string(key)]
	switch {
	case s.length != len(key) && verdicts: // for example a concatenation
		return maybe, &expr.Verdict{Kind: expr.VerdictQueue}
	case s.length != len(key):
		return maybe, nil
	case verdicts && !in:
		return no, nil
	case verdicts && verdict == nil:
		return maybe, &expr.Verdict{Kind: expr.VerdictQueue}
	case verdicts:
		return yes, verdict
	}
	return sure(in != e.Invert), nil
}
