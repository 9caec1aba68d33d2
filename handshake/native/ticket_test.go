package native

import (
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

// ticketed is a plan with tickets.
func ticketed(change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	p := params(change...)
	p.Ticket = &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)}
	return p
}

// A client that comes back resumes, is judged again, and what is known of it is what
// was known. Each engine opens the tickets of the other.
func TestResumption(t *testing.T) {
	std, own := handshake.Engine(stdtls.New()), handshake.Engine(New(stdtls.New()))
	for name, engines := range map[string][3]handshake.Engine{
		"native": {own, own, own}, "of the other": {std, own, own}, "by the other": {own, std, std}, "there and back": {own, std, own},
	} {
		for _, retry := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				p := ticketed()
				if retry {
					p.Profile.Groups = []uint16{uint16(tls.CurveP384)}
				}
				config := clientConfig(alice())
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				var first *handshake.Peer
				for i, engine := range engines {
					o, cs, err := (&rig{engine: engine, plan: p}).withGo(t, config)
					switch {
					case err != nil || o.err != nil:
						t.Fatal(i, err, o.err)
					case o.s.Resumed != (i > 0) || cs.DidResume != (i > 0) || o.s.HelloRetry != retry:
						t.Fatalf("%d: resumed %v, the client %v, retried %v", i, o.s.Resumed, cs.DidResume, o.s.HelloRetry)
					case o.asked != 1 || o.s.Peer == nil || !o.s.Peer.Proven || o.s.Peer.Authority != "staff" || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256):
						t.Errorf("%d: asked %d times about %+v", i, o.asked, o.s.Peer)
					case o.l.Reached() != handshake.StepApplicationData:
						t.Errorf("%d: reached %v", i, o.l.Reached())
					}
					if i == 0 {
						first = o.s.Peer
					} else if !o.s.Peer.Leaf().Equal(first.Leaf()) {
						t.Errorf("%d: another client", i)
					}
					says := slices.ContainsFunc(o.l.Entries(), func(e handshake.Entry) bool {
						return e.Step == handshake.StepClientVerified && strings.HasPrefix(e.Facts, "inherited from session ")
					})
					if says != (i > 0) {
						t.Errorf("%d: the ledger says that it is inherited: %v", i, says)
					}
				}
			})
		}
	}
}

// RFC 6066, section 3: the name is acknowledged in full handshakes alone.
func TestNameIsNotAcknowledgedOnResumption(t *testing.T) {
	s := &server{hello: &handshake.ClientHello{ServerName: "gateway.test"}, choice: &choice{alpn: "h2"}}
	if m := s.encryptedExtensions(); !m.ServerName || m.ALPN != "h2" {
		t.Errorf("a full handshake: %+v", m)
	}
	s.resumed = &resumption{}
	if m := s.encryptedExtensions(); m.ServerName || m.ALPN != "h2" {
		t.Errorf("resumed: %+v", m)
	}
}

