package gateway

import (
	"fmt"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// OnSYN is the first of the three decisions: the caps of the stack, then the policy. It runs
// on the packet path and neither blocks nor writes; it queues a refusal for Run.
func (g *Gateway) OnSYN(s stack.SYN) stack.SYNAnswer {
	if g.draining.Load() {
		g.refuseSYN(s, policy.Verdict{Reason: reason.Draining}, nil)
		return stack.SYNReset
	}
	if s.NotTaken {
		detail := fmt.Sprintf("port %d is not in capture.ports: behind a DNAT both ports belong there, that which the client dials and that which it is changed to", s.Dst.Port())
		g.refuseSYN(s, policy.Verdict{Reason: reason.PortNotCaptured, Detail: detail}, nil)
		return stack.SYNReset
	}
	switch s.Full {
	case stack.FullNot:
	case stack.FullClient:
		g.refuseSYN(s, policy.Verdict{Reason: reason.ClientLimit}, nil)
		return stack.SYNReset
	default:
		g.refuseSYN(s, policy.Verdict{Reason: reason.FlowLimit}, nil)
		return stack.SYNReset
	}
	if g.noMemoryFor(s.Src.Addr()) {
		g.refuseSYN(s, policy.Verdict{Reason: reason.MemoryLimit}, nil)
		return stack.SYNReset
	}
	if g.audit.Refusing() {
		g.refuseSYN(s, policy.Verdict{Reason: reason.AuditUnavailable}, nil)
		return stack.SYNReset
	}
	if g.stale() {
		g.refuseSYN(s, policy.Verdict{Reason: reason.FleetStale}, nil)
		return stack.SYNReset
	}
	now := g.current.Load()
	facts := policy.Facts{Now: s.At, Src: s.Src, Dst: s.Dst}
	if g.localOut { // else no client is on this host
		direction, err := g.direction(s.Src.Addr(), s.Dst.Addr())
		if err != nil { // a rule for programs alone must neither be lent nor got around
			g.refuseSYN(s, policy.Verdict{Reason: reason.Internal, Detail: err.Error()}, nil)
			return stack.SYNReset
		}
		facts.Local = direction == audit.LocalOut
	}
	v, decided := now.set.OnSYN(facts)
	if !decided || v.Action.Lets() || g.mayValidate(v, s.Src, s.Dst) {
		return stack.SYNPass
	}
	g.refuseSYN(s, v, judge(now.shadow, v, facts))
	return stack.SYNReset
}

func (g *Gateway) refuseSYN(s stack.SYN, v policy.Verdict, shadow *audit.Shadow) {
	g.refusals.syn(s.Src.Addr(), g.current.Load().limits, func() *audit.Record {
		r := audit.NewRecord(g.registry.nextID(), s.At, s.Src, s.Dst)
		r.Direction, _ = g.direction(s.Src.Addr(), s.Dst.Addr())
		r.Policy, r.Rule, r.Reason, r.Detail = v.SetID, v.Rule, v.Reason, v.Detail
		r.CRLs, r.Shadow = g.crls(), shadow
		// The answer is a RST: no TLS was spoken, so no alert is wanted.
		r.AlertWanted = handshake.AlertNone
		return r
	})
}
