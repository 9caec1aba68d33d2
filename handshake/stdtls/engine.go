package stdtls

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// Engine does handshakes with Go's crypto/tls. What it keeps of a Profile:
//
//   - versions: exactly;
//   - TLS 1.2 CipherSuites and groups: exactly as sets, and on the server side
//     in the order that the profile asks for (narrow.go);
//   - TLS 1.3 CipherSuites: all three or nothing, see Cannot. A handshake that
//     would end up outside Suites13 is held at TLS 1.2 where the profile says
//     so, else refused, never accepted;
//   - signature schemes: the CertificateRequest and the hello to a destination
//     have crypto/tls's fixed list; what is then proven with another scheme
//     than the profile's is refused.
//
// Tickets: see handshake.TicketRule. Renegotiation is refused, early data is refused
// with unsupported_extension. An Engine is safe for many goroutines; its state is
// caches and the buffers that it lends.
type Engine struct {
	buffers recordBuffers
	chains  handshake.ChainCache
	pools   caPools
	names   nameTexts
}

// New returns the engine on crypto/tls.
func New() *Engine { return &Engine{} }

// Cannot lists what crypto/tls cannot keep of p.
func (*Engine) Cannot(p *handshake.Params) []handshake.Limit {
	var limits []handshake.Limit
	pr := &p.Profile
	left := func(id uint16) bool { return !slices.Contains(pr.Suites13, id) }
	if pr.Suites13 == nil || pr.MaxVersion < tls.VersionTLS13 || !slices.ContainsFunc(handshake.Suites13(), left) {
		return limits
	}
	names := make([]string, 0, len(handshake.Suites13()))
	for _, id := range handshake.Suites13() {
		names = append(names, handshake.SuiteName(id))
	}
	all := strings.Join(names, ", ")
	switch {
	case !pr.Cap12:
		limits = append(limits, handshake.Limit{
			What: "a list of TLS 1.3 CipherSuites other than " + all,
			Why:  "crypto/tls always offers and accepts all three",
		})
	case pr.MinVersion > tls.VersionTLS12 || len(pr.Suites12) == 0:
		limits = append(limits, handshake.Limit{
			What: "a list of TLS 1.3 CipherSuites other than " + all + ", even with inexpressible: cap-1.2",
			Why:  "the profile allows no TLS 1.2 to hold such connections at",
		})
	}
	return limits
}

// config builds the part of a tls.Config that both legs share, for one
// connection. crypto/tls reads an absent list as "the default one", which
// would widen the profile, so such profiles are refused here.
func config(p *handshake.Params, t *tap) (*tls.Config, *handshake.Error) {
	pr := &p.Profile
	if pr.MinVersion < tls.VersionTLS12 || pr.MaxVersion < pr.MinVersion || pr.MaxVersion > tls.VersionTLS13 {
		return nil, handshake.OurFault(fmt.Sprintf("profile %q allows no version", pr.Name))
	}
	if len(pr.Groups) == 0 {
		return nil, handshake.OurFault(fmt.Sprintf("profile %q allows no key exchange group", pr.Name))
	}
	c := &tls.Config{
		MinVersion: pr.MinVersion, MaxVersion: pr.MaxVersion,
		CipherSuites:                append([]uint16{}, pr.Suites12...), // never nil
		Time:                        p.Time,
		NextProtos:                  p.ALPN,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		Renegotiation:               tls.RenegotiateNever,
		KeyLogWriter:                t,
	}
	for _, g := range pr.Groups {
		c.CurvePreferences = append(c.CurvePreferences, tls.CurveID(g))
	}
	return c, nil
}

// stateOf translates crypto/tls's view.
func stateOf(cs *tls.ConnectionState) handshake.State {
	return handshake.State{
		Version: cs.Version, Suite: cs.CipherSuite, Group: uint16(cs.CurveID),
		ALPN: cs.NegotiatedProtocol, ServerName: cs.ServerName,
		Resumed: cs.DidResume, HelloRetry: cs.HelloRetryRequest,
	}
}

