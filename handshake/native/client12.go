package native

import (
	"crypto/tls"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
)

// The states of TLS 1.2 behind our first flight (RFC 5246, section 7.3):
//
//	expectCertificate12 -> expectKeyExchange12 -> expectVerify12 -> expectFinished12 -> the end
//	                                         \-> expectFinished12
//
// Our own Finished comes last, and leaves with the grant: until then the client's
// handshake has not ended.

// maxKeyExchange bounds a ClientKeyExchange: a point of at most 255 bytes and its length.
const maxKeyExchange = handshake.MessageHeader + 1 + 255

// full12 is what the states of a full handshake hand on.
type full12 struct {
	own      *keys.ECDHE
	random   [32]byte // of ServerHello
	messages messages12
	ticket   bool // a NewSessionTicket was announced
}

// expectCertificate12 reads the client's certificate (section 7.4.6): step 5.
type expectCertificate12 struct{ full12 }

func (e expectCertificate12) step(s *server) (state, error) {
	msg, err := s.certificateMessage()
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseCertificate12(msg)
	if err != nil {
		return nil, s.undecodable(msg, err)
	}
	s.transcript.Add(msg)
	e.messages.keep(msg)
	var entries []wire.CertificateEntry
	for _, der := range m.Certificates {
		entries = append(entries, wire.CertificateEntry{DER: der})
	}
	refused := s.shown(msg, entries)
	s.at = handshake.StepClientVerified
	switch {
	case refused != nil:
		return nil, refused
	case s.peer == nil:
		e.messages = messages12{}
		return s.noCertificate12(expectKeyExchange12(e))
	case len(handshake.SchemesOf(tls.VersionTLS12, s.peer.Leaf().PublicKey)) == 0:
		e := handshake.Refuse(handshake.StepClientVerified, reason.WeakKey, "nothing can be signed with the key of the certificate in TLS 1.2")
		e.Wanted = handshake.AlertIllegalParameter // as its proof would get
		return nil, e
	}
	if err := s.verifyChain(); err != nil {
		return nil, err
	}
	s.at = handshake.StepKeyExchange
	return expectKeyExchange12(e), nil
}

// noCertificate12 is the "no certificate" warning. TLS 1.2 has no alert of its own for one
// that is required (section 7.4.6).
func (s *server) noCertificate12(next state) (state, error) {
	s.at = handshake.StepKeyExchange
	s.ledger.Complete(handshake.StepClientCertificate)
	if s.plan.ClientAuth == handshake.ClientAuthRequired {
		e := handshake.Refuse(handshake.StepClientCertificate, reason.NoCertificate, "")
		e.Wanted = handshake.AlertHandshakeFailure
		if !s.plan.Observe {
			return nil, e
		}
		s.observe(e)
	}
	return next, nil
}

// expectKeyExchange12 reads the client's part of the key exchange (RFC 8422, section
// 5.7): step 4.
type expectKeyExchange12 struct{ full12 }

func (e expectKeyExchange12) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeClientKeyExchange, maxKeyExchange)
	if err != nil {
		return nil, err
	}
	s.wentOn()
	s.at = handshake.StepKeyExchange
	m, err := wire.ParseClientKeyExchange(msg)
	if err != nil {
		return nil, err
	}
	s.note(handshake.StepKeyExchange, handshake.SidePeer, msg, "")
	s.transcript.Add(msg)
	e.messages.keep(msg)
	s.spent += exchangeCost(s.choice.group) - makingCost(s.choice.group) // for a point that turns out bad too
	shared, err := e.own.Agree(m.Public)
	if err != nil {
		return nil, &wire.Error{Message: handshake.MessageName(msg[0]), Alert: handshake.AlertIllegalParameter, Detail: err.Error()}
	}
	s.ledger.Complete(handshake.StepKeyExchange)
	var master *keys.Master12
	if s.hello.ExtendedMasterSecret {
		master = keys.NewExtendedMaster12(s.choice.suite12, shared, s.transcript.Sum())
	} else {
		master = keys.NewMaster12(s.choice.suite12, shared, &s.hello.Random, &e.random)
	}
	client, server := master.Expand(&s.hello.Random, &e.random)
	s.secrets = append(s.secrets, master, client)
	s.server12 = server
	next := expectFinished12{master: master, client: client, ticket: e.ticket}
	if s.peer == nil {
		s.at = handshake.StepClientFinished
		return next, nil
	}
	s.at = handshake.StepClientCertificate
	return expectVerify12{messages: e.messages, next: next}, nil
}

// expectVerify12 reads the proof of possession (RFC 5246, section 7.4.8).
type expectVerify12 struct {
	messages messages12
	next     expectFinished12
}

func (e expectVerify12) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeCertificateVerify, maxVerify)
	if err != nil {
		return nil, err
	}
	content, err := e.messages.all()
	if err != nil {
		return nil, err
	}
	if err := s.proof(msg, content); err != nil {
		return nil, err
	}
	return e.next, nil
}

