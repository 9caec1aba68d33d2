package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/ticket"
)

// owned makes a full handshake and returns the ticket that came of it, with its PSK.
func owned(t *testing.T, r *rig) (m *wire.NewSessionTicket, psk []byte) {
	t.Helper()
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.sendHello(c.hi().With(handshake.ExtPSKModes, []byte{1, 1}))
		c.readFlight()
		application := c.master.Client(c.transcript.Sum())
		c.answer()
		c.out.SetKeys(application)
		var err error
		if m, err = wire.ParseNewSessionTicket(c.next()); err != nil {
			t.Fatal(err)
		}
		psk = c.master.Resumption(c.transcript.Sum()).PSK(m.Nonce)
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	})
	if o.err != nil {
		t.Fatal(o.err)
	}
	return m, psk
}

// withTicket is h with a ticket and the binder of a PSK. Nothing may be added to h behind it.
func (c *rawClient) withTicket(h *handshaketest.Hello, sealed, psk []byte) *handshaketest.Hello {
	suite := keys.SuiteOf(tls.TLS_AES_128_GCM_SHA256)
	with := func(binder []byte) *handshaketest.Hello {
		identity := append(handshaketest.Prefixed(sealed...), 0, 0, 0, 1)
		binders := handshaketest.Prefixed(append([]byte{byte(len(binder))}, binder...)...)
		return h.With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, append(handshaketest.Prefixed(identity...), binders...))
	}
	raw := with(make([]byte, suite.HashSize)).Bytes()
	truncated := raw[:len(raw)-2-1-suite.HashSize]
	before := c.transcript // what a HelloRetryRequest has left
	if before == nil {
		before = keys.NewTranscript(suite)
	}
	sum, err := before.SumWith(truncated)
	if err != nil {
		c.t.Fatal(err)
	}
	return with(keys.NewEarly(suite, psk).Binder(sum))
}

// The secret of a session that is gone on with is gone, whatever ends the handshake: also
// where it ends before the secret was used.
func TestResumedSecretIsCleared(t *testing.T) {
	r := newRig(ticketed())
	m, psk := owned(t, r)
	for name, hello := range map[string]func(c *rawClient) *handshaketest.Hello{
		"a share that is no point": func(c *rawClient) *handshaketest.Hello {
			return c.hi().With(handshake.ExtKeyShare, c.share(make([]byte, 32)))
		},
		"a share that is short": func(c *rawClient) *handshaketest.Hello {
			return c.hi().With(handshake.ExtKeyShare, c.share(make([]byte, 31)))
		},
		"to our flight, which uses it": func(c *rawClient) *handshaketest.Hello { return c.hi() },
	} {
		near, far := net.Pipe()
		s := New(stdtls.New()).newServer(testenv.Context(t), far, nil, r.plan, nil, handshake.NewLedger(time.Now()))
		done := make(chan error, 1)
		go func() {
			err := s.run()
			_ = far.Close()
			done <- err
		}()
		c := newRaw(t, near)
		c.sendHello(c.withTicket(hello(c), m.Ticket, psk))
		_, _, _ = c.in.Next()
		_ = near.Close()
		if err := testenv.Receive(t, "the server's end", done); err == nil || s.resumed == nil {
			t.Fatalf("%s: %v, resumed %v", name, err, s.resumed)
		}
		if len(s.resumed.Secret) == 0 || !bytes.Equal(s.resumed.Secret, make([]byte, len(s.resumed.Secret))) {
			t.Errorf("%s: the secret of the session is still there", name)
		}
	}
}

// A second hello may leave out the tickets of the first one (RFC 8446, section 4.1.2), which
// then count no more (CVE-2025-6395); or bring them again, with a binder over both hellos.
func TestSecondHelloAndTickets(t *testing.T) {
	r := newRig(ticketed())
	m, psk := owned(t, r)
	// retried is a client that is asked for another hello, which the first one becomes.
	retried := func(t *testing.T, conn net.Conn) (*rawClient, *handshaketest.Hello) {
		c := newRaw(t, conn)
		h := c.withTicket(c.hi().With(handshake.ExtKeyShare, []byte{0, 0}), m.Ticket, psk)
		c.sendHello(h)
		c.readRetry()
		return c, h.With(handshake.ExtKeyShare, c.share(c.own.PublicKey().Bytes()))
	}
	o := r.with(t, func(conn *net.TCPConn) {
		c, h := retried(t, conn)
		c.sendHello(h.Without(handshake.ExtPreSharedKey))
		c.readFlight()
		c.answer()
		c.end()
	})
	if o.err != nil || o.s.Resumed || !o.s.HelloRetry || o.asked != 1 {
		t.Errorf("without its ticket: %v, asked %d times", o.err, o.asked)
	}
	o = r.with(t, func(conn *net.TCPConn) {
		c, h := retried(t, conn)
		c.sendHello(c.withTicket(h, m.Ticket, psk))
		c.psk = psk
		c.readFlight()
		application := c.master.Client(c.transcript.Sum())
		c.say(c.finished())
		c.out.SetKeys(application)
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	})
	if o.err != nil || !o.s.Resumed || !o.s.HelloRetry || o.asked != 1 || !o.proven {
		t.Errorf("with its ticket: %v, asked %d times", o.err, o.asked)
	}
}

