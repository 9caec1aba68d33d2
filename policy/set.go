package policy

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Set is a compiled policy. It is immutable and safe for concurrent use. A nil
// Set, and the zero value, deny everything. A flow keeps the Set it began
// with: a Plan is only good for the Set that made it.
//
// The walk of one flow:
//
//  1. OnSYN goes down the rules by address alone and stops at the first that
//     fits. Does that one ask for more than addresses, the answer is open.
//  2. OnHello goes down them again, now with every selector, and the first
//     that fits is the flow's rule: whatever comes after cannot change that.
//  3. OnPeer and OnDestination judge certificates by that rule.
type Set struct {
	id    string
	rules []*rule
	// alerts is reason's list by code: the packet path refuses many SYNs.
	alerts map[reason.Code]handshake.Alert
}

// ID is the digest of everything compiled: 16 hex digits, "" for a nil Set.
// Equal policies with equal certificates have equal ids.
func (s *Set) ID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// OnSYN decides on addresses alone. It is decided if the first rule whose
// addresses fit needs nothing else to bypass or deny, or if none fits. Where
// decided is false the answer depends on the client hello, and the Verdict is
// a refusal for want of one. It does not block and does not allocate.
func (s *Set) OnSYN(f Facts) (v Verdict, decided bool) {
	src, dst, v, ok := s.addresses(f)
	if !ok {
		return v, true
	}
	for _, r := range s.rules {
		switch r.match(src, dst, nil) {
		case selNone:
			if r.action == Terminate {
				return s.refuse("", reason.Internal, "not decided without the client hello"), false
			}
			return s.letOrDeny(r), true
		case selHello:
			return s.refuse("", reason.Internal, "not decided without the client hello"), false
		default: // the addresses do not fit
		}
	}
	return s.refuse("", reason.NoRule, ""), true
}

// OnHello picks the rule: the first whose selectors fit. Terminate and Bypass
// come with a Plan; Deny comes with the alert that can still be sent in
// plaintext, and with the rule if it was the rule's profile that the hello
// could not meet. The Reason of Terminate is empty, for nobody is verified
// yet. It does not allocate unless it denies.
func (s *Set) OnHello(f Facts) Verdict {
	src, dst, v, ok := s.addresses(f)
	if !ok {
		return v
	}
	if f.Hello == nil {
		return s.refuse("", reason.Internal, "no client hello")
	}
	var bySNI, byALPN bool // a rule that could let it through failed at this alone
	for _, r := range s.rules {
		switch r.match(src, dst, f.Hello) {
		case selNone:
			if r.action == Terminate {
				return s.terminate(r, f.Hello)
			}
			return s.letOrDeny(r)
		case selSNI:
			bySNI = bySNI || r.action != Deny
		case selALPN:
			byALPN = byALPN || r.action != Deny
		default: // the addresses do not fit
		}
	}
	switch {
	case byALPN:
		return s.refuse("", reason.NoALPN, "offered"+quoted(f.Hello.ALPN))
	case !bySNI:
		return s.refuse("", reason.NoRule, "")
	case !f.Hello.SNIPresent:
		return s.refuse("", reason.SNIMissing, "")
	case f.Hello.SNIInvalid:
		return s.refuse("", reason.SNIInvalid, "")
	}
	return s.refuse("", reason.SNIUnknown, clip(f.Hello.ServerName))
}

// OnPeer judges the client's certificate (f.Peer, nil where none was shown)
// by the rule that made p. Terminate means that the rule has no objection; it
// grants nothing while the peer is not proven.
func (s *Set) OnPeer(p *Plan, f Facts) Verdict {
	if s == nil || p == nil || p.rule == nil || p.set != s || p.rule.action != Terminate {
		return s.refuse("", reason.Internal, "no plan of this policy set")
	}
	r := p.rule
	if f.Peer == nil {
		switch r.auth {
		case handshake.ClientAuthOptional:
			return s.allow(r, Terminate, reason.OKNoCertificate)
		case handshake.ClientAuthNone:
			return s.allow(r, Terminate, reason.OKNotAsked)
		default:
			return s.refuse(r.name, reason.NoCertificate, "")
		}
	}
	if r.auth != handshake.ClientAuthRequired && r.auth != handshake.ClientAuthOptional {
		return s.refuse(r.name, reason.Internal, "a certificate that the rule does not ask for")
	}
	permits, v, ok := s.permitsOf(r, r.authorities, f.Peer, reason.UnknownCA)
	if !ok {
		return v
	}
	c, err := readClaims(f.Peer)
	if err != nil {
		return s.refuse(r.name, reason.BadCertificate, err.Error())
	}
	if name := permits.refusal(&c.names); name != "" {
		return s.refuse(r.name, reason.AuthorityNotNamed, "authority "+f.Peer.Authority+" may not speak for "+name)
	}
	if len(r.allow) > 0 && !slices.ContainsFunc(r.allow, func(a alternative) bool { return a.refusal(c) == "" }) {
		return s.refuse(r.name, reason.NotAllowed, refusals(r.allow, c))
	}
	return s.allow(r, Terminate, reason.OK)
}

