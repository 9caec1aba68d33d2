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

// Holds says whether p would have agreed to what a handshake with a client agreed
// on; nil if so. hello is the client's. The group may be 0 (RSA key transport, or
// not known).
func (p *ServerParams) Holds(s *State, hello *ClientHello) *Error {
	refuse := func(code reason.Code, what string) *Error {
		return Refuse(StepServerHello, code, what+" was negotiated, which the profile does not allow")
	}
	// First, for it is the one that the hello has settled: the rest another choice may mend.
	ems := s.ExtendedMasterSecret || hello.ExtendedMasterSecret // a server always agrees to it
	if p.Profile.RequireEMS && s.Version < versionTLS13 && !ems {
		return refuse(reason.NoExtendedMasterSecret, "TLS 1.2 without extended_master_secret")
	}
	if what, ok := p.Profile.Allows(s.Version, s.Suite, s.Group); !ok {
		return refuse(reason.NoCommonSuite, what)
	}
	if s.ALPN != "" {
		return p.holdsProtocol(s.ALPN)
	}
	return nil
}

// holdsProtocol holds a protocol that was answered against what p answers. Where p
// answers none, a protocol ends that cannot be spoken without an answer; another
// would be spoken all the same.
func (p *ServerParams) holdsProtocol(protocol string) *Error {
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

// Holds says whether p would have agreed to what a destination chose; nil if so.
func (p *ClientParams) Holds(s *State) *Error {
	if what, ok := p.Profile.Allows(s.Version, s.Suite, s.Group); !ok {
		return RefuseChoice(what)
	}
	if p.Profile.RequireEMS && s.Version < versionTLS13 && !s.ExtendedMasterSecret {
		return RefuseChoice("TLS 1.2 without extended_master_secret")
	}
	return nil
}

// RefuseChoice refuses what a destination chose, which the profile does not allow.
func RefuseChoice(what string) *Error {
	e := Refuse(StepServerVerified, reason.UpstreamCrypto, what+" was chosen, which the profile does not allow")
	e.Wanted = AlertInsufficientSecurity
	return e
}

// Again verifies the certificates that a client showed once more, with the
// authorities, profile and clock of p. It returns a new Peer, with Refusal where
// the answer is no and with everything that is a fact of the old one. s may be nil
// where nothing was agreed on yet: the scheme is then not judged.
func (p *ServerParams) Again(old *Peer, s *State) *Peer {
	const usage = x509.ExtKeyUsageClientAuth
	return p.again(old, s, usage, func() (*Peer, *Error) { return Verify(old.Shown, p.Authorities, usage, &p.Params) })
}

// Again does the same for a destination, with its name and pins.
func (p *ClientParams) Again(old *Peer, s *State) *Peer {
	return p.again(old, s, x509.ExtKeyUsageServerAuth, func() (*Peer, *Error) {
		return p.VerifyDestination(old.Shown, s, func(shown []*x509.Certificate, usage x509.ExtKeyUsage, q *Params) (*Peer, *Error) {
			return Verify(shown, q.Authorities, usage, q)
		})
	})
}

func (p *Params) again(old *Peer, s *State, usage x509.ExtKeyUsage, verify func() (*Peer, *Error)) *Peer {
	if len(old.Shown) == 0 || old.Shown[0] == nil {
		return &Peer{Shown: old.Shown} // which policy refuses: nothing was verified
	}
	peer, refusal := verify()
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
		can := SchemesOf(s.Version, peer.Leaf().PublicKey)
		for _, scheme := range can {
			if slices.Contains(wanted, uint16(scheme)) {
				return nil
			}
		}
	}
	if usage == x509.ExtKeyUsageServerAuth {
		return RefuseChoice("a signature with " + what)
	}
	return Refuse(StepClientCertificate, reason.WeakSignature, "proof of possession with "+what+", which the profile does not allow")
}

// VerifyDestination is chain, name, pins, and key usage for what was agreed on,
// as far as they are asked for. verify is Verify, or a cache in front of it. s may
// be nil where nothing was agreed on.
func (p *ClientParams) VerifyDestination(shown []*x509.Certificate, s *State, verify func([]*x509.Certificate, x509.ExtKeyUsage, *Params) (*Peer, *Error)) (*Peer, *Error) {
	const usage = x509.ExtKeyUsageServerAuth
	peer := &Peer{Shown: shown}
	if !p.Insecure {
		verified, e := verify(shown, usage, &p.Params)
		if e == nil {
			e = p.verifyName(verified)
		}
		if e != nil {
			return nil, e
		}
		peer = verified
	} else if f := p.bounds(shown); f != nil {
		return nil, f.refusal(usage)
	}
	if len(p.Pins) > 0 && !slices.Contains(p.Pins, sha256.Sum256(peer.Leaf().RawSubjectPublicKeyInfo)) {
		e := Refuse(StepServerVerified, reason.UpstreamPin, "its key's pin is "+peer.SPKI())
		e.Wanted = AlertBadCertificate
		return nil, e
	}
	if s != nil && !p.Insecure {
		if e := transports(shown[0], s.Version, s.Suite); e != nil {
			return nil, e
		}
	}
	return peer, nil
}

// verifyName checks the destination's name or address (RFC 9525): subject
// alternative names only, a wildcard for one whole label.
func (p *ClientParams) verifyName(peer *Peer) *Error {
	if err := peer.Leaf().VerifyHostname(p.VerifyName); err != nil {
		e := Refuse(StepServerVerified, reason.UpstreamName, "wanted "+p.VerifyName)
		e.Wanted, e.Err = AlertBadCertificate, err
		return e
	}
	return nil
}
