package stdtls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// counted is a session cache that counts the tickets it is given.
type counted struct {
	tls.ClientSessionCache
	mu sync.Mutex
	n  int
}

func newCounted() *counted { return &counted{ClientSessionCache: tls.NewLRUClientSessionCache(4)} }

func (c *counted) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.mu.Lock()
		c.n++
		c.mu.Unlock()
	}
	c.ClientSessionCache.Put(key, s)
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// certificateOf makes a CA certificate of exactly n bytes.
func certificateOf(t *testing.T, n int) *x509.Certificate {
	t.Helper()
	pad := n - 400
	for range 10 {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "padding", Key: testpki.Ed25519, Mutate: func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Value: make([]byte, pad)}}
		}}))
		if len(ca.Cert.Raw) == n {
			return ca.Cert
		}
		pad += n - len(ca.Cert.Raw)
	}
	t.Fatalf("no certificate of %d bytes", n)
	return nil
}

// padded is the identity with a chain that makes its Certificate message size
// bytes long, header not counted.
func padded(t *testing.T, version uint16, c *testpki.Cert, size int) tls.Certificate {
	t.Helper()
	entry, fixed := 3, 3 // RFC 5246, section 7.4.2
	if version >= tls.VersionTLS13 {
		entry, fixed = 3+2, 1+3 // RFC 8446, section 4.4.2
	}
	out := tls.Certificate{PrivateKey: c.Key, Certificate: [][]byte{c.Cert.Raw}}
	for left := size - fixed - entry - len(c.Cert.Raw); left > 0; {
		n := min(left, 60_000)
		if rest := left - n; rest > 0 && rest < 1000 {
			n -= 1000 // the last one needs room
		}
		out.Certificate = append(out.Certificate, certificateOf(t, n-entry).Raw)
		left -= n
	}
	return out
}

// The tap reads every message that crypto/tls takes: to the last byte of its
// limit, in both versions, and no further. A proof of possession behind such a
// Certificate is judged like any other, and who is refused has no ticket.
func TestMessageLimits(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "bob", Key: testpki.RSA2048}))
	for _, version := range bothVersions {
		for _, size := range []int{maxMessage, maxMessage + 1, maxCertMessage - handshake.MessageHeader, maxCertMessage - handshake.MessageHeader + 1, maxCertMessage - 1, maxCertMessage, maxCertMessage + 1} {
			for _, good := range []bool{true, false} {
				p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) {
					p.MaxChainBytes = 1 << 20
					p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)}
				})
				who := f.Client
				if !good {
					who = rsa // signs with RSA, and its certificate is signed with ECDSA
				}
				cache := newCounted()
				config := clientConfig(version, padded(t, version, who, size))
				config.ClientSessionCache = cache
				for _, again := range []bool{false, true} {
					o, cs, err := withGo(t, p, config)
					switch {
					case size > maxCertMessage:
						if o.err == nil || o.s != nil || cache.count() != 0 || alertSeen(t, err) != handshake.AlertInternalError {
							t.Errorf("%s, %d bytes: server %v, client %v, %d tickets", handshake.VersionName(version), size, o.err, err, cache.count())
						}
					case good:
						if o.err != nil || err != nil || cs.DidResume || strings.Contains(facts(o.l), "incomplete") {
							t.Errorf("%s, %d bytes: server %v, client %v, resumed %v: %s", handshake.VersionName(version), size, o.err, err, cs.DidResume, facts(o.l))
						}
					case o.err == nil || o.err.Reason != reason.WeakSignature || !strings.Contains(o.err.Detail, "rsa_") || cache.count() != 0:
						t.Errorf("%s, %d bytes, again %v: server %v, %d tickets", handshake.VersionName(version), size, again, o.err, cache.count())
					}
				}
			}
		}
	}
}

// lastByte changes the last byte of what is written once the server has
// answered: the client's Finished.
type lastByte struct {
	*net.TCPConn
	answered bool
}

func (c *lastByte) Read(b []byte) (int, error) {
	c.answered = true
	return c.TCPConn.Read(b)
}

func (c *lastByte) Write(b []byte) (int, error) {
	if c.answered {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
	}
	return c.TCPConn.Write(b)
}

