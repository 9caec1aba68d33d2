package native

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// against runs the client against a raw destination. got is the alert that it sent.
func against(t *testing.T, p *handshake.ClientParams, server func(s *rawServer)) (o outcome, got handshake.Alert) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	done := make(chan outcome, 1)
	go func() {
		o := dialed(t, cc, p)
		_ = cc.CloseWrite()
		_, _ = io.Copy(io.Discard, cc)
		_ = cc.Close()
		done <- o
	}()
	s := newRawServer(t, sc)
	s.readHello()
	server(s)
	got = s.end()
	_ = sc.Close()
	return testenv.Receive(t, "the client's end", done), got
}

// What a destination may not say ends the handshake, with the alert that RFC 8446 names,
// and no certificate of ours has been shown.
func TestDestinationMisuse(t *testing.T) {
	const (
		p256    = uint16(tls.ECDSAWithP256AndSHA256)
		illegal = handshake.AlertIllegalParameter
		surplus = handshake.AlertUnsupportedExtension
		late    = handshake.AlertUnexpectedMessage
	)
	ext := func(typ uint16, data ...byte) handshake.Extension { return handshake.Extension{Type: typ, Data: data} }
	hello := func(change func(h *wire.ServerHello)) func(*rawServer) {
		return func(s *rawServer) {
			h := s.answer()
			change(h)
			s.send(handshake.RecordHandshake, s.marshal(h)...)
		}
	}
	// with has extensions besides those of a right ServerHello.
	with := func(h *wire.ServerHello, more ...handshake.Extension) {
		share := append([]byte{0, 29, 0, 32}, h.KeyShare.Key...)
		h.Extensions = append([]handshake.Extension{ext(handshake.ExtSupportedVersions, 3, 4), ext(handshake.ExtKeyShare, share...)}, more...)
	}
	behind := func(f func(s *rawServer)) func(*rawServer) {
		return func(s *rawServer) {
			s.sayHello(s.answer())
			f(s)
		}
	}
	extensions := func(exts ...handshake.Extension) func(*rawServer) {
		return behind(func(s *rawServer) { s.say(s.marshal(&wire.EncryptedExtensions{Extensions: exts})) })
	}
	shown := func(f func(s *rawServer)) func(*rawServer) {
		return behind(func(s *rawServer) {
			s.say(s.marshal(&wire.EncryptedExtensions{}))
			f(s)
		})
	}
	legacy := func(version byte, tail ...byte) func(*rawServer) {
		return func(s *rawServer) {
			body := append([]byte{3, version}, bytes.Repeat([]byte{9}, 24)...)
			body = append(body, tail...)
			body = append(body, 0, 0xc0, 0x2b, 0)
			s.send(handshake.RecordHandshake, append([]byte{handshake.TypeServerHello, 0, 0, byte(len(body))}, body...)...)
		}
	}
	cookie := func(s *rawServer) { s.retry(&wire.ServerHello{Cookie: []byte("c")}) }
	for name, c := range map[string]struct {
		server func(*rawServer)
		alert  handshake.Alert
		reason reason.Code
		step   handshake.Step
	}{
		// ServerHello, sections 4.1.3 and 4.2.
		"TLS 1.2":                      {legacy(3, 1, 2, 3, 4, 5, 6, 7, 8), handshake.AlertProtocolVersion, reason.UpstreamCrypto, 3},
		"TLS 1.2, with the sentinel":   {legacy(3, []byte("DOWNGRD\x01")...), handshake.AlertProtocolVersion, reason.UpstreamCrypto, 3},
		"TLS 1.1, with the sentinel":   {legacy(2, []byte("DOWNGRD\x00")...), handshake.AlertProtocolVersion, reason.UpstreamCrypto, 3},
		"TLS 1.3 as it is not said":    {legacy(4, 1, 2, 3, 4, 5, 6, 7, 8), handshake.AlertProtocolVersion, reason.UpstreamCrypto, 3}, // CVE-2026-115490
		"another version is selected":  {hello(func(h *wire.ServerHello) { with(h); h.Extensions[0].Data = []byte{3, 3} }), illegal, reason.UpstreamFailed, 2},
		"a suite that is not offered":  {hello(func(h *wire.ServerHello) { h.Suite = tls.TLS_AES_256_GCM_SHA384 }), illegal, reason.UpstreamCrypto, 3},
		"a suite of TLS 1.2":           {hello(func(h *wire.ServerHello) { h.Suite = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 }), illegal, reason.UpstreamCrypto, 3},
		"a group that is not offered":  {hello(func(h *wire.ServerHello) { h.KeyShare.Group = uint16(tls.CurveP521) }), illegal, reason.UpstreamCrypto, 3},
		"a group without a share":      {hello(func(h *wire.ServerHello) { h.KeyShare.Group = uint16(tls.CurveP256) }), illegal, reason.UpstreamFailed, 2},
		"no key share":                 {hello(func(h *wire.ServerHello) { with(h); h.Extensions = h.Extensions[:1] }), handshake.AlertMissingExtension, reason.UpstreamFailed, 2},
		"another session ID":           {hello(func(h *wire.ServerHello) { h.SessionID = []byte{1} }), illegal, reason.UpstreamFailed, 2},
		"a pre-shared key":             {hello(func(h *wire.ServerHello) { h.PSK = true }), surplus, reason.UpstreamFailed, 2},
		"an extension of another":      {hello(func(h *wire.ServerHello) { with(h, ext(handshake.ExtALPN, 0, 3, 2, 'h', '2')) }), illegal, reason.UpstreamFailed, 2},
		"an extension nobody knows":    {hello(func(h *wire.ServerHello) { with(h, ext(0x4242)) }), surplus, reason.UpstreamFailed, 2},
		"an extension twice":           {hello(func(h *wire.ServerHello) { with(h, ext(handshake.ExtSupportedVersions, 3, 4)) }), illegal, reason.UpstreamFailed, 2},
		"a share that is no point":     {hello(func(h *wire.ServerHello) { h.KeyShare.Key = make([]byte, 32) }), illegal, reason.UpstreamFailed, 3},
		"a share of the wrong length":  {hello(func(h *wire.ServerHello) { h.KeyShare.Key = make([]byte, 31) }), illegal, reason.UpstreamFailed, 3},
		"a hello of 20 KiB":            {func(s *rawServer) { s.send(handshake.RecordHandshake, handshake.TypeServerHello, 0, 0x50, 0) }, illegal, reason.UpstreamFailed, 2},
		"a hello cut short":            {func(s *rawServer) { s.send(handshake.RecordHandshake, handshake.TypeServerHello, 0, 0, 2, 3, 3) }, handshake.AlertDecodeError, reason.UpstreamFailed, 2},
		"a Certificate in its place":   {func(s *rawServer) { s.send(handshake.RecordHandshake, s.certificate(gateway())...) }, late, reason.UpstreamFailed, 2},
		"application data":             {func(s *rawServer) { s.send(handshake.RecordAppData, 1) }, late, reason.UpstreamFailed, 2},
		"something behind the hello":   {func(s *rawServer) { s.send(handshake.RecordHandshake, append(s.marshal(s.answer()), 8, 0)...) }, late, reason.UpstreamFailed, 2},
		"HTTP":                         {func(s *rawServer) { _, _ = s.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, handshake.AlertProtocolVersion, reason.UpstreamFailed, 2},
		"change_cipher_spec of two":    {func(s *rawServer) { s.send(handshake.RecordCCS, 1, 1) }, late, reason.UpstreamFailed, 2},
		"a record of a heartbeat":      {func(s *rawServer) { s.send(24, 1, 0, 0) }, late, reason.UpstreamFailed, 2},
		"an encrypted record too soon": {func(s *rawServer) { s.send(handshake.RecordAppData, make([]byte, 40)...) }, late, reason.UpstreamFailed, 2},

		// HelloRetryRequest, section 4.1.4.
		"a second retry": {func(s *rawServer) {
			cookie(s)
			s.send(handshake.RecordHandshake, s.marshal(&wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.suite.ID, Cookie: []byte("d")})...)
		}, late, reason.UpstreamFailed, 3},
		"a retry for nothing": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, s.marshal(&wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.suite.ID})...)
		}, illegal, reason.UpstreamFailed, 2},
		"a retry for what is there": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, s.marshal(&wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.suite.ID, KeyShare: wire.KeyShare{Group: uint16(tls.X25519)}})...)
		}, illegal, reason.UpstreamFailed, 2},
		"a retry for what is not supported": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, s.marshal(&wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.suite.ID, KeyShare: wire.KeyShare{Group: uint16(tls.CurveP521)}})...)
		}, illegal, reason.UpstreamCrypto, 3},
		"another suite behind a retry": {func(s *rawServer) {
			cookie(s)
			h := s.answer()
			h.Suite = tls.TLS_CHACHA20_POLY1305_SHA256
			s.send(handshake.RecordHandshake, s.marshal(h)...)
		}, illegal, reason.UpstreamFailed, 3},
		"something behind a retry": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, append(s.marshal(&wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.suite.ID, Cookie: []byte("c")}), 2, 0)...)
		}, late, reason.UpstreamFailed, 2},
		"another group than the retry named": {func(s *rawServer) {
			s.retry(&wire.ServerHello{KeyShare: wire.KeyShare{Group: uint16(tls.CurveP256)}})
			h := &wire.ServerHello{SessionID: s.hello.SessionID, Suite: s.suite.ID, KeyShare: wire.KeyShare{Group: uint16(tls.X25519), Key: make([]byte, 32)}}
			s.send(handshake.RecordHandshake, s.marshal(h)...)
		}, illegal, reason.UpstreamFailed, 3},

		// EncryptedExtensions, section 4.3.1.
		"a protocol that is not offered": {extensions(ext(handshake.ExtALPN, 0, 3, 2, 'h', '3')), illegal, reason.UpstreamALPN, 3},
		"two protocols":                  {extensions(ext(handshake.ExtALPN, 0, 6, 2, 'h', '2', 2, 'h', '1')), handshake.AlertDecodeError, reason.UpstreamFailed, 3},
		"early data, accepted":           {extensions(ext(handshake.ExtEarlyData)), surplus, reason.UpstreamFailed, 3},
		"a key share among them":         {extensions(ext(handshake.ExtKeyShare, 0, 29)), illegal, reason.UpstreamFailed, 3},
		"session_ticket among them":      {extensions(ext(handshake.ExtSessionTicket)), illegal, reason.UpstreamFailed, 3},
		"an unknown one":                 {extensions(ext(0x4242)), surplus, reason.UpstreamFailed, 3},
		"max_fragment_length":            {extensions(ext(1, 1)), surplus, reason.UpstreamFailed, 3},
		"a certificate type":             {extensions(ext(20, 2)), surplus, reason.UpstreamFailed, 3},
		"server_name with a content":     {extensions(ext(handshake.ExtServerName, 0)), handshake.AlertDecodeError, reason.UpstreamFailed, 3},
		"a Certificate in place of them": {behind(func(s *rawServer) { s.say(s.certificate(gateway())) }), late, reason.UpstreamFailed, 3},
		"Finished in place of them":      {behind(func(s *rawServer) { s.sayFinished() }), late, reason.UpstreamFailed, 3},
		"a record that does not open": {behind(func(s *rawServer) {
			_, _ = s.conn.Write(append([]byte{handshake.RecordAppData, 3, 3, 0, 40}, make([]byte, 40)...))
		}), handshake.AlertBadRecordMAC, reason.UpstreamFailed, 3},
		"a message in the clear": {behind(func(s *rawServer) {
			_, _ = s.conn.Write([]byte{handshake.RecordHandshake, 3, 3, 0, 6, 8, 0, 0, 2, 0, 0})
		}), late, reason.UpstreamFailed, 3},
		"application data in the flight":  {shown(func(s *rawServer) { s.send(handshake.RecordAppData, 1) }), late, reason.UpstreamFailed, 3},
		"an empty record of a handshake":  {behind(func(s *rawServer) { s.empty() }), late, reason.UpstreamFailed, 3},
		"EncryptedExtensions of 16 MB":    {behind(func(s *rawServer) { s.say([]byte{handshake.TypeEncryptedExtensions, 0xff, 0xff, 0xff}) }), illegal, reason.UpstreamFailed, 3},
		"change_cipher_specs without end": {behind(func(s *rawServer) { _, _ = s.conn.Write(bytes.Repeat([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1}, 20)) }), late, reason.UpstreamFailed, 3},

		// CertificateRequest, section 4.3.2.
		"a request without schemes": {shown(func(s *rawServer) { s.say([]byte{handshake.TypeCertificateRequest, 0, 0, 3, 0, 0, 0}) }), handshake.AlertMissingExtension, reason.UpstreamFailed, 3},
		"a request with a context":  {shown(func(s *rawServer) { s.say([]byte{handshake.TypeCertificateRequest, 0, 0, 4, 1, 7, 0, 0}) }), illegal, reason.UpstreamFailed, 3},
		"a request twice": {shown(func(s *rawServer) {
			for range 2 {
				s.say(s.marshal(&wire.CertificateRequest{Signatures: []uint16{p256}}))
			}
		}), late, reason.UpstreamFailed, 3},
		"a request of 16 MB": {shown(func(s *rawServer) { s.say([]byte{handshake.TypeCertificateRequest, 0xff, 0xff, 0xff}) }), illegal, reason.UpstreamFailed, 3},
		"a request for key shares": {shown(func(s *rawServer) {
			s.say(s.marshal(&wire.CertificateRequest{Extensions: []handshake.Extension{ext(handshake.ExtKeyShare)}}))
		}), illegal, reason.UpstreamFailed, 3},
		"a request behind the proof": {shown(func(s *rawServer) {
			s.say(s.certificate(gateway()))
			s.say(s.verify(gateway(), p256))
			s.say(s.marshal(&wire.CertificateRequest{Signatures: []uint16{p256}}))
		}), late, reason.UpstreamFailed, 3},

		// Certificate, section 4.4.2.
		"no certificate":           {shown(func(s *rawServer) { s.say(s.certificate(tls.Certificate{})) }), handshake.AlertDecodeError, reason.UpstreamBadCert, 3},
		"a certificate of nothing": {shown(func(s *rawServer) { s.say(s.certificate(tls.Certificate{Certificate: [][]byte{{0x30, 0}}})) }), handshake.AlertBadCertificate, reason.UpstreamBadCert, 3},
		"a Certificate of 16 MB":   {shown(func(s *rawServer) { s.say([]byte{handshake.TypeCertificate, 0xff, 0xff, 0xff}) }), handshake.AlertBadCertificate, reason.UpstreamBadCert, 3},
		"eleven certificates": {shown(func(s *rawServer) {
			c := gateway()
			for range 10 {
				c.Certificate = append(c.Certificate, c.Certificate[0])
			}
			s.say(s.certificate(c))
		}), handshake.AlertBadCertificate, reason.UpstreamBadCert, 3},
		"an SCT that nobody asked": {shown(func(s *rawServer) {
			s.say(s.marshal(&wire.Certificate{Entries: []wire.CertificateEntry{{DER: gateway().Certificate[0], Extensions: []handshake.Extension{ext(handshake.ExtSCT, 0, 0)}}}}))
		}), surplus, reason.UpstreamBadCert, 3},
		"a staple of no status": {shown(func(s *rawServer) {
			s.say(s.marshal(&wire.Certificate{Entries: []wire.CertificateEntry{{DER: gateway().Certificate[0], Extensions: []handshake.Extension{ext(handshake.ExtStatusRequest, 9)}}}}))
		}), handshake.AlertDecodeError, reason.UpstreamBadCert, 3},
		"a compressed certificate": {shown(func(s *rawServer) { s.say([]byte{25, 0, 0, 1, 0}) }), late, reason.UpstreamFailed, 3},
		"Finished, no certificate": {shown(func(s *rawServer) { s.sayFinished() }), late, reason.UpstreamFailed, 3},
		"a stranger's certificate": {shown(func(s *rawServer) { s.say(s.certificate(stranger())) }), handshake.AlertUnknownCA, reason.UpstreamUnknownCA, 3},

		// CertificateVerify and Finished, sections 4.4.3 and 4.4.4.
		"no proof":                 {shown(func(s *rawServer) { s.say(s.certificate(gateway())); s.sayFinished() }), late, reason.UpstreamFailed, 3},
		"the proof of another key": {shown(func(s *rawServer) { s.say(s.certificate(gateway())); s.say(s.verify(stranger(), p256)) }), handshake.AlertDecryptError, reason.UpstreamBadCert, 3},
		"a proof of zeros": {shown(func(s *rawServer) {
			s.say(s.certificate(gateway()))
			s.say(s.marshal(&wire.CertificateVerify{Scheme: p256, Signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}}))
		}), handshake.AlertDecryptError, reason.UpstreamBadCert, 3},
		"a client's proof": {shown(func(s *rawServer) { s.say(s.certificate(gateway())); s.say(s.asClient()) }), handshake.AlertDecryptError, reason.UpstreamBadCert, 3},
		"a scheme that is not offered": {shown(func(s *rawServer) {
			s.say(s.certificate(gateway()))
			s.say(s.marshal(&wire.CertificateVerify{Scheme: uint16(tls.PKCS1WithSHA256), Signature: make([]byte, 256)}))
		}), illegal, reason.UpstreamCrypto, 3},
		"a scheme of another kind": {shown(func(s *rawServer) {
			s.say(s.certificate(gateway()))
			s.say(s.marshal(&wire.CertificateVerify{Scheme: uint16(tls.PSSWithSHA256), Signature: make([]byte, 256)}))
		}), illegal, reason.UpstreamFailed, 3},
		"a proof of 16 MB": {shown(func(s *rawServer) {
			s.say(s.certificate(gateway()))
			s.say([]byte{handshake.TypeCertificateVerify, 0xff, 0xff, 0xff})
		}), illegal, reason.UpstreamFailed, 3},
		"another Finished":     {shown(func(s *rawServer) { s.proven(); m := s.finished(); m[9] ^= 1; s.say(m) }), handshake.AlertDecryptError, reason.UpstreamFailed, 8},
		"a Finished cut short": {shown(func(s *rawServer) { s.proven(); s.say([]byte{handshake.TypeFinished, 0, 0, 1, 0}) }), handshake.AlertDecryptError, reason.UpstreamFailed, 8},
		"the client's Finished": {shown(func(s *rawServer) {
			s.proven()
			s.say(s.marshal(&wire.Finished{VerifyData: s.client.Finished(s.transcript.Sum())}))
		}), handshake.AlertDecryptError, reason.UpstreamFailed, 8},
		"something behind its Finished": {shown(func(s *rawServer) { s.proven(); s.send(handshake.RecordHandshake, append(s.finished(), 4)...) }), late, reason.UpstreamFailed, 8},
		"a ticket before its Finished":  {shown(func(s *rawServer) { s.proven(); s.say([]byte{handshake.TypeNewSessionTicket, 0, 0, 1, 0}) }), late, reason.UpstreamFailed, 3},
		"a KeyUpdate before its end":    {shown(func(s *rawServer) { s.say([]byte{handshake.TypeKeyUpdate, 0, 0, 1, 0}) }), late, reason.UpstreamFailed, 3},
	} {
		t.Run(name, func(t *testing.T) {
			o, got := against(t, clientPlan(func(p *handshake.ClientParams) {
				p.Profile.Suites13 = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_CHACHA20_POLY1305_SHA256}
				p.Profile.Groups = []uint16{uint16(tls.X25519), uint16(tls.CurveP256)}
				p.ALPN, p.Certificates = []string{"h2"}, []tls.Certificate{alice()}
			}), c.server)
			if o.err == nil || o.s != nil || got != c.alert || o.err.Wanted != c.alert || o.err.Reason != c.reason || o.err.Step != c.step || o.err.Side != handshake.SidePeer {
				t.Fatalf("%+v, it got %s", o.err, got)
			}
			if o.asked != 0 || o.l.AlertSent() != got || o.err.Peer != nil && o.err.Peer.Proven {
				t.Errorf("asked %d times, the ledger has %s, %+v", o.asked, o.l.AlertSent(), o.err.Peer)
			}
			for _, e := range o.l.Entries() {
				if e.From == handshake.SideUs && (e.Message == handshake.MsgCertificate || e.Message == handshake.MsgFinished) {
					t.Errorf("it was answered: %+v", e)
				}
			}
		})
	}
}

