package native

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// misuse12 is a client of TLS 1.2 that breaks the protocol or does not prove itself.
type misuse12 struct {
	name   string
	client func(c *rawClient12)
	alert  handshake.Alert
	step   handshake.Step
	code   reason.Code
}

// flightThen12 does what is right up to ServerHelloDone.
func flightThen12(do func(c *rawClient12)) func(c *rawClient12) {
	return func(c *rawClient12) {
		c.sendHello(c.hi())
		c.readFlight()
		do(c)
	}
}

// provenThen12 does what is right up to CertificateVerify.
func provenThen12(do func(c *rawClient12)) func(c *rawClient12) {
	return flightThen12(func(c *rawClient12) {
		c.say(c.certificate(alice()))
		c.say(c.keyExchange())
		c.agree()
		c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
		do(c)
	})
}

func misuses12() []misuse12 {
	const p256 = uint16(tls.ECDSAWithP256AndSHA256)
	other := testpki.Must(testpki.NewKey(testpki.P256))
	return []misuse12{
		{"a thief with a key of its own", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.agree()
			c.say(c.verify(tls.Certificate{PrivateKey: other}, p256))
			c.change()
			c.say(c.finished())
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"a proof of another handshake", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.agree()
			c.messages[0] = bytes.Clone(c.messages[0])
			c.messages[0][10] ^= 1 // of the random
			c.say(c.verify(alice(), p256))
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"no proof", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.agree()
			c.change()
			c.say(c.finished())
		}), handshake.AlertUnexpectedMessage, handshake.StepClientCertificate, reason.HandshakeFailed},
		{"a proof before the key exchange", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
		}), handshake.AlertUnexpectedMessage, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"a key exchange before the certificate", flightThen12(func(c *rawClient12) { c.say(c.keyExchange()) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientVerified, reason.HandshakeFailed},
		{"two key exchanges", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.say(c.keyExchange())
		}), handshake.AlertUnexpectedMessage, handshake.StepClientCertificate, reason.HandshakeFailed},
		{"two proofs", provenThen12(func(c *rawClient12) { c.say(c.verify(alice(), p256)) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a scheme that was not offered", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.say(c.marshal(&wire.CertificateVerify{Scheme: uint16(tls.ECDSAWithSHA1), Signature: []byte{1}}))
		}), handshake.AlertIllegalParameter, handshake.StepClientCertificate, reason.WeakSignature},
		{"a scheme of another key", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.say(c.marshal(&wire.CertificateVerify{Scheme: uint16(tls.PSSWithSHA256), Signature: []byte{1}}))
		}), handshake.AlertIllegalParameter, handshake.StepClientVerified, reason.HandshakeFailed},
		{"a proof of zeros", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.say(c.marshal(&wire.CertificateVerify{Scheme: p256, Signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}}))
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"no ChangeCipherSpec", provenThen12(func(c *rawClient12) { c.say(c.finished()) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"ChangeCipherSpec at once", flightThen12(func(c *rawClient12) { c.send(handshake.RecordCCS, 1) }),
			handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"ChangeCipherSpec before the key exchange", flightThen12(func(c *rawClient12) { // CVE-2014-0224
			c.say(c.certificate(tls.Certificate{Certificate: alice().Certificate}))
			c.send(handshake.RecordCCS, 1)
		}), handshake.AlertUnexpectedMessage, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"ChangeCipherSpec before the proof", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.send(handshake.RecordCCS, 1)
		}), handshake.AlertUnexpectedMessage, handshake.StepClientCertificate, reason.HandshakeFailed},
		{"ChangeCipherSpec of two bytes", provenThen12(func(c *rawClient12) { c.send(handshake.RecordCCS, 1, 1) }),
			handshake.AlertDecodeError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"ChangeCipherSpec of another value", provenThen12(func(c *rawClient12) { c.send(handshake.RecordCCS, 2) }),
			handshake.AlertDecodeError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"ChangeCipherSpec twice", provenThen12(func(c *rawClient12) { c.change(); c.send(handshake.RecordCCS, 1) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"ChangeCipherSpec inside a message", provenThen12(func(c *rawClient12) {
			c.send(handshake.RecordHandshake, c.finished()[:9]...)
			c.change()
			c.say(c.finished())
		}), handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"ChangeCipherSpec behind half a proof", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.keyExchange())
			c.agree()
			c.send(handshake.RecordHandshake, c.verify(alice(), p256)[:20]...)
			c.change()
		}), handshake.AlertUnexpectedMessage, handshake.StepClientCertificate, reason.HandshakeFailed},
		{"a Finished in the clear behind ChangeCipherSpec", provenThen12(func(c *rawClient12) {
			c.send(handshake.RecordCCS, 1)
			c.say(c.finished())
		}), handshake.AlertBadRecordMAC, handshake.StepClientFinished, reason.HandshakeFailed},
		{"the keys of the other direction", provenThen12(func(c *rawClient12) {
			c.send(handshake.RecordCCS, 1)
			c.out.SetKeys12(c.theirs)
			c.say(c.finished())
		}), handshake.AlertBadRecordMAC, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a wrong Finished", provenThen12(func(c *rawClient12) {
			c.change()
			bad := c.finished()
			bad[len(bad)-1] ^= 1
			c.say(bad)
		}), handshake.AlertDecryptError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"the server's Finished", provenThen12(func(c *rawClient12) {
			c.change()
			c.say(c.marshal(&wire.Finished{VerifyData: c.master.ServerFinished(c.transcript.Sum())}))
		}), handshake.AlertDecryptError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a short Finished", provenThen12(func(c *rawClient12) { c.change(); c.say([]byte{handshake.TypeFinished, 0, 0, 1, 0}) }),
			handshake.AlertDecryptError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a hello behind Finished, in its record", provenThen12(func(c *rawClient12) {
			c.change()
			c.send(handshake.RecordHandshake, append(c.finished(), c.hello.Raw...)...)
		}), handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"application data in place of Finished", provenThen12(func(c *rawClient12) { c.change(); c.send(handshake.RecordAppData, 'x') }),
			handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"another message in place of Finished", provenThen12(func(c *rawClient12) { c.change(); c.say(c.keyExchange()) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"application data in the handshake", flightThen12(func(c *rawClient12) { c.send(handshake.RecordAppData, 'x') }),
			handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a second hello", flightThen12(func(c *rawClient12) { c.send(handshake.RecordHandshake, c.hello.Raw...) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientVerified, reason.HandshakeFailed},
		{"an empty record", flightThen12(func(c *rawClient12) { _, _ = c.conn.Write([]byte{handshake.RecordHandshake, 3, 3, 0, 0}) }),
			handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a record of another version", flightThen12(func(c *rawClient12) { _, _ = c.conn.Write([]byte{handshake.RecordHandshake, 3, 1, 0, 1, 11}) }),
			handshake.AlertProtocolVersion, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a point that is short", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.ClientKeyExchange{Public: make([]byte, 31)}))
		}), handshake.AlertIllegalParameter, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"a point of zeros", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.ClientKeyExchange{Public: make([]byte, 32)}))
		}), handshake.AlertIllegalParameter, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"an empty point", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say([]byte{handshake.TypeClientKeyExchange, 0, 0, 1, 0})
		}), handshake.AlertDecodeError, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"a key exchange without end", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(alice()))
			c.say([]byte{handshake.TypeClientKeyExchange, 0xff, 0xff, 0xff})
		}), handshake.AlertIllegalParameter, handshake.StepKeyExchange, reason.HandshakeFailed},
		{"a Certificate of the wrong length", flightThen12(func(c *rawClient12) { c.say([]byte{handshake.TypeCertificate, 0, 0, 4, 0, 0, 0, 9}) }),
			handshake.AlertDecodeError, handshake.StepClientVerified, reason.BadCertificate},
		{"a certificate that is none", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(tls.Certificate{Certificate: [][]byte{{0x30, 1, 2}}}))
		}), handshake.AlertBadCertificate, handshake.StepClientVerified, reason.BadCertificate},
		{"a Certificate without end", flightThen12(func(c *rawClient12) {
			c.send(handshake.RecordHandshake, handshake.TypeCertificate, 0xff, 0xff, 0xff)
		}), handshake.AlertBadCertificate, handshake.StepClientVerified, reason.ChainTooLong},
		{"a key on P-224", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(testpki.Must(handshaketest.Fixtures().CA.P224(testpki.Leaf{CN: "mallory"})).TLS()))
		}), handshake.AlertUnsupportedCertificate, handshake.StepClientVerified, reason.WeakKey},
		{"a key that TLS 1.2 cannot sign with", flightThen12(func(c *rawClient12) {
			c.say(c.certificate(testpki.Must(handshaketest.Fixtures().CA.IssueFor(testpki.Leaf{CN: "mallory"}, testpki.Must(testpki.NewKey(testpki.MLDSA44)))).TLS()))
		}), handshake.AlertIllegalParameter, handshake.StepClientVerified, reason.WeakKey},
		{"no certificate", flightThen12(func(c *rawClient12) { c.say(c.certificate(tls.Certificate{})) }),
			handshake.AlertHandshakeFailure, handshake.StepClientCertificate, reason.NoCertificate},
		{"warnings without end", flightThen12(func(c *rawClient12) {
			for range 5 {
				c.send(handshake.RecordAlert, 1, 112)
			}
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"an alert of another level", flightThen12(func(c *rawClient12) { c.send(handshake.RecordAlert, 3, 40) }),
			handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
	}
}

func TestMisuse12(t *testing.T) {
	for _, m := range misuses12() {
		t.Run(m.name, func(t *testing.T) {
			var got handshake.Alert
			o := newRig(ticketed12()).with(t, func(conn *net.TCPConn) {
				c := newRaw12(t, conn)
				m.client(c)
				got = c.end()
			})
			switch {
			case o.err == nil:
				t.Fatal("let through")
			case got != m.alert, o.l.AlertSent() != m.alert, o.err.Wanted != m.alert:
				t.Errorf("the client got %s, the ledger has %s, wanted %s: want %s (%v)", got, o.l.AlertSent(), o.err.Wanted, m.alert, o.err)
			case o.err.Step != m.step || o.err.Reason != m.code || o.err.Side != handshake.SidePeer:
				t.Errorf("%v, want %s at step %d", o.err, m.code, m.step)
			case o.asked != 0 || o.err.Peer != nil && o.err.Peer.Proven:
				t.Errorf("asked %d times about a client that is not proven", o.asked)
			}
		})
	}
}

// The same where no certificate is asked for, or none is shown.
func TestMisuseWithoutCertificate12(t *testing.T) {
	none := func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }
	optional := func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }
	for name, c := range map[string]struct {
		plan   func(*handshake.ServerParams)
		client func(c *rawClient12)
	}{
		"a certificate that nobody asked for": {none, func(c *rawClient12) { c.say(c.certificate(alice())) }},
		"a proof without a certificate": {optional, func(c *rawClient12) {
			c.say(c.certificate(tls.Certificate{}))
			c.say(c.keyExchange())
			c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
		}},
		"a proof that nobody asked for": {none, func(c *rawClient12) {
			c.say(c.keyExchange())
			c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
		}},
		"no Certificate at all": {optional, func(c *rawClient12) { c.say(c.keyExchange()) }},
	} {
		got := handshake.AlertNone
		o := newRig(params12(c.plan)).with(t, func(conn *net.TCPConn) {
			raw := newRaw12(t, conn)
			raw.sendHello(raw.hi())
			raw.readFlight()
			c.client(raw)
			got = raw.end()
		})
		if o.err == nil || got != handshake.AlertUnexpectedMessage || o.asked != 0 {
			t.Errorf("%s: %v, the client got %s, asked %d times", name, o.err, got, o.asked)
		}
	}
}

