package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// resumer is a client that keeps its tickets.
type resumer struct {
	config *tls.Config
}

func newResumer(version uint16, cert *testpki.Cert) *resumer {
	c := clientConfig(version)
	if cert != nil {
		c = clientConfig(version, cert.TLS())
	}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	return &resumer{c}
}

func (r *resumer) connect(t *testing.T, p *handshake.ServerParams, check handshake.CheckPeer) (outcome, tls.ConnectionState, error) {
	t.Helper()
	var cs tls.ConnectionState
	var err error
	o := handshakeWith(t, p, check, func(c *net.TCPConn) { err = goClient(r.config, &cs)(c) })
	return o, cs, err
}

func ticketParams(keys *ticket.Keys, change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	return handshaketest.ServerParams(append([]func(*handshake.ServerParams){func(p *handshake.ServerParams) {
		p.Ticket = &handshake.TicketRule{Binding: []byte("rule 1, policy 1"), Keys: keys}
	}}, change...)...)
}

// good connects and says whether the session was resumed.
func (r *resumer) good(t *testing.T, what string, p *handshake.ServerParams, resumed bool) outcome {
	t.Helper()
	o, cs, err := r.connect(t, p, nil)
	if err != nil || o.err != nil {
		t.Fatalf("%s: client %v, server %v", what, err, o.err)
	}
	if o.s.Resumed != resumed || cs.DidResume != resumed {
		t.Errorf("%s: resumed %v, client %v, want %v", what, o.s.Resumed, cs.DidResume, resumed)
	}
	return o
}

func TestResume(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
			for _, mode := range []handshake.LedgerMode{handshake.LedgerFull, handshake.LedgerSteps} {
				p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) { p.ClientAuth, p.Ledger = auth, mode })
				r := newResumer(version, f.Client)
				r.good(t, "first", p, false)
				for range 3 { // each gives a new ticket
					o := r.good(t, "again", p, true)
					if (o.s.Peer == nil) != (auth == handshake.ClientAuthNone) {
						t.Fatalf("%s: peer %v", auth, o.s.Peer)
					}
					if o.s.Peer != nil && (!o.s.Peer.Proven || o.s.Peer.Authority != "staff" || !o.s.Peer.Leaf().Equal(f.Client.Cert) || len(o.s.Peer.Chain) != 2) {
						t.Errorf("peer %+v", o.s.Peer)
					}
					if o.l.Reached() != handshake.StepApplicationData || strings.Count(facts(o.l), "inherited from session") < 3 {
						t.Errorf("%s %s: reached %s: %s", handshake.VersionName(version), mode, o.l.Reached(), facts(o.l))
					}
					if s := strings.Join(story(o.l), ";"); mode == handshake.LedgerFull && (strings.Contains(s, "Certificate") || strings.Contains(facts(o.l), "went on") || strings.Contains(facts(o.l), "incomplete")) {
						t.Errorf("%s: %s", handshake.VersionName(version), s)
					}
				}
			}
		}
	}
}

