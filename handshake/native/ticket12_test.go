package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// ticketed12 is a plan of TLS 1.2 with tickets.
func ticketed12(change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	p := params12(change...)
	p.Ticket = &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)}
	return p
}

// cached is a client of TLS 1.2 that keeps its session.
func cached(certs ...tls.Certificate) *tls.Config {
	config := config12(certs...)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return config
}

// A client that comes back resumes, is judged again, and what is known of it is what was
// known. Each engine opens the tickets of the other.
func TestResumption12(t *testing.T) {
	std, own := handshake.Engine(stdtls.New()), handshake.Engine(New(stdtls.New()))
	for name, engines := range map[string][4]handshake.Engine{
		"native": {own, own, own, own}, "of the other": {std, own, own, own}, "by the other": {own, std, std, std}, "there and back": {own, std, own, std},
	} {
		t.Run(name, func(t *testing.T) {
			p, config := ticketed12(), cached(alice())
			var first *handshake.Session
			for i, engine := range engines {
				o, cs, err := (&rig{engine: engine, plan: p}).withGo(t, config)
				switch {
				case err != nil || o.err != nil:
					t.Fatal(i, err, o.err)
				case o.s.Resumed != (i > 0) || cs.DidResume != (i > 0):
					t.Fatalf("%d: resumed %v, the client %v", i, o.s.Resumed, cs.DidResume)
				case o.s.Peer == nil || !o.s.Peer.Proven || o.s.Peer.Authority != "staff" || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256):
					t.Errorf("%d: %+v", i, o.s.Peer)
				case o.asked != 1 || o.proven != (engine == own): // crypto/tls asks before
					t.Errorf("%d: asked %d times, proven %v", i, o.asked, o.proven)
				case o.l.Reached() != handshake.StepApplicationData || !o.s.ExtendedMasterSecret:
					t.Errorf("%d: reached %v, %+v", i, o.l.Reached(), o.s.State)
				}
				if i == 0 {
					first = o.s
				} else if !o.s.Peer.Leaf().Equal(first.Peer.Leaf()) || o.s.Suite != first.Suite || o.s.Group != first.Group {
					t.Errorf("%d: another session: %+v", i, o.s.State)
				}
				inherited := 0
				for _, e := range o.l.Entries() {
					if strings.HasPrefix(e.Facts, "inherited from session ") {
						inherited++
					}
				}
				if inherited != 4*min(i, 1) {
					t.Errorf("%d: %d steps are inherited", i, inherited)
				}
			}
		})
	}
}

// What has changed meanwhile leads to a full handshake, and what makes the client bad to
// a refusal.
func TestNoResumption12(t *testing.T) {
	var skew atomic.Int64
	nothing := func(*handshake.ServerParams) {}
	for name, c := range map[string]struct {
		change func(*handshake.ServerParams)
		client func(*tls.Config)
		later  time.Duration
		code   reason.Code // "": a full handshake
	}{
		"another rule": {func(p *handshake.ServerParams) {
			p.Ticket = &handshake.TicketRule{Binding: []byte("other"), Keys: p.Ticket.Keys}
		}, nil, 0, ""},
		"other keys": {func(p *handshake.ServerParams) {
			p.Ticket = &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)}
		}, nil, 0, ""},
		"another suite": {func(p *handshake.ServerParams) {
			p.Profile.Suites12 = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, nil, 0, ""},
		"another group":   {func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }, nil, 0, ""},
		"no tickets":      {func(p *handshake.ServerParams) { p.Ticket = nil }, nil, 0, ""},
		"observed":        {func(p *handshake.ServerParams) { p.Observe = true }, nil, 0, ""},
		"nobody is asked": {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, nil, 0, ""},
		"another scheme": {func(p *handshake.ServerParams) {
			p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.PSSWithSHA256)}
		}, nil, 0, ""},
		"TLS 1.3": {func(p *handshake.ServerParams) { p.Profile.MaxVersion = tls.VersionTLS13 }, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS13 }, 0, ""},
		"another suite of the client": {nothing, func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, 0, ""},
		"a session that has ended": {nothing, nil, 61 * time.Minute, ""},
		"another authority": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{handshaketest.Authority("other", handshaketest.Fixtures().Other)}
		}, nil, 0, reason.UnknownCA},
		"the certificate has ended": {nothing, nil, 400 * 24 * time.Hour, reason.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			skew.Store(0)
			p := ticketed12(func(p *handshake.ServerParams) {
				p.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
			})
			engine, config := New(stdtls.New()), cached(alice())
			if o, _, err := (&rig{engine: engine, plan: p}).withGo(t, config); err != nil || o.err != nil {
				t.Fatal(err, o.err)
			}
			q := *p
			c.change(&q)
			if c.client != nil {
				c.client(config)
			}
			skew.Store(int64(c.later))
			o, cs, err := (&rig{engine: engine, plan: &q}).withGo(t, config)
			if c.code != "" {
				if o.err == nil || o.err.Reason != c.code || o.asked != 0 {
					t.Errorf("%v, asked %d times: want %s", o.err, o.asked, c.code)
				}
				return
			}
			if err != nil || o.err != nil || o.s.Resumed || cs.DidResume || o.asked != 1 {
				t.Errorf("%v, %v, %+v", err, o.err, o.s)
			}
		})
	}
}

// Policy is asked about a resumed client too, once it is proven, and its refusal counts.
func TestResumedIsRefused12(t *testing.T) {
	r, config := newRig(ticketed12()), cached(alice())
	if o, _, err := r.withGo(t, config); err != nil || o.err != nil {
		t.Fatal(err, o.err)
	}
	r.check = func(p *handshake.Peer, s *handshake.State) error {
		if !s.Resumed || !p.Proven {
			t.Errorf("asked about %+v, %+v", p, s)
		}
		return handshake.Refuse(handshake.StepClientVerified, reason.Revoked, "")
	}
	o, _, err := r.withGo(t, config)
	if o.err == nil || o.err.Reason != reason.Revoked || alertSeen(err) != handshake.AlertCertificateRevoked {
		t.Errorf("%v, the client got %v", o.err, err)
	}
}

