package native

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// The states of RFC 8446, appendix A.2, behind our Finished:
//
//	expectCertificate -> expectVerify -> expectFinished -> the end
//	                 \-> expectFinished

const (
	// besidesChain is the room in a Certificate message for what is not the
	// certificates, in bytes: lengths, an OCSP answer and SCTs (section 4.4.2.1).
	besidesChain = 16 << 10
	// maxVerify bounds a CertificateVerify, in bytes: the signatures of ML-DSA-87 have
	// 4,627.
	maxVerify = 16 << 10
	// maxFinished bounds a Finished: verify_data has 48 bytes at most.
	maxFinished = handshake.MessageHeader + 64
)

// wentOn says that the client accepted our flight: it answers.
func (s *server) wentOn() {
	if s.at == handshake.StepServerVerified {
		s.say(handshake.StepServerVerified, handshake.SidePeer, "accepted: the client went on")
		s.ledger.Complete(handshake.StepServerVerified)
	}
}

// certificateMessage is the client's Certificate message, within its bound.
func (s *server) certificateMessage() ([]byte, error) {
	most := s.plan.CertificateBytes() + besidesChain
	msg, err := s.inbox.expect(handshake.TypeCertificate, most)
	if large, ok := errors.AsType[*tooLarge](err); ok {
		return nil, handshake.TooManyCertificates(large.size, most, s.usage())
	}
	if err != nil {
		return nil, err
	}
	s.wentOn()
	return msg, nil
}

// undecodable refuses a Certificate message that does not decode.
func (s *server) undecodable(msg []byte, err error) error {
	s.at = handshake.StepClientVerified
	s.note(handshake.StepClientCertificate, handshake.SidePeer, msg, "does not decode")
	return s.badCertificate(err)
}

// shown reads the certificates of a message and notes it.
func (s *server) shown(msg []byte, entries []wire.CertificateEntry) error {
	refused := s.read(entries)
	var leaf *x509.Certificate
	if s.peer != nil {
		leaf = s.peer.Leaf()
	}
	s.note(handshake.StepClientCertificate, handshake.SidePeer, msg, shownFacts(len(entries), leaf))
	return refused
}

// expectCertificate reads the client's certificate (section 4.4.2): step 5.
type expectCertificate struct{ expectFinished }

func (e expectCertificate) step(s *server) (state, error) {
	msg, err := s.certificateMessage()
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseCertificate(msg)
	if err != nil {
		return nil, s.undecodable(msg, err)
	}
	s.transcript.Add(msg)
	refused := s.shown(msg, m.Entries)
	switch {
	case refused != nil:
		s.at = handshake.StepClientVerified
		return nil, refused
	case s.peer == nil:
		return s.noCertificate(e.expectFinished)
	}
	s.at = handshake.StepClientVerified
	if err := s.verifyChain(); err != nil {
		return nil, err
	}
	s.at = handshake.StepClientCertificate
	return expectVerify(e), nil
}

// noCertificate is the "no certificate" warning.
func (s *server) noCertificate(next expectFinished) (state, error) {
	s.at = handshake.StepClientFinished
	s.ledger.Complete(handshake.StepClientCertificate)
	if s.plan.ClientAuth == handshake.ClientAuthRequired {
		e := handshake.Refuse(handshake.StepClientCertificate, reason.NoCertificate, "")
		if !s.plan.Observe {
			return nil, e
		}
		s.observe(e)
	}
	return next, nil
}

// expectVerify reads the proof of possession (section 4.4.3).
type expectVerify struct{ expectFinished }

func (e expectVerify) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeCertificateVerify, maxVerify)
	if err != nil {
		return nil, err
	}
	if err := s.proof(msg, wire.SignedContent(false, s.transcript.Sum())); err != nil {
		return nil, err
	}
	return e.expectFinished, nil
}