// What has changed meanwhile leads to a full handshake, and what makes the client bad to
// a refusal.
func TestNoResumption(t *testing.T) {
	var skew atomic.Int64
	for name, c := range map[string]struct {
		change func(*handshake.ServerParams)
		later  time.Duration
		code   reason.Code // "": a full handshake
	}{
		"another rule": {func(p *handshake.ServerParams) {
			p.Ticket = &handshake.TicketRule{Binding: []byte("other"), Keys: p.Ticket.Keys}
		}, 0, ""},
		"other keys": {func(p *handshake.ServerParams) {
			p.Ticket = &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)}
		}, 0, ""},
		"another suite": {func(p *handshake.ServerParams) { p.Profile.Suites13 = []uint16{tls.TLS_AES_256_GCM_SHA384} }, 0, ""},
		"no tickets":    {func(p *handshake.ServerParams) { p.Ticket = nil }, 0, ""},
		"observed":      {func(p *handshake.ServerParams) { p.Observe = true }, 0, ""},
		"another scheme": {func(p *handshake.ServerParams) {
			p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.PSSWithSHA256)}
		}, 0, ""},
		"a session that has ended": {func(*handshake.ServerParams) {}, 61 * time.Minute, ""},
		"another authority": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{handshaketest.Authority("other", handshaketest.Fixtures().Other)}
		}, 0, reason.UnknownCA},
		"the certificate has ended": {func(*handshake.ServerParams) {}, 400 * 24 * time.Hour, reason.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			skew.Store(0)
			now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
			p := ticketed(func(p *handshake.ServerParams) { p.Now = now })
			engine := New(stdtls.New())
			config := clientConfig(alice())
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if o, _, err := (&rig{engine: engine, plan: p}).withGo(t, config); err != nil || o.err != nil {
				t.Fatal(err, o.err)
			}
			q := *p
			c.change(&q)
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

// Policy is asked about a resumed client too, with the state, and its refusal counts.
func TestResumedIsRefused(t *testing.T) {
	p := ticketed()
	r := newRig(p)
	config := clientConfig(alice())
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
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

// No ticket leaves without a grant, and nothing else does.
func TestGrant(t *testing.T) {
	config := clientConfig(alice())
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	config.ClientSessionCache = cache
	r := newRig(ticketed())
	r.after = func(s *handshake.Session) {
		if _, err := s.Conn.Write([]byte("early")); err == nil {
			t.Error("written before the grant")
		}
		_ = s.Conn.CloseWrite()
		_ = s.Conn.Close()
	}
	_, _, err := r.withGo(t, config)
	if err == nil || cache.n.Load() != 0 {
		t.Errorf("%v, %d tickets", err, cache.n.Load())
	}
	r.after = nil
	if _, _, err := r.withGo(t, config); err != nil || cache.n.Load() != 1 {
		t.Errorf("%v, %d tickets", err, cache.n.Load())
	}
}

type countingCache struct {
	tls.ClientSessionCache
	n atomic.Int64
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.n.Add(1)
	}
	c.ClientSessionCache.Put(key, s)
}

// ticketOf makes a handshake and returns the ticket.
func ticketOf(t *testing.T, r *rig) *wire.NewSessionTicket {
	t.Helper()
	var m *wire.NewSessionTicket
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.sendHello(c.hi().With(handshake.ExtPSKModes, []byte{1, 1}))
		c.readFlight()
		application := c.master.Client(c.transcript.Sum())
		c.answer()
		c.out.SetKeys(application)
		m, _ = wire.ParseNewSessionTicket(c.next())
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	})
	if o.err != nil || m == nil {
		t.Fatal("no ticket: ", o.err)
	}
	return m
}

// The announced lifetime is the configured one, and a client that cannot go on with a
// ticket gets none.
func TestTicketLifetime(t *testing.T) {
	p := ticketed()
	p.Ticket.Lifetime = 10 * time.Minute
	at := time.Now()
	p.Now = func() time.Time { return at }
	if m := ticketOf(t, newRig(p)); m.Lifetime != 600 || len(m.Nonce) != 0 || len(m.Extensions) != 0 {
		t.Errorf("%+v", m)
	}
	for name, modes := range map[string][]byte{"no modes": nil, "psk_ke alone": {1, 0}} {
		o := newRig(ticketed()).with(t, func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			h := c.hi()
			if modes != nil {
				h.With(handshake.ExtPSKModes, modes)
			}
			c.sendHello(h)
			c.readFlight()
			application := c.master.Client(c.transcript.Sum())
			c.answer()
			c.out.SetKeys(application)
			if typ, _, err := c.in.Next(); err != nil || typ != handshake.RecordAppData {
				t.Errorf("%s: the first record is of type %d, %v", name, typ, err)
			}
		})
		if o.err != nil {
			t.Errorf("%s: %v", name, o.err)
		}
	}
}

// Who has a ticket and not its secret ends with decrypt_error (RFC 8446, section
// 4.2.11).
func TestStolenTicket(t *testing.T) {
	r := newRig(ticketed())
	m := ticketOf(t, r)
	got := handshake.AlertNone
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		identity := append(handshaketest.Prefixed(m.Ticket...), 0, 0, 0, 1)
		binders := handshaketest.Prefixed(append([]byte{32}, make([]byte, 32)...)...)
		c.sendHello(c.hi().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, append(handshaketest.Prefixed(identity...), binders...)))
		got = c.end()
	})
	if o.err == nil || got != handshake.AlertDecryptError || o.asked != 0 || o.err.Step != handshake.StepClientHello {
		t.Errorf("%v, the client got %s, asked %d times", o.err, got, o.asked)
	}
}
