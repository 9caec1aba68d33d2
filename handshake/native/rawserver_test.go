package native

import (
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

// rawServer is a destination of TLS 1.3 that sends what it is told to, right or wrong.
type rawServer struct {
	t     testing.TB
	conn  net.Conn
	in    *record.Reader
	out   *record.Writer
	inbox inbox

	hello      *handshake.ClientHello // the last one
	suite      *keys.Suite
	transcript *keys.Transcript
	shared     []byte
	client     *keys.Traffic // of the handshake
	server     *keys.Traffic
	master     *keys.Master
	app        *keys.Traffic // of the server's application data
	clientApp  *keys.Traffic // of the client's
}

func newRawServer(t testing.TB, conn net.Conn) *rawServer {
	t.Helper()
	_ = conn.SetDeadline(testenv.Deadline())
	buffers := &record.Buffers{}
	s := &rawServer{t: t, conn: conn, in: record.NewReader(conn, buffers), out: record.NewWriter(conn, buffers), suite: keys.SuiteOf(tls.TLS_AES_128_GCM_SHA256)}
	s.inbox = inbox{in: s.in, ledger: handshake.NewLedger(testenv.Deadline())}
	return s
}

// readHello reads a ClientHello.
func (s *rawServer) readHello() {
	s.t.Helper()
	msg, err := s.inbox.next(handshake.MaxHello)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.hello, err = handshake.ParseClientHello(msg); err != nil {
		s.t.Fatal(err)
	}
}

// send writes records of one type, under the keys at hand.
func (s *rawServer) send(typ uint8, content ...byte) {
	if s.out.Add(typ, content) == nil {
		_ = s.out.Flush() // the client may have closed: its alert says why
	}
}

// say adds a message to the transcript and sends it.
func (s *rawServer) say(msg []byte) {
	s.transcript.Add(msg)
	s.send(handshake.RecordHandshake, msg...)
}

func (s *rawServer) marshal(m message) []byte {
	msg, err := m.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	return msg
}

// answer is a ServerHello with a key share of X25519.
func (s *rawServer) answer() *wire.ServerHello {
	s.t.Helper()
	const group = uint16(tls.X25519)
	shares, err := wire.KeyShares(s.hello)
	if err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(shares, func(share wire.KeyShare) bool { return share.Group == group })
	if i < 0 {
		s.t.Fatal("no key share of X25519")
	}
	h := &wire.ServerHello{Random: [32]byte{1, 2, 3}, SessionID: s.hello.SessionID, Suite: s.suite.ID, KeyShare: wire.KeyShare{Group: group}}
	if s.shared, h.KeyShare.Key, err = keys.Answer(group, shares[i].Key); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// retry asks for another hello, and reads it.
func (s *rawServer) retry(h *wire.ServerHello) {
	s.t.Helper()
	h.Retry, h.SessionID, h.Suite = true, s.hello.SessionID, s.suite.ID
	s.transcript = keys.NewTranscript(s.suite)
	s.transcript.Add(wire.MessageHash(s.suite.Hash(s.hello.Raw)))
	s.say(s.marshal(h))
	s.readHello()
}

// sayHello sends a ServerHello and makes the keys behind it.
func (s *rawServer) sayHello(h *wire.ServerHello) {
	s.t.Helper()
	if s.transcript == nil {
		s.transcript = keys.NewTranscript(s.suite)
	}
	s.transcript.Add(s.hello.Raw)
	s.say(s.marshal(h))
	secret, twin := keys.NewEarly(s.suite, nil).Handshake(slices.Clone(s.shared)), keys.NewEarly(s.suite, nil).Handshake(s.shared)
	sum := s.transcript.Sum()
	s.client, s.server = secret.Client(sum), secret.Server(sum)
	s.master = secret.Master()
	s.in.SetKeys(s.client)
	s.out.SetKeys(twin.Server(sum)) // the writer clears what it is given, and Finished needs it still
}

// certificate, verify and finished are the messages of the transcript so far.
func (s *rawServer) certificate(cert tls.Certificate) []byte {
	m := &wire.Certificate{}
	for _, der := range cert.Certificate {
		m.Entries = append(m.Entries, wire.CertificateEntry{DER: der})
	}
	return s.marshal(m)
}

func (s *rawServer) verify(cert tls.Certificate, scheme uint16) []byte {
	signature, err := sign(&cert, scheme, wire.SignedContent(true, s.transcript.Sum()))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.marshal(&wire.CertificateVerify{Scheme: scheme, Signature: signature})
}

func (s *rawServer) finished() []byte {
	return s.marshal(&wire.Finished{VerifyData: s.server.Finished(s.transcript.Sum())})
}

// sayFinished sends Finished and goes on to the keys of application data.
func (s *rawServer) sayFinished() {
	s.say(s.finished())
	s.app, s.clientApp = s.master.Server(s.transcript.Sum()), s.master.Client(s.transcript.Sum())
	s.out.SetKeys(s.app)
}

// update is a KeyUpdate.
func (s *rawServer) update() {
	s.send(handshake.RecordHandshake, s.marshal(&wire.KeyUpdate{})...)
	s.out.Update()
}

// flight is EncryptedExtensions up to Finished, as it should be.
func (s *rawServer) flight() {
	s.t.Helper()
	s.say(s.marshal(&wire.EncryptedExtensions{}))
	s.say(s.certificate(gateway()))
	s.say(s.verify(gateway(), uint16(tls.ECDSAWithP256AndSHA256)))
	s.sayFinished()
}

// end reads to the end and says which alert ended it, AlertNone for another end.
func (s *rawServer) end() handshake.Alert {
	for {
		typ, content, err := s.in.Next()
		switch {
		case err != nil:
			return handshake.AlertNone
		case typ == handshake.RecordAlert && len(content) == 2:
			return handshake.Alert(content[1])
		}
	}
}

func gateway() tls.Certificate { return handshaketest.Fixtures().Gateway.TLS() }
