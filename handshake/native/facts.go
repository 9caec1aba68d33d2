package native

import (
	"crypto/x509"
	"fmt"
	"strconv"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/certname"
)

// This file words messages for the ledger, as the other engine does.

// maxCANames bounds the names of a CertificateRequest that the ledger quotes.
const maxCANames = 16

// helloFacts are those of a ServerHello or HelloRetryRequest.
func (s *server) helloFacts() string {
	return handshake.VersionName(s.agreed.Version) + ", " + handshake.SuiteName(s.agreed.Suite) + ", " +
		handshake.GroupName(s.agreed.Group) + ", session ID " + strconv.Itoa(len(s.hello.SessionID)) + " bytes"
}

// helloFacts12 are those of a ServerHello of TLS 1.2.
func (s *server) helloFacts12(h *wire.ServerHello12) string {
	facts := fmt.Sprintf("%s, %s, session ID %d bytes", handshake.VersionName(s.agreed.Version), handshake.SuiteName(h.Suite), len(h.SessionID))
	if h.ALPN != "" {
		facts += ", ALPN " + h.ALPN
	}
	return facts
}

// shownFacts are those of a Certificate message with n certificates; leaf is the first
// one, nil where it cannot be read.
func shownFacts(n int, leaf *x509.Certificate) string {
	if n == 0 {
		// The alert no_certificate(41) of SSL 3.0 became an empty Certificate
		// message with TLS 1.0.
		return `"no certificate" warning`
	}
	facts := handshake.Plural(n, "certificate")
	if leaf != nil {
		facts += ": " + nameText(leaf.RawSubject)
	}
	return facts
}

// nameText is a distinguished name as RFC 4514 writes it, bounded.
func nameText(der []byte) string {
	if len(der) > handshake.MaxDN {
		return fmt.Sprintf("(a name of %d bytes)", len(der))
	}
	return certname.Shown(der, handshake.MaxNameLength)
}

// addRequest adds the CertificateRequest (RFC 8446, section 4.3.2).
func (s *server) addRequest(flight *[]byte) error {
	announced := s.announced()
	m := &wire.CertificateRequest{Signatures: s.accepted(), SignaturesCert: acceptedCert(&s.plan.Profile), StatusRequest: true}
	for _, der := range announced.DER {
		m.Authorities = m.Authorities.Add(der)
	}
	msg, err := m.Marshal()
	if err != nil {
		return err
	}
	s.transcript.Add(msg)
	*flight = append(*flight, msg...)
	s.noteRequest(msg, "", len(m.Signatures), announced)
	return nil
}

// noteRequest adds an entry for a CertificateRequest with n signature algorithms. What else
// stands in it comes first.
func (s *server) noteRequest(msg []byte, first string, n int, announced *handshake.AnnouncedCAs) {
	if s.brief {
		return
	}
	var names []string
	for _, der := range announced.DER[:min(len(announced.DER), maxCANames)] {
		names = append(names, nameText(der))
	}
	s.ledger.Note(handshake.Entry{
		Step: handshake.StepServerHello, From: handshake.SideUs, Message: handshake.MsgCertificateRequest, Size: len(msg), CANames: names,
		Facts: first + handshake.Plural(n, "signature algorithm") + ", " + handshake.Plural(len(announced.DER), "acceptable CA name"),
	})
}

// announced are the names of acceptable CAs; those of a single authority are made
// once. That they do not fit is said.
func (s *server) announced() *handshake.AnnouncedCAs {
	announced := s.plan.Announced
	if s.plan.AcceptableCAs == nil && len(s.plan.Authorities) == 1 {
		announced = s.plan.Authorities[0].Announced
	}
	cas := announced()
	if !cas.Said.Fit() {
		s.ledger.Note(handshake.Entry{Step: handshake.StepServerHello, From: handshake.SideUs, Facts: cas.Said.String() + ": none is sent, which means any"})
	}
	return cas
}
