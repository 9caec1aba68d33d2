package policy

import (
	"fmt"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/upgrade"
)

// originate compiles a rule whose clients speak without TLS. It is decided by the first
// packet: such a client shows nothing by which it could be told from another, but its
// address. So the rule must say for whom it lends our identity.
func (c *compiler) originate(at scope, r *rule, spec *RuleSpec) {
	if spec.From == nil && !spec.Local {
		at.errorf("from", `action originate needs "from", or "local" for programs of this host: it makes TLS connections, with the rule's identity, for whoever can send a packet, and of such a client nothing is known but its address`)
	}
	for _, f := range []struct {
		name, why string
		set       bool
	}{
		{"sni", "a client that speaks without TLS names no server", spec.SNI != nil},
		{"alpn_offered", "a client that speaks without TLS offers no protocol", spec.ALPNOffered != nil},
		{"identity", "the client is shown no certificate; what the destination is shown is destination.identity", spec.Identity != ""},
		{"profile", "there is no TLS with the client; the one with the destination is destination.profile", spec.Profile != ""},
		{"client", "a client that speaks without TLS shows nothing that could be looked at", spec.Client.Certificate != "" || spec.Client.Authorities != nil || spec.Client.Allow != nil || spec.Client.When != "" || spec.Client.OnRevoked != ""},
		{"destination.dial", "nobody is verified before the destination", spec.Destination.Dial != ""},
	} {
		if f.set {
			at.errorf(f.name, "with action originate this cannot be kept: %s", f.why)
		}
	}
	if len(spec.ALPN) > 0 { // [] says that none is meant
		r.plan.Offered = protocols(at, "alpn", spec.ALPN)
	}
	dest := at.in("destination")
	port := spec.Destination.ToPort
	if port < 0 || port > 65535 {
		dest.errorf("to_port", "%d is no port: 1 to 65535", port)
	} else {
		r.plan.Port = uint16(port)
	}
	profile, known := c.profile(at, "profile", "", DefaultProfile)
	if !known {
		return // a profile that sslgate has itself
	}
	leg := spec.Destination
	leg.Dial = "" // said above
	c.destination(dest, r, &leg, &handshake.Params{Profile: profile, Ledger: ledgerMode(at, spec.Ledger)}, nil)
	if p := r.plan.DestUpgrade; p != upgrade.None && spec.ALPN == nil {
		r.plan.Offered = []string{p.ALPN()}
	}
	if r.plan.dest != nil {
		r.plan.dest.ALPN = r.plan.Offered
	}
	if spec.Destination.TLS == TLSVerify.String() && spec.Destination.Name == "" {
		dest.warnf("name", "the client names no server, so the destination's certificate must be for the address that it dials; name says for what it must be instead")
	}
}

// waitsForHello warns where a rule that originates never decides: an earlier one that fits
// the same flows waits for a client hello, which such a client does not send.
func (c *compiler) waitsForHello() {
	s := c.search("rules that wait for a client hello before one that originates")
	defer s.done()
	for i, r := range c.set.rules {
		if r.action != Originate || !c.whole[i].selectors {
			continue
		}
		var before []other
		v := c.meeting(r)
		for j := range v.all() {
			first := c.set.rules[j]
			if j >= i || len(before) >= maxAround || !s.compare(r.pairs(first)) {
				break
			}
			if (first.needsHello() || first.action == Terminate) && c.whole[j].selectors && r.meets(first) {
				before = append(before, other{j, first.name, ""})
			}
		}
		if len(before) > 0 {
			c.list.WarnAlso(fmt.Sprintf("rules[%d]", i), placesOf(before),
				"rule %q is for clients that speak without TLS, and %s before it waits for a client hello where both fit: such a client ends there with hello_timeout; put %q first, or give them addresses of their own",
				r.name, rulesOf(namesOf(before)), r.name)
		}
	}
}
