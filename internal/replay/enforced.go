package replay

import (
	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// Known says whether this version has the reason and the action of a record. What another one
// has let through by an action of its own, no policy here can decide as it was.
func Known(p *audit.Parsed) bool {
	_, ok := reason.Lookup(reason.Code(p.Reason))
	_, action := actionOf(p.Action)
	return ok && action
}

// actionOf is the action of a record; ok is false for one that this version does not have.
func actionOf(word string) (a policy.Action, ok bool) {
	for _, a := range []policy.Action{policy.Terminate, policy.Bypass, policy.Originate, policy.Deny} {
		if word == a.String() {
			return a, true
		}
	}
	return policy.Deny, word == ""
}

// Enforced is the last word that the policy had about the flow of a record; false where it
// had none, because somebody else ended the flow before.
func Enforced(p *audit.Parsed) (policy.Verdict, bool) {
	code := reason.Code(p.Reason)
	v := policy.Verdict{Rule: p.Rule, Reason: code, Would: policy.Would{Deny: p.Would != ""}}
	e, ok := reason.Lookup(code)
	if !ok {
		return v, false
	}
	if v.Action, ok = actionOf(p.Action); !ok {
		return v, false
	}
	switch {
	case e.Kind == reason.Allowed:
		return v, v.Action.Lets()
	case v.Action == policy.Bypass, v.Action == policy.Originate:
		return v, true // the destination, or something later, has failed
	case v.Action == policy.Terminate && e.Step == int(handshake.StepApplicationData):
		return v, true
	}
	letThrough := v.Action == policy.Terminate
	v.Action = policy.Deny
	return v, decides(code, e.Step, letThrough, p.Rule)
}
