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

// The states of RFC 8446, appendix A.1, up to the server's Finished:
//
//	sendOffer -> expectAnswer -> sendSecondOffer -> expectAnswer
//	                         \-> expectExtensions -> expectRequest -> expectShown
//	     -> expectProof -> expectEnd -> sendAnswer (client13send.go)

const (
	// maxAnswer bounds a ServerHello and a HelloRetryRequest, in bytes: the largest key
	// share has 1,665, and cookies in use less than 1 KiB.
	maxAnswer = 16 << 10
	// maxExtensions bounds EncryptedExtensions, in bytes.
	maxExtensions = 8 << 10
	// maxRequest bounds a CertificateRequest, in bytes: names of CAs have 64 KiB at most.
	maxRequest = 72 << 10
)

// sendOffer sends the first ClientHello.
type sendOffer struct{}

func (sendOffer) step(c *client) (clientState, error) {
	var err error
	if c.hello, err = c.newHello(); err != nil {
		return nil, err
	}
	msg, err := c.sendHello(shared(c.hello.Groups))
	if err != nil {
		return nil, err
	}
	if !c.brief {
		c.note(handshake.StepClientHello, handshake.SideUs, msg, c.offer.Summary())
	}
	c.ledger.Complete(handshake.StepClientHello)
	return expectAnswer{}, nil
}

// expectAnswer reads ServerHello or HelloRetryRequest. retry is the HelloRetryRequest that
// came before.
type expectAnswer struct{ retry *wire.ServerHello }

func (e expectAnswer) step(c *client) (clientState, error) {
	msg, err := c.inbox.expect(handshake.TypeServerHello, maxAnswer)
	if err != nil {
		return nil, err
	}
	h, err := wire.ParseServerHello(msg)
	if err != nil {
		return nil, c.badAnswer(err)
	}
	c.noteAnswer(h, msg)
	if err := wire.CheckServerHello(c.offer, h, e.retry); err != nil {
		return nil, c.badChoice(h, err)
	}
	// What stands behind it is read with other keys, or answers a hello that was not
	// sent yet.
	if err := c.inbox.changeKeys(); err != nil {
		return nil, err
	}
	if c.suite == nil {
		c.suite = keys.SuiteOf(h.Suite)
		c.transcript = keys.NewTranscript(c.suite)
	}
	if h.Retry {
		return sendSecondOffer{h, msg}, nil
	}
	c.transcript.Add(c.offer.Raw)
	c.transcript.Add(msg)
	return expectExtensions{}, c.agree(h)
}

// sendSecondOffer obeys a HelloRetryRequest (section 4.1.4).
type sendSecondOffer struct {
	retry *wire.ServerHello
	msg   []byte
}

func (s sendSecondOffer) step(c *client) (clientState, error) {
	c.agreed.HelloRetry = true
	// Section 4.4.1: a hash stands for the first hello.
	c.transcript.Add(wire.MessageHash(c.suite.Hash(c.offer.Raw)))
	c.transcript.Add(s.msg)
	c.hello.Cookie = s.retry.Cookie
	if err := c.addCCS(); err != nil {
		return nil, err
	}
	var groups []uint16
	if s.retry.KeyShare.Group != 0 {
		groups = []uint16{s.retry.KeyShare.Group}
	}
	msg, err := c.sendHello(groups)
	if err != nil {
		return nil, err
	}
	c.note(handshake.StepClientHello, handshake.SideUs, msg, "second, after HelloRetryRequest")
	return expectAnswer{s.retry}, nil
}

// addCCS adds the change_cipher_spec for middleboxes, once (appendix D.4).
func (c *client) addCCS() error {
	if c.sentCCS {
		return nil
	}
	c.sentCCS = true
	return c.out.Add(handshake.RecordCCS, []byte{1})
}