// leg is one handshake under way.
type leg struct {
	p       *handshake.Params
	server  *handshake.ServerParams // whose Params p is; nil on the other side
	client  *handshake.ClientParams // likewise
	hello   *handshake.ClientHello  // server side; may be nil
	check   handshake.CheckPeer
	ledger  *handshake.Ledger
	conn    *tapConn
	engine  *Engine
	shown   []tls.Certificate // server side: the one chosen for the hello
	refused *handshake.Error  // what verify said, if it refused
	peer    *handshake.Peer   // claimed; nil if nothing was shown
	// observed is what would have refused without Params.Observe.
	observed *handshake.Error
	origin   *origin // of the ticket that was opened last
}

// leg begins a handshake.
func (e *Engine) leg(p *handshake.Params, check handshake.CheckPeer, l *handshake.Ledger, conn net.Conn, t *tap) *leg {
	t.names = &e.names
	if t.brief = p.Ledger == handshake.LedgerSteps; !p.Observe {
		t.schemes = p.Profile.Signatures
	}
	t.certBytes = p.CertificateBytes() + besidesChain
	return &leg{engine: e, p: p, check: check, ledger: l, conn: &tapConn{Conn: conn, tap: t, buffers: &e.buffers}}
}

// end takes the tap off after crypto/tls has returned. What the tap refused
// gets its alert from us, for crypto/tls has sent none. Where the profile asks
// for a signature scheme, that it was seen is part of it.
func (g *leg) end(err error) (tapped, error) {
	refusal := g.conn.tap.refusal()
	if refusal == nil && unsendable(err) {
		refusal = handshake.OurFault("a message of ours does not fit its format: " + err.Error())
		refusal.Step, refusal.Err = handshake.StepServerHello, err
	}
	if refusal != nil && g.refused == nil {
		refused := g.refuse(refusal)
		if g.conn.sendOwn(refusal.Wanted); err == nil {
			err = refused
		}
	}
	seen := g.conn.detach(err != nil)
	g.charge(seen)
	if g.origin != nil {
		seen.peerScheme = g.origin.Scheme
	}
	if err == nil && seen.unread != "" && !g.p.Observe {
		// crypto/tls took what the tap cannot read, so nobody has judged it.
		return seen, g.refuse(g.notRead(seen))
	}
	if err != nil || g.peer == nil || g.p.Profile.Signatures == nil || slices.Contains(g.p.Profile.Signatures, seen.peerScheme) {
		return seen, err
	}
	// Seen too late, only observed, or not seen at all.
	e := g.conn.tap.badScheme(seen.peerScheme)
	if !g.p.Observe {
		return seen, g.refuse(e)
	}
	if g.peer.Refusal == nil {
		g.peer = &handshake.Peer{Shown: g.peer.Shown, Refusal: e, OCSPStaple: g.peer.OCSPStaple}
		g.observe(e)
	}
	return seen, nil
}

// notRead refuses a handshake that the tap could not follow to its end.
func (g *leg) notRead(seen tapped) *handshake.Error {
	e := handshake.Refuse(g.step(seen), g.pick(reason.HandshakeFailed, reason.UpstreamFailed), "the handshake cannot be followed: "+seen.unread)
	e.Wanted = handshake.AlertNone // there is none to send any more
	return e
}

// besidesChain is the room in a Certificate message for what is not the
// certificates: lengths, an OCSP answer and SCTs (RFC 8446, section 4.4.2.1),
// each some KiB at most. In bytes.
const besidesChain = 16 << 10

// charge adds up what the messages that went by have cost us. What the peer's
// chain has cost is in the ledger already, see verifyChain.
func (g *leg) charge(seen tapped) {
	u := work.Bytes(seen.read) + work.Records(seen.records)
	var own crypto.PublicKey
	certs := g.shown
	if certs == nil {
		certs = g.p.Certificates // which of them was shown is not known here: the dearest
	}
	for _, c := range certs {
		if k, ok := c.PrivateKey.(crypto.Signer); ok && work.Sign(k.Public()) > work.Sign(own) {
			own = k.Public()
		}
	}
	if seen.exchanged {
		u += work.KeyExchange(tls.CurveID(seen.group), own)
	}
	if seen.weSigned {
		u += work.Sign(own)
	}
	if seen.peerScheme != 0 && g.peer != nil {
		u += work.Verify(g.peer.Leaf().PublicKey)
	}
	g.ledger.Spend(u)
}

