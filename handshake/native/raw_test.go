package native

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// rawClient is a client of TLS 1.3 that sends what it is told to, right or wrong.
type rawClient struct {
	t     testing.TB
	conn  net.Conn
	in    *record.Reader
	out   *record.Writer
	inbox inbox
	own   *ecdh.PrivateKey
	hello []byte

	transcript *keys.Transcript
	master     *keys.Master
	client     *keys.Traffic // of the handshake
	flight     []byte        // the types of the server's messages
	server     *keys.Traffic // of application data
	app        *keys.Traffic // of the client's application data, its first epoch
	seen       func(msg []byte)
	psk        []byte // of the session that is gone on with; nil: a full handshake
}

func newRaw(t testing.TB, conn net.Conn) *rawClient {
	t.Helper()
	_ = conn.SetDeadline(testenv.Deadline())
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	buffers := &record.Buffers{}
	c := &rawClient{t: t, conn: conn, in: record.NewReader(conn, buffers), out: record.NewWriter(conn, buffers), own: own}
	c.inbox = inbox{in: c.in, ledger: handshake.NewLedger(testenv.Deadline())}
	return c
}

// share is key_share with our X25519 key, or with another content.
func (c *rawClient) share(key []byte) []byte {
	entry := binary.BigEndian.AppendUint16(nil, uint16(tls.X25519))
	return handshaketest.Prefixed(append(entry, handshaketest.Prefixed(key...)...)...)
}

// hi is a hello that is right.
func (c *rawClient) hi() *handshaketest.Hello {
	h := handshaketest.GoodHello().With(handshake.ExtKeyShare, c.share(c.own.PublicKey().Bytes()))
	h.SID = bytes.Repeat([]byte{7}, 32)
	return h
}

// send writes records of one type with that content, under the keys at hand.
func (c *rawClient) send(typ uint8, content ...byte) {
	if c.out.Add(typ, content) == nil {
		_ = c.out.Flush() // the server may have closed: its alert says why
	}
}

// sendHello sends one. The transcript begins with it.
func (c *rawClient) sendHello(h *handshaketest.Hello) {
	c.hello = h.Bytes()
	c.send(handshake.RecordHandshake, c.hello...)
}

// next is a message of the server's.
func (c *rawClient) next() []byte {
	c.t.Helper()
	msg, err := c.inbox.next(1 << 17)
	if err != nil {
		c.t.Fatal(err)
	}
	return msg
}

// readFlight reads the server's flight, to its Finished, and sets the keys of the
// handshake for what is sent, of application data for what is read.
func (c *rawClient) readFlight() {
	c.t.Helper()
	msg := c.next()
	sh, err := wire.ParseServerHello(msg)
	if err != nil {
		c.t.Fatal(err)
	}
	suite := keys.SuiteOf(sh.Suite)
	if c.transcript == nil {
		c.transcript = keys.NewTranscript(suite)
	}
	c.transcript.Add(c.hello)
	c.transcript.Add(msg)
	point, err := ecdh.X25519().NewPublicKey(sh.KeyShare.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	shared, err := c.own.ECDH(point)
	if err != nil {
		c.t.Fatal(err)
	}
	secret := keys.NewEarly(suite, c.psk).Handshake(shared)
	sum := c.transcript.Sum()
	c.client = secret.Client(sum)
	server := secret.Server(sum)
	c.in.SetKeys(server)
	for len(c.flight) == 0 || c.flight[len(c.flight)-1] != handshake.TypeFinished {
		msg := c.next()
		c.flight = append(c.flight, msg[0])
		if msg[0] == handshake.TypeFinished && !bytes.Equal(msg[4:], server.Finished(c.transcript.Sum())) {
			c.t.Fatal("the server's Finished is wrong")
		}
		c.transcript.Add(msg)
		if c.seen != nil {
			c.seen(msg)
		}
	}
	c.master = secret.Master()
	c.server = c.master.Server(c.transcript.Sum())
	c.in.SetKeys(c.server)
	c.out.SetKeys(c.client)
}

// certificate is a Certificate message.
func (c *rawClient) certificate(cert tls.Certificate) []byte {
	m := &wire.Certificate{}
	for _, der := range cert.Certificate {
		m.Entries = append(m.Entries, wire.CertificateEntry{DER: der})
	}
	return c.marshal(m)
}

// verify is the CertificateVerify of what the transcript has.
func (c *rawClient) verify(cert tls.Certificate, scheme uint16) []byte {
	signature, err := sign(&cert, scheme, wire.SignedContent(false, c.transcript.Sum()))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.marshal(&wire.CertificateVerify{Scheme: scheme, Signature: signature})
}

// finished is the Finished of what the transcript has.
func (c *rawClient) finished() []byte {
	return c.marshal(&wire.Finished{VerifyData: c.client.Finished(c.transcript.Sum())})
}

func (c *rawClient) marshal(m message) []byte {
	msg, err := m.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	return msg
}

// say adds a message to the transcript and sends it.
func (c *rawClient) say(msg []byte) {
	c.transcript.Add(msg)
	c.send(handshake.RecordHandshake, msg...)
}

// answer is the client's flight with alice's certificate.
func (c *rawClient) answer() {
	c.t.Helper()
	c.say(c.certificate(alice()))
	c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
	c.say(c.finished())
}

// established makes a whole handshake.
func (c *rawClient) established() {
	c.t.Helper()
	c.sendHello(c.hi())
	c.readFlight()
	sum := c.transcript.Sum()
	application := c.master.Client(sum)
	c.app = c.master.Client(sum)
	c.answer()
	c.out.SetKeys(application)
}

// end reads to the end and says which alert ended it, AlertNone for another end.
func (c *rawClient) end() handshake.Alert {
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

// readRetry reads a HelloRetryRequest: what follows goes on with its transcript.
func (c *rawClient) readRetry() {
	c.t.Helper()
	msg := c.next()
	retry, err := wire.ParseServerHello(msg)
	if err != nil || !retry.Retry || retry.KeyShare.Group != uint16(tls.X25519) {
		c.t.Fatalf("%+v, %v: not a HelloRetryRequest for X25519", retry, err)
	}
	suite := keys.SuiteOf(retry.Suite)
	c.transcript = keys.NewTranscript(suite)
	c.transcript.Add(wire.MessageHash(suite.Hash(c.hello)))
	c.transcript.Add(msg)
}

// early adds what offers early data: a ticket that nobody opens.
func early(h *handshaketest.Hello) *handshaketest.Hello {
	return h.With(handshake.ExtEarlyData, nil).With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1))
}

// garbage sends n bytes as records of early data, whose keys nobody has.
func (c *rawClient) garbage(n int) {
	for n > 0 {
		k := min(n, record.MaxCiphertext)
		_, _ = c.conn.Write(append([]byte{handshake.RecordAppData, 3, 3, byte(k >> 8), byte(k)}, make([]byte, k)...))
		n -= k
	}
}
