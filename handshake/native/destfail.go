package native

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
)

// This file words what goes wrong with a destination, and what its messages say, as the
// other engine does.

// alerted: the destination ended the handshake.
func (c *client) alerted(received *alertReceived, err error) *handshake.Error {
	e := c.peers(reason.UpstreamRefusedUs, err)
	e.Step, e.Detail = handshake.StepClientVerified, received.Error()
	if c.suite == nil {
		e.Step = handshake.StepClientHello
	}
	switch received.alert {
	case handshake.AlertProtocolVersion, handshake.AlertInsufficientSecurity:
		e.Reason = reason.UpstreamCrypto
	case handshake.AlertNoApplicationProtocol:
		e.Reason = reason.UpstreamALPN
	}
	return e
}

// broken is a breach of the protocol by the destination, with the alert that the RFC
// names.
func (c *client) broken(a handshake.Alert, err error) *handshake.Error {
	e := c.peers(reason.UpstreamFailed, err)
	e.Wanted = a
	if c.suite != nil && c.at == handshake.StepServerHello {
		e.Step = handshake.StepServerVerified
	}
	if a == handshake.AlertProtocolVersion && c.in.Records == 0 {
		e.Detail = "the first bytes are not a TLS record"
	}
	return e
}

// badAnswer is a ServerHello that cannot be read, or of another version.
func (c *client) badAnswer(err error) error {
	bad := (*wire.Error)(nil)
	if !errors.As(err, &bad) || bad.Alert != handshake.AlertProtocolVersion {
		return err
	}
	e := c.broken(bad.Alert, err)
	e.Step, e.Reason = handshake.StepServerVerified, reason.UpstreamCrypto
	return e
}

// badChoice is a ServerHello that does not fit the hello.
func (c *client) badChoice(h *wire.ServerHello, err error) error {
	bad := (*wire.Error)(nil)
	if !errors.As(err, &bad) || bad.Alert != handshake.AlertIllegalParameter {
		return err
	}
	what, ok := c.plan.Profile.Allows(c.agreed.Version, h.Suite, h.KeyShare.Group)
	if ok {
		return err
	}
	e := c.broken(bad.Alert, err)
	e.Step, e.Reason, e.Detail = handshake.StepServerVerified, reason.UpstreamCrypto, what+" was chosen, which the profile does not allow"
	return e
}

// refusal refuses what the destination shows: code says what is wrong with it.
func (c *client) refusal(code reason.Code, detail string) *handshake.Error {
	e := handshake.Refuse(handshake.StepServerVerified, reason.UpstreamBadCert, string(code)+": "+detail)
	e.Wanted = handshake.AlertOf(code)
	return e
}

// noteAnswer notes ServerHello or HelloRetryRequest, and what it chooses.
func (c *client) noteAnswer(h *wire.ServerHello, msg []byte) {
	c.agreed.Version, c.agreed.Suite, c.agreed.ServerName = tls.VersionTLS13, h.Suite, c.plan.ServerName
	if h.KeyShare.Group != 0 {
		c.agreed.Group = h.KeyShare.Group
	}
	if c.brief {
		return
	}
	e := handshake.Entry{Step: handshake.StepServerHello, From: handshake.SidePeer, Message: handshake.MessageName(msg[0]), Size: len(msg)}
	if h.Retry {
		e.Message = handshake.MsgHelloRetryRequest
	}
	facts := []string{handshake.VersionName(c.agreed.Version), handshake.SuiteName(h.Suite)}
	if h.KeyShare.Group != 0 {
		facts = append(facts, handshake.GroupName(h.KeyShare.Group))
	}
	e.Facts = strings.Join(append(facts, fmt.Sprintf("session ID %d bytes", len(h.SessionID))), ", ")
	c.ledger.Note(e)
}

// noteRequest notes a CertificateRequest.
func (c *client) noteRequest(m *wire.CertificateRequest, msg []byte) {
	if c.brief {
		return
	}
	var names []string
	n := 0
	for der := range m.Authorities.All() {
		if n++; n <= maxCANames {
			names = append(names, nameText(der))
		}
	}
	c.ledger.Note(handshake.Entry{
		Step: handshake.StepServerHello, From: handshake.SidePeer, Message: handshake.MsgCertificateRequest, Size: len(msg), CANames: names,
		Facts: handshake.Plural(len(m.Signatures), "signature algorithm") + ", " + handshake.Plural(n, "acceptable CA name"),
	})
}
