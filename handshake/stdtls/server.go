package stdtls

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Server is the handshake with an intercepted client:
//
//  1. a hello that cannot lead to a handshake within the profile is answered
//     with the exact alert, before anything else is sent (step 1);
//  2. crypto/tls sends our flight (step 2), with the authorities' names in the
//     CertificateRequest;
//  3. VerifyConnection judges the client's certificate (step 6). It also runs
//     on resumption, which VerifyPeerCertificate does not;
//  4. after Handshake has returned nil the client is proven (steps 6 to 8).
//
// The alert of a refusal at step 6 is the one of the Error: crypto/tls's own
// bad_certificate is replaced (alertwire.go). Where that was not possible the
// ledger has what was sent. In TLS 1.3 the client meets it on its first read: its
// own handshake has ended before. The caller must let it arrive: closing a
// connection with unread data sends a RST, which makes the peer's kernel drop the
// alert. A session ticket is held until the caller has granted the session
// (ticketgate.go).
func (e *Engine) Server(ctx context.Context, conn net.Conn, hello *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	t := newTap(l, true)
	g := e.leg(&p.Params, check, l, conn, t)
	g.server, g.hello = p, hello
	g.conn.out.shut = true // until Session.Grant
	if hello != nil && !l.HasHello() {
		l.NoteHello(hello)
	}
	fault := g.fetchIdentity(ctx)
	var config *tls.Config
	if fault == nil {
		config, fault = g.serverConfig(t)
	}
	if fault != nil {
		defer g.conn.detach(true)
		return nil, g.alertFirst(fault)
	}
	tc := tls.Server(g.conn, config)
	err := tc.HandshakeContext(ctx)
	seen, err := g.end(err)
	if err != nil {
		return nil, g.fail(ctx, err, seen)
	}
	s := g.session(tc, seen)
	g.hello, g.origin = nil, nil // tls.Conn keeps the leg, and nothing reads them any more
	switch {
	case s.Resumed:
		// inherited has said so
	case s.Peer != nil:
		l.Decide(handshake.StepClientVerified, "possession of the key proven: "+handshake.SchemeName(s.Peer.SignatureScheme))
	case p.ClientAuth == handshake.ClientAuthNone:
		l.Decide(handshake.StepClientVerified, "no certificate asked for")
	default:
		l.Decide(handshake.StepClientVerified, "no certificate shown, and none required")
	}
	l.Complete(handshake.StepServerFinished)
	l.Decide(handshake.StepApplicationData, s.Agreed())
	return s, nil
}

// fetchIdentity asks for the certificates of this one handshake.
func (g *leg) fetchIdentity(ctx context.Context) *handshake.Error {
	p, e := g.server.Identified(ctx, g.hello, g.engine)
	if e == nil {
		g.server, g.p = p, &p.Params
	}
	return e
}

// serverConfig is the tls.Config of this one handshake.
func (g *leg) serverConfig(t *tap) (*tls.Config, *handshake.Error) {
	p := g.server
	q := *p
	if len(p.Certificates) == 0 {
		return nil, handshake.OurFault("no certificate to show")
	}
	if g.hello != nil {
		shown := serverSide(*p)
		narrowed, note, fault := shown.narrow(g.hello)
		if fault != nil {
			return nil, fault
		}
		q = handshake.ServerParams(*narrowed)
		g.shown = q.Certificates
		if note != "" {
			g.ledger.Note(handshake.Entry{Step: handshake.StepServerHello, From: handshake.SideUs, Facts: note})
		}
	} else if p.Profile.RequireEMS {
		return nil, handshake.OurFault("the profile can be kept only with the client's hello at hand")
	}
	config, fault := config(&q.Params, t)
	if fault != nil {
		return nil, fault
	}
	if g.hello != nil && g.resumable((*serverSide)(&q).version(g.hello)) {
		g.tickets(config)
	}
	config.Certificates = ownCertificates(&q.Profile, q.Certificates)
	config.VerifyConnection = g.verifyClient
	switch {
	case p.ClientAuth == handshake.ClientAuthNone:
		config.ClientAuth = tls.NoClientCert
	case p.ClientAuth == handshake.ClientAuthOptional, p.Observe:
		config.ClientAuth = tls.RequestClientCert
	default:
		// Makes crypto/tls itself send the right alert for an absent one: 116
		// in TLS 1.3, 40 in TLS 1.2, which has no certificate_required.
		config.ClientAuth = tls.RequireAnyClientCert
	}
	if p.ClientAuth != handshake.ClientAuthNone {
		names := g.engine.pools.of(p)
		config.ClientCAs = names.Pool // only the subjects are used: we verify ourselves
		if !names.Said.Fit() {
			g.ledger.Note(handshake.Entry{Step: handshake.StepServerHello, From: handshake.SideUs, Facts: names.Said.String() + ": none is sent, which means any"})
		}
	}
	return config, nil
}

// verifyClient is crypto/tls's VerifyConnection.
func (g *leg) verifyClient(cs tls.ConnectionState) error {
	if what, ok := g.p.Profile.Allows(cs.Version, cs.CipherSuite, uint16(cs.CurveID)); !ok {
		return g.refuse(handshake.Refuse(handshake.StepServerHello, reason.NoCommonSuite, what+" was negotiated, which the profile does not allow"))
	}
	if cs.DidResume {
		if e := g.inherited(&cs); e != nil {
			return g.refuse(e)
		}
	} else {
		g.origin = nil // a ticket that crypto/tls opened and then declined
	}
	if len(cs.PeerCertificates) == 0 && g.server.ClientAuth != handshake.ClientAuthOptional && g.server.ClientAuth != handshake.ClientAuthNone {
		e := handshake.Refuse(handshake.StepClientCertificate, reason.NoCertificate, "")
		if !g.p.Observe {
			return g.refuse(e)
		}
		g.observe(e)
	}
	if err := g.judge(&cs, handshake.StepClientVerified); err != nil {
		return err
	}
	g.conn.tap.goOn()
	if e := g.conn.tap.refusal(); e != nil { // of the proof that stood in one record with the certificate
		return g.refuse(e)
	}
	return nil
}

// alertFirst answers a hello with a plaintext alert, before ServerHello.
func (g *leg) alertFirst(e *handshake.Error) *handshake.Error {
	if e.Wanted == handshake.AlertNone {
		return e
	}
	var version uint16
	if g.hello != nil {
		version = g.hello.RecordVersion
	}
	if err := handshake.SendAlert(g.conn, e.Wanted, version); err != nil && e.Err == nil {
		e.Err = err
	}
	return e
}

// ownCertificates is certs, held to the profile's signature schemes.
func ownCertificates(pr *handshake.Profile, certs []tls.Certificate) []tls.Certificate {
	if pr.Signatures == nil {
		return certs
	}
	out := slices.Clone(certs)
	for i := range out {
		schemes := slices.Clone(pr.SignsWith(tls.VersionTLS12, &certs[i]))
		for _, s := range pr.SignsWith(tls.VersionTLS13, &certs[i]) { // ML-DSA has none of TLS 1.2
			if !slices.Contains(schemes, s) {
				schemes = append(schemes, s)
			}
		}
		out[i].SupportedSignatureAlgorithms = schemes
	}
	return out
}
