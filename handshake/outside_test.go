package handshake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// outside is an engine that another package could have: it has nothing of this
// package but what is exported. It speaks TLS 1.3 alone.
type outside struct {
	chains handshake.ChainCache
}

var _ handshake.Engine = (*outside)(nil)

func (*outside) Capabilities() *handshake.Capabilities {
	return &handshake.Capabilities{
		Engine: "the outside engine", Versions: []uint16{tls.VersionTLS13}, Suites: handshake.Suites13(),
		Groups: []uint16{uint16(tls.X25519)}, Schemes: []uint16{uint16(tls.ECDSAWithP256AndSHA256)},
	}
}

func (*outside) Cannot(p *handshake.Params) []handshake.Limit {
	if p.Profile.MinVersion < tls.VersionTLS13 {
		return []handshake.Limit{{What: "TLS 1.2", Why: "the outside engine has TLS 1.3 alone"}}
	}
	return nil
}

func (*outside) Refuses(p *handshake.ServerParams, h *handshake.ClientHello) *handshake.Error {
	return p.RefusesHello(h)
}

func (*outside) SetBufferRoom(int64)  {}
func (*outside) RecordBuffers() int64 { return 0 }
func (e *outside) CachedChains() int  { return e.chains.Len() }

// late is the connection below TLS. What crypto/tls writes after the client's last
// flight, its session tickets, waits until it is let go.
type late struct {
	net.Conn
	answered, waits bool
	held            []byte
}

func (c *late) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.waits = c.waits || c.answered && n > 0
	return n, err
}

func (c *late) Write(b []byte) (int, error) {
	if c.waits {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	c.answered = true
	return c.Conn.Write(b)
}

func (c *late) letGo() error {
	c.answered, c.waits = false, false
	_, err := c.Conn.Write(c.held)
	return err
}

// granted is a connection that sends nothing before Session.Grant.
type granted struct {
	*tls.Conn
	below *late
	open  bool
}

func (c *granted) Write(b []byte) (int, error) {
	if !c.open {
		return 0, errors.New("not granted")
	}
	return c.Conn.Write(b)
}

func (e *outside) Server(ctx context.Context, conn net.Conn, h *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if !l.HasHello() {
		l.NoteHello(h)
	}
	if refused := e.Refuses(p, h); refused != nil {
		return nil, errors.Join(refused, handshake.SendAlert(conn, refused.Wanted, h.RecordVersion))
	}
	var peer *handshake.Peer
	state := func(cs *tls.ConnectionState) handshake.State {
		return handshake.State{Version: cs.Version, Suite: cs.CipherSuite, Group: uint16(cs.CurveID), Resumed: cs.DidResume, ExtendedMasterSecret: true}
	}
	binding := p.TicketBinding(h.ServerName)
	var config *tls.Config
	config = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: p.Certificates, Time: p.Time,
		ClientAuth: tls.RequireAnyClientCert, ClientCAs: p.Announced().Pool,
		WrapSession: func(_ tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
			b, err := s.Bytes()
			if err != nil {
				return nil, err
			}
			return p.Ticket.Keys.Seal(b, binding, p.Time())
		},
		UnwrapSession: func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
			b := p.Ticket.Keys.Open(ticket, binding, p.Time())
			if b == nil {
				return nil, nil
			}
			return tls.ParseSessionState(b)
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			verified, spent, refused := e.chains.Verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, &p.Params)
			l.Spend(spent)
			if refused != nil {
				return refused
			}
			peer = verified
			// A resumed client would get another ticket in our first flight, which
			// cannot be held back.
			config.SessionTicketsDisabled = cs.DidResume
			s := state(&cs)
			return check(peer, &s)
		},
	}
	config.SetSessionTicketKeys([][32]byte{{1}}) // never used, as both hooks are set
	below := &late{Conn: conn}
	tc := tls.Server(below, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(handshake.AsError(err), below.letGo())
	}
	cs := tc.ConnectionState()
	for s := handshake.StepServerHello; s < handshake.StepApplicationData; s++ {
		l.Complete(s)
	}
	s := &handshake.Session{State: state(&cs), Peer: peer}
	l.Decide(handshake.StepApplicationData, s.Agreed()+", "+peer.Describe())
	peer.Proven = true
	c := &granted{Conn: tc, below: below}
	s.Conn, s.Granted = c, func() { c.open = below.letGo() == nil }
	return s, nil
}

