package handshake

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"

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
func (e *StdEngine) Server(ctx context.Context, conn net.Conn, hello *ClientHello, p *Params, check CheckPeer, l *Ledger) (*Session, error) {
	t := newTap(l, true)
	g := e.leg(p, check, l, conn, t)
	g.server, g.hello = true, hello
	g.conn.out.shut = true // until Session.Grant
	if hello != nil && !l.hasHello() {
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
	g.hello = nil // tls.Conn keeps the leg, and nothing reads it any more
	switch {
	case s.Resumed:
		// inherited has said so
	case s.Peer != nil:
		l.Decide(StepClientVerified, "possession of the key proven: "+SchemeName(s.Peer.SignatureScheme))
	case p.ClientAuth == ClientAuthNone:
		l.Decide(StepClientVerified, "no certificate asked for")
	default:
		l.Decide(StepClientVerified, "no certificate shown, and none required")
	}
	l.complete(StepServerFinished)
	l.Decide(StepApplicationData, s.agreed())
	return s, nil
}

// fetchIdentity asks for the certificates of this one handshake.
func (g *leg) fetchIdentity(ctx context.Context) *Error {
	if g.p.CertificateFor == nil {
		return nil
	}
	if g.hello == nil {
		return ours("a certificate can be made only with the client's hello at hand")
	}
	if e := g.p.refusal(g.hello); e != nil {
		return e
	}
	certs, err := g.p.CertificateFor(ctx, g.hello)
	if err != nil {
		e := AsError(err)
		if e.Step == StepNone {
			e.Step = StepServerHello
		}
		return e
	}
	p := *g.p
	p.Certificates, p.CertificateFor, p.Staples = certs, nil, nil
	g.p = &p
	return nil
}

// serverConfig is the tls.Config of this one handshake.
func (g *leg) serverConfig(t *tap) (*tls.Config, *Error) {
	p, q := g.p, g.p
	if len(p.Certificates) == 0 {
		return nil, ours("no certificate to show")
	}
	if g.hello != nil {
		shown := *p
		shown.Certificates, shown.Staples = p.stapled(p.Certificates), nil // by index: before one is chosen
		var note string
		var fault *Error
		if q, note, fault = shown.narrow(g.hello); fault != nil {
			return nil, fault
		}
		g.shown = q.Certificates
		if note != "" {
			g.ledger.Note(Entry{Step: StepServerHello, From: SideUs, Facts: note})
		}
	} else if p.Profile.RequireEMS {
		return nil, ours("the profile can be kept only with the client's hello at hand")
	}
	config, fault := q.config(t)
	if fault != nil {
		return nil, fault
	}
	if g.hello != nil && g.resumable(q.version(g.hello)) {
		g.tickets(config)
	}
	config.Certificates = q.identity()
	config.VerifyConnection = g.verifyClient
	switch {
	case p.ClientAuth == ClientAuthNone:
		config.ClientAuth = tls.NoClientCert
	case p.ClientAuth == ClientAuthOptional, p.Observe:
		config.ClientAuth = tls.RequestClientCert
	default:
		// Makes crypto/tls itself send the right alert for an absent one: 116
		// in TLS 1.3, 40 in TLS 1.2, which has no certificate_required.
		config.ClientAuth = tls.RequireAnyClientCert
	}
	if p.ClientAuth != ClientAuthNone {
		names := g.engine.pools.of(p)
		config.ClientCAs = names.pool // only the subjects are used: we verify ourselves
		if !names.said.Fit() {
			g.ledger.Note(Entry{Step: StepServerHello, From: SideUs, Facts: names.said.String() + ": none is sent, which means any"})
		}
	}
	return config, nil
}

// verifyClient is crypto/tls's VerifyConnection.
func (g *leg) verifyClient(cs tls.ConnectionState) error {
	if what, ok := g.p.Profile.acceptable(cs.Version, cs.CipherSuite, uint16(cs.CurveID)); !ok {
		return g.refuse(Refuse(StepServerHello, reason.NoCommonSuite, what+" was negotiated, which the profile does not allow"))
	}
	if cs.DidResume {
		if e := g.inherited(&cs); e != nil {
			return g.refuse(e)
		}
	} else {
		g.origin = nil // a ticket that crypto/tls opened and then declined
	}
	if len(cs.PeerCertificates) == 0 && g.p.ClientAuth != ClientAuthOptional && g.p.ClientAuth != ClientAuthNone {
		e := Refuse(StepClientCertificate, reason.NoCertificate, "")
		if !g.p.Observe {
			return g.refuse(e)
		}
		g.observe(e)
	}
	if err := g.judge(&cs, StepClientVerified); err != nil {
		return err
	}
	g.conn.tap.goOn()
	if e := g.conn.tap.refusal(); e != nil { // of the proof that stood in one record with the certificate
		return g.refuse(e)
	}
	return nil
}

// alertFirst answers a hello with a plaintext alert, before ServerHello.
func (g *leg) alertFirst(e *Error) *Error {
	if e.Wanted == AlertNone {
		return e
	}
	var version uint16
	if g.hello != nil {
		version = g.hello.RecordVersion
	}
	if err := SendAlert(g.conn, e.Wanted, version); err != nil && e.Err == nil {
		e.Err = err
	}
	return e
}

// refuseHello says why no handshake can come of a hello; nil if one may. To
// what the profile demands it adds our certificate and ALPN. crypto/tls would
// find most of it too, but has one alert (40) for suites, groups and
// signatures, and lets a client that offers http/1.1 alone pass where only h2
// is allowed.
func (p *Params) refuseHello(h *ClientHello) *Error {
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
		ecdhe = !slices.ContainsFunc(pr.Suites12, func(id uint16) bool { return usable(id) && !isECDHE(id) })
	}
	// RSA key transport signs nothing, and a client without the extension
	// leaves the judgement to crypto/tls.
	if ecdhe && len(h.SignatureSchemes) > 0 && !p.signsFor(version, h.SignatureSchemes) {
		return refusef(reason.NoCommonSigAlg, "the client accepts %s", listed(h.SignatureSchemes, SchemeName))
	}
	return p.RefusesProtocols(h)
}

