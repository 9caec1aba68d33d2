package native

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/work"
)

// The states of TLS 1.2 (RFC 5246, section 7.3), up to what the client answers:
//
//	expectHello -> sendFlight12 -> expectCertificate12, expectKeyExchange12: client12.go
//	           \-> sendResumed12 -> expectFinished12
//
// ServerHello is the first message that is sent: a hello that cannot lead to a handshake
// was refused before.

// begin12 takes the hello of TLS 1.2.
func (s *server) begin12() (state, error) {
	s.agreed = handshake.State{
		Version: tls.VersionTLS12, Suite: s.choice.suite.ID, Group: s.choice.group, ALPN: s.choice.alpn, ServerName: s.hello.ServerName,
	}
	s.in.Begin12()
	s.inbox.v12 = true
	if err := s.resume12(); err != nil {
		return nil, err
	}
	s.transcript = keys.NewTranscript(s.choice.suite)
	s.transcript.Add(s.hello.Raw)
	if s.resumed != nil {
		return sendResumed12{}, nil
	}
	return sendFlight12{}, nil
}

// downgraded is the end of a ServerHello's random where a server that knows TLS 1.3 speaks
// TLS 1.2 (RFC 8446, section 4.1.3).
const downgraded = "DOWNGRD\x01"

// serverRandom makes the random of a ServerHello.
func (s *server) serverRandom() (random [32]byte, err error) {
	if _, err := rand.Read(random[:]); err != nil {
		return random, fmt.Errorf("random of ServerHello: %w", err)
	}
	if s.plan.Profile.MaxVersion > tls.VersionTLS12 {
		copy(random[len(random)-len(downgraded):], downgraded)
	}
	return random, nil
}

// serverHello12 is what is the same in every ServerHello.
func (s *server) serverHello12(random [32]byte) *wire.ServerHello12 {
	return &wire.ServerHello12{
		Random: random, Suite: s.choice.suite.ID, ALPN: s.choice.alpn, PointFormats: len(s.hello.PointFormats) > 0,
		ExtendedMasterSecret: s.hello.ExtendedMasterSecret, SecureRenegotiation: s.hello.SecureRenegotiation,
	}
}

// sendFlight12 is ServerHello up to ServerHelloDone (RFC 5246, section 7.3).
type sendFlight12 struct{}

func (sendFlight12) step(s *server) (state, error) {
	// The other half is charged when the client's part is there.
	s.spent += makingCost(s.choice.group) + work.Sign(handshake.KeyOf(s.choice.cert))
	own, err := keys.NewECDHE(s.choice.group)
	if err != nil {
		return nil, err
	}
	f := full12{own: own, ticket: s.resumable12()}
	if f.random, err = s.serverRandom(); err != nil {
		return nil, err
	}
	if s.plan.ClientAuth != handshake.ClientAuthNone {
		f.messages.wanted = true
		f.messages.keep(s.hello.Raw)
	}
	if err := f.write(s); err != nil {
		return nil, err
	}
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	s.ledger.Complete(handshake.StepServerHello)
	s.at, s.inbox.step = handshake.StepServerVerified, handshake.StepServerVerified
	if s.plan.ClientAuth == handshake.ClientAuthNone {
		return expectKeyExchange12{f}, nil
	}
	return expectCertificate12{f}, nil
}

// write makes the messages of the flight.
func (f *full12) write(s *server) error {
	var flight []byte
	add := func(m message, facts string) error {
		msg, err := m.Marshal()
		if err != nil {
			fault := handshake.OurFault("a message of ours does not fit its format: " + err.Error())
			fault.Step, fault.Err = handshake.StepServerHello, err
			return fault
		}
		s.transcript.Add(msg)
		f.messages.add(m, msg)
		flight = append(flight, msg...)
		s.note(handshake.StepServerHello, handshake.SideUs, msg, facts)
		return nil
	}
	c := s.choice.cert
	hello := s.serverHello12(f.random)
	hello.ServerName, hello.SessionTicket = s.hello.ServerName != "", f.ticket
	hello.StatusRequest = s.hello.StatusRequest && len(c.OCSPStaple) > 0
	hello.HasExtensions = answers12(hello)
	err := add(hello, s.helloFacts12(hello))
	if err == nil {
		err = add(&wire.Certificate12{Certificates: c.Certificate}, shownFacts(len(c.Certificate), handshake.LeafOf(c)))
	}
	if err == nil && hello.StatusRequest {
		err = add(&wire.CertificateStatus{Response: c.OCSPStaple}, "")
	}
	if err == nil {
		var exchange *wire.ServerKeyExchange
		if exchange, err = f.exchange(s); err == nil {
			err = add(exchange, handshake.GroupName(exchange.Group)+", "+handshake.SchemeName(exchange.Scheme))
		}
	}
	if err == nil && s.plan.ClientAuth != handshake.ClientAuthNone {
		err = s.addRequest12(&flight, f)
	}
	if err == nil {
		err = add(&wire.ServerHelloDone{}, "")
	}
	if err != nil {
		return err
	}
	return s.out.Add(handshake.RecordHandshake, flight)
}

