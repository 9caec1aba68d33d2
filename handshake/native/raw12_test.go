package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// rawClient12 is a client of TLS 1.2 that sends what it is told to, right or wrong.
type rawClient12 struct {
	t     testing.TB
	conn  net.Conn
	in    *record.Reader
	out   *record.Writer
	inbox inbox
	own   *keys.ECDHE
	hello *handshake.ClientHello

	server     *wire.ServerHello12
	exchange   *wire.ServerKeyExchange
	request    *wire.CertificateRequest12 // nil: none came
	flight     []byte                     // the types of the server's messages
	suite      *keys.Suite12
	messages   [][]byte
	transcript *keys.Transcript
	master     *keys.Master12
	secret     []byte // a copy of the master secret
	ticket     *wire.NewSessionTicket12
	mine       *keys.Traffic12
	theirs     *keys.Traffic12
}

func newRaw12(t testing.TB, conn net.Conn) *rawClient12 {
	t.Helper()
	_ = conn.SetDeadline(testenv.Deadline())
	buffers := &record.Buffers{}
	c := &rawClient12{t: t, conn: conn, in: record.NewReader(conn, buffers), out: record.NewWriter(conn, buffers)}
	c.in.Begin12()
	c.inbox = inbox{in: c.in, ledger: handshake.NewLedger(testenv.Deadline()), v12: true}
	return c
}

// hi is a hello that is right.
func (c *rawClient12) hi() *handshaketest.Hello {
	h := handshaketest.Hello12()
	h.Suites = keys.Suites12()
	return h.With(handshake.ExtExtendedMasterSecret, nil).With(handshake.ExtSessionTicket, nil).
		With(handshake.ExtSupportedGroups, handshaketest.List16(uint16(tls.X25519), uint16(tls.CurveP256))).
		With(handshake.ExtSignatureAlgorithms, handshaketest.List16(uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.PSSWithSHA256)))
}

// send writes records of one type with that content, under the keys at hand.
func (c *rawClient12) send(typ uint8, content ...byte) {
	if c.out.Add(typ, content) == nil {
		_ = c.out.Flush() // the server may have closed: its alert says why
	}
}

func (c *rawClient12) sendHello(h *handshaketest.Hello) {
	c.t.Helper()
	var err error
	if c.hello, err = handshake.ParseClientHello(h.Bytes()); err != nil {
		c.t.Fatal(err)
	}
	c.send(handshake.RecordHandshake, c.hello.Raw...)
}

// add is a message for the transcript.
func (c *rawClient12) add(msg []byte) {
	c.messages = append(c.messages, msg)
	c.transcript.Add(msg)
}

// next is a message of the server's.
func (c *rawClient12) next() []byte {
	c.t.Helper()
	msg, err := c.inbox.next(1 << 17)
	if err != nil {
		c.t.Fatal(err)
	}
	c.flight = append(c.flight, msg[0])
	return msg
}

