package stdtls

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// fail words what ended a handshake. In this order: our own refusal, an alert
// of the peer, a refusal by crypto/tls (it has sent an alert), the clock, the
// connection. Numbers and message names come from the tap and from types; text
// is matched in a few places, each pinned by a test: noCertificate, badFinished,
// unsendable and alertBehind.
func (g *leg) fail(ctx context.Context, err error, seen tapped) *handshake.Error {
	e := &handshake.Error{Side: handshake.SidePeer, Wanted: handshake.AlertNone, Received: g.ledger.AlertReceived(), Err: err, Peer: g.peer}
	if g.refused != nil {
		g.refused.Received = e.Received
		return g.refused
	}
	sent := g.ledger.AlertSent()
	if sent == handshake.AlertNone && seen.sealedAlert {
		// Under TLS 1.2 keys: crypto/tls alone knows which.
		if sent = alertBehind(err); sent != handshake.AlertNone {
			g.ledger.NoteAlert(g.step(seen), handshake.SideUs, sent)
		}
	}
	raw := g.conn.rawErr()
	remote, isRemote := remoteAlert(err)
	if isRemote && e.Received == handshake.AlertNone {
		// Encrypted under TLS 1.2 keys, or the tap has stopped.
		e.Received = remote
		g.ledger.NoteAlert(handshake.StepServerFinished, handshake.SidePeer, remote)
	}
	switch {
	// OpenSSL's client refuses our certificate with an alert in plaintext, in
	// TLS 1.3 too. crypto/tls takes it for a record that does not decrypt and
	// answers bad_record_mac; the tap knows better.
	case isRemote, seen.peerEnded != handshake.AlertNone, e.Received == handshake.AlertCloseNotify:
		g.alerted(e, seen)
	case sent != handshake.AlertNone:
		e.Wanted = sent
		if g.server != nil {
			g.serverRefused(e, seen)
		} else {
			g.clientRefused(e, seen)
		}
	case errors.Is(ctx.Err(), context.Canceled):
		e.Side, e.Reason, e.Step = handshake.SideUs, g.pick(reason.Draining, reason.UpstreamFailed), g.step(seen)
	case handshake.IsTimeout(err), handshake.IsTimeout(raw), ctx.Err() != nil:
		e.Reason, e.Step = g.pick(reason.HandshakeTimeout, reason.UpstreamTimeout), g.step(seen)
	case handshake.IsReset(err), handshake.IsReset(raw):
		e.Reason, e.Step = g.pick(reason.HandshakeReset, reason.UpstreamFailed), g.step(seen)
		e.Detail = "reset by the peer"
	case handshake.IsEOF(err), handshake.IsEOF(raw):
		e.Reason, e.Step = g.pick(reason.HandshakeEOF, reason.UpstreamFailed), g.step(seen)
		e.Detail = "closed by the peer"
	default:
		e.Reason, e.Step = g.pick(reason.HandshakeFailed, reason.UpstreamFailed), g.step(seen)
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok && seen.lastFromPeer == "" {
			e.Detail = "the first bytes are not a TLS record"
		}
	}
	return e
}

// pick is the reason for the leg.
func (g *leg) pick(server, client reason.Code) reason.Code {
	if g.server != nil {
		return server
	}
	return client
}

// step is where the handshake waited for the peer.
func (g *leg) step(seen tapped) handshake.Step {
	if g.server == nil {
		switch {
		case seen.version == 0:
			return handshake.StepServerHello
		case seen.weFinishedFlight, seen.lastFromPeer == handshake.MsgFinished:
			return handshake.StepServerFinished
		}
		return handshake.StepServerHello
	}
	switch seen.lastFromPeer {
	case "":
		return handshake.StepClientHello
	case handshake.MsgClientHello:
		if seen.retry && !seen.weFinishedFlight {
			return handshake.StepClientHello
		}
		return handshake.StepServerVerified
	case handshake.MsgCertificate:
		if seen.version < tls.VersionTLS13 {
			return handshake.StepKeyExchange
		}
		if seen.peerCertificates == 0 {
			return handshake.StepClientFinished
		}
		return handshake.StepClientCertificate
	case "ClientKeyExchange":
		if seen.peerCertificates > 0 {
			return handshake.StepClientCertificate
		}
	}
	return handshake.StepClientFinished
}

// alerted: the peer sent an alert.
func (g *leg) alerted(e *handshake.Error, seen tapped) {
	e.Detail = "alert " + e.Received.String()
	if g.server != nil {
		e.Step, e.Reason = handshake.StepServerVerified, reason.ClientRefused
		switch seen.lastFromPeer {
		case handshake.MsgFinished:
			e.Step, e.Reason = handshake.StepServerFinished, reason.HandshakeFailed
		case handshake.MsgCertificate, handshake.MsgCertificateVerify, "ClientKeyExchange":
			e.Step, e.Reason = handshake.StepClientCertificate, reason.HandshakeFailed
		}
		return
	}
	e.Step, e.Reason = handshake.StepClientVerified, reason.UpstreamRefusedUs
	if seen.version == 0 {
		e.Step = handshake.StepClientHello
	}
	switch e.Received {
	case handshake.AlertProtocolVersion, handshake.AlertInsufficientSecurity:
		e.Reason = reason.UpstreamCrypto
	case handshake.AlertNoApplicationProtocol:
		e.Reason = reason.UpstreamALPN
	}
}

