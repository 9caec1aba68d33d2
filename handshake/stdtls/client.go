package stdtls

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Client is the handshake with the destination, sslgate as the SSL client:
// step 3 is ours here. The chain is verified against p.Authorities alone, the
// name against p.VerifyName, and what the destination chose against the
// profile. A destination that speaks TLS 1.3 may refuse our identity after
// this has returned well: see AlertError.
func (e *Engine) Client(ctx context.Context, conn net.Conn, p *handshake.ClientParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	t := newTap(l, false)
	g := e.leg(&p.Params, check, l, conn, t)
	g.client = p
	config, fault := config(&p.Params, t)
	if fault == nil && p.VerifyName == "" && !p.Insecure {
		fault = handshake.OurFault("no name to verify the destination's certificate against")
	}
	if fault != nil {
		g.conn.detach(true)
		return nil, fault
	}
	config.ServerName = p.ServerName
	// Only crypto/tls's own verification is skipped: verifyServer does it, with
	// a reason for each fault, and VerifyConnection cannot be skipped.
	config.InsecureSkipVerify = true
	config.VerifyConnection = g.verifyServer
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		own := ownCertificates(&p.Profile, p.Certificates)
		for i := range own {
			if r.SupportsCertificate(&own[i]) == nil {
				l.Note(handshake.Entry{Step: handshake.StepClientCertificate, From: handshake.SideUs, Facts: "asked for a certificate: our identity is shown"})
				return &own[i], nil
			}
		}
		facts := "asked for a certificate: none is configured"
		if len(p.Certificates) > 0 {
			facts = "asked for a certificate: none of ours is from an acceptable CA or fits the signature algorithms"
		}
		l.Note(handshake.Entry{Step: handshake.StepClientCertificate, From: handshake.SideUs, Facts: facts})
		return &tls.Certificate{}, nil // the "no certificate" warning
	}
	tc := tls.Client(g.conn, config)
	err := tc.HandshakeContext(ctx)
	seen, err := g.end(err)
	if err != nil {
		return nil, g.fail(ctx, err, seen)
	}
	s := g.session(tc, seen)
	s.ServerName = p.ServerName
	// crypto/tls knows the group of TLS 1.2 only after VerifyConnection.
	if what, ok := p.Profile.Allows(s.Version, s.Suite, s.Group); !ok {
		return nil, g.refuse(handshake.RefuseChoice(what))
	}
	l.Complete(handshake.StepKeyExchange, handshake.StepClientCertificate, handshake.StepClientVerified, handshake.StepClientFinished, handshake.StepServerFinished)
	l.Decide(handshake.StepApplicationData, s.Agreed())
	return s, nil
}

// verifyServer is crypto/tls's VerifyConnection: step 3, ours.
func (g *leg) verifyServer(cs tls.ConnectionState) error {
	if what, ok := g.p.Profile.Allows(cs.Version, cs.CipherSuite, uint16(cs.CurveID)); !ok {
		return g.refuse(handshake.RefuseChoice(what))
	}
	if len(cs.PeerCertificates) == 0 {
		return g.refuse(handshake.Refuse(handshake.StepServerVerified, reason.UpstreamBadCert, "no certificate was shown"))
	}
	if len(g.p.ALPN) > 0 && cs.NegotiatedProtocol != "" && !slices.Contains(g.p.ALPN, cs.NegotiatedProtocol) {
		return g.refuse(handshake.Refuse(handshake.StepServerVerified, reason.UpstreamALPN, "chosen: "+cs.NegotiatedProtocol))
	}
	if g.p.Profile.RequireEMS && cs.Version < tls.VersionTLS13 && !g.conn.tap.agreedEMS() {
		return g.refuse(handshake.RefuseChoice("TLS 1.2 without extended_master_secret"))
	}
	if err := g.judge(&cs, handshake.StepServerVerified); err != nil {
		return err
	}
	g.ledger.Complete(handshake.StepServerVerified)
	return nil
}
