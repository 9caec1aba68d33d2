package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// misuse is a client that breaks the protocol or does not prove itself.
type misuse struct {
	name   string
	client func(c *rawClient)
	alert  handshake.Alert
	step   handshake.Step
	code   reason.Code
}

// flightThen does what is right up to the server's Finished.
func flightThen(do func(c *rawClient)) func(c *rawClient) {
	return func(c *rawClient) {
		c.sendHello(c.hi())
		c.readFlight()
		do(c)
	}
}

func misuses() []misuse {
	const p256 = uint16(tls.ECDSAWithP256AndSHA256)
	other := testpki.Must(testpki.NewKey(testpki.P256))
	return []misuse{
		{"a key share of zeros", func(c *rawClient) {
			c.sendHello(c.hi().With(handshake.ExtKeyShare, c.share(make([]byte, 32))))
		}, handshake.AlertIllegalParameter, handshake.StepClientHello, reason.HandshakeFailed},
		{"a key share that is short", func(c *rawClient) {
			c.sendHello(c.hi().With(handshake.ExtKeyShare, c.share(make([]byte, 31))))
		}, handshake.AlertIllegalParameter, handshake.StepClientHello, reason.HandshakeFailed},
		{"a thief with a key of its own", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(tls.Certificate{PrivateKey: other}, p256))
			c.say(c.finished())
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"a proof of another transcript", flightThen(func(c *rawClient) {
			proof := c.verify(alice(), p256) // without the Certificate
			c.say(c.certificate(alice()))
			c.say(proof)
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"the server's context", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			cert := alice()
			signature := testpki.Must(sign(&cert, p256, wire.SignedContent(true, c.transcript.Sum())))
			c.say(c.marshal(&wire.CertificateVerify{Scheme: p256, Signature: signature}))
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"no proof", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.finished())
		}), handshake.AlertUnexpectedMessage, handshake.StepClientCertificate, reason.HandshakeFailed},
		{"a scheme that was not offered", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.CertificateVerify{Scheme: uint16(tls.ECDSAWithSHA1), Signature: []byte{1}}))
		}), handshake.AlertIllegalParameter, handshake.StepClientCertificate, reason.WeakSignature},
		{"a scheme of another key", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.CertificateVerify{Scheme: uint16(tls.PSSWithSHA256), Signature: []byte{1}}))
		}), handshake.AlertIllegalParameter, handshake.StepClientVerified, reason.HandshakeFailed},
		{"a proof of zeros", flightThen(func(c *rawClient) { // CVE-2022-21449
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.CertificateVerify{Scheme: p256, Signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}}))
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"an empty proof", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.marshal(&wire.CertificateVerify{Scheme: p256}))
		}), handshake.AlertDecryptError, handshake.StepClientVerified, reason.NoPossession},
		{"a compressed certificate", flightThen(func(c *rawClient) { c.say([]byte{25, 0, 0, 1, 0}) }), // nobody said that it is read
			handshake.AlertUnexpectedMessage, handshake.StepClientVerified, reason.HandshakeFailed},
		{"EndOfEarlyData", flightThen(func(c *rawClient) { c.say([]byte{5, 0, 0, 0}) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientVerified, reason.HandshakeFailed},
		{"a KeyUpdate before Finished", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
			c.say([]byte{handshake.TypeKeyUpdate, 0, 0, 1, 0})
		}), handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a wrong Finished", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
			bad := c.finished()
			bad[len(bad)-1] ^= 1
			c.say(bad)
		}), handshake.AlertDecryptError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"a short Finished", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
			c.say([]byte{handshake.TypeFinished, 0, 0, 31, 30: 0, 34: 0})
		}), handshake.AlertDecryptError, handshake.StepClientFinished, reason.HandshakeFailed},
		{"data behind Finished, in its record", flightThen(func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
			c.send(handshake.RecordHandshake, append(c.finished(), handshake.TypeKeyUpdate, 0, 0, 1, 0)...)
		}), handshake.AlertUnexpectedMessage, handshake.StepClientFinished, reason.HandshakeFailed},
		{"Finished at once", flightThen(func(c *rawClient) { c.say(c.finished()) }),
			handshake.AlertUnexpectedMessage, handshake.StepClientVerified, reason.HandshakeFailed},
		{"application data in the handshake", flightThen(func(c *rawClient) { c.send(handshake.RecordAppData, 'x') }),
			handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a message in the clear", flightThen(func(c *rawClient) {
			_, _ = c.conn.Write(append([]byte{handshake.RecordHandshake, 3, 3, 0, 8}, c.certificate(tls.Certificate{})...))
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a record that does not open", flightThen(func(c *rawClient) {
			_, _ = c.conn.Write(append([]byte{handshake.RecordAppData, 3, 3, 0, 40}, make([]byte, 40)...))
		}), handshake.AlertBadRecordMAC, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a Certificate of the wrong length", flightThen(func(c *rawClient) {
			c.say([]byte{handshake.TypeCertificate, 0, 0, 5, 0, 0, 0, 0, 9})
		}), handshake.AlertDecodeError, handshake.StepClientVerified, reason.BadCertificate},
		{"a certificate that is none", flightThen(func(c *rawClient) {
			c.say(c.certificate(tls.Certificate{Certificate: [][]byte{{0x30, 1, 2}}}))
		}), handshake.AlertBadCertificate, handshake.StepClientVerified, reason.BadCertificate},
		{"a context in the Certificate", flightThen(func(c *rawClient) {
			c.say([]byte{handshake.TypeCertificate, 0, 0, 5, 1, 9, 0, 0, 0})
		}), handshake.AlertIllegalParameter, handshake.StepClientVerified, reason.BadCertificate},
		{"a Certificate without end", flightThen(func(c *rawClient) {
			c.send(handshake.RecordHandshake, handshake.TypeCertificate, 0xff, 0xff, 0xff)
		}), handshake.AlertBadCertificate, handshake.StepClientVerified, reason.ChainTooLong},
		{"change_cipher_spec of two bytes", flightThen(func(c *rawClient) {
			_, _ = c.conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 2, 1, 1})
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"change_cipher_spec inside a message", flightThen(func(c *rawClient) {
			c.send(handshake.RecordHandshake, c.certificate(alice())[:9]...)
			_, _ = c.conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1})
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"change_cipher_spec without end", flightThen(func(c *rawClient) {
			_, _ = c.conn.Write(bytes.Repeat([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1}, 17))
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"user_canceled without end", flightThen(func(c *rawClient) {
			for range 5 {
				c.send(handshake.RecordAlert, 1, 90)
			}
		}), handshake.AlertUnexpectedMessage, handshake.StepServerVerified, reason.HandshakeFailed},
		{"a key on P-224", flightThen(func(c *rawClient) {
			c.say(c.certificate(testpki.Must(handshaketest.Fixtures().CA.P224(testpki.Leaf{CN: "mallory"})).TLS()))
		}), handshake.AlertUnsupportedCertificate, handshake.StepClientVerified, reason.WeakKey},
		{"a chain that is too long", flightThen(func(c *rawClient) {
			c.say(c.certificate(testpki.Must(handshaketest.Fixtures().CA.LongChain(testpki.Leaf{CN: "mallory"}, 12)).TLS()))
		}), handshake.AlertOf(reason.ChainTooLong), handshake.StepClientVerified, reason.ChainTooLong},
		{"no certificate", flightThen(func(c *rawClient) { c.say(c.certificate(tls.Certificate{})) }),
			handshake.AlertCertificateRequired, handshake.StepClientCertificate, reason.NoCertificate},
	}
}