// answers12 says whether a ServerHello has any extension: it has no block of them where
// the client had none (RFC 5246, section 7.4.1.3).
func answers12(h *wire.ServerHello12) bool {
	return h.ServerName || h.StatusRequest || h.PointFormats || h.ALPN != "" || h.ExtendedMasterSecret || h.SessionTicket || h.SecureRenegotiation
}

// exchange signs our part of the key exchange (RFC 8422, section 5.4).
func (f *full12) exchange(s *server) (*wire.ServerKeyExchange, error) {
	m := &wire.ServerKeyExchange{Group: s.choice.group, Public: f.own.Public(), Scheme: s.choice.scheme}
	content, err := m.SignedContent(&s.hello.Random, &f.random)
	if err != nil {
		return nil, err
	}
	if m.Signature, err = sign(s.choice.cert, m.Scheme, content); err != nil {
		fault := handshake.OurFault("our certificate cannot be used")
		fault.Step, fault.Err = handshake.StepServerHello, err
		return nil, fault
	}
	return m, nil
}

// addRequest12 adds the CertificateRequest (RFC 5246, section 7.4.4), whose lists are the
// profile's to the letter.
func (s *server) addRequest12(flight *[]byte, f *full12) error {
	m := &request12{announced: s.announced()}
	m.Signatures = s.accepted()
	isRSA := func(id uint16) bool {
		switch tls.SignatureScheme(id) {
		case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512:
			return true
		}
		return false
	}
	if slices.ContainsFunc(m.Signatures, isRSA) {
		m.Types = append(m.Types, wire.CertTypeRSASign)
	}
	if slices.ContainsFunc(m.Signatures, func(id uint16) bool { return !isRSA(id) }) {
		m.Types = append(m.Types, wire.CertTypeECDSASign)
	}
	msg, err := m.Marshal()
	if err != nil {
		return err
	}
	s.transcript.Add(msg)
	f.messages.add(m, msg)
	*flight = append(*flight, msg...)
	s.noteRequest(msg, handshake.Plural(len(m.Types), "certificate type")+", ", len(m.Signatures), m.announced)
	return nil
}

// sendResumed12 answers with the abbreviated handshake (RFC 5246, section 7.3; RFC 5077,
// section 3.1). No ticket is sent: the session does not live longer for being resumed, and
// the client keeps the one that it came with.
type sendResumed12 struct{}

func (sendResumed12) step(s *server) (state, error) {
	random, err := s.serverRandom()
	if err != nil {
		return nil, err
	}
	master := keys.ResumedMaster12(s.choice.suite12, s.resumed.Secret)
	clear(s.resumed.Secret)
	s.secrets = append(s.secrets, master)
	hello := s.serverHello12(random)
	hello.SessionID = s.hello.SessionID // section 3.4 there
	hello.HasExtensions = answers12(hello)
	msg, err := hello.Marshal()
	if err != nil {
		return nil, err
	}
	s.transcript.Add(msg)
	s.note(handshake.StepServerHello, handshake.SideUs, msg, s.helloFacts12(hello))
	if err := s.out.Add(handshake.RecordHandshake, msg); err != nil {
		return nil, err
	}
	client, server := master.Expand(&s.hello.Random, &random)
	s.secrets = append(s.secrets, client, server)
	end, err := s.finished12(master, server)
	if err != nil {
		return nil, err
	}
	if err := end.send(s.out); err != nil {
		return nil, err
	}
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	end.left(s.ledger)
	s.ledger.Complete(handshake.StepServerHello)
	s.at, s.inbox.step = handshake.StepServerVerified, handshake.StepServerVerified
	return expectFinished12{master: master, client: client}, nil
}