// What a client may not do behind the handshake ends it with its alert; a renegotiation
// has one of its own (RFC 5746, section 4.5), with and without the record's other messages.
func TestAfterwards12(t *testing.T) {
	for name, c := range map[string]struct {
		client func(c *rawClient12)
		alert  handshake.Alert
	}{
		"a renegotiation":           {func(c *rawClient12) { c.send(handshake.RecordHandshake, c.hello.Raw...) }, handshake.AlertNoRenegotiation},
		"the beginning of one":      {func(c *rawClient12) { c.send(handshake.RecordHandshake, handshake.TypeClientHello) }, handshake.AlertNoRenegotiation},
		"a HelloRequest":            {func(c *rawClient12) { c.send(handshake.RecordHandshake, 0, 0, 0, 0) }, handshake.AlertUnexpectedMessage},
		"a KeyUpdate":               {func(c *rawClient12) { c.send(handshake.RecordHandshake, 24, 0, 0, 1, 0) }, handshake.AlertUnexpectedMessage},
		"a Finished":                {func(c *rawClient12) { c.send(handshake.RecordHandshake, c.finished()...) }, handshake.AlertUnexpectedMessage},
		"ChangeCipherSpec":          {func(c *rawClient12) { c.send(handshake.RecordCCS, 1) }, handshake.AlertUnexpectedMessage},
		"an empty handshake record": {func(c *rawClient12) { _, _ = c.conn.Write([]byte{handshake.RecordHandshake, 3, 3, 0, 0}) }, handshake.AlertBadRecordMAC},
		"warnings without end": {func(c *rawClient12) {
			for range 5 {
				c.send(handshake.RecordAlert, 1, byte(handshake.AlertNoRenegotiation))
			}
		}, handshake.AlertUnexpectedMessage},
		"a record in the clear": {func(c *rawClient12) { _, _ = c.conn.Write([]byte{handshake.RecordAppData, 3, 3, 0, 1, 'x'}) }, handshake.AlertBadRecordMAC},
	} {
		r := newRig(params12())
		var err error
		r.after = func(s *handshake.Session) {
			s.Grant()
			_, err = io.ReadAll(s.Conn)
			_ = s.Conn.Close()
		}
		got := handshake.AlertNone
		r.with(t, func(conn *net.TCPConn) {
			raw := newRaw12(t, conn)
			raw.established(raw.hi())
			c.client(raw)
			got = raw.end()
		})
		if err == nil || got != c.alert {
			t.Errorf("%s: read to %v, the client got %s", name, err, got)
		}
	}
}

