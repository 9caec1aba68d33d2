package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy/pattern"
)

// DefaultProfile is the profile of a rule that names none.
const DefaultProfile = "intermediate"

// String is the word of the configuration.
func (m TLSMode) String() string {
	switch m {
	case TLSPlain:
		return "plain"
	case TLSInsecure:
		return "insecure"
	}
	return "verify"
}

// terminate compiles the demands of a rule that terminates.
func (c *compiler) terminate(at scope, r *rule, spec *RuleSpec) {
	if len(spec.ALPN) > 0 { // [] says that none is meant
		r.alpn = protocols(at, "alpn", spec.ALPN)
	}
	if r.upgrade != upgrade.None {
		r.alpn = []string{r.upgrade.ALPN()}
	}
	client := &handshake.ServerParams{Params: handshake.Params{ALPN: r.alpn, MaxChain: c.env.MaxChain, MaxChainBytes: c.env.MaxChainBytes}}
	if spec.Identity == "" {
		at.errorf("identity", `action terminate needs an "identity": the certificate that is shown to the client`)
	} else if id, ok := lookup(at, "identity", "identities", spec.Identity, c.env.Identities); ok {
		if client.Certificates = id.Certificates(); len(client.Certificates) == 0 {
			at.errorf("identity", "the identity %q has no certificate", spec.Identity)
		}
		if r.plan.own = id; id.Source != nil {
			client.Identity = id.Source
		}
	}
	client.Ledger = ledgerMode(at, spec.Ledger)
	profile, haveProfile := c.profile(at, "profile", spec.Profile, DefaultProfile)
	client.Profile = profile

	c.client(at.in("client"), r, &spec.Client)
	client.ClientAuth = r.auth
	client.Authorities = handshakeAuthorities(r.authorities)
	if r.auth != handshake.ClientAuthNone {
		announced(at.in("client"), client.CANames())
	}
	if haveProfile {
		c.cannot(at, "profile", &client.Params, nil, c.otherEngine(&client.Params))
		unmeetable(at, r, &spec.Client, &profile)
	}
	r.plan.Client = client

	c.destination(at.in("destination"), r, &spec.Destination, &client.Params, &client.Params)
	// With dial: first it is the destination that answers, if it has TLS.
	carried := r.plan.DialFirst && r.plan.dest != nil
	client.AnswersNone = len(r.alpn) == 0 && (spec.ALPN != nil || !carried)
	r.silent = client.AnswersNone && spec.ALPN == nil
}

// profile resolves the name of a profile.
func (c *compiler) profile(at scope, field, name, otherwise string) (handshake.Profile, bool) {
	if name == "" {
		name = otherwise
	}
	return lookup(at, field, "profiles", name, c.env.Profiles)
}

// cannot reports what the engine cannot keep of p: never silently widened.
// What it cannot keep of said either was reported before. way is what to do about a
// limit.
func (c *compiler) cannot(at scope, field string, p, said *handshake.Params, way func(handshake.Limit) string) {
	var before []handshake.Limit
	if said != nil {
		before = c.env.Engine.Cannot(said)
	}
	for _, limit := range c.env.Engine.Cannot(p) {
		if slices.Contains(before, limit) {
			continue
		}
		at.errorf(field, "profile %q: %s cannot be kept by this engine: %s%s", p.Profile.Name, limit.What, limit.Why, way(limit))
	}
}

// otherEngine is the way on the client's leg: the native engine may keep it.
func (c *compiler) otherEngine(p *handshake.Params) func(handshake.Limit) string {
	return func(limit handshake.Limit) string {
		q := *p
		q.Profile.Engine = handshake.EngineNative
		if c.able.Native == nil || p.Profile.Engine == q.Profile.Engine || slices.Contains(c.env.Engine.Cannot(&q), limit) {
			return ""
		}
		return "; a profile with engine: native keeps it"
	}
}

// otherProfile is the way on the destination's leg, where the profile's engine may not
// speak all of its versions.
func (c *compiler) otherProfile(wanted *handshake.Profile) func(handshake.Limit) string {
	return func(limit handshake.Limit) string {
		if wanted.Engine != c.towards(*wanted).Engine {
			return "; engine: " + wanted.Engine.String() + ` speaks TLS 1.3 alone with destinations: give the destination a profile with versions: ["1.3"], or this one inexpressible: cap-1.2`
		}
		if q := *wanted; c.able.Native != nil && c.able.Native.Dials(&q) {
			return c.otherEngine(&handshake.Params{Profile: q})(limit)
		}
		return ""
	}
}

