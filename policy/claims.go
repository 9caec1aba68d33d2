package policy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// claims is what a certificate says of its owner, taken apart once for all
// alternatives, with what else they look at.
type claims struct {
	peer  *handshake.Peer
	leaf  *x509.Certificate
	state *handshake.State // nil where it is not known
	now   time.Time
	names altNames
	// Read when a condition asks for them: most policies do not, and it costs
	// more than the rest of a decision.
	subjectDN, issuerDN dn
	serial              string
	keyType             string // "" for a kind that has no word
	keyBits             int
}

// dn is a distinguished name as RFC 4514 has it; "" for an undecodable one.
type dn struct {
	text string
	read bool
}

func (d *dn) of(raw []byte) string {
	if !d.read {
		d.text, d.read = distinguishedName(raw), true
	}
	return d.text
}

func (c *claims) subject() string { return c.subjectDN.of(c.leaf.RawSubject) }
func (c *claims) issuer() string  { return c.issuerDN.of(c.leaf.RawIssuer) }

// readClaims fails on names that cannot be decoded.
func readClaims(f Facts) (*claims, error) {
	leaf := f.Peer.Leaf()
	names, err := readAltNames(leaf)
	if err != nil {
		return nil, err
	}
	c := &claims{peer: f.Peer, leaf: leaf, state: f.State, now: f.Now, names: names}
	if leaf.SerialNumber != nil {
		c.serial = leaf.SerialNumber.Text(16)
	}
	c.keyType, c.keyBits = keyOf(leaf)
	return c, nil
}

// uris are the certificate's URIs as patterns are held against them.
func (c *claims) uris() []uriClaim {
	_, svid := c.names.spiffe()
	out := make([]uriClaim, len(c.names.uri))
	for i, u := range c.names.uri {
		out[i] = uriClaim{u, svid}
	}
	return out
}

// dns are the certificate's DNS names that are legal; others fit nothing.
func (c *claims) dns() []hostPattern {
	var out []hostPattern
	for _, s := range c.names.dns {
		if p, err := parseHostPattern(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// trustDomain is that of the certificate's SPIFFE id, "" without one.
func (c *claims) trustDomain() string {
	id, ok := c.names.spiffe()
	if !ok {
		return ""
	}
	return domainOf(id)
}

// issuers are the CAs of the verified chain, from the one that signed the leaf
// up to the trust anchor.
func (c *claims) issuers() []*x509.Certificate {
	if len(c.peer.Chain) < 2 {
		return nil
	}
	return c.peer.Chain[1:]
}

func (c *claims) chainSubjects() []string {
	var out []string
	for _, ca := range c.issuers() {
		out = append(out, distinguishedName(ca.RawSubject))
	}
	return out
}

func (c *claims) chainSPKI() []string {
	var out []string
	for _, ca := range c.issuers() {
		sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
		out = append(out, hex.EncodeToString(sum[:]))
	}
	return out
}

// policies are the certificate policies that hold: those the leaf asserts
// itself and every intermediate asserts too, or allows with anyPolicy (RFC
// 5280, section 6.1, without policy mappings). The trust anchor has no say.
func (c *claims) policies() []string {
	const anyPolicy = "2.5.29.32.0"
	var out []string
	issuers := c.issuers()
	// By their text, not each held against each: a certificate has thousands.
	var allowed []map[string]bool
	for _, ca := range issuers[:max(0, len(issuers)-1)] {
		has := make(map[string]bool, len(ca.Policies))
		for _, oid := range ca.Policies {
			has[oid.String()] = true
		}
		if !has[anyPolicy] {
			allowed = append(allowed, has)
		}
	}
	for _, oid := range c.leaf.Policies {
		text := oid.String()
		if text != anyPolicy && !slices.ContainsFunc(allowed, func(has map[string]bool) bool { return !has[text] }) {
			out = append(out, text)
		}
	}
	return out
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// usages are the extended key usages as OIDs.
func (c *claims) usages() []string {
	var out []string
	for _, ext := range c.leaf.Extensions {
		if !ext.Id.Equal(oidExtKeyUsage) {
			continue
		}
		var ids []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(ext.Value, &ids); err != nil || len(rest) != 0 {
			return nil
		}
		for _, id := range ids {
			out = append(out, id.String())
		}
	}
	return out
}

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
)

// only returns an attribute of a name that has exactly one of its type: of
// several, whoever reads the certificate may take another one.
func only(name pkix.Name, attribute asn1.ObjectIdentifier) string {
	value, n := "", 0
	for _, attr := range name.Names {
		if attr.Type.Equal(attribute) {
			value, _ = attr.Value.(string)
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return value
}

// distinguishedName writes a name as RFC 4514 has it, from the bytes of the
// certificate: pkix.Name would bring the attributes into an order of its own,
// and other names into the same string.
func distinguishedName(raw []byte) string {
	var dn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &dn); err != nil || len(rest) != 0 {
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