// stranger is a server for our name of a CA that nobody trusts.
func stranger() tls.Certificate {
	return testpki.Must(handshaketest.Fixtures().Other.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}})).TLS()
}

// proven is Certificate and CertificateVerify.
func (s *rawServer) proven() {
	s.say(s.certificate(gateway()))
	s.say(s.verify(gateway(), uint16(tls.ECDSAWithP256AndSHA256)))
}

// asClient is a proof of possession with the words of a client.
func (s *rawServer) asClient() []byte {
	cert := gateway()
	const scheme = uint16(tls.ECDSAWithP256AndSHA256)
	signature, err := sign(&cert, scheme, wire.SignedContent(false, s.transcript.Sum()))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.marshal(&wire.CertificateVerify{Scheme: scheme, Signature: signature})
}

// empty sends an encrypted record of a handshake message without content.
func (s *rawServer) empty() {
	aead, iv := s.server.Protection()
	header := []byte{handshake.RecordAppData, 3, 3, 0, 17}
	_, _ = s.conn.Write(aead.Seal(header, iv[:], []byte{handshake.RecordHandshake}, header))
}

// What is right goes through, whatever the records are cut like, and what is legal besides:
// change_cipher_spec, a cookie, a request, groups that the server prefers.
func TestDestinationRight(t *testing.T) {
	for name, server := range map[string]func(s *rawServer){
		"plain": func(s *rawServer) { s.sayHello(s.answer()); s.flight() },
		"change_cipher_spec first": func(s *rawServer) {
			s.send(handshake.RecordCCS, 1)
			s.sayHello(s.answer())
			s.flight()
		},
		"change_cipher_spec": func(s *rawServer) {
			s.sayHello(s.answer())
			_, _ = s.conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1})
			s.flight()
		},
		"a cookie": func(s *rawServer) {
			first := s.hello
			s.retry(&wire.ServerHello{Cookie: []byte("some bytes")})
			if cookie, err := wire.Cookie(s.hello); err != nil || string(cookie) != "some bytes" {
				t.Errorf("cookie %q, %v", cookie, err)
			}
			if err := wire.CheckSecond(first, s.hello, &wire.ServerHello{Retry: true, Cookie: []byte("some bytes")}); err != nil {
				t.Error(err)
			}
			s.sayHello(s.answer())
			s.flight()
		},
		"groups, and the name": func(s *rawServer) {
			s.sayHello(s.answer())
			s.say(s.marshal(&wire.EncryptedExtensions{ServerName: true, Groups: []uint16{1, 2, 3}, ALPN: "h2"}))
			s.proven()
			s.sayFinished()
		},
		"one record": func(s *rawServer) {
			s.sayHello(s.answer())
			all := s.marshal(&wire.EncryptedExtensions{})
			s.transcript.Add(all)
			for _, make := range []func() []byte{
				func() []byte { return s.certificate(gateway()) },
				func() []byte { return s.verify(gateway(), uint16(tls.ECDSAWithP256AndSHA256)) },
				s.finished,
			} {
				msg := make()
				s.transcript.Add(msg)
				all = append(all, msg...)
			}
			for _, b := range all[:7] {
				s.send(handshake.RecordHandshake, b)
			}
			s.send(handshake.RecordHandshake, all[7:]...)
			s.out.SetKeys(s.master.Server(s.transcript.Sum()))
		},
		"user_canceled": func(s *rawServer) {
			s.sayHello(s.answer())
			s.send(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled))
			s.flight()
		},
	} {
		o, _ := against(t, clientPlan(func(p *handshake.ClientParams) { p.ALPN = []string{"h2"} }), func(s *rawServer) {
			server(s)
			s.send(handshake.RecordAppData, []byte("ok")...)
			s.send(handshake.RecordAlert, 1, 0)
		})
		if o.err != nil || o.s == nil || !o.s.Peer.Proven || o.asked != 1 || o.data != "ok" || o.end != nil {
			t.Errorf("%s: %v, asked %d times, read %q, %v", name, o.err, o.asked, o.data, o.end)
		}
	}
}

