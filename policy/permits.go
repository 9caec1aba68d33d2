package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy/pattern"
)

// permits is what an authority may speak for. A kind without an entry may not
// appear at all; the zero value permits no name.
type permits struct {
	spiffe []string // trust domains
	dns    []string // exact names, or ".example.org" for those below
	uri    []string // prefixes of other URIs, each with a host and a "/" at the end
	email  []string // domains
	ip     []netip.Prefix
	svid   bool // only certificates that are X.509 SVIDs
}

// ofDomain are permits of an authority that signs SVIDs of one trust domain: p, which may be nil,
// says what names they may have besides.
func (p *permits) ofDomain(domain string) *permits {
	out := permits{}
	if p != nil {
		out = *p
	}
	out.spiffe, out.svid = []string{domain}, true
	return &out
}

// CheckPermits finds what is wrong in the permits of an authority; paths are
// relative to permits ("dns[0]").
func CheckPermits(spec *PermitsSpec) []*fielderr.Error {
	var l fielderr.List
	compilePermits(newScope(&l, ""), spec)
	return fielderr.All(l.Err())
}

// compilePermits returns nil for a nil spec: any name.
func compilePermits(at scope, spec *PermitsSpec) *permits {
	if spec == nil {
		return nil
	}
	return &permits{
		spiffe: parseItems(at, "spiffe", spec.SPIFFE, func(s string) (string, error) {
			if rest, ok := strings.CutPrefix(s, pattern.SPIFFEScheme); ok {
				return "", fmt.Errorf("write the trust domain alone: %q", strings.TrimRight(rest, "/*"))
			}
			return s, pattern.CheckTrustDomain(s)
		}),
		dns:   parseItems(at, "dns", spec.DNS, parsePermittedDNS),
		uri:   parseItems(at, "uri", spec.URI, parsePermittedURI),
		email: parseItems(at, "email", spec.Email, parsePermittedEmail),
		ip:    parseItems(at, "ip", spec.IP, parsePrefix),
	}
}

func parsePermittedDNS(s string) (string, error) {
	name := pattern.LowerASCII(s)
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return "", fmt.Errorf("write %q for every name below it", "."+rest)
	}
	return name, pattern.CheckHost(strings.TrimPrefix(name, "."))
}

func parsePermittedURI(s string) (string, error) {
	switch {
	case pattern.IsSPIFFE(s):
		return "", errors.New("SPIFFE ids are permitted by their trust domain, under spiffe")
	case strings.Contains(s, "*"):
		return "", errors.New(`a prefix has no "*": end it with "/"`)
	case !strings.HasSuffix(s, "/"):
		return "", fmt.Errorf("a prefix ends with a slash: write %q", s+"/")
	}
	return s, pattern.CheckURI(s, true)
}

func parsePermittedEmail(s string) (string, error) {
	domain := pattern.LowerASCII(s)
	if _, after, ok := strings.Cut(domain, "@"); ok {
		return "", fmt.Errorf("write the domain alone: %q", after)
	}
	return domain, pattern.CheckHost(domain)
}

// refusal names the first name of the certificate that the authority may not
// speak for, "" if there is none. It may quote the peer.
func (p *permits) refusal(n *certname.AltNames) string {
	if p == nil {
		return ""
	}
	if p.svid {
		// The ID of a workload has a path: without one it is a trust domain (X509-SVID, section 3.1).
		if id, ok := SPIFFEID(n); !ok || !strings.Contains(strings.TrimPrefix(id, pattern.SPIFFEScheme), "/") {
			return "what has no SPIFFE ID of a workload"
		}
	}
	for _, s := range n.DNS {
		if !p.permitsDNS(s) {
			return "DNS " + clip(s)
		}
	}
	for _, s := range n.URI {
		if !p.permitsURI(s, n) {
			return "URI " + clip(s)
		}
	}
	for _, s := range n.Email {
		if _, domain, err := pattern.SplitEmail(s); err != nil || !slices.Contains(p.email, domain) {
			return "email " + clip(s)
		}
	}
	for _, a := range n.IP {
		if !p.permitsIP(a) {
			return "IP " + a.String()
		}
	}
	if others := len(n.Dir) + len(n.RID) + len(n.Other) + len(n.Rest); others > 0 {
		return fmt.Sprintf("%d name(s) of a kind that permits has no word for", others)
	}
	return ""
}

// permitsDNS judges a dNSName or a host name. A wildcard name lies below its
// own suffix.
func (p *permits) permitsDNS(s string) bool {
	host, err := pattern.ParseHost(s)
	if err != nil {
		return false
	}
	name := host.String()
	return slices.ContainsFunc(p.dns, func(permitted string) bool {
		if permitted[0] == '.' {
			return strings.HasSuffix(name, permitted) // a name has something before its first dot
		}
		return name == permitted
	})
}

// permitsURI judges a URI. One with the SPIFFE scheme must be the SPIFFE id of
// the certificate, of a permitted trust domain.
func (p *permits) permitsURI(s string, n *certname.AltNames) bool {
	if pattern.IsSPIFFE(s) {
		id, ok := SPIFFEID(n)
		domain, _, _ := strings.Cut(strings.TrimPrefix(id, pattern.SPIFFEScheme), "/")
		return ok && slices.Contains(p.spiffe, domain)
	}
	return slices.ContainsFunc(p.uri, func(prefix string) bool {
		rest, ok := strings.CutPrefix(s, prefix)
		return ok && (rest == "" || pattern.PlainSegments(rest))
	})
}

func (p *permits) permitsIP(a netip.Addr) bool {
	return slices.ContainsFunc(p.ip, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// maxQuoted bounds what a detail quotes of one string of a peer, in bytes:
// enough for a usual name, and a record stays short.
const maxQuoted = 128

// clip bounds a string of a peer.
func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "..."
}

// permitsName judges the name a destination is verified for: a DNS name or an
// address.
func (p *permits) permitsName(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return p.permitsIP(a)
	}
	return p.permitsDNS(name)
}
