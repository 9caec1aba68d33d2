package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// stapled is a certificate with an OCSP response, which nobody judges here.
func stapled(c tls.Certificate, response string) tls.Certificate {
	c.OCSPStaple = []byte(response)
	return c
}

// OCSP responses go both ways, in either version and on either leg, to whoever asks for them
// (RFC 8446, section 4.4.2.1; RFC 6066, section 8).
func TestStaples(t *testing.T) {
	for version, p := range map[uint16]*handshake.ServerParams{tls.VersionTLS12: params12(), tls.VersionTLS13: params()} {
		p.Certificates = []tls.Certificate{stapled(gateway(), "ours")}
		config := clientConfig(stapled(alice(), "theirs"))
		config.MinVersion, config.MaxVersion = version, version
		o, cs, err := newRig(p).withGo(t, config)
		if err != nil || o.err != nil || string(cs.OCSPResponse) != "ours" {
			t.Errorf("%s: %v, %v, the client got %q", handshake.VersionName(version), err, o.err, cs.OCSPResponse)
			continue
		}
		want := "" // TLS 1.2 has no place for a client's
		if version == tls.VersionTLS13 {
			want = "theirs"
		}
		if got := string(o.s.Peer.OCSPStaple); got != want {
			t.Errorf("%s: of the client came %q", handshake.VersionName(version), got)
		}
	}
	server, client := newRig(params(func(p *handshake.ServerParams) {
		p.Certificates = []tls.Certificate{stapled(gateway(), "the destination's")}
	})).
		reach(t, clientPlan(func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{stapled(alice(), "ours")} }))
	if server.err != nil || client.err != nil || string(server.s.Peer.OCSPStaple) != "ours" || string(client.s.Peer.OCSPStaple) != "the destination's" {
		t.Errorf("%v, %v", server.err, client.err)
	}
}

// Who does not ask for a response gets none.
func TestNoStaples(t *testing.T) {
	var shown *wire.Certificate
	newRig(params(func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{stapled(gateway(), "ours")} })).with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.seen = func(msg []byte) {
			if msg[0] == handshake.TypeCertificate {
				shown, _ = wire.ParseCertificate(msg)
			}
		}
		c.sendHello(c.hi())
		c.readFlight()
	})
	if shown == nil || len(shown.Entries) == 0 || shown.Entries[0].Staple != nil || len(shown.Entries[0].Extensions) != 0 {
		t.Errorf("a client got %+v", shown)
	}
	for _, asks := range []bool{false, true} {
		shown = nil
		against(t, clientPlan(func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{stapled(alice(), "ours")} }), func(s *rawServer) {
			s.sayHello(s.answer())
			s.say(s.marshal(&wire.EncryptedExtensions{}))
			s.say(s.marshal(&wire.CertificateRequest{Signatures: []uint16{uint16(tls.ECDSAWithP256AndSHA256)}, StatusRequest: asks}))
			s.proven()
			s.sayFinished()
			if msg, err := s.inbox.next(1 << 16); err == nil {
				shown, _ = wire.ParseCertificate(msg)
			}
			s.send(handshake.RecordAlert, 1, 0)
		})
		if shown == nil || len(shown.Entries) == 0 || (string(shown.Entries[0].Staple) == "ours") != asks {
			t.Errorf("a destination that asks (%v) got %+v", asks, shown)
		}
	}
}

// In TLS 1.2 too the lists of the CertificateRequest are those of the profile, and the types
// are those of their keys.
func TestCertificateRequest12(t *testing.T) {
	for name, c := range map[string]struct {
		profile, signatures []uint16
		types               []byte
	}{
		"none":                   {nil, schemes12(), []byte{wire.CertTypeRSASign, wire.CertTypeECDSASign}},
		"ECDSA":                  {[]uint16{0x0503, 0x0403}, []uint16{0x0503, 0x0403}, []byte{wire.CertTypeECDSASign}},
		"Ed25519, and ECDSA":     {[]uint16{0x0807, 0x0403}, []uint16{0x0807, 0x0403}, []byte{wire.CertTypeECDSASign}},
		"PKCS1 counts":           {[]uint16{0x0401, 0x0403}, []uint16{0x0401, 0x0403}, []byte{wire.CertTypeRSASign, wire.CertTypeECDSASign}},
		"ML-DSA has no place":    {[]uint16{0x0906, 0x0403}, []uint16{0x0403}, []byte{wire.CertTypeECDSASign}},
		"what nobody knows, too": {[]uint16{0x0403, 0x0999}, []uint16{0x0403}, []byte{wire.CertTypeECDSASign}},
		"in the profile's order": {[]uint16{0x0603, 0x0804, 0x0403, 0x0501}, []uint16{0x0603, 0x0804, 0x0403, 0x0501}, []byte{wire.CertTypeRSASign, wire.CertTypeECDSASign}},
	} {
		var request *wire.CertificateRequest12
		newRig(params12(func(p *handshake.ServerParams) { p.Profile.Signatures = c.profile })).with(t, func(conn *net.TCPConn) {
			raw := newRaw12(t, conn)
			raw.sendHello(raw.hi())
			raw.readFlight()
			request = raw.request
		})
		if request == nil || !slices.Equal(request.Signatures, c.signatures) || !bytes.Equal(request.Types, c.types) {
			t.Errorf("%s: %+v", name, request)
			continue
		}
		if names := slices.Collect(request.Authorities.All()); len(names) != 1 || !bytes.Equal(names[0], handshaketest.Fixtures().CA.Root.RawSubject) {
			t.Errorf("%s: the names %x", name, names)
		}
	}
}