// signs says whether one of our certificates fits a TLS 1.2 CipherSuite.
func (p *Params) signs(suite uint16) bool {
	wantEC := strings.HasPrefix(SuiteName(suite), "TLS_ECDHE_ECDSA_")
	return slices.ContainsFunc(p.Certificates, func(c tls.Certificate) bool {
		_, isRSA := publicKey(&c).(*rsa.PublicKey)
		return isRSA != wantEC
	})
}

// signsFor says whether one of our certificates can sign with one of the
// schemes (RFC 8446, section 4.2.3).
func (p *Params) signsFor(version uint16, schemes []uint16) bool {
	return slices.ContainsFunc(p.Certificates, func(c tls.Certificate) bool { return p.canSign(&c, version, schemes) })
}

// canSign is signsFor of one certificate.
func (p *Params) canSign(c *tls.Certificate, version uint16, schemes []uint16) bool {
	can := p.ours(schemesOf(version, publicKey(c)))
	return can == nil || slices.ContainsFunc(can, func(s tls.SignatureScheme) bool { return slices.Contains(schemes, uint16(s)) })
}

// ours leaves of our schemes those of the profile: what it demands of peers it
// demands of us.
func (p *Params) ours(schemes []tls.SignatureScheme) []tls.SignatureScheme {
	if p.Profile.Signatures == nil || schemes == nil {
		return schemes
	}
	out := make([]tls.SignatureScheme, 0, len(schemes))
	for _, s := range schemes {
		if slices.Contains(p.Profile.Signatures, uint16(s)) {
			out = append(out, s)
		}
	}
	return out
}

// identity is Certificates with their staples, held to the profile's signature
// schemes.
func (p *Params) identity() []tls.Certificate {
	certs := p.stapled(p.Certificates)
	if p.Profile.Signatures == nil {
		return certs
	}
	out := slices.Clone(certs)
	for i := range out {
		out[i].SupportedSignatureAlgorithms = p.ours(schemesOf(versionTLS12, publicKey(&out[i])))
	}
	return out
}

// schemesOf lists what a key can sign with; nil for a kind not known here, of
// which crypto/tls must judge.
func schemesOf(version uint16, key any) []tls.SignatureScheme {
	switch k := key.(type) {
	case *rsa.PublicKey:
		s := []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
		if version < tls.VersionTLS13 {
			s = append(s, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512)
		}
		return s
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}
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

// publicKey is the key of one of our own certificates, nil if it has none.
func publicKey(c *tls.Certificate) any {
	if leaf := leafOf(c); leaf != nil {
		return leaf.PublicKey
	}
	return nil
}

// leafOf is one of our own certificates, nil if there is none that can be read.
func leafOf(c *tls.Certificate) *x509.Certificate {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}