func (g *leg) usage() x509.ExtKeyUsage {
	if g.server != nil {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

// refuse remembers a refusal, so that the caller gets the very same error, and
// sees to its alert.
func (g *leg) refuse(e *handshake.Error) error {
	if e.Peer == nil {
		e.Peer = g.peer
	}
	g.refused = e
	g.conn.tap.want(e.Wanted)
	return e
}

// observe notes what would have refused the peer.
func (g *leg) observe(e *handshake.Error) {
	g.observed = e
	g.ledger.Note(handshake.Entry{Step: e.Step, From: handshake.SideUs, Facts: "observed, not enforced: " + string(e.Reason) + " " + e.Detail})
}

// judge verifies the chain that was shown and asks check. crypto/tls calls it
// before the peer has proved possession of the key, so it may only refuse.
func (g *leg) judge(cs *tls.ConnectionState, step handshake.Step) error {
	state := stateOf(cs)
	if len(cs.PeerCertificates) > 0 {
		g.peer = &handshake.Peer{Shown: cs.PeerCertificates, OCSPStaple: cs.OCSPResponse}
		verified, refusal := g.verifyChain(cs)
		switch {
		case refusal == nil:
			verified.OCSPStaple = cs.OCSPResponse
			g.peer = verified
			g.peer.OCSPStaple = cs.OCSPResponse // only a TLS 1.3 client can send one
		case g.p.Observe && g.p.WithinBounds(cs.PeerCertificates):
			g.peer.Refusal = refusal
			g.observe(refusal)
		default:
			return g.refuse(refusal)
		}
	}
	state.Observed = g.observed
	if g.check != nil {
		if err := g.check(g.peer, &state); err != nil {
			e := handshake.AsError(err)
			if e.Step == handshake.StepNone {
				e.Step = step
			}
			return g.refuse(e)
		}
	}
	if g.peer != nil && g.peer.Chain != nil && g.p.Ledger == handshake.LedgerFull {
		g.ledger.Note(handshake.Entry{Step: step, From: handshake.SideUs, Facts: "chain verified: " + g.peer.Describe() + "; possession of the key not proven yet"})
	}
	return nil
}

func (g *leg) verifyChain(cs *tls.ConnectionState) (*handshake.Peer, *handshake.Error) {
	verify := func(shown []*x509.Certificate, usage x509.ExtKeyUsage, p *handshake.Params) (*handshake.Peer, *handshake.Error) {
		peer, spent, e := g.engine.chains.Verify(shown, usage, p)
		g.ledger.Spend(spent)
		return peer, e
	}
	if g.server != nil {
		return verify(cs.PeerCertificates, g.usage(), g.p)
	}
	state := stateOf(cs)
	return g.client.VerifyDestination(cs.PeerCertificates, &state, verify)
}

// session ends a handshake that went well: only now is the peer proven.
func (g *leg) session(tc *tls.Conn, seen tapped) *handshake.Session {
	cs := tc.ConnectionState()
	state := stateOf(&cs)
	state.Observed = g.observed
	state.ExtendedMasterSecret = state.Version >= tls.VersionTLS13 || seen.ems
	conn := &sessionConn{Conn: tc, raw: g.conn, ledger: g.ledger}
	s := &handshake.Session{State: state, Conn: conn}
	if g.server != nil {
		s.Granted = conn.grant
	}
	if g.peer != nil {
		proven := *g.peer
		proven.Proven, proven.SignatureScheme = true, seen.peerScheme
		s.Peer = &proven
	}
	return s
}

// CachedChains is how many verified chains are remembered.
func (e *Engine) CachedChains() int { return e.chains.Len() }

var _ handshake.Engine = (*Engine)(nil)
