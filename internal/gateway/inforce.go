package gateway

import (
	"context"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// This file handles flows that meet a reload on their way. Before its hello is read,
// nothing about a flow is decided, and it takes the new settings as a whole. From then on
// it keeps the parameters of its rule. Whether it is let through is asked of both sets, and
// the new set's answer counts. So no flow begins to relay by a policy that is no longer in
// force. The setting reload.live does not change that: it is about flows that relay already.

// renew takes the settings that are in force now.
func (fl *flow) renew() {
	now := fl.g.current.Load()
	fl.set, fl.judged, fl.limits, fl.shadow = now.set, now.set, now.limits, now.shadow
	fl.trust = now.set.Trust()
	fl.out.policy = fl.set.ID()
}

// judgePeer judges the client's leg by the flow's own set, and by the set in force if
// that is another one.
func (fl *flow) judgePeer(ctx context.Context, plan *policy.Plan, peer *handshake.Peer, state *handshake.State) policy.Verdict {
	facts := fl.facts
	facts.Peer, facts.State = peer, state
	v := fl.withRevocation(ctx, plan, peer, fl.set.OnPeer(plan, facts))
	if now := fl.g.current.Load().set; v.Action == policy.Terminate && (now != fl.set || now.Trust() != fl.trust) {
		if d := fl.redecide(ctx, now, facts, v.Action); d.Verdict.Action != policy.Terminate {
			fl.out.policy, fl.out.said.rule = d.Verdict.SetID, d.Verdict.Rule
			return d.Verdict
		}
	}
	return v
}

// redecide asks another set about a flow that is to go on with the action was. If the
// flow must not go on, the verdict is a refusal.
func (fl *flow) redecide(ctx context.Context, set *policy.Set, facts policy.Facts, was policy.Action) policy.Decision {
	facts.Now = fl.g.now()
	d := set.Redecide(facts)
	if d.Verdict.Action == policy.Terminate {
		d.Verdict = fl.withRevocation(ctx, d.Verdict.Plan, d.Facts.Peer, d.Verdict)
	}
	v := &d.Verdict
	switch {
	case !d.Decided:
		*v = policy.Verdict{
			Reason: reason.PolicyChanged, Alert: handshake.AlertOf(reason.PolicyChanged), SetID: v.SetID,
			Detail: "the new policy waits for a client hello, and this connection was decided without one",
		}
	case !d.Keeps(was) && v.Action != policy.Deny:
		*v = policy.Verdict{
			Rule: v.Rule, Reason: reason.PolicyChanged, Alert: handshake.AlertOf(reason.PolicyChanged), SetID: v.SetID,
			Detail: "the new policy would " + v.Action.String() + " this connection",
		}
	}
	return d
}

// grant lets the flow through. It returns false, with the flow ended, if a reload has put
// a policy in force that refuses it.
func (fl *flow) grant(ctx context.Context, v policy.Verdict) bool {
	fl.live.grant(v, fl.facts)
	return fl.inForce(ctx)
}

// connected asks the policy again, now that the facts include the connection to the
// destination.
func (fl *flow) connected(ctx context.Context) bool {
	fl.live.connected(fl.facts.Upstream)
	if fl.judged != fl.set {
		fl.judged = nil // it was asked before there was a destination to be judged
	}
	return fl.inForce(ctx)
}

// inForce checks a granted flow against the policy in force, until that is the set that
// was asked last. The order matters: a reload stores its set first and looks at granted
// flows afterwards, so the reload or the flow always sees the other.
func (fl *flow) inForce(ctx context.Context) bool {
	for {
		now := fl.g.current.Load().set
		trust := now.Trust() // before it is asked: what changes meanwhile is asked about again
		if now == fl.judged && trust == fl.trust {
			return true
		}
		d := fl.redecide(ctx, now, fl.facts, fl.verdict.Action)
		if d.Verdict.Action == policy.Deny {
			fl.live.takeBack()
			fl.note(d.Verdict)
			fl.out.policy = d.Verdict.SetID
			fl.client.Reset()
			return false
		}
		fl.judged, fl.trust = now, trust
		fl.live.Regrant(d.Verdict, d.Facts)
	}
}

// upstream returns what the facts hold about a connection made by a plan.
func upstream(plan *policy.Plan, s *handshake.Session) *policy.Upstream {
	up := &policy.Upstream{ProxyV2: plan.ProxyV2, Source: plan.Source, Port: plan.Port}
	if s != nil {
		up.Peer, up.State = s.Peer, &s.State
	}
	return up
}
