package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/diagram"
)

// lateAlert is how long a TLS 1.3 server may take, after the client believes the
// handshake done, to refuse it (RFC 8446, section 4.4.2.4) and to send its tickets.
const lateAlert = 500 * time.Millisecond

// drawn makes one handshake as the gateway makes it with a destination, with our own
// verification, and draws it. If the gateway would refuse, the probe continues and says
// so. crypto/tls has no version below 1.2: of a server that supports only those, only the
// plaintext questions tell something.
func (p *prober) drawn(ctx context.Context) error {
	if !p.r.accepts(tls.VersionTLS12) && !p.r.accepts(tls.VersionTLS13) {
		p.r.Ended = "not tried: the server speaks no version from TLS 1.2 on"
		return nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	one, cancel := context.WithTimeout(ctx, p.perConn)
	defer cancel()
	if err := c.SetDeadline(p.deadline(ctx)); err != nil {
		return err
	}
	ledger := handshake.NewLedger(time.Now())
	s, err := p.o.Engine.Client(one, c, p.observing(everything(p.o.Engine)), nil, ledger)
	p.r.Entries, p.r.Lost = ledger.Entries(), ledger.Lost()
	p.r.Picture = diagram.Flow{Destination: diagram.Leg{Entries: p.r.Entries, Lost: p.r.Lost}, NoClient: true}.Draw()
	if err != nil {
		p.r.Ended = show(err.Error())
		var e *handshake.Error
		if errors.As(err, &e) && e.Peer != nil {
			p.addPeer(e.Peer)
		}
		return nil // the verdict is an answer; the probe goes on
	}
	defer func() { _ = s.Conn.Close() }()
	p.addPeer(s.Peer)
	if s.Observed != nil {
		p.r.Ended = "the gateway would have ended it: " + show(s.Observed.Error())
	}
	p.r.Agreed = &Agreed{Version: handshake.VersionName(s.Version), Suite: handshake.SuiteName(s.Suite)}
	if s.Group != 0 {
		p.r.Agreed.Group = handshake.GroupName(s.Group)
	}
	return nil
}

// alone makes a whole handshake with one CipherSuite of TLS 1.3 and no other, by the engine
// that is able to offer one alone. False: there is none, or it did not end well; then a bare
// hello is asked.
func (p *prober) alone(ctx context.Context, suite uint16) (bool, error) {
	own := p.o.Engine.Capabilities().Of(handshake.EngineNative)
	pr := everything(p.o.Engine)
	pr.Engine, pr.MinVersion, pr.MaxVersion = handshake.EngineNative, tls.VersionTLS13, tls.VersionTLS13
	pr.Suites13 = []uint16{suite}
	if own == nil || !slices.Contains(own.Suites, suite) || !own.Dials(&pr) {
		return false, nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	one, cancel := context.WithTimeout(ctx, p.perConn)
	defer cancel()
	s, err := p.o.Engine.Client(one, c, p.observing(pr), nil, handshake.NewLedger(time.Now()))
	if ctx.Err() != nil {
		return false, fmt.Errorf("time is up after %d connections", p.r.Connections)
	}
	if err != nil {
		return false, nil
	}
	defer func() { _ = s.Conn.Close() }()
	p.addPeer(s.Peer)
	return s.Suite == suite, nil
}

// observing is the plan of a handshake whose chain is judged and never refused.
func (p *prober) observing(pr handshake.Profile) *handshake.ClientParams {
	params := &handshake.ClientParams{
		Params:     handshake.Params{Profile: pr, Authorities: []*handshake.Authority{p.trust}, Observe: true},
		ServerName: p.sni, VerifyName: p.name,
	}
	if p.o.Certificate != nil {
		params.Certificates = []tls.Certificate{*p.o.Certificate}
	}
	return params
}

func (p *prober) addPeer(peer *handshake.Peer) {
	if peer == nil {
		return
	}
	var shown [][]byte
	for _, c := range peer.Shown {
		shown = append(shown, c.Raw)
	}
	p.addCertificate(shown)
}

// everything is a profile of all that the engine supports: the probe wants to see, not to
// refuse.
func everything(engine handshake.Planner) handshake.Profile {
	pr := engine.Capabilities().Widest()
	able := pr.Groups
	pr.Name, pr.Groups = "probe", nil
	for _, g := range allGroups() {
		if slices.Contains(able, g) {
			pr.Groups = append(pr.Groups, g)
		}
	}
	return pr
}

// complete learns what only a whole handshake shows: the certificate request of TLS 1.3,
// how the server reacts to our certificate or to "no certificate", tickets. The chain was
// judged already and is ignored here. No data is sent.
func (p *prober) complete(ctx context.Context) error {
	for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		if !p.r.accepts(v) {
			continue
		}
		cache := &oneTicket{}
		first, err := p.whole(ctx, v, cache)
		if err != nil {
			return err
		}
		if first.request != nil {
			p.request(first.request).Answer = first.answer
		}
		res := Resumption{Version: handshake.VersionName(v), Ticket: cache.state != nil}
		switch {
		case first.failed != "":
			res.Note = "not known: " + first.failed
		case cache.state != nil:
			second, err := p.whole(ctx, v, cache)
			if err != nil {
				return err
			}
			res.Resumed = second.resumed
		}
		p.r.Resumption = append(p.r.Resumption, res)
	}
	return nil
}

// oneTicket is a cache for one server.
type oneTicket struct{ state *tls.ClientSessionState }

// Get returns the last ticket.
func (c *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return c.state, c.state != nil }

// Put stores a ticket; nil removes it.
func (c *oneTicket) Put(_ string, s *tls.ClientSessionState) { c.state = s }

// outcome is the outcome of one whole handshake.
type outcome struct {
	request *Request
	answer  string // what became of our answer to the request
	resumed bool
	failed  string
}

// whole makes a handshake with crypto/tls in one version and waits for what the server
// sends after it.
func (p *prober) whole(ctx context.Context, version uint16, cache tls.ClientSessionCache) (outcome, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = c.Close() }()
	one, cancel := context.WithTimeout(ctx, p.perConn)
	defer cancel()
	var o outcome
	showed := false
	all := everything(p.o.Engine)
	config := &tls.Config{
		ServerName: p.name, MinVersion: version, MaxVersion: version, CipherSuites: all.Suites12, ClientSessionCache: cache,
		// The chain was judged by addCertificate; nothing is sent here.
		InsecureSkipVerify: true, //nolint:gosec // see above
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			o.request = requestInfo(r)
			if p.o.Certificate != nil && r.SupportsCertificate(p.o.Certificate) == nil {
				showed = true
				return p.o.Certificate, nil
			}
			return &tls.Certificate{}, nil
		},
	}
	t := tls.Client(c, config)
	err = t.HandshakeContext(one)
	if err == nil {
		o.resumed = t.ConnectionState().DidResume
		p.addPeer(&handshake.Peer{Shown: t.ConnectionState().PeerCertificates})
		if version >= tls.VersionTLS13 {
			p.r.Features.Staple = p.r.Features.Staple || len(t.ConnectionState().OCSPResponse) > 0
			if !o.resumed {
				err = late(t)
			}
		}
		_ = t.Close()
	}
	if ctx.Err() != nil {
		return o, fmt.Errorf("time is up after %d connections", p.r.Connections)
	}
	if err != nil {
		o.failed = show(err.Error())
	}
	if o.request != nil {
		o.answer = identity(p.o.Certificate != nil, showed, o.failed)
	}
	return o, nil
}

