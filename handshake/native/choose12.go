package native

import (
	"crypto/ecdsa"
	"crypto/tls"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/reason"
)

// schemes12 are the signature schemes of TLS 1.2, the cheapest to verify first: those of
// ECDSA are for keys on any curve (RFC 8446, section 4.2.3), and ML-DSA is not among them
// (draft-ietf-tls-mldsa, section 3).
func schemes12() []uint16 {
	return slices.Concat(slices.DeleteFunc(schemes(), func(id uint16) bool {
		s := tls.SignatureScheme(id)
		return s == tls.MLDSA44 || s == tls.MLDSA65 || s == tls.MLDSA87
	}), schemesCert())
}

// versionOf is the version that a plan and a hello come to, the highest in common; TLS 1.3
// where there is none, whose choice says so.
func versionOf(p *handshake.ServerParams, h *handshake.ClientHello) uint16 {
	has := func(v uint16) bool {
		return p.Profile.MinVersion <= v && v <= p.Profile.MaxVersion && slices.Contains(h.SupportedVersions, v)
	}
	if !has(tls.VersionTLS13) && has(tls.VersionTLS12) {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// chooseOf12 is chooseOf for TLS 1.2.
func chooseOf12(p *handshake.ServerParams, h *handshake.ClientHello) (*choice, *handshake.Error) {
	q := *p
	pr := &q.Profile
	pr.MaxVersion = tls.VersionTLS12
	pr.Groups, pr.Suites12 = known(pr.Groups, keys.Groups12()), known(pr.Suites12, keys.Suites12())
	if e := refusesFallback(p, h); e != nil {
		return nil, e
	}
	if e := q.RefusesHello(h); e != nil {
		return nil, e
	}
	if p.Profile.RequireEMS && !h.ExtendedMasterSecret {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.NoExtendedMasterSecret, "")
	}
	c := &choice{version: tls.VersionTLS12, alpn: chooseProtocol(p, h)}
	order := pr.Order
	if order == handshake.OrderFast {
		order = handshake.OrderClient // as crypto/tls has it
	}
	c.group, _ = handshake.FirstCommon(order, pr.Groups, h.Groups, always)
	// RFC 8422, section 5.1: the curve of an ECDSA key should be among the client's groups.
	// Clients that list only those of their key exchange take our only key all the same, as
	// they do from crypto/tls.
	if !c.certify12(&q, h, true) && !c.certify12(&q, h, false) {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.NoCommonSigAlg, "none of our certificates can sign with what the client accepts")
	}
	return c, nil
}

// refusesFallback refuses a hello that says it is a fallback, whatever else it has (RFC
// 7507, section 3).
func refusesFallback(p *handshake.ServerParams, h *handshake.ClientHello) *handshake.Error {
	if p.Profile.MaxVersion <= tls.VersionTLS12 || !slices.Contains(h.CipherSuites, tls.TLS_FALLBACK_SCSV) {
		return nil
	}
	e := handshake.Refuse(handshake.StepClientHello, reason.HandshakeFailed, "the client falls back to TLS 1.2 and says so, and TLS 1.3 is there")
	e.Wanted = handshake.AlertInappropriateFallback
	return e
}

// certify12 chooses suite, certificate and scheme. With OrderFast the first certificate
// that fits decides, then what is fastest; else the order of suites decides, then the
// first certificate. curves says whether the curve of a key must be one of the client's
// groups.
func (c *choice) certify12(p *handshake.ServerParams, h *handshake.ClientHello, curves bool) bool {
	pr := &p.Profile
	if pr.Order == handshake.OrderFast {
		suites := fastest(known(keys.Suites12(), pr.Suites12), h.CipherSuites)
		for i := range p.Certificates {
			fits := func(id uint16) bool { return fits12(p, &p.Certificates[i], h, id, curves) != 0 }
			if id, ok := handshake.FirstCommon(handshake.OrderServer, suites, h.CipherSuites, fits); ok {
				c.show12(p, &p.Certificates[i], h, id)
				return true
			}
		}
		return false
	}
	first := func(id uint16) int {
		return slices.IndexFunc(p.Certificates, func(cert tls.Certificate) bool { return fits12(p, &cert, h, id, curves) != 0 })
	}
	id, ok := handshake.FirstCommon(pr.Order, pr.Suites12, h.CipherSuites, func(id uint16) bool { return first(id) >= 0 })
	if ok {
		c.show12(p, &p.Certificates[first(id)], h, id)
	}
	return ok
}

// show12 notes what was chosen.
func (c *choice) show12(p *handshake.ServerParams, cert *tls.Certificate, h *handshake.ClientHello, suite uint16) {
	c.suite12 = keys.Suite12Of(suite)
	c.suite = &c.suite12.Suite
	c.cert, c.scheme = cert, fits12(p, cert, h, suite, false)
}

// fits12 is the scheme that a certificate of ours signs with under a CipherSuite, 0 if it
// cannot be used.
func fits12(p *handshake.ServerParams, c *tls.Certificate, h *handshake.ClientHello, suite uint16, curves bool) uint16 {
	key, s := handshake.KeyOf(c), keys.Suite12Of(suite)
	if s == nil || s.RSA != (keykind.Of(key).Type == keykind.RSA) {
		return 0
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && curves && !slices.Contains(h.Groups, handshake.CurveOf(k)) {
		return 0
	}
	can := p.Profile.SignsWith(tls.VersionTLS12, c)
	order, ours := p.Profile.Order, p.Profile.Signatures
	if ours == nil || order != handshake.OrderServer {
		order, ours = handshake.OrderClient, schemes12()
	}
	id, _ := handshake.FirstCommon(order, ours, h.SignatureSchemes, func(id uint16) bool {
		return slices.Contains(can, tls.SignatureScheme(id)) && slices.Contains(schemes12(), id)
	})
	return id
}
