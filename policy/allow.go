package policy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/handshake"
)

// alternative is one compiled entry of allow: AND between its fields, OR
// within a list; a nil list and a zero keyBits demand nothing.
type alternative struct {
	dns      []hostPattern
	uri      []uriPattern
	email    []emailPattern
	ip       []netip.Prefix
	cn       []string
	o        []string
	ou       []string
	issuer   []string
	spki     []string
	keyTypes []string
	keyBits  int
}

// claims is what a certificate says of its owner, taken apart once for all
// alternatives.
type claims struct {
	names   altNames
	cn      string // "" where there is none or more than one
	o, ou   []string
	issuer  string
	spki    string
	keyType string // "" for a kind that has no word
	keyBits int
}

// readClaims fails on names that cannot be decoded.
func readClaims(peer *handshake.Peer) (*claims, error) {
	leaf := peer.Leaf()
	names, err := readAltNames(leaf)
	if err != nil {
		return nil, err
	}
	c := &claims{names: names, o: leaf.Subject.Organization, ou: leaf.Subject.OrganizationalUnit, spki: peer.SPKI()}
	c.cn = onlyCommonName(leaf.Subject)
	c.issuer = distinguishedName(leaf)
	c.keyType, c.keyBits = keyOf(leaf)
	return c, nil
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// onlyCommonName returns the common name of a subject that has exactly one:
// of several, whoever reads the certificate may take another one.
func onlyCommonName(subject pkix.Name) string {
	n := 0
	for _, attr := range subject.Names {
		if attr.Type.Equal(oidCommonName) {
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return subject.CommonName
}

// distinguishedName writes the issuer as RFC 4514 has it, from the bytes of
// the certificate: pkix.Name would bring the attributes into an order of its
// own, and other names into the same string.
func distinguishedName(cert *x509.Certificate) string {
	var dn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawIssuer, &dn); err != nil || len(rest) != 0 {
		return ""
	}
	return dn.String()
}

// The words of key_type, with the largest size in bits of those that have one.
const (
	keyRSA     = "rsa"
	keyECDSA   = "ecdsa"
	keyEd25519 = "ed25519"

	maxECDSABits = 521 // P-521
	ed25519Bits  = 256
)

func keyOf(cert *x509.Certificate) (kind string, bits int) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return keyRSA, key.N.BitLen()
	case *ecdsa.PublicKey:
		return keyECDSA, key.Curve.Params().BitSize
	case ed25519.PublicKey:
		return keyEd25519, ed25519Bits
	}
	return "", 0
}

// refusal names the first field that does not fit, with what the certificate
// has instead; "" if all fit. It may quote the peer.
func (a *alternative) refusal(c *claims) string {
	switch {
	case a.dns != nil && !anyFits(a.dns, c.names.dns, fitsDNS):
		return "san_dns" + quoted(c.names.dns)
	case a.uri != nil && !a.fitsURI(&c.names):
		return "san_uri" + quoted(c.names.uri)
	case a.email != nil && !anyFits(a.email, c.names.email, emailPattern.matches):
		return "san_email" + quoted(c.names.email)
	case a.ip != nil && !anyFits(a.ip, c.names.ip, netip.Prefix.Contains):
		return "san_ip" + quotedAddrs(c.names.ip)
	case a.cn != nil && (c.cn == "" || !slices.Contains(a.cn, c.cn)):
		return "subject_cn" + quoted([]string{c.cn})
	case a.o != nil && !anyFits(a.o, c.o, equal):
		return "subject_o" + quoted(c.o)
	case a.ou != nil && !anyFits(a.ou, c.ou, equal):
		return "subject_ou" + quoted(c.ou)
	case a.issuer != nil && (c.issuer == "" || !slices.Contains(a.issuer, c.issuer)):
		return "issuer" + quoted([]string{c.issuer})
	case a.spki != nil && !slices.Contains(a.spki, c.spki):
		return "spki" + quoted([]string{c.spki})
	case a.keyTypes != nil && (c.keyType == "" || !slices.Contains(a.keyTypes, c.keyType)):
		return "key_type" + quoted([]string{c.keyType})
	case a.keyBits > 0 && c.keyBits < a.keyBits:
		return "key_bits (" + strconv.Itoa(c.keyBits) + ")"
	}
	return ""
}

// fitsURI holds a SPIFFE pattern against the SPIFFE id alone.
func (a *alternative) fitsURI(n *altNames) bool {
	id, isSVID := n.spiffe()
	return slices.ContainsFunc(a.uri, func(p uriPattern) bool {
		if p.spiffe {
			return isSVID && p.matches(id)
		}
		return slices.ContainsFunc(n.uri, p.matches)
	})
}

// fitsDNS compares a pattern with a dNSName, which may be a pattern itself. A
// name that is not legal never fits.
func fitsDNS(p hostPattern, name string) bool {
	q, err := parseHostPattern(name)
	return err == nil && p.covers(q)
}

func equal(a, b string) bool { return a == b }

// anyFits says whether one of the values fits one of the patterns.
func anyFits[P, V any](patterns []P, values []V, fits func(P, V) bool) bool {
	for _, p := range patterns {
		for _, v := range values {
			if fits(p, v) {
				return true
			}
		}
	}
	return false
}

// Bounds of a NotAllowed detail, which would else grow with the rule and with
// the certificate: about 8 x (4 x 128 + 32) bytes, 4.4 KB.
const (
	maxAlternatives = 8
	maxValues       = 4
)

// refusals says for every alternative the first field that did not fit.
func refusals(allow []alternative, c *claims) string {
	var b strings.Builder
	for i := range allow {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == maxAlternatives {
			fmt.Fprintf(&b, "and %d more", len(allow)-i)
			break
		}
		fmt.Fprintf(&b, "allow[%d]: %s", i, allow[i].refusal(c))
	}
	return b.String()
}

// quoted lists what a certificate has, bounded: " (none)", " (a, b and 3 more)".
func quoted(values []string) string {
	values = slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "" })
	if len(values) == 0 {
		return " (none)"
	}
	more := ""
	if n := len(values) - maxValues; n > 0 {
		values, more = values[:maxValues], fmt.Sprintf(" and %d more", n)
	}
	for i := range values {
		values[i] = clip(values[i])
	}
	return " (" + strings.Join(values, ", ") + more + ")"
}

func quotedAddrs(addrs []netip.Addr) string {
	values := make([]string, len(addrs))
	for i, a := range addrs {
		values[i] = a.String()
	}
	return quoted(values)
}
