package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/policy/pattern"
)

// claims is what a certificate says of its owner, taken apart once for all
// alternatives, with what else they look at.
type claims struct {
	peer  *handshake.Peer
	leaf  *x509.Certificate
	state *handshake.State // nil where it is not known
	now   time.Time
	names certname.AltNames
	// Read when a condition asks for them: most policies do not, and it costs
	// more than the rest of a decision.
	subjectDN, issuerDN dn
	serial              string
	keyType             string // "" for a kind that has no word
	keyBits             int
}

// dn is a distinguished name; one that cannot be decoded has no attribute.
type dn struct {
	name certname.Name
	text string // as RFC 4514 has it, "" while it was not asked for
	read bool
}

func (d *dn) of(raw []byte) certname.Name {
	if !d.read {
		d.read = true
		if name, err := certname.Parse(raw); err == nil {
			d.name = name
		}
	}
	return d.name
}

func (d *dn) textOf(raw []byte) string {
	if d.text == "" {
		d.text = d.of(raw).String()
	}
	return d.text
}

func (c *claims) subject() string            { return c.subjectDN.textOf(c.leaf.RawSubject) }
func (c *claims) issuer() string             { return c.issuerDN.textOf(c.leaf.RawIssuer) }
func (c *claims) subjectName() certname.Name { return c.subjectDN.of(c.leaf.RawSubject) }
func (c *claims) issuerName() certname.Name  { return c.issuerDN.of(c.leaf.RawIssuer) }

// readClaims fails on names that cannot be decoded.
func readClaims(f Facts) (*claims, error) {
	leaf := f.Peer.Leaf()
	names, err := certname.ReadAltNames(leaf.Extensions)
	if err != nil {
		return nil, err
	}
	c := &claims{peer: f.Peer, leaf: leaf, state: f.State, now: f.Now, names: names}
	if leaf.SerialNumber != nil {
		c.serial = leaf.SerialNumber.Text(16)
	}
	key := keykind.Of(leaf.PublicKey)
	c.keyType, c.keyBits = key.Type, key.Bits
	return c, nil
}

// uris are the certificate's URIs as patterns are held against them.
func (c *claims) uris() []uriClaim {
	_, svid := SPIFFEID(&c.names)
	out := make([]uriClaim, len(c.names.URI))
	for i, u := range c.names.URI {
		out[i] = uriClaim{u, svid}
	}
	return out
}

// dns are the certificate's DNS names that are legal; others fit nothing.
func (c *claims) dns() []pattern.Host {
	var out []pattern.Host
	for _, s := range c.names.DNS {
		if p, err := pattern.ParseHost(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// trustDomain is that of the certificate's SPIFFE id, "" without one.
func (c *claims) trustDomain() string {
	id, ok := SPIFFEID(&c.names)
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
		if name, err := certname.Parse(ca.RawSubject); err == nil {
			out = append(out, name.String())
		}
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