func TestMisuse(t *testing.T) {
	for _, m := range misuses() {
		t.Run(m.name, func(t *testing.T) {
			var got handshake.Alert
			o := newRig(params()).with(t, func(conn *net.TCPConn) {
				c := newRaw(t, conn)
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

// What may come besides does no harm.
func TestTolerated(t *testing.T) {
	for name, before := range map[string]func(c *rawClient){
		"nothing":                        func(*rawClient) {},
		"change_cipher_spec, many times": func(c *rawClient) { _, _ = c.conn.Write(bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 16)) },
		"user_canceled":                  func(c *rawClient) { c.send(handshake.RecordAlert, 1, 90) },
		"user_canceled, called fatal":    func(c *rawClient) { c.send(handshake.RecordAlert, 2, 90) }, // RFC 9846, section 6.1: the level means nothing
	} {
		var got []byte
		o := newRig(params()).with(t, func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			before(c)
			application := c.master.Client(c.transcript.Sum())
			c.answer()
			c.out.SetKeys(application)
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

// Of a chain that is too long nothing is parsed but whose it is: the rest may be anything.
func TestLongChainIsNotParsed(t *testing.T) {
	for version, p := range map[uint16]*handshake.ServerParams{tls.VersionTLS12: params12(), tls.VersionTLS13: params()} {
		long := alice()
		for range 100 {
			long.Certificate = append(long.Certificate, []byte("no certificate"))
		}
		config := clientConfig(long)
		config.MinVersion, config.MaxVersion = version, version
		o, _, err := newRig(p).withGo(t, config)
		if o.err == nil || o.err.Reason != reason.ChainTooLong || o.err.Detail != "101 certificates, at most 10 are allowed" || o.err.Peer == nil || o.err.Peer.Leaf().Subject.CommonName != "alice" {
			t.Errorf("%s: %+v", handshake.VersionName(version), o.err)
		}
		if got := alertSeen(err); got != handshake.AlertBadCertificate {
			t.Errorf("%s: the client got %s", handshake.VersionName(version), got)
		}
	}
}

// An alert that comes in the clear when there are keys ends the handshake, and is said to
// prove nothing; one that is sealed is the client's.
func TestAlertInTheClear(t *testing.T) {
	for name, sealed := range map[string]bool{"in the clear": false, "sealed": true} {
		o := newRig(params()).with(t, func(conn *net.TCPConn) {
			raw := newRaw(t, conn)
			raw.sendHello(raw.hi())
			raw.readFlight()
			alert := []byte{2, byte(handshake.AlertUnknownCA)}
			if sealed {
				raw.send(handshake.RecordAlert, alert...)
				return
			}
			_, _ = conn.Write(append([]byte{handshake.RecordAlert, 3, 3, 0, 2}, alert...))
		})
		const mark = "in the clear: it may be anybody's"
		last := o.l.Entries()[len(o.l.Entries())-1]
		if o.err == nil || o.err.Received != handshake.AlertUnknownCA || strings.Contains(o.err.Detail, mark) == sealed || strings.Contains(last.Facts, mark) == sealed {
			t.Errorf("%s: %+v, in the ledger %+v", name, o.err, last)
		}
	}
}
