package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/reason"
)

// StdEngine does handshakes with Go's crypto/tls. What it keeps of a Profile:
//
//   - versions: exactly;
//   - TLS 1.2 CipherSuites and groups: as sets. Which of them is used follows
//     crypto/tls's own preference (AEAD with hardware support first; hybrid
//     ML-KEM groups, then groups with a key share), not the order of the lists;
//   - TLS 1.3 CipherSuites: all three or nothing, see Cannot. A handshake that
//     ends up outside Suites13 is refused, never accepted;
//   - signature algorithms of a CertificateRequest: crypto/tls's fixed list.
//
// Session tickets are off, renegotiation is refused, early data is refused
// with unsupported_extension.
type StdEngine struct{}

// NewStdEngine returns the engine on crypto/tls. It has no state.
func NewStdEngine() *StdEngine { return &StdEngine{} }

// Cannot lists what crypto/tls cannot keep of p.
func (*StdEngine) Cannot(p *Params) []Limit {
	var limits []Limit
	if s := p.Profile.Suites13; s != nil && p.Profile.MaxVersion >= tls.VersionTLS13 && !containsAll(s, allSuites13()) {
		limits = append(limits, Limit{
			What: "a list of TLS 1.3 CipherSuites other than " + strings.Join(names(allSuites13(), SuiteName), ", "),
			Why:  "crypto/tls always offers and accepts all three",
		})
	}
	return limits
}

func containsAll(have, want []uint16) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

func names(ids []uint16, name func(uint16) string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = name(id)
	}
	return out
}

// config builds the part of a tls.Config that both legs share, for one
// connection. crypto/tls reads an absent list as "the default one", which
// would widen the profile, so such profiles are refused here.
func (p *Params) config(t *tap) (*tls.Config, *Error) {
	pr := &p.Profile
	if pr.MinVersion < tls.VersionTLS12 || pr.MaxVersion < pr.MinVersion || pr.MaxVersion > tls.VersionTLS13 {
		return nil, ours(fmt.Sprintf("profile %q allows no version", pr.Name))
	}
	if len(pr.Groups) == 0 {
		return nil, ours(fmt.Sprintf("profile %q allows no key exchange group", pr.Name))
	}
	c := &tls.Config{
		MinVersion: pr.MinVersion, MaxVersion: pr.MaxVersion,
		CipherSuites:                append([]uint16{}, pr.Suites12...), // never nil
		Time:                        p.now,
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

// ours is a failure that is our own doing.
func ours(detail string) *Error {
	return &Error{Reason: reason.Internal, Side: SideUs, Wanted: AlertInternalError, Received: AlertNone, Detail: detail}
}

// acceptable says whether what crypto/tls negotiated lies within the profile:
// it decides the TLS 1.3 CipherSuite without asking. group 0 is not known yet,
// or RSA key transport.
func (pr *Profile) acceptable(version, suite, group uint16) (what string, ok bool) {
	switch {
	case version < pr.MinVersion || version > pr.MaxVersion:
		return VersionName(version), false
	case version >= tls.VersionTLS13 && pr.Suites13 != nil && !slices.Contains(pr.Suites13, suite),
		version < tls.VersionTLS13 && !slices.Contains(pr.Suites12, suite):
		return SuiteName(suite), false
	case group != 0 && !slices.Contains(pr.Groups, group):
		return GroupName(group), false
	}
	return "", true
}

// stateOf translates crypto/tls's view.
func stateOf(cs *tls.ConnectionState) State {
	return State{
		Version: cs.Version, Suite: cs.CipherSuite, Group: uint16(cs.CurveID),
		ALPN: cs.NegotiatedProtocol, ServerName: cs.ServerName,
		Resumed: cs.DidResume, HelloRetry: cs.HelloRetryRequest,
	}
}

// leg is one handshake under way.
type leg struct {
	server  bool
	p       *Params
	hello   *ClientHello // server side; may be nil
	check   CheckPeer
	ledger  *Ledger
	conn    *tapConn
	refused *Error // what verify said, if it refused
	peer    *Peer  // claimed; nil if nothing was shown
}

func (g *leg) usage() x509.ExtKeyUsage {
	if g.server {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

// refuse remembers a refusal, so that the caller gets the very same error.
func (g *leg) refuse(e *Error) error {
	if e.Peer == nil {
		e.Peer = g.peer
	}
	g.refused = e
	return e
}

// judge verifies the chain that was shown and asks check. crypto/tls calls it
// before the peer has proved possession of the key, so it may only refuse.
func (g *leg) judge(cs *tls.ConnectionState, step Step) error {
	state := stateOf(cs)
	if len(cs.PeerCertificates) > 0 {
		g.peer = &Peer{Shown: cs.PeerCertificates}
		verified, refusal := Verify(cs.PeerCertificates, g.p.Authorities, g.usage(), g.p)
		if refusal != nil {
			return g.refuse(refusal)
		}
		g.peer = verified
		if !g.server {
			if e := g.verifyName(); e != nil {
				return g.refuse(e)
			}
		}
	}
	if g.check != nil {
		if err := g.check(g.peer, &state); err != nil {
			e := AsError(err)
			if e.Step == StepNone {
				e.Step = step
			}
			return g.refuse(e)
		}
	}
	if g.peer != nil {
		g.ledger.Note(Entry{Step: step, From: SideUs, Facts: "chain verified: " + describePeer(g.peer) + "; possession of the key not proven yet"})
	}
	return nil
}

// session ends a handshake that went well: only now is the peer proven.
func (g *leg) session(tc *tls.Conn, seen observed) *Session {
	cs := tc.ConnectionState()
	s := &Session{State: stateOf(&cs), Conn: &sessionConn{Conn: tc, raw: g.conn, ledger: g.ledger}}
	if g.peer != nil {
		proven := *g.peer
		proven.Proven, proven.SignatureScheme = true, seen.peerScheme
		s.Peer = &proven
	}
	return s
}

var _ Engine = (*StdEngine)(nil)