// agree makes the keys of the handshake: step 4.
func (c *client) agree(h *wire.ServerHello) error {
	i := slices.IndexFunc(c.shares, func(o *keys.Offer) bool { return o.Group == h.KeyShare.Group })
	c.spent += exchangeCost(h.KeyShare.Group) - makingCost(h.KeyShare.Group)
	secret, err := c.shares[i].Finish(h.KeyShare.Key)
	c.shares = nil
	if err != nil {
		return &wire.Error{Message: "ServerHello", Alert: handshake.AlertIllegalParameter, Detail: err.Error()}
	}
	// RFC 8446, section 4.2.8: both halves of step 4 stood in the hellos.
	c.say(handshake.StepKeyExchange, handshake.SideUs, "key shares in the hellos: "+handshake.GroupName(h.KeyShare.Group))
	c.ledger.Complete(handshake.StepKeyExchange)
	early := keys.NewEarly(c.suite, nil)
	hs := early.Handshake(secret)
	sum := c.transcript.Sum()
	c.own, c.server = hs.Client(sum), hs.Server(sum)
	c.master = hs.Master()
	c.secrets = append(c.secrets, hs, c.own, c.server, c.master)
	if err := c.addCCS(); err != nil { // leaves in front of what is encrypted first
		return err
	}
	c.in.SetKeys(c.server)
	c.out.SetKeys(c.own)
	c.inbox.step = handshake.StepClientVerified
	return nil
}

// expectExtensions reads EncryptedExtensions.
type expectExtensions struct{}

func (expectExtensions) step(c *client) (clientState, error) {
	msg, err := c.inbox.expect(handshake.TypeEncryptedExtensions, maxExtensions)
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseEncryptedExtensions(msg)
	if err != nil {
		return nil, err
	}
	facts := ""
	if m.ALPN != "" {
		facts = "ALPN " + m.ALPN
	}
	c.note(handshake.StepServerHello, handshake.SidePeer, msg, facts)
	if err := wire.CheckEncrypted(c.offer, m); err != nil {
		if m.ALPN == "" || len(c.plan.ALPN) == 0 || slices.Contains(c.plan.ALPN, m.ALPN) {
			return nil, err
		}
		e := c.broken(handshake.AlertIllegalParameter, err)
		e.Reason, e.Detail = reason.UpstreamALPN, "chosen: "+m.ALPN
		return nil, e
	}
	c.transcript.Add(msg)
	c.agreed.ALPN = m.ALPN
	return expectRequest{}, nil
}

// expectRequest reads a CertificateRequest, if one comes.
type expectRequest struct{}

func (expectRequest) step(c *client) (clientState, error) {
	typ, err := c.inbox.coming()
	if err != nil || typ != handshake.TypeCertificateRequest {
		return expectShown{}, err
	}
	msg, err := c.inbox.expect(typ, maxRequest)
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseCertificateRequest(msg)
	if err != nil {
		return nil, err
	}
	c.noteRequest(m, msg)
	c.transcript.Add(msg)
	c.request = m
	return expectShown{}, nil
}

// expectShown reads the destination's certificate (section 4.4.2).
type expectShown struct{}

func (expectShown) step(c *client) (clientState, error) {
	most := c.plan.CertificateBytes() + besidesChain
	msg, err := c.inbox.expect(handshake.TypeCertificate, most)
	if large, ok := errors.AsType[*tooLarge](err); ok {
		return nil, handshake.TooManyCertificates(large.size, most, c.usage())
	}
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseCertificate(msg)
	if err != nil {
		c.note(handshake.StepServerHello, handshake.SidePeer, msg, "does not decode")
		return nil, c.badCertificate(err)
	}
	c.transcript.Add(msg)
	refused := c.read(m.Entries)
	var leaf *x509.Certificate
	if c.peer != nil {
		leaf = c.peer.Leaf()
	}
	c.note(handshake.StepServerHello, handshake.SidePeer, msg, shownFacts(len(m.Entries), leaf))
	switch {
	case refused != nil:
		return nil, refused
	case c.peer == nil: // section 4.4.2.4
		e := handshake.Refuse(handshake.StepServerVerified, reason.UpstreamBadCert, "no certificate was shown")
		e.Wanted = handshake.AlertDecodeError
		return nil, e
	}
	return expectProof{}, c.verifyChain()
}

// expectProof reads the proof of possession (section 4.4.3).
type expectProof struct{}

