package policy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/policy/pattern"
)

// This file finds demands that can be read, but that no client can ever meet: the
// profile or the permits of the authorities do not let it come so far.

// unmeetable warns of entries of allow that nobody can meet.
func unmeetable(at scope, r *rule, spec *ClientSpec, p *handshake.Profile) {
	if r.observe {
		return // its demands refuse nobody
	}
	client := at.in("client")
	for i := range spec.Allow {
		here, a := client.in(fmt.Sprintf("allow[%d]", i)), &spec.Allow[i]
		beyondProfile(here, a, p)
		beyondPermits(here, a, r.authorities)
	}
	for i, name := range spec.Authorities {
		for j := range r.authorities {
			if r.authorities[j].Authority.Name == name {
				weakRoots(client, fmt.Sprintf("authorities[%d]", i), &r.authorities[j], p)
			}
		}
	}
}

// each asks about every entry of a list; sets are left alone, for rules share them.
func each(at scope, field string, entries []string, why func(string) string) {
	for i, s := range entries {
		if strings.HasPrefix(s, setMark) {
			continue
		}
		if text := why(s); text != "" {
			at.warnf(fmt.Sprintf("%s[%d]", field, i), "%q: %s", clip(s), text)
		}
	}
}

// beyondProfile: what is agreed on with a client is of the profile, and so is its key.
func beyondProfile(at scope, a *AllowSpec, p *handshake.Profile) {
	never := func(ok bool) string {
		if ok {
			return ""
		}
		return fmt.Sprintf("profile %q has no such thing, so no client ever meets this; take it out, or choose another profile", p.Name)
	}
	with := func(resolve func(string) (uint16, error), ok func(uint16) bool) func(string) string {
		return func(s string) string {
			id, err := resolve(s)
			return never(err != nil || ok(id)) // what cannot be read was said
		}
	}
	each(at, "tls_version", a.TLSVersion, with(at.able.VersionByName, func(v uint16) bool {
		return v >= p.MinVersion && v <= p.MaxVersion
	}))
	each(at, "tls_suite", a.TLSSuite, with(at.able.SuiteByName, func(id uint16) bool { return hasSuite(p, id) }))
	each(at, "tls_group", a.TLSGroup, with(at.able.GroupByName, func(g uint16) bool { return slices.Contains(p.Groups, g) }))
	each(at, "key_type", a.KeyType, func(s string) string { return never(signsWith(p, s)) })
}

// hasSuite says whether a client can come to a CipherSuite.
func hasSuite(p *handshake.Profile, id uint16) bool {
	if id>>8 == 0x13 { // RFC 8446, appendix B.4
		return p.MaxVersion >= tls.VersionTLS13 && (p.Suites13 == nil || slices.Contains(p.Suites13, id))
	}
	return p.MinVersion <= tls.VersionTLS12 && slices.Contains(p.Suites12, id)
}

// signsWith says whether the profile has a signature scheme for a kind of key.
func signsWith(p *handshake.Profile, keyType string) bool {
	prefixes := map[string][]string{
		keykind.RSA: {"PSS", "PKCS1"}, keykind.ECDSA: {"ECDSA"}, keykind.Ed25519: {"Ed25519"},
		keykind.MLDSA44: {"MLDSA44"}, keykind.MLDSA65: {"MLDSA65"}, keykind.MLDSA87: {"MLDSA87"},
	}[keyType]
	return p.Signatures == nil || prefixes == nil || slices.ContainsFunc(p.Signatures, func(s uint16) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(tls.SignatureScheme(s).String(), prefix) })
	})
}

// beyondPermits: a certificate with a name that its authority may not speak for is
// refused, whatever allow says.
func beyondPermits(at scope, a *AllowSpec, list []authority) {
	if len(list) == 0 || slices.ContainsFunc(list, func(a authority) bool { return a.permits == nil }) {
		return
	}
	by := func(ok func(*permits, string) bool) func(string) string {
		return func(s string) string {
			if slices.ContainsFunc(list, func(a authority) bool { return ok(a.permits, s) }) {
				return ""
			}
			return "no authority of the rule may speak for this (permits), so no client ever meets it; take it out, or let one of them speak for it"
		}
	}
	each(at, "san_dns", a.SANDNS, by((*permits).mayDNS))
	each(at, "san_uri", a.SANURI, by((*permits).mayURI))
	each(at, "spiffe_domain", a.SPIFFEDomain, by(func(p *permits, s string) bool { return slices.Contains(p.spiffe, s) }))
	each(at, "san_email", a.SANEmail, by(func(p *permits, s string) bool {
		_, domain, err := pattern.SplitEmail(s)
		return err != nil || slices.Contains(p.email, domain)
	}))
	each(at, "san_ip", a.SANIP, by(func(p *permits, s string) bool {
		prefix, err := parsePrefix(s)
		return err != nil || slices.ContainsFunc(p.ip, prefix.Overlaps)
	}))
	none := by(func(*permits, string) bool { return false })
	each(at, "san_dirname", a.SANDirName, none)
	each(at, "san_rid", a.SANRID, none)
	each(at, "san_other", a.SANOther, none)
}

// mayDNS says whether some name that fits a pattern is permitted.
func (p *permits) mayDNS(s string) bool {
	host, err := pattern.ParseHost(s)
	return err != nil || p.permitsDNS(s) || slices.ContainsFunc(p.dns, host.Matches)
}

// mayURI says whether some URI that fits a pattern is permitted.
func (p *permits) mayURI(s string) bool {
	uri, err := pattern.ParseURI(s)
	switch {
	case err != nil:
		return true
	case uri.SPIFFE:
		return slices.Contains(p.spiffe, domainOf(uri.Base))
	}
	return slices.ContainsFunc(p.uri, func(prefix string) bool {
		return strings.HasPrefix(uri.Base, prefix) || uri.Tail != pattern.TailNone && strings.HasPrefix(prefix, uri.Base)
	})
}

// weakRoots: every chain ends with a key of the authority's roots.
func weakRoots(at scope, field string, a *authority, p *handshake.Profile) {
	why := ""
	for _, root := range a.Roots {
		if why = p.RefusesIssuer(root); why == "" {
			return
		}
	}
	if why != "" {
		at.warnf(field, "%q: profile %q takes no certificate that this authority issues (%s), so every client is refused; choose another profile", a.Name, p.Name, why)
	}
}

// unspeakable warns where no authority of the destination may speak for the name
// that its certificate is verified for.
func unspeakable(at scope, r *rule, name string) {
	if name == "" || r.destName == "" || len(r.destination) == 0 || r.observe {
		return
	}
	if !slices.ContainsFunc(r.destination, func(a authority) bool { return a.permits == nil || a.permits.permitsName(r.destName) }) {
		at.warnf("name", "%q: none of destination.authorities may speak for this (permits), so the destination is always refused; let one of them speak for it", clip(name))
	}
}
