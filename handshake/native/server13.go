package native

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// The states of RFC 8446, appendix A.2, up to our Finished:
//
//	expectHello -> sendRetry -> expectSecondHello -> sendFlight
//	           \-> sendFlight

// maxEarlyData is how many bytes of early data are skipped, as records (RFC 8446,
// section 4.2.10): nobody gets a ticket of ours that allows any.
const maxEarlyData = 16 << 10

// expectHello reads the ClientHello that is replayed.
type expectHello struct{}

func (expectHello) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeClientHello, handshake.MaxHello)
	if err != nil {
		return nil, err
	}
	if s.hello == nil {
		if s.hello, err = handshake.ParseClientHello(msg); err != nil {
			return nil, err
		}
		s.ledger.NoteHello(s.hello)
		if refused := s.prepare(); refused != nil {
			return nil, refused
		}
	} else if !bytes.Equal(msg, s.hello.Raw) {
		return nil, handshake.OurFault("the connection does not begin with the hello that was read")
	}
	if err := s.inbox.changeKeys(); err != nil {
		return nil, err
	}
	if s.choice.version == tls.VersionTLS12 {
		return s.begin12()
	}
	s.agreed = handshake.State{
		Version: tls.VersionTLS13, Suite: s.choice.suite.ID, Group: s.choice.group, ALPN: s.choice.alpn,
		ServerName: s.hello.ServerName, ExtendedMasterSecret: true,
	}
	s.transcript = keys.NewTranscript(s.choice.suite)
	if s.hello.EarlyData {
		s.in.SkipEarlyData(maxEarlyData)
	}
	share, err := s.share()
	if err != nil {
		return nil, err
	}
	if share == nil {
		return sendRetry{}, nil
	}
	return sendFlight{share}, nil
}

// share is the client's key share of the chosen group, nil if it sent none.
func (s *server) share() ([]byte, error) {
	shares, err := wire.KeyShares(s.hello)
	if err != nil {
		return nil, err
	}
	for _, share := range shares {
		if share.Group == s.choice.group {
			return share.Key, nil
		}
	}
	return nil, nil
}

// sendRetry asks for a key share of the chosen group (RFC 8446, section 4.1.4).
type sendRetry struct{}

func (sendRetry) step(s *server) (state, error) {
	// Section 4.4.1: a hash stands for the first hello.
	s.transcript.Add(wire.MessageHash(s.choice.suite.Hash(s.hello.Raw)))
	retry := &wire.ServerHello{Retry: true, SessionID: s.hello.SessionID, Suite: s.choice.suite.ID, KeyShare: wire.KeyShare{Group: s.choice.group}}
	msg, err := retry.Marshal()
	if err != nil {
		return nil, err
	}
	s.transcript.Add(msg)
	s.agreed.HelloRetry = true
	if !s.brief {
		s.ledger.Note(handshake.Entry{Step: handshake.StepServerHello, From: handshake.SideUs, Message: handshake.MsgHelloRetryRequest, Size: len(msg), Facts: s.helloFacts()})
	}
	if err := s.sendHello(msg); err != nil {
		return nil, err
	}
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	return expectSecondHello{first: s.hello, retry: retry}, nil
}

// sendHello adds a ServerHello or HelloRetryRequest, and behind the first of them the
// change_cipher_spec for middleboxes (RFC 8446, appendix D.4): also where the client has sent
// no session ID, as crypto/tls and BoringSSL do.
func (s *server) sendHello(msg []byte) error {
	err := s.out.Add(handshake.RecordHandshake, msg)
	if err == nil && !s.sentCCS {
		s.sentCCS = true
		err = s.out.Add(handshake.RecordCCS, []byte{1})
	}
	return err
}

// expectSecondHello reads the hello that answers it.
type expectSecondHello struct {
	first *handshake.ClientHello
	retry *wire.ServerHello
}

func (e expectSecondHello) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeClientHello, handshake.MaxHello)
	if err != nil {
		return nil, err
	}
	s.note(handshake.StepClientHello, handshake.SidePeer, msg, "second, after HelloRetryRequest")
	second, err := handshake.ParseClientHello(msg)
	if err != nil {
		return nil, err
	}
	if err := wire.CheckSecond(e.first, second, e.retry); err != nil {
		return nil, err
	}
	if err := s.inbox.changeKeys(); err != nil {
		return nil, err
	}
	s.hello = second
	s.in.SkipEarlyData(0) // it has ended with the second hello
	share, err := s.share()
	if err != nil {
		return nil, err
	}
	return sendFlight{share}, nil
}

// sendFlight answers with everything up to our Finished. share is the client's.
type sendFlight struct{ share []byte }