// A ticket is good under the very same demands only; under any others a full
// handshake follows, in which what they demand is asked.
func TestTicketIsBound(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, change := range map[string]func(*handshake.ServerParams){
			"rule or policy": func(p *handshake.ServerParams) {
				p.Ticket = &handshake.TicketRule{Binding: []byte("rule 2, policy 1"), Keys: p.Ticket.Keys}
			},
			"authorities": func(p *handshake.ServerParams) {
				p.Authorities = []*handshake.Authority{handshaketest.Authority("staff", f.CA, f.Other)}
			},
			"its name": func(p *handshake.ServerParams) {
				p.Authorities = []*handshake.Authority{handshaketest.Authority("guests", f.CA)}
			},
			"client auth": func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional },
			"profile":     func(p *handshake.ServerParams) { p.Profile.MinRSABits = 4096 },
			"signatures":  func(p *handshake.ServerParams) { p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} },
			"keys": func(p *handshake.ServerParams) {
				p.Ticket = &handshake.TicketRule{Binding: p.Ticket.Binding, Keys: ticket.NewKeys(0)}
			},
			"no tickets": func(p *handshake.ServerParams) { p.Ticket = nil },
			"observe":    func(p *handshake.ServerParams) { p.Observe = true },
			"lifetime": func(p *handshake.ServerParams) {
				p.Now = func() time.Time { return time.Now().Add(61 * time.Minute) }
			},
			"clock set back": func(p *handshake.ServerParams) {
				p.Now = func() time.Time { return time.Now().Add(-time.Minute) }
			},
		} {
			keys := ticket.NewKeys(0)
			r := newResumer(version, f.Client)
			r.good(t, name, ticketParams(keys), false)
			r.good(t, name, ticketParams(keys, change), false)
		}
		// A process's own count of what has changed is no demand: what is verified is
		// asked again each time.
		keys := ticket.NewKeys(0)
		r := newResumer(version, f.Client)
		r.good(t, "epoch", ticketParams(keys), false)
		r.good(t, "epoch", ticketParams(keys, func(p *handshake.ServerParams) { p.Epoch++ }), true)
		// Another SNI: crypto/tls's client keeps its tickets by name, so one
		// that does not is made of a cache with one place.
		keys = ticket.NewKeys(0)
		other := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test", "other.test"}}))
		p := ticketParams(keys, func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{other.TLS()} })
		r = newResumer(version, f.Client)
		r.config.ClientSessionCache = &onePlace{}
		r.good(t, "first name", p, false)
		r.good(t, "first name", p, true)
		r.config.ServerName = "other.test"
		r.good(t, "other name", p, false)
		r.good(t, "other name", p, true)
	}
}

// onePlace is a session cache that shows its one ticket to everybody.
type onePlace struct{ s *tls.ClientSessionState }

func (c *onePlace) Get(string) (*tls.ClientSessionState, bool) { return c.s, c.s != nil }

func (c *onePlace) Put(_ string, s *tls.ClientSessionState) { c.s = s }

// The rule of the lax name lets in without a certificate; its ticket is no way
// round the strict one (the trap of verifying in VerifyPeerCertificate).
func TestTicketOfLaxRule(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		keys := ticket.NewKeys(0)
		r := newResumer(version, nil)
		r.good(t, "lax", ticketParams(keys, func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }), false)
		o, _, err := r.connect(t, ticketParams(keys), nil)
		if o.err == nil || o.err.Reason != reason.NoCertificate || err == nil {
			t.Errorf("%s: client %v, server %v", handshake.VersionName(version), err, o.err)
		}
		// The same demands, but another rule with another list of identities.
		r = newResumer(version, f.Client)
		r.good(t, "first", ticketParams(keys), false)
		no := handshake.Refuse(handshake.StepClientVerified, reason.NotAllowed, "")
		o, _, err = r.connect(t, ticketParams(keys, func(p *handshake.ServerParams) { p.Ticket.Binding = []byte("rule 2") }), func(*handshake.Peer, *handshake.State) error { return no })
		if o.err != no || err == nil {
			t.Errorf("%s: client %v, server %v", handshake.VersionName(version), err, o.err)
		}
	}
}

// On resumption CheckPeer is asked again: what was revoked since, or is not
// allowed any more, is refused with the exact alert even under the same epoch.
func TestResumptionIsChecked(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		p := ticketParams(ticket.NewKeys(0))
		r := newResumer(version, f.Client)
		r.good(t, "first", p, false)
		asked := false
		o, _, err := r.connect(t, p, func(peer *handshake.Peer, s *handshake.State) error {
			asked = s.Resumed && peer.Leaf().Equal(f.Client.Cert) && peer.Authority == "staff"
			return &handshake.Error{Step: handshake.StepClientVerified, Side: handshake.SidePeer, Reason: reason.NotAllowed, Wanted: handshake.AlertCertificateRevoked, Received: handshake.AlertNone}
		})
		if !asked || o.err == nil || o.err.Wanted != handshake.AlertCertificateRevoked {
			t.Fatalf("%s: asked %v, server %v", handshake.VersionName(version), asked, o.err)
		}
		if got := alertSeen(t, err); got != handshake.AlertCertificateRevoked || o.l.AlertSent() != got {
			t.Errorf("%s: client saw %s, ledger %s", handshake.VersionName(version), got, o.l.AlertSent())
		}
	}
}