func (expectProof) step(c *client) (clientState, error) {
	msg, err := c.inbox.expect(handshake.TypeCertificateVerify, maxVerify)
	if err != nil {
		return nil, err
	}
	m, err := wire.ParseCertificateVerify(msg)
	if err != nil {
		return nil, err
	}
	c.note(handshake.StepServerHello, handshake.SidePeer, msg, handshake.SchemeName(m.Scheme))
	c.ledger.Complete(handshake.StepServerHello)
	if !slices.Contains(c.offer.SignatureSchemes, m.Scheme) { // section 4.4.3
		e := handshake.RefuseChoice("a signature with " + handshake.SchemeName(m.Scheme))
		e.Wanted = handshake.AlertIllegalParameter
		if !c.plan.Observe || !slices.Contains(schemes(), m.Scheme) {
			return nil, e
		}
		if c.peer.Refusal == nil { // the first one counts
			c.observe(e)
			c.peer.Refusal = e
		}
	}
	key := c.peer.Leaf().PublicKey
	c.spent += work.Verify(key)
	err = verify(tls.VersionTLS13, key, m.Scheme, wire.SignedContent(true, c.transcript.Sum()), m.Signature)
	switch {
	case errors.Is(err, errWrongScheme):
		return nil, &wire.Error{Message: handshake.MsgCertificateVerify, Alert: handshake.AlertIllegalParameter, Detail: handshake.SchemeName(m.Scheme) + " does not fit the key"}
	case err != nil:
		e := handshake.Refuse(handshake.StepServerVerified, reason.UpstreamBadCert, string(reason.NoPossession))
		e.Wanted, e.Err = handshake.AlertDecryptError, err
		return nil, e
	}
	c.transcript.Add(msg)
	c.peer.SignatureScheme = m.Scheme
	return expectEnd{}, nil
}

// expectEnd reads the destination's Finished (section 4.4.4). Behind it the destination is
// proven, and judged.
type expectEnd struct{}

func (expectEnd) step(c *client) (clientState, error) {
	msg, err := c.inbox.expect(handshake.TypeFinished, maxFinished)
	if err != nil {
		return nil, err
	}
	if msg[0] == handshake.TypeFinished {
		c.at = handshake.StepServerFinished
	}
	m, err := wire.ParseFinished(msg, c.suite.HashSize)
	if err != nil {
		return nil, err
	}
	c.note(handshake.StepServerFinished, handshake.SidePeer, msg, "")
	if !keys.Equal(m.VerifyData, c.server.Finished(c.transcript.Sum())) {
		return nil, &wire.Error{Message: handshake.MsgFinished, Alert: handshake.AlertDecryptError, Detail: "verify_data is wrong"}
	}
	if err := c.inbox.changeKeys(); err != nil {
		return nil, err
	}
	c.transcript.Add(msg)
	c.ledger.Complete(handshake.StepServerHello, handshake.StepServerFinished)
	c.waiting = c.master.Server(c.transcript.Sum())
	c.in.SetKeys(c.waiting)
	c.in.Establish()
	c.agreed.ExtendedMasterSecret = true
	if err := c.judge(); err != nil {
		return nil, err
	}
	return sendAnswer{}, nil
}

// judge asks check about a destination that is proven, once: step 3.
func (c *client) judge() error {
	if e := c.plan.Holds(&c.agreed); e != nil {
		return e
	}
	c.adopt()
	c.agreed.Observed = c.observed
	if c.check != nil {
		if err := c.check(c.peer, &c.agreed); err != nil {
			e := handshake.AsError(err)
			if e.Step == handshake.StepNone {
				e.Step = handshake.StepServerVerified
			}
			return e
		}
	}
	c.ledger.Complete(handshake.StepServerVerified)
	return nil
}

// verify is chain, name and pins, with the cache in front of the chain, charged.
func (c *client) verify(shown []*x509.Certificate) (*handshake.Peer, *handshake.Error) {
	return c.plan.VerifyDestination(shown, &c.agreed, func(shown []*x509.Certificate, usage x509.ExtKeyUsage, p *handshake.Params) (*handshake.Peer, *handshake.Error) {
		peer, spent, e := c.engine.chains.Verify(shown, usage, p)
		c.spent += spent
		return peer, e
	})
}