func identity(have, showed bool, failed string) string {
	what := "without a certificate"
	switch {
	case showed:
		what = "with our certificate"
	case have:
		what = "without a certificate, for ours is of no CA that the server named, or of no kind that it takes,"
	}
	if failed != "" {
		return what + " the server refused: " + failed
	}
	return what + " the server went on"
}

// late reads what the server sends once the client believes the handshake done. Data or silence
// are fine; an alert is returned as the error.
func late(t *tls.Conn) error {
	if err := t.SetReadDeadline(time.Now().Add(lateAlert)); err != nil {
		return err
	}
	_, err := t.Read(make([]byte, 1))
	var ne net.Error
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return nil
	}
	return err
}

// request keeps one request for each version: the first. If there was a plaintext
// question, that is its request, which has the certificate types that crypto/tls does not
// tell.
func (p *prober) request(q *Request) *Request {
	for i := range p.r.Requests {
		if p.r.Requests[i].Version == q.Version {
			return &p.r.Requests[i]
		}
	}
	p.r.Requests = append(p.r.Requests, *q)
	return &p.r.Requests[len(p.r.Requests)-1]
}

// maxCANames bounds the CA names that are shown.
const maxCANames = 100

func requestInfo(r *tls.CertificateRequestInfo) *Request {
	q := &Request{Version: handshake.VersionName(r.Version)}
	for _, s := range r.SignatureSchemes {
		q.Schemes = append(q.Schemes, handshake.SchemeName(uint16(s)))
	}
	q.add(r.AcceptableCAs)
	return q
}

func request12(f *flight) *Request {
	q := &Request{Version: handshake.VersionName(f.hello.version)}
	for _, t := range f.request.types {
		q.Types = append(q.Types, certificateType(t))
	}
	for _, s := range f.request.schemes {
		q.Schemes = append(q.Schemes, handshake.SchemeName(s))
	}
	q.add(f.request.names)
	return q
}

func (q *Request) add(names [][]byte) {
	for i, der := range names {
		q.Bytes += len(der)
		switch {
		case i < maxCANames:
			q.CANames = append(q.CANames, certname.Shown(der, 0))
		case i == maxCANames:
			q.CANames = append(q.CANames, fmt.Sprintf("and %d more", len(names)-maxCANames))
		}
	}
}

// certificateType is IANA's "TLS ClientCertificateType Identifiers".
func certificateType(t byte) string {
	switch t {
	case 1:
		return "rsa_sign"
	case 2:
		return "dss_sign"
	case 3:
		return "rsa_fixed_dh"
	case 4:
		return "dss_fixed_dh"
	case 64:
		return "ecdsa_sign"
	case 65:
		return "rsa_fixed_ecdh"
	case 66:
		return "ecdsa_fixed_ecdh"
	}
	return fmt.Sprintf("type %d", t)
}