// must ends the test with an error.
func must12[T any](c *rawClient12, v T, err error) T {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// readHello reads ServerHello.
func (c *rawClient12) readHello() {
	c.t.Helper()
	msg := c.next()
	sh, err := wire.ParseServerHello12(msg)
	c.server = must12(c, sh, err)
	c.suite = keys.Suite12Of(c.server.Suite)
	c.transcript = keys.NewTranscript(&c.suite.Suite)
	c.add(c.hello.Raw)
	c.add(msg)
}

// readFlight reads up to ServerHelloDone, and checks the server's signature.
func (c *rawClient12) readFlight() {
	c.t.Helper()
	c.readHello()
	var chain *wire.Certificate12
	for c.flight[len(c.flight)-1] != handshake.TypeServerHelloDone {
		msg := c.next()
		var err error
		switch msg[0] {
		case handshake.TypeCertificate:
			chain, err = wire.ParseCertificate12(msg)
		case handshake.TypeServerKeyExchange:
			c.exchange, err = wire.ParseServerKeyExchange(msg)
		case handshake.TypeCertificateRequest:
			c.request, err = wire.ParseCertificateRequest12(msg)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.add(msg)
	}
	content, err := c.exchange.SignedContent(&c.hello.Random, &c.server.Random)
	if err != nil || chain == nil {
		c.t.Fatal(err, chain)
	}
	leaf := handshake.LeafOf(&tls.Certificate{Certificate: chain.Certificates})
	if err := verify(tls.VersionTLS12, leaf.PublicKey, c.exchange.Scheme, content, c.exchange.Signature); err != nil {
		c.t.Fatal(err)
	}
	own, err := keys.NewECDHE(c.exchange.Group)
	c.own = must12(c, own, err)
}

// certificate is a Certificate message.
func (c *rawClient12) certificate(cert tls.Certificate) []byte {
	return c.marshal(&wire.Certificate12{Certificates: cert.Certificate})
}

// keyExchange is a ClientKeyExchange.
func (c *rawClient12) keyExchange() []byte {
	return c.marshal(&wire.ClientKeyExchange{Public: c.own.Public()})
}

// agree makes the keys of the transcript, which ends with ClientKeyExchange.
func (c *rawClient12) agree() {
	c.t.Helper()
	agreed, err := c.own.Agree(c.exchange.Public)
	shared := must12(c, agreed, err)
	if c.server.ExtendedMasterSecret {
		c.master = keys.NewExtendedMaster12(c.suite, shared, c.transcript.Sum())
	} else {
		c.master = keys.NewMaster12(c.suite, shared, &c.hello.Random, &c.server.Random)
	}
	c.expand()
}

func (c *rawClient12) expand() {
	c.secret = c.master.Secret()
	c.mine, c.theirs = c.master.Expand(&c.hello.Random, &c.server.Random)
}

// verify is the CertificateVerify of what the transcript has.
func (c *rawClient12) verify(cert tls.Certificate, scheme uint16) []byte {
	signature, err := sign(&cert, scheme, slices.Concat(c.messages...))
	return c.marshal(&wire.CertificateVerify{Scheme: scheme, Signature: must12(c, signature, err)})
}

// finished is the Finished of what the transcript has.
func (c *rawClient12) finished() []byte {
	return c.marshal(&wire.Finished{VerifyData: c.master.ClientFinished(c.transcript.Sum())})
}

func (c *rawClient12) marshal(m message) []byte {
	msg, err := m.Marshal()
	return must12(c, msg, err)
}

// say adds a message to the transcript and sends it.
func (c *rawClient12) say(msg []byte) {
	c.add(msg)
	c.send(handshake.RecordHandshake, msg...)
}

// change is ChangeCipherSpec: what follows is sealed.
func (c *rawClient12) change() {
	c.send(handshake.RecordCCS, 1)
	c.out.SetKeys12(c.mine)
}

// answer is the client's flight with a certificate, up to its Finished.
func (c *rawClient12) answer(cert tls.Certificate) {
	c.t.Helper()
	c.say(c.certificate(cert))
	c.say(c.keyExchange())
	c.agree()
	c.say(c.verify(cert, uint16(tls.ECDSAWithP256AndSHA256)))
	c.change()
	c.say(c.finished())
}

// readEnd reads the server's last messages.
func (c *rawClient12) readEnd() {
	c.t.Helper()
	if c.server.SessionTicket {
		msg := c.next()
		ticket, err := wire.ParseNewSessionTicket12(msg)
		c.ticket = must12(c, ticket, err)
		c.add(msg)
	}
	if err := c.inbox.changeCipherSpec(); err != nil {
		c.t.Fatal(err)
	}
	c.in.SetKeys12(c.theirs)
	want := c.master.ServerFinished(c.transcript.Sum())
	msg := c.next()
	if m, err := wire.ParseFinished(msg, wire.FinishedSize12); err != nil || !bytes.Equal(m.VerifyData, want) {
		c.t.Fatal("the server's Finished is wrong: ", err)
	}
	c.add(msg)
}

// established makes a whole handshake.
func (c *rawClient12) established(h *handshaketest.Hello) {
	c.t.Helper()
	c.sendHello(h)
	c.readFlight()
	c.answer(alice())
	c.readEnd()
}

// resume makes an abbreviated handshake with a master secret: what the server says of it is
// read and not judged.
func (c *rawClient12) resume(h *handshaketest.Hello, secret []byte) {
	c.t.Helper()
	c.sendHello(h)
	c.readHello()
	c.master = keys.ResumedMaster12(c.suite, secret)
	c.expand()
	if err := c.inbox.changeCipherSpec(); err != nil {
		c.t.Fatal(err)
	}
	c.in.SetKeys12(c.theirs)
	if msg, err := c.inbox.next(1 << 10); err == nil {
		c.add(msg)
	}
	c.change()
	c.say(c.finished())
}

// end reads to the end and says which alert ended it, AlertNone for another end.
func (c *rawClient12) end() handshake.Alert {
	for {
		typ, content, err := c.in.Next()
		switch {
		case err != nil:
			return handshake.AlertNone
		case typ == handshake.RecordAlert && len(content) == 2:
			return handshake.Alert(content[1])
		}
	}
}
