package native

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// What others got wrong, by number: docs/engine.md has the table.

// Each ticket has an age_add of its own (RFC 8446, section 4.6.1): with one for all, whoever
// reads along could tell which connections are one client's (CVE-2022-30629).
func TestTicketAgeAdd(t *testing.T) {
	seen := map[uint32]bool{}
	r := newRig(ticketed())
	for range 8 {
		seen[ticketOf(t, r).AgeAdd] = true
	}
	if len(seen) < 7 {
		t.Errorf("%d different ones in 8 tickets", len(seen))
	}
}

// A close_notify ends a handshake wherever it comes: behind the hello, behind our flight, in
// the middle of the client's (CVE-2024-32650).
func TestCloseNotifyInHandshake(t *testing.T) {
	notify := func(c net.Conn) { _, _ = c.Write([]byte{handshake.RecordAlert, 3, 3, 0, 2, 1, 0}) }
	for name, client := range map[string]func(conn *net.TCPConn){
		"behind the hello": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			notify(conn)
		},
		"sealed": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			c.send(handshake.RecordAlert, 1, 0)
		},
		"behind the certificate": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			c.say(c.certificate(alice()))
			c.send(handshake.RecordAlert, 1, 0)
		},
	} {
		if o := newRig(params()).with(t, client); o.err == nil || o.err.Received != handshake.AlertCloseNotify || o.asked != 0 {
			t.Errorf("%s: %+v", name, o.err)
		}
	}
	for name, behind := range map[string]bool{"TLS 1.2, behind the hello": false, "TLS 1.2, behind the flight": true} {
		o := newRig(params12()).with(t, func(conn *net.TCPConn) {
			c := newRaw12(t, conn)
			c.sendHello(c.hi())
			if behind {
				c.readFlight()
			}
			notify(conn)
		})
		if o.err == nil || o.err.Received != handshake.AlertCloseNotify || o.asked != 0 {
			t.Errorf("%s: %+v", name, o.err)
		}
	}
}

// Numbers that nobody knows, in every list of a hello, and extensions that nobody implements
// are passed over (CVE-2020-1967 was a crash by one in signature_algorithms_cert).
func TestUnknownNumbers(t *testing.T) {
	o := newRig(params()).with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		h := c.hi()
		h.Suites = []uint16{0x2a2a, 0x13ff, 0x9999, 0x1301}
		share := append([]byte{0x77, 0x77, 0, 1, 0, 0, 29, 0, 32}, c.own.PublicKey().Bytes()...)
		h.With(handshake.ExtSupportedGroups, handshaketest.List16(0x3a3a, 0x7777, uint16(tls.X25519))).
			With(handshake.ExtKeyShare, handshaketest.Prefixed(share...)).
			With(handshake.ExtSignatureAlgorithms, handshaketest.List16(0x4a4a, 0x0999, uint16(tls.ECDSAWithP256AndSHA256))).
			With(handshake.ExtSignatureAlgsCert, handshaketest.List16(0x5a5a, 0x0999)).
			With(handshake.ExtSupportedVersions, []byte{8, 0x6a, 0x6a, 3, 9, 3, 4, 3, 3}).
			With(handshake.ExtPSKModes, []byte{3, 0x0b, 9, 1})
		for _, typ := range []uint16{0x7a7a, 0x4242} { // GREASE, and one that is not assigned
			h.With(typ, []byte{1, 2, 3})
		}
		h.With(27, []byte{2, 0, 1}).With(28, []byte{0x40, 1}).With(1, []byte{1}).With(49, nil).With(47, handshaketest.Prefixed(handshaketest.Prefixed(0x30, 0)...)).With(19, []byte{1, 2}).With(20, []byte{1, 2})
		c.sendHello(h)
		c.readFlight()
		c.answer()
		c.end()
	})
	if o.err != nil || o.s.Suite != tls.TLS_AES_128_GCM_SHA256 || o.s.Group != uint16(tls.X25519) || o.asked != 1 {
		t.Errorf("%v, %+v", o.err, o.s)
	}
}

// Where a certificate is optional, one that is shown is held to all that one which is required
// is (CVE-2024-45159, CVE-2026-45389); and a destination's must be for servers (CVE-2026-45388).
func TestUsageIsHeld(t *testing.T) {
	f := handshaketest.Fixtures()
	server := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "mallory", DNS: []string{"mallory.test"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})).TLS()
	for version, p := range map[uint16]*handshake.ServerParams{tls.VersionTLS12: params12(), tls.VersionTLS13: params()} {
		p.ClientAuth = handshake.ClientAuthOptional
		config := clientConfig(server)
		config.MinVersion, config.MaxVersion = version, version
		o, _, err := newRig(p).withGo(t, config)
		if o.err == nil || o.err.Reason != reason.WrongUsage || o.asked != 0 || alertSeen(err) != handshake.AlertOf(reason.WrongUsage) {
			t.Errorf("%s: %v, asked %d times, the client got %v", handshake.VersionName(version), o.err, o.asked, err)
		}
	}
	client := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})).TLS()
	o, got := against(t, clientPlan(), func(s *rawServer) {
		s.sayHello(s.answer())
		s.say([]byte{handshake.TypeEncryptedExtensions, 0, 0, 2, 0, 0})
		s.say(s.certificate(client))
	})
	if o.err == nil || o.err.Reason != reason.UpstreamBadCert || o.asked != 0 || got != handshake.AlertOf(reason.WrongUsage) {
		t.Errorf("%v, asked %d times, it got %s", o.err, o.asked, got)
	}
}

// What a destination answers changes nothing for the next connection: its hello is the profile
// again (RUSTSEC-2026-0349 was a key exchange that nobody on the way had to prove anything for
// to be offered alone from then on).
func TestNothingIsKeptOfADestination(t *testing.T) {
	engine := New(stdtls.New())
	var shares [][]uint16
	for range 3 {
		cc, sc := testenv.TCPPair(t)
		done := make(chan outcome, 1)
		go func() {
			o := dialedBy(t, engine, cc, clientPlan(), nil)
			_ = cc.Close()
			done <- o
		}()
		s := newRawServer(t, sc)
		s.readHello()
		shares = append(shares, s.hello.KeyShares)
		s.sayHello(s.answer()) // X25519
		_ = sc.CloseWrite()
		_, _ = io.Copy(io.Discard, sc)
		_ = sc.Close()
		if o := testenv.Receive(t, "the client's end", done); o.err == nil {
			t.Fatal("let through")
		}
	}
	for _, s := range shares[1:] {
		if len(s) < 2 || !slices.Equal(s, shares[0]) {
			t.Errorf("key shares of %v, at first of %v", s, shares[0])
		}
	}
}
