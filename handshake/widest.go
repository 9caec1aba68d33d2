package handshake

import (
	"crypto/tls"
	"slices"
)

// WidestProfile is everything that crypto/tls can do from TLS 1.2 on, secure
// or not: for flows that are only observed, where the alternative is that they
// end. The demands on the keys in a chain are the usual ones, for what is
// found too weak is reported and not refused.
func WidestProfile() Profile {
	p := Profile{
		Name: "observed", MinVersion: versionTLS12, MaxVersion: versionTLS13,
		Groups: groupsImplemented(), MinRSABits: minRSABits, MinECBits: minECBits,
	}
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if !IsTLS13Suite(s.ID) && slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
				p.Suites12 = append(p.Suites12, s.ID)
			}
		}
	}
	return p
}

// Refuses says why no handshake of these parameters can come of a hello, with
// the alert that is wanted; nil if one may. It is what Engine.Server asks
// before it sends anything: the profile, our certificate and ALPN. It allocates.
func (p *Params) Refuses(h *ClientHello) *Error { return p.refusal(h) }