// towards is the profile as it counts on the destination's leg.
func (c *compiler) towards(p handshake.Profile) handshake.Profile {
	if of := c.able.Of(p.Engine); of == nil || !of.Dials(&p) {
		p.Engine = handshake.EngineStd
	}
	return p
}

// client compiles the demand on the client's certificate.
func (c *compiler) client(at scope, r *rule, spec *ClientSpec) {
	auth, ok := oneOf(at, "certificate", spec.Certificate,
		handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone)
	r.auth = auth
	r.authorities = c.authorities(at, spec.Authorities)
	r.allow = compileAllow(at, spec.Allow)
	r.allowText = allowText(r.allow)
	r.when = c.when.compile(at, "when", spec.When)
	r.onRevoked, _ = oneOf(at, "on_revoked", spec.OnRevoked, closeRevoked, keepRevoked)
	switch {
	case !ok:
	case auth == handshake.ClientAuthNone:
		if spec.Authorities != nil {
			at.errorf("authorities", "certificate is none, so no client shows anything that these could vouch for")
		}
		if spec.Allow != nil {
			at.errorf("allow", "certificate is none, so no client shows anything that could be allowed by this")
		}
		if spec.OnRevoked != "" {
			at.errorf("on_revoked", "certificate is none, so no client shows anything that could be revoked")
		}
	case spec.Authorities == nil:
		at.errorf("authorities", `the client's certificate is %s, so "client.authorities" must say whose certificates are accepted`, auth)
	}
	c.sharedRoots(at, r.authorities)
	if len(r.authorities) > 1 {
		for i := range r.allow {
			if !r.allow[i].named && r.allow[i].bySubject() {
				at.warnf(fmt.Sprintf("allow[%d]", i), "this rests on the subject alone, and any of the %d authorities may put there what it likes; ask for a SAN or the issuer too", len(r.authorities))
			}
		}
	}
}

// authorities resolves names of authorities.
func (c *compiler) authorities(at scope, names []string) []authority {
	entries := parseItems(at, "authorities", names, func(s string) (string, error) {
		if s == "" {
			return "", errors.New("the name is empty")
		}
		return s, nil
	})
	var out []authority
	for _, name := range entries {
		field := fmt.Sprintf("authorities[%d]", slices.Index(names, name))
		source, ok := lookup(at, field, "authorities", name, c.env.Authorities)
		if !ok {
			continue
		}
		var a *handshake.Authority
		if source != nil {
			a = source.Current()
		}
		if a == nil || len(a.Roots) == 0 && !awaited(source) {
			at.errorf(field, "the authority %q has no trust anchors, so nothing could lead to it", name)
			continue
		}
		if a.Name != name {
			at.errorf(field, "the authority is loaded as %q, not as %q", a.Name, name)
			continue
		}
		var list fielderr.List
		permits := compilePermits(newScope(&list, ""), c.env.Permits[name])
		if list.Failed() {
			at.errorf(field, "the permits of %q cannot be read: %v", name, list.Err())
			continue
		}
		if domain, ok := c.env.TrustDomains[name]; ok {
			permits = permits.ofDomain(domain)
		}
		out = append(out, authority{Authority: a, source: source, permits: permits})
	}
	return out
}

// awaited says that a source may bring its certificates later: until then it trusts nobody.
func awaited(s handshake.AuthoritySource) bool {
	a, ok := s.(interface{ Awaited() bool })
	return ok && a.Awaited()
}

// jsseMessage is the largest handshake message that Java's clients take, in bytes
// (JSSE, jdk.tls.maxHandshakeMessageSize).
const jsseMessage = 32 << 10

// announced warns where the names of CAs are too many to be sent to clients.
func announced(at scope, names handshake.CANames) {
	const way = "trust fewer CAs here, or give rules for different clients or destinations authorities of their own"
	switch {
	case !names.Fit():
		at.warnf("authorities", "%s (a vector of 16 bits, RFC 5246, section 7.4.4; RFC 8446, section 4.2.4): none is sent, which means any CA. What is trusted stays the same, but a client with several certificates may choose another one; to have the names sent, %s", names, way)
	case names.Left > 0:
		at.warnf("authorities", "the names of %d intermediates are not sent to clients, for with them the list of acceptable CAs has more than %d bytes; that of the %d roots is sent. Clients that look for the issuer's name find nothing to show; %s", names.Left, handshake.MaxCANames, names.Names, way)
	case names.Bytes > jsseMessage-512:
		at.warnf("authorities", "the names of %d CAs take %d bytes: Java's clients take no handshake message of more than %d (jdk.tls.maxHandshakeMessageSize), and end the connection; %s", names.Names, names.Bytes, jsseMessage, way)
	}
}