// No ticket and no Finished leaves without a grant, and nothing else does.
func TestGrant12(t *testing.T) {
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	config := config12(alice())
	config.ClientSessionCache = cache
	for _, p := range []*handshake.ServerParams{ticketed12(), params12()} {
		r := newRig(p)
		r.after = func(s *handshake.Session) {
			if _, err := s.Conn.Write([]byte("early")); err == nil {
				t.Error("written before the grant")
			}
			_ = s.Conn.CloseWrite()
			_ = s.Conn.Close()
		}
		if _, cs, err := r.withGo(t, config); err == nil || cache.n.Load() != 0 || cs.HandshakeComplete {
			t.Errorf("%v, %d tickets, %+v", err, cache.n.Load(), cs)
		}
	}
	if _, _, err := newRig(ticketed12()).withGo(t, config); err != nil || cache.n.Load() != 1 {
		t.Errorf("%v, %d tickets", err, cache.n.Load())
	}
}

// The grant alone ends the client's handshake: nothing need be written.
func TestGrantEndsHandshake12(t *testing.T) {
	r := newRig(params12())
	r.after = func(s *handshake.Session) {
		s.Grant()
		got := make([]byte, 4)
		if n, err := s.Conn.Read(got); err != nil || string(got[:n]) != "data" {
			t.Errorf("%q, %v", got[:n], err)
		}
		_ = s.Conn.Close()
	}
	r.with(t, func(c *net.TCPConn) {
		tc := tls.Client(c, config12(alice()))
		if err := tc.Handshake(); err != nil {
			t.Error(err)
		}
		_, _ = tc.Write([]byte("data"))
	})
}

// ticketOf12 makes a full handshake and returns the client and its ticket.
func ticketOf12(t *testing.T, r *rig) (*rawClient12, *wire.NewSessionTicket12) {
	t.Helper()
	var c *rawClient12
	o := r.with(t, func(conn *net.TCPConn) {
		c = newRaw12(t, conn)
		c.established(c.hi())
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	})
	if o.err != nil || c.ticket == nil {
		t.Fatal("no ticket: ", o.err)
	}
	return c, c.ticket
}

// The announced lifetime is the configured one. Where there is no ticket after all, an
// empty one says so, and the handshake goes on (RFC 5077, section 3.3).
func TestTicketLifetime12(t *testing.T) {
	at := time.Now()
	p := ticketed12(func(p *handshake.ServerParams) { p.Now = func() time.Time { return at } })
	p.Ticket.Lifetime = 10 * time.Minute
	if _, m := ticketOf12(t, newRig(p)); m.Lifetime != 600 || len(m.Ticket) == 0 {
		t.Errorf("%+v", m)
	}
	p.Ticket.Hello = 600 // nothing of that size has room in a hello
	if _, m := ticketOf12(t, newRig(p)); m.Lifetime != 0 || len(m.Ticket) != 0 {
		t.Errorf("%+v", m)
	}
	config := cached(alice())
	for range 2 {
		if o, cs, err := newRig(p).withGo(t, config); err != nil || o.err != nil || cs.DidResume {
			t.Errorf("%v, %v", err, o.err)
		}
	}
}

// Without extended_master_secret there is no ticket, and a session that has it is not gone
// on with by a hello that has not: the handshake ends (RFC 7627, section 5.3).
func TestResumptionNeedsEMS(t *testing.T) {
	r := newRig(ticketed12())
	r.with(t, func(conn *net.TCPConn) {
		c := newRaw12(t, conn)
		c.established(c.hi().Without(handshake.ExtExtendedMasterSecret))
		if c.ticket != nil || c.server.SessionTicket || c.server.ExtendedMasterSecret {
			t.Errorf("%+v", c.server)
		}
	})
	_, m := ticketOf12(t, r)
	got := handshake.AlertNone
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw12(t, conn)
		c.sendHello(c.hi().With(handshake.ExtSessionTicket, m.Ticket).Without(handshake.ExtExtendedMasterSecret))
		got = c.end()
	})
	if o.err == nil || o.err.Reason != reason.NoExtendedMasterSecret || got != handshake.AlertHandshakeFailure || o.asked != 0 {
		t.Errorf("%v, the client got %s", o.err, got)
	}
}

// Who has a ticket and not its secret proves nothing: nobody is asked about the client.
func TestStolenTicket12(t *testing.T) {
	r := newRig(ticketed12())
	owner, m := ticketOf12(t, r)
	for name, spoil := range map[string]bool{"the owner": false, "a thief": true} {
		got := handshake.AlertNone
		o := r.with(t, func(conn *net.TCPConn) {
			c := newRaw12(t, conn)
			h := c.hi().With(handshake.ExtSessionTicket, m.Ticket)
			h.SID = bytes.Repeat([]byte{9}, 32)
			secret := slices.Clone(owner.secret)
			if spoil {
				secret[0] ^= 1
			}
			c.resume(h, secret)
			if !bytes.Equal(c.server.SessionID, h.SID) || c.server.SessionTicket || c.server.ServerName {
				t.Errorf("%s: %+v", name, c.server)
			}
			if !spoil {
				c.send(handshake.RecordAlert, 1, 0)
			}
			got = c.end()
		})
		if (o.err != nil) != spoil || o.asked == 0 != spoil {
			t.Errorf("%s: %v, asked %d times, the client got %s", name, o.err, o.asked, got)
		}
	}
}