// proof checks a CertificateVerify, which signs content.
func (s *server) proof(msg, content []byte) error {
	m, err := wire.ParseCertificateVerify(msg)
	if err != nil {
		return err
	}
	s.at = handshake.StepClientVerified
	s.note(handshake.StepClientCertificate, handshake.SidePeer, msg, handshake.SchemeName(m.Scheme))
	s.ledger.Complete(handshake.StepClientCertificate)
	if !slices.Contains(s.accepted(), m.Scheme) {
		bad := handshake.Refuse(handshake.StepClientCertificate, reason.WeakSignature,
			"proof of possession with "+handshake.SchemeName(m.Scheme)+", which the profile does not allow")
		bad.Wanted = handshake.AlertIllegalParameter // section 4.4.3: it was not among those of the request
		if !s.plan.Observe || !slices.Contains(s.schemes(), m.Scheme) {
			return bad
		}
		if s.peer.Refusal == nil { // the first one counts
			s.observe(bad)
			s.peer.Refusal = bad
		}
	}
	s.spent += work.Verify(s.peer.Leaf().PublicKey)
	err = verify(s.agreed.Version, s.peer.Leaf().PublicKey, m.Scheme, content, m.Signature)
	switch {
	case errors.Is(err, errWrongScheme):
		return &wire.Error{Message: handshake.MsgCertificateVerify, Alert: handshake.AlertIllegalParameter, Detail: handshake.SchemeName(m.Scheme) + " does not fit the key"}
	case err != nil:
		return handshake.Refuse(handshake.StepClientVerified, reason.NoPossession, err.Error())
	}
	s.transcript.Add(msg)
	s.at, s.peer.SignatureScheme = handshake.StepClientFinished, m.Scheme
	return nil
}

// schemes are those that a CertificateVerify of the client may have.
func (s *server) schemes() []uint16 {
	if s.choice.version == tls.VersionTLS12 {
		return schemes12()
	}
	return schemes()
}

// accepted are the signature schemes of the CertificateRequest.
func (s *server) accepted() []uint16 { return accepted(&s.plan.Profile, s.schemes()) }

// expectFinished reads the client's Finished (section 4.4.4): step 7. Behind it the
// client is proven, and judged.
type expectFinished struct {
	client *keys.Traffic // client_handshake_traffic_secret
	master *keys.Master
}

func (e expectFinished) step(s *server) (state, error) {
	msg, err := s.inbox.expect(handshake.TypeFinished, maxFinished)
	if err != nil {
		return nil, err
	}
	if s.resumed == nil {
		s.wentOn()
	}
	m, err := wire.ParseFinished(msg, s.choice.suite.HashSize)
	if err != nil {
		return nil, err
	}
	s.at = handshake.StepClientFinished
	s.note(handshake.StepClientFinished, handshake.SidePeer, msg, "")
	if !keys.Equal(m.VerifyData, e.client.Finished(s.transcript.Sum())) {
		return nil, &wire.Error{Message: handshake.MsgFinished, Alert: handshake.AlertDecryptError, Detail: "verify_data is wrong"}
	}
	if err := s.inbox.changeKeys(); err != nil {
		return nil, err
	}
	s.ledger.Complete(handshake.StepClientCertificate, handshake.StepClientFinished)
	s.transcript.Add(msg)
	s.in.SetKeys(s.waiting)
	s.in.Establish()
	if err := s.judge(); err != nil {
		return nil, err
	}
	s.ledger.Decide(handshake.StepApplicationData, s.agreed.Agreed())
	return nil, s.makeTicket(e.master.Resumption(s.transcript.Sum()))
}

// judge asks check about a proven client, once: step 6. The chain of one whose session
// is resumed is verified here, for it has come with the ticket.
func (s *server) judge() error {
	if s.resumed != nil {
		s.inherited(handshake.StepServerVerified, handshake.StepClientCertificate)
		if s.peer != nil {
			if err := s.verifyChain(); err != nil {
				return err
			}
		}
	}
	if s.peer != nil {
		s.adopt()
	}
	s.agreed.Observed = s.observed
	if s.check != nil {
		if err := s.check(s.peer, &s.agreed); err != nil {
			e := handshake.AsError(err)
			if e.Step == handshake.StepNone {
				e.Step = handshake.StepClientVerified
			}
			return e
		}
	}
	switch {
	case s.resumed != nil:
		s.inherited(handshake.StepClientVerified)
	case s.peer != nil:
		s.ledger.Decide(handshake.StepClientVerified, "possession of the key proven: "+handshake.SchemeName(s.peer.SignatureScheme))
	case s.plan.ClientAuth == handshake.ClientAuthNone:
		s.ledger.Decide(handshake.StepClientVerified, "no certificate asked for")
	default:
		s.ledger.Decide(handshake.StepClientVerified, "no certificate shown, and none required")
	}
	return nil
}

// verify is Verify with the cache in front, charged.
func (s *server) verify(shown []*x509.Certificate) (*handshake.Peer, *handshake.Error) {
	peer, spent, e := s.engine.chains.Verify(shown, s.usage(), &s.plan.Params)
	s.spent += spent
	return peer, e
}