// What may come besides does no harm: warnings, data before our Finished, messages in any
// number of records.
func TestTolerated12(t *testing.T) {
	for name, client := range map[string]func(c *rawClient12){
		"a warning": func(c *rawClient12) {
			c.send(handshake.RecordAlert, 1, byte(handshake.AlertUnrecognizedName))
			c.answer(alice())
			c.send(handshake.RecordAlert, 1, byte(handshake.AlertNoRenegotiation))
		},
		"false start": func(c *rawClient12) { c.answer(alice()); c.send(handshake.RecordAppData, 'x') }, // RFC 7918
		"a byte a record": func(c *rawClient12) {
			for _, msg := range [][]byte{c.certificate(alice()), c.keyExchange()} {
				c.add(msg)
				for _, b := range msg {
					c.send(handshake.RecordHandshake, b)
				}
			}
			c.agree()
			c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
			c.change()
			c.say(c.finished())
		},
		"all in one record": func(c *rawClient12) {
			c.add(c.certificate(alice()))
			c.add(c.keyExchange())
			c.agree()
			c.add(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
			c.send(handshake.RecordHandshake, slices.Concat(c.messages[len(c.messages)-3:]...)...)
			c.change()
			c.say(c.finished())
		},
	} {
		var got []byte
		o := newRig(params12()).with(t, func(conn *net.TCPConn) {
			c := newRaw12(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			client(c)
			c.readEnd()
			if typ, content, err := c.in.Next(); err == nil && typ == handshake.RecordAppData {
				got = bytes.Clone(content)
			}
			c.send(handshake.RecordAlert, 1, 0)
			c.end()
		})
		if o.err != nil || string(got) != "ok" {
			t.Errorf("%s: %v, the client got %q", name, o.err, got)
		}
	}
}
