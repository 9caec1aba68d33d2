package native

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/work"
)

// sendAnswer is our flight: Certificate and CertificateVerify where a certificate is asked
// for, and Finished (RFC 8446, section 4.4). All of it leaves at once.
type sendAnswer struct{}

func (sendAnswer) step(c *client) (clientState, error) {
	app := c.master.Client(c.transcript.Sum()) // ends with the server's Finished
	if c.request != nil {
		if err := c.sendCertificate(); err != nil {
			app.Clear()
			return nil, err
		}
	}
	finished := &wire.Finished{VerifyData: c.own.Finished(c.transcript.Sum())}
	if err := c.sendMessage(handshake.StepClientFinished, finished, ""); err != nil {
		app.Clear()
		return nil, err
	}
	c.out.SetKeys(app)
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	c.ledger.Complete(handshake.StepClientCertificate, handshake.StepClientVerified, handshake.StepClientFinished)
	c.ledger.Decide(handshake.StepApplicationData, c.agreed.Agreed())
	return nil, nil
}

// sendMessage adds one of our messages.
func (c *client) sendMessage(step handshake.Step, m message, facts string) error {
	msg, err := m.Marshal()
	if err != nil {
		fault := handshake.OurFault("a message of ours does not fit its format: " + err.Error())
		fault.Step, fault.Err = step, err
		return fault
	}
	c.transcript.Add(msg)
	c.note(step, handshake.SideUs, msg, facts)
	return c.out.Add(handshake.RecordHandshake, msg)
}

// sendCertificate answers the request: with the first of our certificates that fits it,
// or with none.
func (c *client) sendCertificate() error {
	cert, scheme := c.identity()
	shown := &wire.Certificate{}
	facts := "asked for a certificate: our identity is shown"
	switch {
	case cert != nil:
		for _, der := range cert.Certificate {
			shown.Entries = append(shown.Entries, wire.CertificateEntry{DER: der})
		}
		if c.request.StatusRequest && len(cert.OCSPStaple) > 0 {
			shown.Entries[0].Staple = cert.OCSPStaple // section 4.4.2.1
		}
	case len(c.plan.Certificates) > 0:
		facts = "asked for a certificate: none of ours is from an acceptable CA or fits the signature algorithms"
	default:
		facts = "asked for a certificate: none is configured"
	}
	c.ledger.Note(handshake.Entry{Step: handshake.StepClientCertificate, From: handshake.SideUs, Facts: facts})
	var leaf *x509.Certificate
	if cert != nil {
		leaf = handshake.LeafOf(cert)
	}
	if err := c.sendMessage(handshake.StepClientCertificate, shown, shownFacts(len(shown.Entries), leaf)); err != nil || cert == nil {
		return err
	}
	c.spent += work.Sign(handshake.KeyOf(cert))
	signature, err := sign(cert, scheme, wire.SignedContent(false, c.transcript.Sum()))
	if err != nil {
		fault := handshake.OurFault("our certificate cannot be used")
		fault.Step, fault.Err = handshake.StepClientCertificate, err
		return fault
	}
	return c.sendMessage(handshake.StepClientCertificate, &wire.CertificateVerify{Scheme: scheme, Signature: signature}, handshake.SchemeName(scheme))
}

// identity is the first of our certificates that fits the request: one that signs with a
// scheme that both allow, of a CA that is named, where any is (sections 4.2.3 and 4.2.4).
func (c *client) identity() (*tls.Certificate, uint16) {
	for i := range c.plan.Certificates {
		cert := &c.plan.Certificates[i]
		if len(cert.Certificate) == 0 || !issuedBy(cert, c.request.Authorities) {
			continue
		}
		if scheme := chooseScheme(&c.plan.Profile, cert, c.request.Signatures); scheme != 0 {
			return cert, scheme
		}
	}
	return nil, 0
}

// issuedBy says whether one of the names is the issuer of a certificate that we show.
func issuedBy(cert *tls.Certificate, names wire.Names) bool {
	if len(names) == 0 {
		return true
	}
	for i, der := range cert.Certificate {
		shown := handshake.LeafOf(cert)
		if i > 0 {
			var err error
			if shown, err = x509.ParseCertificate(der); err != nil {
				return false
			}
		}
		if shown == nil {
			return false
		}
		for name := range names.All() {
			if bytes.Equal(name, shown.RawIssuer) {
				return true
			}
		}
	}
	return false
}
