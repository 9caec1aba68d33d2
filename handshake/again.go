package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"

	"github.com/sslgate/sslgate/internal/reason"
)

// This file judges a handshake that is over by other Params than those that it
// was made with: what a reload, a shadow policy and `explain` ask. Nothing is
// taken from the first judgement but facts: what was agreed on, which
// certificates were shown, and with which scheme possession was proven.

// Holds says whether p would have agreed to what a handshake agreed on; nil if
// so. hello is the client's, for the server side; nil for the client side. The
// group may be 0 (RSA key transport, or not known).
func (p *Params) Holds(s *State, hello *ClientHello) *Error {
	server := hello != nil
	refuse := func(code reason.Code, what string) *Error {
		if !server {
			return upstreamCrypto(what)
		}
		return Refuse(StepServerHello, code, what+" was negotiated, which the profile does not allow")
	}
	if what, ok := p.Profile.acceptable(s.Version, s.Suite, s.Group); !ok {
		return refuse(reason.NoCommonSuite, what)
	}
	ems := s.ExtendedMasterSecret || server && hello.ExtendedMasterSecret // crypto/tls always agrees to it
	if p.Profile.RequireEMS && s.Version < versionTLS13 && !ems {
		return refuse(reason.NoExtendedMasterSecret, "TLS 1.2 without extended_master_secret")
	}
	if server && s.ALPN != "" {
		return p.holdsProtocol(s.ALPN)
	}
	return nil
}

// holdsProtocol holds a protocol that was answered against what p answers. Where p
// answers none, a protocol ends that cannot be spoken without an answer; another
// would be spoken all the same.
func (p *Params) holdsProtocol(protocol string) *Error {
	answers := ""
	switch {
	case len(p.ALPN) > 0 && !slices.Contains(p.ALPN, protocol):
		answers = shortProtocols(p.ALPN)
	case p.AnswersNone && needsAnswer(protocol):
		answers = "none"
	default:
		return nil
	}
	return Refuse(StepServerHello, reason.NoALPN, "agreed on "+shortProtocols([]string{protocol})+", and the rule answers "+answers)
}

// Again verifies the certificates that a peer showed once more, with the
// authorities, profile, name and clock of p. It returns a new Peer, with
// Refusal where the answer is no and with everything that is a fact of the old
// one. usage is clientAuth for a client and serverAuth for a destination. s may
// be nil where nothing was agreed on yet: the scheme is then not judged.
func (p *Params) Again(old *Peer, s *State, usage x509.ExtKeyUsage) *Peer {
	if len(old.Shown) == 0 || old.Shown[0] == nil {
		return &Peer{Shown: old.Shown} // which policy refuses: nothing was verified
	}
	var peer *Peer
	var refusal *Error
	if usage == x509.ExtKeyUsageServerAuth {
		peer, refusal = p.verifyDestination(old.Shown, Verify)
		if refusal == nil && s != nil && !p.Insecure {
			refusal = transports(old.Leaf(), s.Version, s.Suite)
		}
	} else {
		peer, refusal = Verify(old.Shown, p.Authorities, usage, p)
	}
	if refusal == nil && s != nil {
		refusal = p.holdsScheme(old, s, usage)
	}
	if refusal != nil {
		peer = &Peer{Shown: old.Shown, Refusal: refusal}
	}
	peer.Proven, peer.OCSPStaple, peer.SignatureScheme = old.Proven, old.OCSPStaple, old.SignatureScheme
	return peer
}

// holdsScheme says whether possession was proven with a scheme of the profile.
// Where the scheme is not known, it is enough that the key can have used one of
// them, unless the proof was that of an earlier handshake: of that one nothing
// is known.
func (p *Params) holdsScheme(peer *Peer, s *State, usage x509.ExtKeyUsage) *Error {
	wanted := p.Profile.Signatures
	if wanted == nil || slices.Contains(wanted, peer.SignatureScheme) {
		return nil
	}
	what := "an unknown scheme"
	if peer.SignatureScheme != 0 {
		what = SchemeName(peer.SignatureScheme)
	} else if !s.Resumed {
		can := schemesOf(s.Version, peer.Leaf().PublicKey)
		for _, scheme := range can {
			if slices.Contains(wanted, uint16(scheme)) {
				return nil
			}
		}
	}
	if usage == x509.ExtKeyUsageServerAuth {
		return upstreamCrypto("a signature with " + what)
	}
	return Refuse(StepClientCertificate, reason.WeakSignature, "proof of possession with "+what+", which the profile does not allow")
}

// verifyDestination is chain, name and pins, as far as they are asked for.
// verify is Verify, or the cache in front of it.
func (p *Params) verifyDestination(shown []*x509.Certificate, verify func([]*x509.Certificate, []*Authority, x509.ExtKeyUsage, *Params) (*Peer, *Error)) (*Peer, *Error) {
	const usage = x509.ExtKeyUsageServerAuth
	peer := &Peer{Shown: shown}
	if !p.Insecure {
		verified, e := verify(shown, p.Authorities, usage, p)
		if e == nil {
			e = p.verifyName(verified)
		}
		if e != nil {
			return nil, e
		}
		peer = verified
	} else if f := (&verifier{shown: shown}).bounds(p); f != nil {
		return nil, f.refusal(usage)
	}
	if len(p.Pins) > 0 && !slices.Contains(p.Pins, sha256.Sum256(peer.Leaf().RawSubjectPublicKeyInfo)) {
		e := Refuse(StepServerVerified, reason.UpstreamPin, "its key's pin is "+peer.SPKI())
		e.Wanted = AlertBadCertificate
		return nil, e
	}
	return peer, nil
}

// verifyName checks the destination's name or address (RFC 9525): subject
// alternative names only, a wildcard for one whole label.
func (p *Params) verifyName(peer *Peer) *Error {
	if err := peer.Leaf().VerifyHostname(p.VerifyName); err != nil {
		e := Refuse(StepServerVerified, reason.UpstreamName, "wanted "+p.VerifyName)
		e.Wanted, e.Err = AlertBadCertificate, err
		return e
	}
	return nil
}