func (*outside) Client(context.Context, net.Conn, *handshake.ClientParams, handshake.CheckPeer, *handshake.Ledger) (*handshake.Session, error) {
	return nil, handshake.Refuse(handshake.StepClientHello, reason.Internal, "a server alone")
}

// The contract is one that another package can keep: plan, verification, tickets,
// ledger and the grant need nothing that is not exported.
func TestEngineOutside(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	gateway := testpki.Must(ca.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}}))
	client := testpki.Must(ca.Issue(testpki.Leaf{CN: "alice"}))
	e := &outside{}
	profiles, err := handshake.ResolveProfiles(map[string]handshake.ProfileSpec{"house": {Base: "modern", Groups: []string{"X25519"}}}, e.Capabilities())
	if err != nil {
		t.Fatal(err)
	}
	p := &handshake.ServerParams{
		Params: handshake.Params{
			Profile: profiles["house"], Certificates: []tls.Certificate{gateway.TLS()},
			Authorities: []*handshake.Authority{{Name: "staff", Roots: []*x509.Certificate{ca.Cert}}},
		},
		Ticket: &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)},
	}
	config := &tls.Config{
		RootCAs: ca.Pool(), ServerName: "gateway.test", Certificates: []tls.Certificate{client.TLS()},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for _, resumed := range []bool{false, true} {
		s, l, read := throughOutside(t, e, p, config)
		switch {
		case s.Resumed != resumed, s.Peer == nil, !s.Peer.Proven, s.Peer.Authority != "staff", read != "ok":
			t.Errorf("resumed %v: %+v, %q", resumed, s, read)
		case l.Reached() != handshake.StepApplicationData, !strings.Contains(l.Entries()[len(l.Entries())-1].Facts, "authority staff"):
			t.Errorf("resumed %v: %v, %+v", resumed, l.Reached(), l.Entries())
		}
	}
	if e.CachedChains() != 1 {
		t.Errorf("%d chains", e.CachedChains())
	}
	if _, err := e.Capabilities().GroupByName("P-256"); err == nil || err.Error() != "group secp256r1 is not implemented by the outside engine" {
		t.Error(err)
	}
	if w := e.Capabilities().Widest(); w.MaxVersion != tls.VersionTLS13 || len(w.Suites12) != 0 || len(w.Groups) != 1 {
		t.Errorf("widest: %+v", w)
	}
}

// throughOutside makes one handshake; read is what the client got.
func throughOutside(t *testing.T, e handshake.Engine, p *handshake.ServerParams, config *tls.Config) (s *handshake.Session, l *handshake.Ledger, read string) {
	t.Helper()
	ctx := testenv.Context(t)
	cc, sc := testenv.TCPPair(t)
	type result struct {
		s   *handshake.Session
		err error
	}
	l = handshake.NewLedger(time.Now())
	done := make(chan result, 1)
	go func() {
		defer func() { _ = sc.Close() }()
		hello, conn, err := handshake.Peek(ctx, sc, 0)
		if err != nil {
			done <- result{nil, err}
			return
		}
		s, err := e.Server(ctx, conn, hello, p, func(*handshake.Peer, *handshake.State) error { return nil }, l)
		if err == nil {
			if _, werr := s.Conn.Write([]byte("early")); werr == nil {
				err = errors.New("written before the grant")
			}
			if waits := len(s.Conn.(*granted).below.held) > 0; waits == s.Resumed {
				err = fmt.Errorf("resumed %v, and that a ticket waits for the grant is %v", s.Resumed, waits)
			}
			s.Grant()
			_, werr := s.Conn.Write([]byte("ok"))
			err = errors.Join(err, werr, s.Conn.CloseWrite())
		}
		done <- result{s, err}
	}()
	tc := tls.Client(cc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(tc)
	_ = cc.Close()
	r := testenv.Receive(t, "the server's end", done)
	if err != nil || r.err != nil {
		t.Fatal(err, r.err)
	}
	return r.s, l, string(data)
}