// serverRefused: crypto/tls refused something of the client's and sent the
// alert that e.Wanted has.
func (g *leg) serverRefused(e *handshake.Error, seen tapped) {
	e.Step, e.Reason = g.step(seen), reason.HandshakeFailed
	switch {
	case e.Wanted == handshake.AlertInternalError:
		e.Side, e.Reason = handshake.SideUs, reason.Internal
	case seen.lastFromPeer == "" || seen.lastFromPeer == handshake.MsgClientHello && !seen.weFinishedFlight:
		e.Step = handshake.StepClientHello
		switch {
		case e.Wanted == handshake.AlertProtocolVersion:
			e.Reason = reason.ProtocolVersion
		case e.Wanted == handshake.AlertNoApplicationProtocol:
			e.Reason = reason.NoALPN
		case e.Wanted == handshake.AlertDecodeError:
			e.Reason = reason.HelloMalformed
		case e.Wanted == handshake.AlertHandshakeFailure && g.hello != nil && len(g.hello.SignatureSchemes) == 0:
			e.Reason = reason.NoCommonSigAlg
		}
	case seen.badCertificate != "":
		e.Step, e.Reason, e.Detail = handshake.StepClientVerified, seen.unreadable(), seen.badCertificate
	case g.server.ClientAuth == handshake.ClientAuthRequired && noCertificate(e.Err):
		e.Step, e.Reason = handshake.StepClientCertificate, reason.NoCertificate
	case e.Wanted == handshake.AlertDecryptError && !badFinished(e.Err):
		e.Step, e.Reason = handshake.StepClientVerified, reason.NoPossession
	case seen.lastFromPeer == handshake.MsgCertificate && g.peer == nil:
		// VerifyConnection was not reached: it did not parse, or its key is of
		// a kind or size that crypto/tls cannot use.
		e.Step, e.Reason = handshake.StepClientVerified, reason.BadCertificate
	case seen.lastFromPeer == handshake.MsgCertificateVerify:
		e.Step = handshake.StepClientVerified
	case seen.lastFromPeer == handshake.MsgFinished:
		e.Step = handshake.StepClientFinished
	}
}

// clientRefused: crypto/tls refused something of the destination's.
func (g *leg) clientRefused(e *handshake.Error, seen tapped) {
	e.Step, e.Reason = handshake.StepServerVerified, reason.UpstreamFailed
	what, ok := g.p.Profile.Allows(seen.version, seen.suite, seen.group)
	switch {
	case seen.version == 0:
		e.Step = handshake.StepServerHello
	case seen.badCertificate != "":
		e.Reason, e.Detail = reason.UpstreamBadCert, string(seen.unreadable())+": "+seen.badCertificate
	case e.Wanted == handshake.AlertProtocolVersion, !ok:
		e.Reason, e.Detail = reason.UpstreamCrypto, what+" was chosen, which the profile does not allow"
	case e.Wanted == handshake.AlertDecryptError && !badFinished(e.Err),
		seen.lastFromPeer == "ServerKeyExchange" && e.Wanted == handshake.AlertIllegalParameter:
		e.Reason, e.Detail = reason.UpstreamBadCert, string(reason.NoPossession)
	case seen.lastFromPeer == handshake.MsgCertificate && seen.peerCertificates == 0:
		e.Reason, e.Detail = reason.UpstreamBadCert, "no certificate was shown"
	case seen.lastFromPeer == handshake.MsgCertificate && g.peer == nil:
		e.Reason, e.Detail = reason.UpstreamBadCert, string(reason.BadCertificate)
	case seen.lastFromPeer == handshake.MsgFinished:
		e.Step = handshake.StepServerFinished
	}
}

// unreadable is the reason where badCertificate is set.
func (s *tapped) unreadable() reason.Code {
	if s.badKey {
		return reason.WeakKey
	}
	return reason.BadCertificate
}

// noCertificate tells an empty list of certificates from a malformed one: what
// else the client has sent in the same record is seen before crypto/tls says so.
// Its text is the only way; TestMalformedCertificateMessage pins it.
func noCertificate(err error) bool {
	return err != nil && strings.Contains(err.Error(), "didn't provide a certificate")
}

// badFinished tells a wrong Finished from a wrong CertificateVerify: in TLS
// 1.3 both are decrypt_error, and both may stand in one record, so the tap
// cannot tell which of them crypto/tls looked at. Its text is the only way;
// TestBadFinished and TestThief pin it.
func badFinished(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "finished")
}

// unsendable says whether crypto/tls could not write a message of ours, for
// something in it is larger than the length in front of it can say. It sends no
// alert then. Its text is the only way; TestUnsendableIsOurDoing pins it.
func unsendable(err error) bool {
	return err != nil && strings.Contains(err.Error(), "cryptobyte: pending child length")
}