// A chain that ended meanwhile, at its leaf or above: full handshake, refused
// there.
func TestTicketEndsWithChain(t *testing.T) {
	f := handshaketest.Fixtures()
	soon := time.Now().Add(10 * time.Minute)
	inter := testpki.Must(f.CA.Intermediate(testpki.Options{NotAfter: soon}))
	for _, version := range bothVersions {
		for name, cert := range map[string]*testpki.Cert{
			"leaf":         testpki.Must(f.CA.Issue(testpki.Leaf{NotAfter: soon})),
			"intermediate": testpki.Must(inter.Issue(testpki.Leaf{})),
		} {
			keys := ticket.NewKeys(0)
			r := newResumer(version, cert)
			r.good(t, name, ticketParams(keys), false)
			r.good(t, name, ticketParams(keys), true)
			o, _, err := r.connect(t, ticketParams(keys, func(p *handshake.ServerParams) {
				p.Now = func() time.Time { return time.Now().Add(20 * time.Minute) }
			}), nil)
			if o.err == nil || o.err.Reason != reason.Expired || err == nil {
				t.Errorf("%s %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
			}
			if alertSeen(t, err) != handshake.AlertCertificateExpired {
				t.Errorf("%s: client saw %v", name, err)
			}
		}
	}
}

// Resuming does not prolong a session.
func TestLifetimeIsFromFullHandshake(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		keys, r := ticket.NewKeys(0), newResumer(version, f.Client)
		at := func(d time.Duration) *handshake.ServerParams {
			return ticketParams(keys, func(p *handshake.ServerParams) { p.Now = func() time.Time { return time.Now().Add(d) } })
		}
		r.good(t, "first", at(0), false)
		r.good(t, "40 minutes", at(40*time.Minute), true)
		r.good(t, "70 minutes", at(70*time.Minute), false)
	}
}

// Tickets at far dates, and over jumps of the clock: a session is resumed within its life, and
// never before it was made.
func TestTicketsAndTheClock(t *testing.T) {
	f := handshaketest.Fixtures()
	end := time.Date(9999, time.December, 31, 23, 50, 0, 0, time.UTC)
	now := time.Now()
	for _, version := range bothVersions {
		for name, steps := range map[string][]struct {
			at      time.Time
			resumed bool
		}{
			"over the end of 9999":     {{end, false}, {end.Add(5 * time.Minute), true}, {end.Add(20 * time.Minute), true}, {end.Add(time.Hour + time.Minute), false}},
			"from the far future back": {{end, false}, {now, false}, {now.Add(time.Minute), true}, {end, false}},
			"half an hour back and on": {{now, false}, {now.Add(-30 * time.Minute), false}, {now, true}},
			"a day on and back":        {{now, false}, {now.Add(24 * time.Hour), false}, {now, false}, {now.Add(time.Second), true}},
			"before 1970":              {{time.Unix(-1000, 0), false}, {time.Unix(-10, 0), true}, {time.Unix(10, 0), true}},
			"beyond a Duration":        {{time.Unix(0, 0), false}, {time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC), false}, {time.Unix(0, 0), false}},
		} {
			keys, r := ticket.NewKeys(0), newResumer(version, nil)
			for i, step := range steps {
				r.good(t, fmt.Sprintf("%s %s, step %d", handshake.VersionName(version), name, i), ticketParams(keys, func(p *handshake.ServerParams) {
					p.ClientAuth, p.Now = handshake.ClientAuthNone, func() time.Time { return step.at }
				}), step.resumed)
			}
		}
		// A certificate without an end (RFC 5280, section 4.1.2.5).
		keys, r := ticket.NewKeys(0), newResumer(version, testpki.Must(f.CA.Issue(testpki.Leaf{NotAfter: end})))
		r.good(t, "a certificate until 9999", ticketParams(keys), false)
		r.good(t, "a certificate until 9999, again", ticketParams(keys), true)
	}
}