// Two sessions that differ in their version alone: each fits hellos of its own (CVE-2026-93831).
// The lengths meet where a PSK of SHA-384 is as long as a master secret.
func TestVersionOfATicket(t *testing.T) {
	const suite12 = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	secret := make([]byte, keys.MasterSize)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := &server{choice: &choice{suite: keys.SuiteOf(tls.TLS_AES_256_GCM_SHA384)}, hello: &handshake.ClientHello{CipherSuites: []uint16{suite12}}}
		if fits := s.fitsTicket(&ticket.State{Version: version, Suite: tls.TLS_AES_256_GCM_SHA384, Secret: secret}); fits != (version == tls.VersionTLS13) {
			t.Errorf("in TLS 1.3 a session of %s fits: %v", handshake.VersionName(version), fits)
		}
		if fits := s.fitsTicket12(&ticket.State{Version: version, Suite: suite12, Group: 29, ExtendedMasterSecret: true, Secret: secret}); fits != (version == tls.VersionTLS12) {
			t.Errorf("in TLS 1.2 a session of %s fits: %v", handshake.VersionName(version), fits)
		}
	}
}

// A ticket of one version opens in the other under the same plan, and is no session there: a
// full handshake follows.
func TestTicketOfAnotherVersion(t *testing.T) {
	p := ticketed()
	p.Profile.MinVersion, p.Profile.Suites12 = tls.VersionTLS12, keys.Suites12()
	r := newRig(p)
	m, psk := owned(t, r)
	owner, m12 := ticketOf12(t, r)
	if o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw12(t, conn)
		c.established(c.hi().With(handshake.ExtSessionTicket, m.Ticket))
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	}); o.err != nil || o.s.Resumed || o.asked != 1 || o.s.Version != tls.VersionTLS12 {
		t.Errorf("a ticket of TLS 1.3 in TLS 1.2: %v, %+v", o.err, o.s)
	}
	for name, secret := range map[string][]byte{"its secret": owner.secret, "the beginning of it": owner.secret[:32], "that of another": psk} {
		if o := r.with(t, func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.withTicket(c.hi(), m12.Ticket, secret))
			c.readFlight()
			c.answer()
			c.end()
		}); o.err != nil || o.s.Resumed || o.asked != 1 || o.s.Version != tls.VersionTLS13 {
			t.Errorf("a ticket of TLS 1.2 in TLS 1.3, with %s: %v, %+v", name, o.err, o.s)
		}
	}
}

// A binder that is wrong is refused whatever its length is (CVE-2026-1584).
func TestWrongBinder(t *testing.T) {
	r := newRig(ticketed())
	m, _ := owned(t, r)
	for _, n := range []int{32, 33, 48, 255} {
		got := handshake.AlertNone
		o := r.with(t, func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			identity := append(handshaketest.Prefixed(m.Ticket...), 0, 0, 0, 1)
			binders := handshaketest.Prefixed(append([]byte{byte(n)}, make([]byte, n)...)...)
			c.sendHello(c.hi().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, append(handshaketest.Prefixed(identity...), binders...)))
			got = c.end()
		})
		if o.err == nil || got != handshake.AlertDecryptError || o.asked != 0 {
			t.Errorf("%d bytes: %v, the client got %s, asked %d times", n, o.err, got, o.asked)
		}
	}
}

// The session ID of a hello that goes on with a session comes back as it was, byte for byte,
// whatever its length is (CVE-2016-9244).
func TestSessionIDOfAnyLength12(t *testing.T) {
	r := newRig(ticketed12())
	owner, m := ticketOf12(t, r)
	for _, n := range []int{0, 1, 31, 32} {
		o := r.with(t, func(conn *net.TCPConn) {
			c := newRaw12(t, conn)
			h := c.hi().With(handshake.ExtSessionTicket, m.Ticket)
			h.SID = bytes.Repeat([]byte{9}, n)
			c.resume(h, bytes.Clone(owner.secret))
			if !bytes.Equal(c.server.SessionID, h.SID) {
				t.Errorf("%d bytes: %x came back", n, c.server.SessionID)
			}
			c.send(handshake.RecordAlert, 1, 0)
			c.end()
		})
		if o.err != nil || !o.s.Resumed {
			t.Errorf("%d bytes: %v", n, o.err)
		}
	}
}
