package handshake

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/reason"
)

// This file holds a hello against a plan, whatever the engine is: what it refuses
// can lead to no handshake. An engine may refuse more (Engine.Refuses).

// RefusesHello says why no handshake can come of a hello; nil if one may. To
// what the profile demands it adds our certificate and ALPN. crypto/tls would
// find most of it too, but has one alert (40) for suites, groups and
// signatures, and lets a client that offers http/1.1 alone pass where only h2
// is allowed.
func (p *ServerParams) RefusesHello(h *ClientHello) *Error {
	pr := &p.Profile
	if e := h.Acceptable(*pr); e != nil {
		return e
	}
	version := uint16(tls.VersionTLS12)
	ecdhe := true
	if pr.MaxVersion >= tls.VersionTLS13 && slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		version = tls.VersionTLS13
	} else {
		usable := func(id uint16) bool {
			return slices.Contains(pr.Suites12, id) && slices.Contains(h.CipherSuites, id) && p.signs(id)
		}
		if !slices.ContainsFunc(pr.Suites12, usable) {
			e := h.noSuite(version)
			e.Detail += "; none of the common ones fits the kind of our certificate"
			return e
		}
		ecdhe = !slices.ContainsFunc(pr.Suites12, func(id uint16) bool { return usable(id) && !IsECDHE(id) })
	}
	// RSA key transport signs nothing, and a client without the extension
	// leaves the judgement to crypto/tls.
	if ecdhe && len(h.SignatureSchemes) > 0 && !p.signsFor(version, h.SignatureSchemes) {
		return refusef(reason.NoCommonSigAlg, "the client accepts %s", listed(h.SignatureSchemes, SchemeName))
	}
	return p.RefusesProtocols(h)
}

// signs says whether one of our certificates fits a TLS 1.2 CipherSuite.
func (p *ServerParams) signs(suite uint16) bool {
	wantEC := strings.HasPrefix(SuiteName(suite), "TLS_ECDHE_ECDSA_")
	return slices.ContainsFunc(p.Certificates, func(c tls.Certificate) bool {
		kind := keykind.Of(KeyOf(&c))
		return !kind.IsMLDSA() && (kind.Type == keykind.RSA) != wantEC
	})
}

// signsFor says whether one of our certificates can sign with one of the
// schemes (RFC 8446, section 4.2.3).
func (p *ServerParams) signsFor(version uint16, schemes []uint16) bool {
	return slices.ContainsFunc(p.Certificates, func(c tls.Certificate) bool { return p.CanSign(&c, version, schemes) })
}

// CanSign is signsFor of one certificate.
func (p *ServerParams) CanSign(c *tls.Certificate, version uint16, schemes []uint16) bool {
	can := p.Profile.SignsWith(version, c)
	return can == nil || slices.ContainsFunc(can, func(s tls.SignatureScheme) bool { return slices.Contains(schemes, uint16(s)) })
}

// Named are those of several certificates that are for the name that the client
// asks for; nil where that makes no choice.
func (p *ServerParams) Named(h *ClientHello) []tls.Certificate {
	if len(p.Certificates) < 2 || h.ServerName == "" {
		return nil
	}
	named := slices.DeleteFunc(slices.Clone(p.Certificates), func(c tls.Certificate) bool {
		leaf := LeafOf(&c)
		return leaf == nil || leaf.VerifyHostname(h.ServerName) != nil
	})
	if len(named) == 0 || len(named) == len(p.Certificates) {
		return nil
	}
	return named
}

// Identified is the plan with the certificates of this one handshake: where there is
// an Identity, those that it has for the hello. h may be nil where the engine reads the
// hello itself.
func (p *ServerParams) Identified(ctx context.Context, h *ClientHello, engine Planner) (*ServerParams, *Error) {
	id := p.Identity
	switch {
	case id == nil:
		return p, nil
	case !id.OnDemand():
	case h == nil:
		return nil, OurFault("a certificate can be made only with the client's hello at hand")
	default:
		if e := engine.Refuses(p, h); e != nil {
			return nil, e
		}
	}
	certs, err := id.For(ctx, h, p.Time())
	if err != nil {
		e := AsError(err)
		if e.Step == StepNone {
			e.Step = StepServerHello
		}
		return nil, e
	}
	q := *p
	q.Certificates, q.Identity = certs, nil
	return &q, nil
}