// sharedRoots warns where it is open which authority a chain leads to, and
// with it which permits are asked.
func (c *compiler) sharedRoots(at scope, list []authority) {
	for i, a := range list {
		for _, b := range list[:i] {
			for _, root := range a.Roots {
				if a.permits != nil || b.permits != nil {
					if slices.ContainsFunc(b.Roots, root.Equal) {
						at.warnf("authorities", "%q and %q share a trust anchor: a certificate below it counts for only one of them, and is refused if that one's permits do not fit", b.Name, a.Name)
						break
					}
				}
			}
		}
	}
}

func handshakeAuthorities(list []authority) []*handshake.Authority {
	out := make([]*handshake.Authority, len(list))
	for i, a := range list {
		out[i] = a.Authority
	}
	return out
}

// destination compiles how the destination is spoken to. rule has the rule's own profile
// and ledger; said is what was reported already, nil for nothing.
func (c *compiler) destination(at scope, r *rule, spec *DestinationSpec, rule, said *handshake.Params) {
	if spec.TLS == "" {
		plain := `, or "plain" for no TLS to the destination`
		if r.action == Originate {
			plain = ""
		}
		at.errorf("tls", `action %s needs "destination.tls": "verify"%s`, r.action, plain)
		return
	}
	c.destinationLeg(at, r, spec)
	mode, ok := oneOf(at, "tls", spec.TLS, TLSVerify, TLSPlain, TLSInsecure)
	if !ok {
		return
	}
	if mode == TLSPlain && r.action == Originate {
		at.errorf("tls", "with tls: plain nothing is originated: action bypass relays a client without TLS to a destination without")
		return
	}
	if mode == TLSPlain {
		for _, f := range []struct {
			name string
			set  bool
		}{{"authorities", spec.Authorities != nil}, {"name", spec.Name != ""}, {"profile", spec.Profile != ""}, {"identity", spec.Identity != ""}, {"pins", spec.Pins != nil}, {"upgrade", spec.Upgrade != ""}} {
			if f.set {
				at.errorf(f.name, "there is no TLS to the destination (tls: plain), so this cannot be kept")
			}
		}
		return
	}
	if mode == TLSInsecure {
		at.warnf("tls", "insecure: nobody knows who answers, and whoever does reads everything")
		for _, f := range []struct {
			name string
			set  bool
		}{{"authorities", spec.Authorities != nil}, {"name", spec.Name != ""}} {
			if f.set {
				at.errorf(f.name, "nothing is verified with tls: insecure, so this cannot be kept; tls: verify does")
			}
		}
	}
	c.destinationUpgrade(at, r, spec)
	r.destination = c.authorities(at, spec.Authorities)
	if spec.Authorities == nil && mode == TLSVerify {
		at.errorf("authorities", `"destination.authorities" must say from whom the destination's certificate may come`)
	}
	if spec.Name != "" {
		name, err := parseVerifyName(spec.Name)
		if err != nil {
			at.errorf("name", "%q: %v", spec.Name, err)
		}
		if r.destName = name; err == nil {
			unspeakable(at, r, spec.Name)
		}
	}
	dest := &handshake.ClientParams{
		Params: handshake.Params{
			Authorities: handshakeAuthorities(r.destination), ALPN: r.alpn,
			MaxChain: c.env.MaxChain, MaxChainBytes: c.env.MaxChainBytes, Ledger: rule.Ledger,
		},
		Pins: pins(at, spec.Pins), Insecure: mode == TLSInsecure,
	}
	c.ownIdentity(at, r, spec, dest)
	if spec.Profile == "" {
		dest.Profile = c.towards(rule.Profile)
		c.cannot(at, "tls", &dest.Params, said, c.otherProfile(&rule.Profile))
	} else if profile, known := c.profile(at, "profile", spec.Profile, ""); known {
		dest.Profile = c.towards(profile)
		c.cannot(at, "profile", &dest.Params, nil, c.otherProfile(&profile))
	}
	r.plan.Mode, r.plan.dest = mode, dest
}

// parseVerifyName reads a DNS name without wildcard, or an address.
func parseVerifyName(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" || a.Is4In6() {
			return "", errors.New("write the address without a zone and not IPv4-mapped")
		}
		return a.String(), nil
	}
	name := pattern.LowerASCII(s)
	return name, pattern.CheckHost(name)
}
