package native

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/reason"
)

// This file is the peer's Certificate message and its chain, on either side.

// accepted are the signature schemes that a proof of possession may have, of those that
// the version has.
func accepted(pr *handshake.Profile, has []uint16) []uint16 {
	if pr.Signatures == nil {
		return has
	}
	return known(pr.Signatures, has)
}

// acceptedCert are those of the certificates in a chain in TLS 1.3, nil where they are the
// same.
func acceptedCert(pr *handshake.Profile) []uint16 {
	all := slices.Concat(schemes(), schemesCert())
	if pr.Signatures != nil {
		all = known(pr.Signatures, all)
	}
	if len(all) == len(accepted(pr, schemes())) {
		return nil
	}
	return all
}

// badCertificate is a Certificate message that breaks the protocol.
func (g *leg) badCertificate(err error) error {
	e := g.side.refusal(reason.BadCertificate, err.Error())
	if bad := (*wire.Error)(nil); errors.As(err, &bad) {
		if bad.Alert == handshake.AlertUnexpectedMessage {
			return err
		}
		e.Wanted = bad.Alert
	}
	return e
}

// read parses the certificates and looks at what would make verifying too dear.
func (g *leg) read(entries []wire.CertificateEntry) error {
	if len(entries) == 0 {
		return nil
	}
	n, size := len(entries), 0
	for i := range entries {
		size += len(entries[i].DER)
	}
	tooMany := g.params.RefusesChain(n, size, g.usage())
	if tooMany != nil {
		entries = entries[:1] // whose it is; nobody parses the rest
	}
	shown := make([]*x509.Certificate, len(entries))
	for i := range entries {
		c, err := g.engine.known.parse(entries[i].DER)
		if err == nil {
			err = asError(certread.Key(c))
		}
		if err != nil {
			return g.unreadable(err, i, n)
		}
		shown[i] = c
	}
	g.peer = &handshake.Peer{Shown: shown, OCSPStaple: entries[0].Staple}
	if tooMany != nil {
		return tooMany
	}
	if g.params.WithinBounds(shown) && usableKey(shown[0].PublicKey) {
		return nil
	}
	_, e := g.side.verify(shown)
	if e == nil {
		e = g.side.refusal(reason.WeakKey, "nothing can be verified with the key of the certificate")
	}
	return e
}

// usage is what the peer's certificate is for.
func (g *leg) usage() x509.ExtKeyUsage {
	if g.judged == handshake.StepClientVerified {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

// asError keeps a nil *Refused from being an error.
func asError(r *certread.Refused) error {
	if r == nil {
		return nil
	}
	return r
}

// unreadable refuses certificate i of n.
func (g *leg) unreadable(err error, i, n int) error {
	code := reason.BadCertificate
	detail := fmt.Sprintf("certificate %d of %d: %v", i+1, n, err)
	if bad := (*certread.Refused)(nil); errors.As(err, &bad) {
		if bad.Key {
			code = reason.WeakKey
		}
		detail = fmt.Sprintf("certificate %d of %d, %q, serial %s: %s", i+1, n, bad.Subject, bad.Serial, bad.Why)
	}
	return g.side.refusal(code, detail)
}

// verifyChain verifies what the peer has shown. In a full handshake that comes before
// the proof of possession: a chain below no authority of ours costs a look at its names,
// but a proof costs what the peer's key costs, and that is the peer's choice. What
// comes of it counts behind Finished alone: see adopt.
func (g *leg) verifyChain() error {
	verified, refusal := g.side.verify(g.peer.Shown)
	switch {
	case refusal == nil:
		if g.verified = verified; verified.Chain == nil {
			return nil // ClientParams.Insecure
		}
		g.engine.known.remember(verified.Chain)
		facts := "chain verified: " + verified.Describe()
		if !g.agreed.Resumed {
			facts += "; possession of the key not proven yet"
		}
		g.say(g.judged, handshake.SideUs, facts)
	case !g.params.Observe:
		return refusal
	default:
		g.peer.Refusal = refusal
		g.observe(refusal)
	}
	return nil
}

// adopt makes the peer that has proved its key the one whose chain was verified.
func (g *leg) adopt() {
	if g.verified != nil && g.peer.Refusal == nil {
		g.verified.OCSPStaple, g.verified.SignatureScheme = g.peer.OCSPStaple, g.peer.SignatureScheme
		g.peer = g.verified
	}
	g.peer.Proven = true
}