// FirstCommon finds the first of what both sides have, in the order of one of them:
// the client's with OrderClient, else ours.
func FirstCommon(order Order, ours, theirs []uint16, ok func(uint16) bool) (uint16, bool) {
	if order == OrderClient {
		ours, theirs = theirs, ours
	}
	for _, id := range ours {
		if slices.Contains(theirs, id) && ok(id) {
			return id, true
		}
	}
	return 0, false
}

// Signs leaves of our schemes those of the profile: what it demands of peers it
// demands of us. nil is what is not known.
func (p *Profile) Signs(schemes []tls.SignatureScheme) []tls.SignatureScheme {
	if p.Signatures == nil || schemes == nil {
		return schemes
	}
	out := make([]tls.SignatureScheme, 0, len(schemes))
	for _, s := range schemes {
		if slices.Contains(p.Signatures, uint16(s)) {
			out = append(out, s)
		}
	}
	return out
}

// SignsWith is what one of our certificates signs with: what its key can, within the
// profile and, where it has one, within the certificate's own list. nil is what is not known.
func (p *Profile) SignsWith(version uint16, c *tls.Certificate) []tls.SignatureScheme {
	can := p.Signs(SchemesOf(version, KeyOf(c)))
	if c.SupportedSignatureAlgorithms == nil || can == nil {
		return can
	}
	return slices.DeleteFunc(slices.Clone(can), func(s tls.SignatureScheme) bool { return !slices.Contains(c.SupportedSignatureAlgorithms, s) })
}

// leastPSS512 is how many bits an RSA key has at least for rsa_pss_*_sha512: one bit fewer
// must fill a hash, a salt as long as it, and 2 bytes (RFC 8017, section 9.1.1).
const leastPSS512 = (2*64+1)*8 + 2

// SchemesOf lists what a key can sign with; nil for a kind not known here, of
// which crypto/tls must judge.
func SchemesOf(version uint16, key any) []tls.SignatureScheme {
	switch k := key.(type) {
	case *rsa.PublicKey:
		s := []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
		if k.N.BitLen() < leastPSS512 {
			s = s[:2]
		}
		if version < tls.VersionTLS13 {
			s = append(s, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512)
		}
		return s
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}
	case *mldsa.PublicKey:
		if version < tls.VersionTLS13 { // draft-ietf-tls-mldsa, section 3
			return []tls.SignatureScheme{}
		}
		return mldsaSchemes(k)
	case *ecdsa.PublicKey:
		all := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512}
		if version < tls.VersionTLS13 { // there the curve is not part of the scheme
			return all
		}
		switch k.Params().BitSize {
		case 256:
			return all[:1]
		case 384:
			return all[1:2]
		case 521:
			return all[2:]
		}
	}
	return nil
}

// mldsaSchemes is the one scheme of an ML-DSA key.
func mldsaSchemes(k *mldsa.PublicKey) []tls.SignatureScheme {
	switch keykind.Of(k).Type {
	case keykind.MLDSA44:
		return []tls.SignatureScheme{tls.MLDSA44}
	case keykind.MLDSA65:
		return []tls.SignatureScheme{tls.MLDSA65}
	case keykind.MLDSA87:
		return []tls.SignatureScheme{tls.MLDSA87}
	}
	return []tls.SignatureScheme{}
}

// KeyOf is the key of one of our own certificates, nil if it has none.
func KeyOf(c *tls.Certificate) any {
	if leaf := LeafOf(c); leaf != nil {
		return leaf.PublicKey
	}
	return nil
}

// LeafOf is one of our own certificates, nil if there is none that can be read.
func LeafOf(c *tls.Certificate) *x509.Certificate {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// CurveOf is the number of the group that an ECDSA key's curve has; 0 for one
// that TLS has no number of.
func CurveOf(k *ecdsa.PublicKey) uint16 {
	switch k.Params().BitSize {
	case 256:
		return uint16(tls.CurveP256)
	case 384:
		return uint16(tls.CurveP384)
	case 521:
		return uint16(tls.CurveP521)
	}
	return 0
}