// TLS 1.2 sessions without extended_master_secret get no ticket, and a chain
// too large for one gets one that does not open.
func TestTicketsNotForAll(t *testing.T) {
	f := handshaketest.Fixtures()
	p := ticketParams(ticket.NewKeys(0))
	g := &leg{p: &p.Params, server: p, hello: &handshake.ClientHello{}}
	if g.resumable(tls.VersionTLS12) || !g.resumable(tls.VersionTLS13) {
		t.Error("a TLS 1.2 session without extended_master_secret is resumable")
	}
	big := testpki.Must(f.CA.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) { c.OCSPServer = []string{strings.Repeat("x", 50<<10)} }}))
	for _, version := range bothVersions {
		p, r := ticketParams(ticket.NewKeys(0)), newResumer(version, big)
		r.good(t, "big", p, false)
		r.good(t, "big", p, false)
	}
}

func TestResumeOpenSSL(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		p := ticketParams(ticket.NewKeys(0))
		file := dir + "/session" + version
		for i, args := range [][]string{{"-sess_out", file}, {"-sess_in", file}} {
			o, out := withOpenSSL(t, p, append(args, version, "-cert", cert, "-key", key)...)
			if o.err != nil || !strings.Contains(out, "ok") || o.s.Resumed != (i == 1) {
				t.Errorf("%s %v: %v %+v\n%s", version, args, o.err, o.s, out)
			}
		}
	}
}

// Sessions of one gateway are resumed by another one with the same file of
// keys, whichever of the keys is its first; not by one with a file of its own.
func TestTicketsAcrossGateways(t *testing.T) {
	a, b := strings.Repeat("01", 31)+"aa", strings.Repeat("02", 31)+"bb"
	gateway := func(file string) *handshake.ServerParams {
		return ticketParams(testpki.Must(ticket.ParseKeys([]byte(file))))
	}
	for _, version := range bothVersions {
		r := newResumer(version, handshaketest.Fixtures().Client)
		r.good(t, "the first gateway", gateway(a+"\n"), false)
		r.good(t, "the second", gateway(b+"\n"+a+"\n"), true)
		r.good(t, "the second again", gateway(b+"\n"+a+"\n"), true)
		// In TLS 1.2 a resumed client keeps the ticket of the full handshake.
		r.good(t, "one without its first key", gateway(a+"\n"), version == tls.VersionTLS12)
		r.good(t, "one with another file", gateway(strings.Repeat("03", 31)+"cc"), false)
	}
}

// With RSA key transport the key of our certificate leads to the master secret, so no
// session outlives that key: it is not resumed, and one of ECDHE with the same
// certificate is.
func TestKeyTransportIsNotResumed(t *testing.T) {
	f := handshaketest.Fixtures()
	leaf := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	for _, c := range []struct {
		suite   uint16
		group   tls.CurveID
		resumed bool
	}{
		{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, 0, false}, {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.X25519, true},
	} {
		p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) {
			p.Certificates, p.Profile.Suites12 = []tls.Certificate{leaf.TLS()}, []uint16{c.suite}
		})
		r := newResumer(tls.VersionTLS12, f.Client)
		r.config.CipherSuites = []uint16{c.suite}
		r.good(t, "first", p, false)
		if o := r.good(t, "again", p, c.resumed); o.s.Suite != c.suite {
			t.Errorf("%s, want %s", handshake.SuiteName(o.s.Suite), handshake.SuiteName(c.suite))
		}
		state := ticket.State{Version: tls.VersionTLS12, Suite: c.suite, Group: uint16(c.group)}
		if inheritable(&p.Profile, &state) != c.resumed {
			t.Errorf("%s: the state of a ticket is taken: %v", handshake.SuiteName(c.suite), !c.resumed)
		}
	}
}