// What comes behind the handshake: tickets and KeyUpdates within bounds, and nothing else.
func TestDestinationLater(t *testing.T) {
	ticket := testpki.Must((&wire.NewSessionTicket{Lifetime: 7200, Ticket: make([]byte, 40000), Nonce: []byte{1}}).Marshal())
	for name, c := range map[string]struct {
		later func(s *rawServer)
		alert handshake.Alert // AlertNone: it is well
	}{
		"tickets": {func(s *rawServer) {
			for range 4 {
				s.send(handshake.RecordHandshake, ticket...)
			}
		}, handshake.AlertNone},
		"a KeyUpdate": {func(s *rawServer) { s.update() }, handshake.AlertNone},
		"sixteen of both": {func(s *rawServer) {
			for range 8 {
				s.update()
				s.send(handshake.RecordHandshake, ticket...)
			}
		}, handshake.AlertNone},
		"tickets without end": {func(s *rawServer) {
			for range 20 {
				s.send(handshake.RecordHandshake, ticket...)
			}
		}, handshake.AlertUnexpectedMessage},
		"KeyUpdates without end": {func(s *rawServer) {
			for range 20 {
				s.update()
			}
		}, handshake.AlertUnexpectedMessage},
		"two KeyUpdates in a record": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, 24, 0, 0, 1, 1, 24, 0, 0, 1, 1)
		}, handshake.AlertUnexpectedMessage},
		"a ticket of nothing": {func(s *rawServer) { s.send(handshake.RecordHandshake, handshake.TypeNewSessionTicket, 0, 0, 0) }, handshake.AlertDecodeError},
		"a ticket of 16 MB": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, handshake.TypeNewSessionTicket, 0xff, 0xff, 0xff)
		}, handshake.AlertDecodeError},
		"a request for a certificate": {func(s *rawServer) {
			s.send(handshake.RecordHandshake, handshake.TypeCertificateRequest, 0, 0, 3, 0, 0, 0)
		}, handshake.AlertUnexpectedMessage},
		"HelloRequest":         {func(s *rawServer) { s.send(handshake.RecordHandshake, 0, 0, 0, 0) }, handshake.AlertUnexpectedMessage},
		"a ServerHello":        {func(s *rawServer) { s.send(handshake.RecordHandshake, handshake.TypeServerHello, 0, 0, 0) }, handshake.AlertUnexpectedMessage},
		"change_cipher_spec":   {func(s *rawServer) { _, _ = s.conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1}) }, handshake.AlertUnexpectedMessage},
		"data inside a ticket": {func(s *rawServer) { s.send(handshake.RecordHandshake, ticket[:9]...) }, handshake.AlertUnexpectedMessage},
	} {
		t.Run(name, func(t *testing.T) {
			o, got := against(t, clientPlan(), func(s *rawServer) {
				s.sayHello(s.answer())
				s.flight()
				if _, err := s.inbox.expect(handshake.TypeFinished, maxFinished); err != nil {
					t.Error(err)
				}
				s.in.SetKeys(s.clientApp)
				c.later(s)
				s.send(handshake.RecordAppData, []byte("ok")...)
				s.send(handshake.RecordAlert, 1, 0)
			})
			if o.s == nil || (c.alert == handshake.AlertNone) != (o.end == nil) || c.alert != handshake.AlertNone && got != c.alert {
				t.Errorf("%v, %v, it got %s", o.err, o.end, got)
			}
			if c.alert == handshake.AlertNone && (o.data != "ok" || got != handshake.AlertCloseNotify) {
				t.Errorf("read %q, it got %s", o.data, got)
			}
		})
	}
}