// OnDestination judges the destination's certificate: the authority it leads
// to must be one of the rule's, and permitted to speak for the name that the
// certificate was verified for. Terminate means that the rule has no objection.
func (s *Set) OnDestination(p *Plan, f Facts, destination *handshake.Peer) Verdict {
	if s == nil || p == nil || p.rule == nil || p.set != s || p.rule.action != Terminate {
		return s.refuse("", reason.Internal, "no plan of this policy set")
	}
	r := p.rule
	name, err := p.verifyName(f)
	if err != nil {
		return s.refuse(r.name, reason.Internal, err.Error())
	}
	if destination == nil {
		return s.refuse(r.name, reason.UpstreamBadCert, "the destination showed no certificate")
	}
	permits, v, ok := s.permitsOf(r, r.destination, destination, reason.UpstreamUnknownCA)
	if !ok {
		return v
	}
	if permits != nil && !permits.permitsName(name) {
		return s.refuse(r.name, reason.UpstreamUnknownCA, "authority "+destination.Authority+" may not speak for "+clip(name))
	}
	return s.allow(r, Terminate, reason.OK)
}

// permitsOf finds the authority of a verified peer among those of a rule.
func (s *Set) permitsOf(r *rule, list []authority, peer *handshake.Peer, unknown reason.Code) (*permits, Verdict, bool) {
	if len(peer.Shown) == 0 || peer.Shown[0] == nil || len(peer.Chain) == 0 {
		return nil, s.refuse(r.name, reason.Internal, "a certificate whose chain was not verified"), false
	}
	for _, a := range list {
		if a.Name == peer.Authority {
			return a.permits, Verdict{}, true
		}
	}
	return nil, s.refuse(r.name, unknown, "authority "+strconv.Quote(peer.Authority)+" is none of the rule's"), false
}

// addresses are those of the flow, unmapped; where it is not ok, v says why.
func (s *Set) addresses(f Facts) (src, dst netip.AddrPort, v Verdict, ok bool) {
	if s == nil {
		return src, dst, s.refuse("", reason.Internal, "no policy"), false
	}
	src, ok1 := unmap(f.Src)
	dst, ok2 := unmap(f.Dst)
	if !ok1 || !ok2 {
		return src, dst, s.refuse("", reason.BadPacket, "an address is missing or has a zone"), false
	}
	return src, dst, v, true
}

// terminate checks that the hello can meet the rule's profile at all, while
// every alert can still be sent.
func (s *Set) terminate(r *rule, hello *handshake.ClientHello) Verdict {
	if e := hello.Acceptable(r.plan.Client.Profile); e != nil {
		return Verdict{Action: Deny, Rule: r.name, Reason: e.Reason, Detail: e.Detail, Alert: e.Wanted, SetID: s.id}
	}
	return s.allow(r, Terminate, "")
}

// letOrDeny answers for a rule that does not terminate. An action that is not
// known denies.
func (s *Set) letOrDeny(r *rule) Verdict {
	if r.action == Bypass {
		return s.allow(r, Bypass, reason.Bypassed)
	}
	return s.refuse(r.name, reason.RuleDeny, "")
}

func (s *Set) allow(r *rule, a Action, code reason.Code) Verdict {
	return Verdict{Action: a, Rule: r.name, Reason: code, Alert: handshake.AlertNone, Plan: &r.plan, SetID: s.id}
}

func (s *Set) refuse(rule string, code reason.Code, detail string) Verdict {
	return Verdict{Action: Deny, Rule: rule, Reason: code, Detail: detail, Alert: s.alert(code), SetID: s.ID()}
}

func (s *Set) alert(code reason.Code) handshake.Alert {
	if s != nil {
		if a, ok := s.alerts[code]; ok {
			return a
		}
	}
	return handshake.AlertOf(code)
}