// expectFinished12 reads ChangeCipherSpec and the client's Finished (sections 7.1 and
// 7.4.9): step 7. Behind it the client is proven, and judged.
type expectFinished12 struct {
	master *keys.Master12
	client *keys.Traffic12
	ticket bool // a NewSessionTicket was announced
}

func (e expectFinished12) step(s *server) (state, error) {
	if err := s.inbox.changeCipherSpec(); err != nil {
		return nil, err
	}
	if s.resumed == nil {
		s.wentOn()
	}
	s.at = handshake.StepClientFinished
	if !s.brief {
		s.ledger.Note(entryCCS(handshake.StepClientFinished, handshake.SidePeer))
	}
	s.in.SetKeys12(e.client)
	msg, err := s.inbox.expect(handshake.TypeFinished, maxFinished)
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseFinished(msg, wire.FinishedSize12)
	if err != nil {
		return nil, err
	}
	s.note(handshake.StepClientFinished, handshake.SidePeer, msg, "")
	if !keys.Equal(m.VerifyData, e.master.ClientFinished(s.transcript.Sum())) {
		return nil, &wire.Error{Message: handshake.MsgFinished, Alert: handshake.AlertDecryptError, Detail: "verify_data is wrong"}
	}
	if err := s.inbox.changeKeys(); err != nil { // nothing of the handshake stands behind it
		return nil, err
	}
	s.ledger.Complete(handshake.StepClientCertificate, handshake.StepClientFinished)
	s.transcript.Add(msg)
	s.in.Establish()
	s.agreed.ExtendedMasterSecret = s.hello.ExtendedMasterSecret
	if s.resumed != nil {
		s.inherited(handshake.StepKeyExchange)
	}
	if err := s.judge(); err != nil {
		return nil, err
	}
	if s.resumed != nil {
		s.ledger.Decide(handshake.StepApplicationData, s.agreed.Agreed())
		return nil, nil
	}
	return nil, e.end(s)
}

// end is step 8 of a full handshake, which leaves with the grant.
func (e expectFinished12) end(s *server) error {
	var ticket []byte
	if e.ticket {
		var err error
		if ticket, err = s.makeTicket12(e.master); err != nil {
			return err
		}
		s.transcript.Add(ticket)
	}
	last, err := s.finished12(e.master, s.server12)
	if err != nil {
		return err
	}
	last.ticket, last.agreed = ticket, s.agreed.Agreed()
	s.last = last
	return nil
}

// nothing12 takes what a client may send behind the handshake: nothing. A renegotiation is
// refused by its first byte (RFC 5246, section 7.4.1.2; RFC 5746, section 4.5).
func (i *inbox) nothing12() error {
	switch {
	case len(i.part) == 0: // an alert that ends nothing
		return nil
	case i.part[0] == handshake.TypeClientHello:
		return &record.Fault{Alert: handshake.AlertNoRenegotiation, Detail: "a ClientHello behind the handshake"}
	}
	return unexpected("%s behind the handshake", handshake.MessageName(i.part[0]))
}

// finished12 makes ChangeCipherSpec and our Finished of the transcript so far.
func (s *server) finished12(master *keys.Master12, traffic *keys.Traffic12) (*ending12, error) {
	msg, err := (&wire.Finished{VerifyData: master.ServerFinished(s.transcript.Sum())}).Marshal()
	if err != nil {
		return nil, err
	}
	s.transcript.Add(msg)
	return &ending12{traffic: traffic, finished: msg, brief: s.brief}, nil
}

// entryCCS is the entry for a ChangeCipherSpec.
func entryCCS(step handshake.Step, from handshake.Side) handshake.Entry {
	return handshake.Entry{Step: step, From: from, Message: handshake.MsgChangeCipherSpec, Size: 1}
}

// ending12 are the last messages of ours in TLS 1.2.
type ending12 struct {
	ticket   []byte // NewSessionTicket; nil: none
	traffic  *keys.Traffic12
	finished []byte

	brief  bool   // LedgerSteps
	agreed string // what step 9 begins with; "" where it began before
}

// left notes in the ledger that they have left: not before, for a client that is refused
// between its Finished and the grant never gets them.
func (e *ending12) left(l *handshake.Ledger) {
	if !e.brief {
		if e.ticket != nil {
			l.Note(entryOf(handshake.StepServerFinished, handshake.SideUs, e.ticket, ""))
		}
		l.Note(entryCCS(handshake.StepServerFinished, handshake.SideUs))
		l.Note(entryOf(handshake.StepServerFinished, handshake.SideUs, e.finished, ""))
	}
	l.Complete(handshake.StepServerFinished)
	if e.agreed != "" {
		l.Decide(handshake.StepApplicationData, e.agreed)
	}
}

// send adds them to what leaves. What follows is sealed.
func (e *ending12) send(out *record.Writer) error {
	err := out.Add(handshake.RecordHandshake, e.ticket)
	if err == nil {
		err = out.Add(handshake.RecordCCS, []byte{1})
	}
	if err == nil {
		out.SetKeys12(e.traffic)
		err = out.Add(handshake.RecordHandshake, e.finished)
	}
	return err
}