func (f sendFlight) step(s *server) (state, error) {
	if err := s.resume(); err != nil {
		return nil, err
	}
	if s.resumed == nil && s.choice.cert == nil {
		e := handshake.Refuse(handshake.StepClientHello, reason.NoCommonSigAlg, "the client names no signature algorithm, and no session is resumed")
		e.Wanted = handshake.AlertMissingExtension // section 4.2.3
		return nil, e
	}
	s.transcript.Add(s.hello.Raw)
	s.charge() // for a share that turns out bad too
	shared, ours, err := keys.Answer(s.choice.group, f.share)
	if err != nil {
		return nil, &wire.Error{Message: handshake.MsgClientHello, Alert: handshake.AlertIllegalParameter, Detail: err.Error()}
	}
	early := keys.NewEarly(s.choice.suite, s.resumed.psk())
	clear(s.resumed.psk())
	secret := early.Handshake(shared)
	s.secrets = append(s.secrets, secret)
	if err := f.sayHello(s, ours); err != nil {
		return nil, err
	}
	sum := s.transcript.Sum()
	client, server := secret.Client(sum), secret.Server(sum)
	s.secrets = append(s.secrets, client)
	s.in.SetKeys(client)
	s.out.SetKeys(server)
	if err := s.sendEncrypted(server); err != nil {
		return nil, err
	}
	sum = s.transcript.Sum()
	master := secret.Master()
	s.secrets = append(s.secrets, master)
	s.waiting = master.Client(sum)
	s.out.SetKeys(master.Server(sum))
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	s.at, s.inbox.step = handshake.StepServerVerified, handshake.StepServerVerified
	done := expectFinished{client: client, master: master}
	if s.resumed != nil || s.plan.ClientAuth == handshake.ClientAuthNone {
		return done, nil
	}
	return expectCertificate{done}, nil
}

// sayHello is ServerHello.
func (f sendFlight) sayHello(s *server, ours []byte) error {
	h := &wire.ServerHello{
		SessionID: s.hello.SessionID, Suite: s.choice.suite.ID, KeyShare: wire.KeyShare{Group: s.choice.group, Key: ours},
	}
	if s.resumed != nil {
		h.PSK, h.SelectedIdentity = true, s.resumed.index
	}
	if _, err := rand.Read(h.Random[:]); err != nil {
		return fmt.Errorf("random of ServerHello: %w", err)
	}
	msg, err := h.Marshal()
	if err != nil {
		return err
	}
	s.transcript.Add(msg)
	s.note(handshake.StepServerHello, handshake.SideUs, msg, s.helloFacts())
	// RFC 8446, section 4.2.8: both halves of step 4 stood in the hellos.
	s.say(handshake.StepKeyExchange, handshake.SidePeer, "key shares in the hellos: "+handshake.GroupName(s.choice.group))
	s.ledger.Complete(handshake.StepKeyExchange)
	return s.sendHello(msg)
}

// charge adds what the flight has us compute.
func (s *server) charge() {
	if s.choice.cert == nil {
		s.spent += work.KeyExchange(tls.CurveID(s.choice.group), nil)
		return
	}
	key := handshake.KeyOf(s.choice.cert)
	s.spent += work.KeyExchange(tls.CurveID(s.choice.group), key)
	if s.resumed == nil {
		s.spent += work.Sign(key)
	}
}

// message is one of ours that can be written out.
type message interface{ Marshal() ([]byte, error) }

// sendEncrypted is EncryptedExtensions up to our Finished, in as few records as they
// take (RFC 8446, sections 4.3 and 4.4).
func (s *server) sendEncrypted(server *keys.Traffic) error {
	var flight []byte
	add := func(m message, facts string) error {
		msg, err := m.Marshal()
		if err != nil {
			fault := handshake.OurFault("a message of ours does not fit its format: " + err.Error())
			fault.Step, fault.Err = handshake.StepServerHello, err
			return fault
		}
		s.transcript.Add(msg)
		flight = append(flight, msg...)
		s.note(handshake.StepServerHello, handshake.SideUs, msg, facts)
		return nil
	}
	facts := ""
	if s.choice.alpn != "" {
		facts = "ALPN " + s.choice.alpn
	}
	err := add(s.encryptedExtensions(), facts)
	if err == nil && s.resumed == nil {
		err = s.addCertificate(add, &flight)
	}
	if err != nil {
		return err
	}
	finished := &wire.Finished{VerifyData: server.Finished(s.transcript.Sum())}
	msg, err := finished.Marshal()
	if err != nil {
		return err
	}
	s.transcript.Add(msg)
	s.note(handshake.StepServerFinished, handshake.SideUs, msg, "")
	s.ledger.Complete(handshake.StepServerHello, handshake.StepServerFinished)
	return s.out.Add(handshake.RecordHandshake, append(flight, msg...))
}

// encryptedExtensions answers the hello. RFC 6066, section 3: where a session is resumed
// there is no answer to the name.
func (s *server) encryptedExtensions() *wire.EncryptedExtensions {
	return &wire.EncryptedExtensions{ServerName: s.hello.ServerName != "" && s.resumed == nil, ALPN: s.choice.alpn}
}

// addCertificate adds CertificateRequest, Certificate and CertificateVerify.
func (s *server) addCertificate(add func(message, string) error, flight *[]byte) error {
	if s.plan.ClientAuth != handshake.ClientAuthNone {
		if err := s.addRequest(flight); err != nil {
			return err
		}
	}
	c := s.choice.cert
	shown := &wire.Certificate{}
	for _, der := range c.Certificate {
		shown.Entries = append(shown.Entries, wire.CertificateEntry{DER: der})
	}
	if s.hello.StatusRequest && len(c.OCSPStaple) > 0 {
		shown.Entries[0].Staple = c.OCSPStaple // section 4.4.2.1
	}
	if err := add(shown, shownFacts(len(c.Certificate), handshake.LeafOf(c))); err != nil {
		return err
	}
	signature, err := sign(c, s.choice.scheme, wire.SignedContent(true, s.transcript.Sum()))
	if err != nil {
		fault := handshake.OurFault("our certificate cannot be used")
		fault.Step, fault.Err = handshake.StepServerHello, err
		return fault
	}
	return add(&wire.CertificateVerify{Scheme: s.choice.scheme, Signature: signature}, handshake.SchemeName(s.choice.scheme))
}