// No ticket leaves before the verdict is final, whoever refuses and when: not
// in a full handshake, not on resumption, not where no certificate is asked
// for. In TLS 1.3 crypto/tls has written the ticket by then, and the alert
// behind it must still be one that the client can open.
func TestRefusedHasNoTicket(t *testing.T) {
	f := handshaketest.Fixtures()
	no := func(*handshake.Peer, *handshake.State) error {
		return &handshake.Error{Step: handshake.StepClientVerified, Side: handshake.SidePeer, Reason: reason.NotAllowed, Wanted: handshake.AlertAccessDenied, Received: handshake.AlertNone}
	}
	for _, version := range bothVersions {
		for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
			for _, mode := range []handshake.LedgerMode{handshake.LedgerFull, handshake.LedgerSteps} {
				p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) { p.ClientAuth, p.Ledger = auth, mode })
				name := handshake.VersionName(version) + " " + auth.String() + " " + mode.String()
				cache := newCounted()
				config := clientConfig(version, f.Client.TLS())
				config.ClientSessionCache = cache
				refused := func(what string, check handshake.CheckPeer, want handshake.Alert, breaks bool) {
					t.Helper()
					before := cache.count()
					var err error
					o := handshakeWith(t, p, check, func(c *net.TCPConn) {
						if breaks {
							err = goClient(config, nil)(&lastByte{TCPConn: c})
							return
						}
						err = goClient(config, nil)(c)
					})
					if o.err == nil || cache.count() != before {
						t.Errorf("%s, %s: server %v, %d tickets", name, what, o.err, cache.count()-before)
					}
					if _, ok := remoteAlert(err); !ok {
						t.Errorf("%s, %s: client got %v, server %v, ledger %v", name, what, err, o.err, facts(o.l))
					} else if got := alertSeen(t, err); got != want || o.l.AlertSent() != want {
						t.Errorf("%s, %s: client saw %s, ledger %s, want %s", name, what, got, o.l.AlertSent(), want)
					}
				}
				refused("refused", no, handshake.AlertAccessDenied, false)
				refused("bad Finished", nil, handshake.AlertBadRecordMAC, true)
				(&resumer{config}).good(t, name, p, false)
				if cache.count() != 1 {
					t.Fatalf("%s: %d tickets of a good handshake", name, cache.count())
				}
				refused("refused on resumption", no, handshake.AlertAccessDenied, false)
				// Go's client forgets a TLS 1.2 session that ended badly.
				(&resumer{config}).good(t, name, p, version == tls.VersionTLS13)
				if version == tls.VersionTLS13 {
					refused("bad Finished on resumption", nil, handshake.AlertBadRecordMAC, true)
				}
			}
		}
	}
}

// Until the session is granted, nothing leaves: no ticket, no data, no
// close_notify. Then all of it does, in order.
func TestNothingBeforeGrant(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for _, grant := range []bool{true, false} {
			cc, sc := testenv.TCPPair(t)
			ctx := testenv.Context(t)
			cache := newCounted()
			config := clientConfig(version, f.Client.TLS())
			config.ClientSessionCache = cache
			got := make(chan string, 1)
			go func() {
				c := tls.Client(cc, config)
				b, err := io.ReadAll(c)
				_ = c.Close()
				if err != nil {
					b = append(b, " "+err.Error()...)
				}
				got <- string(b)
			}()
			hello, conn, err := handshake.Peek(ctx, sc, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := &writes{Conn: conn}
			s, err := New().Server(ctx, w, hello, ticketParams(ticket.NewKeys(0)), nil, handshake.NewLedger(time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			before := w.count()
			if grant {
				s.Grant()
				_, err = s.Conn.Write([]byte("data"))
				err = errors.Join(err, s.Conn.CloseWrite())
			} else if _, err = s.Conn.Write([]byte("data")); errors.Is(err, errNotGranted) {
				err = nil
				_ = s.Conn.CloseWrite()
			} else {
				t.Errorf("a write before the grant: %v", err)
			}
			if err != nil {
				t.Error(err)
			}
			_ = s.Conn.Close()
			data := <-got
			switch {
			case grant && (data != "data" || cache.count() != 1):
				t.Errorf("%s, granted: %q, %d tickets", handshake.VersionName(version), data, cache.count())
			case !grant && (data != "" || cache.count() != 0 || w.count() != before):
				t.Errorf("%s, not granted: %q, %d tickets, %d writes", handshake.VersionName(version), data, cache.count(), w.count()-before)
			}
		}
	}
}

// What a verdict rests on is in the ticket, and judged when it comes back.
func TestTicketRemembersTheProof(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		p := ticketParams(ticket.NewKeys(0))
		r := newResumer(version, f.Client)
		r.good(t, "first", p, false)
		o := r.good(t, "again", p, true)
		if got := o.s.Peer.SignatureScheme; got != uint16(tls.ECDSAWithP256AndSHA256) {
			t.Errorf("%s: resumed with scheme %#x", handshake.VersionName(version), got)
		}
	}
	good := ticket.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Chain: [][]byte{{1}}, Secret: []byte{1}, Scheme: uint16(tls.ECDSAWithP256AndSHA256), Group: uint16(tls.X25519)}
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Profile.Signatures = []uint16{good.Scheme} })
	if !inheritable(&p.Profile, &good) {
		t.Error("a good one is not taken")
	}
	for name, change := range map[string]func(*ticket.State){
		"scheme outside the profile": func(o *ticket.State) { o.Scheme = uint16(tls.PSSWithSHA256) },
		"SHA-1":                      func(o *ticket.State) { o.Scheme = uint16(tls.ECDSAWithSHA1) },
		"proof not read":             func(o *ticket.State) { o.Scheme = 0 },
		"group outside the profile":  func(o *ticket.State) { o.Group = uint16(tls.CurveP521) },
	} {
		o := good
		if change(&o); inheritable(&p.Profile, &o) {
			t.Errorf("%s: taken", name)
		}
	}
}

// Nobody gets a session of a handshake that the tap has not read to its end,
// although crypto/tls is content: on neither leg.
func TestUnreadHandshakeIsRefused(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, observe := range []bool{false, true} {
			l := handshake.NewLedger(time.Now())
			tp := newTap(l, server)
			cc, _ := testenv.TCPPair(t)
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Observe = observe })
			g := New().leg(&p.Params, nil, l, cc, tp)
			if server {
				g.server = p
			}
			tp.feed(toClient, []byte{handshake.RecordHandshake, 3, 3, 0, 4, handshake.TypeServerHello, 0, 0, 0}) // no ServerHello
			_, err := g.end(nil)
			if refused := err != nil && strings.Contains(err.Error(), "cannot be followed"); refused == observe {
				t.Errorf("server %v, observe %v: %v", server, observe, err)
			}
		}
	}
}
