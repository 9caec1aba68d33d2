package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/sslgate/sslgate/internal/reason"
)

// fail words what ended a handshake. In this order: our own refusal, an alert
// of the peer, a refusal by crypto/tls (it has sent an alert), the clock, the
// connection. Numbers and message names come from the tap and from types; text
// is matched in a few places, each pinned by a test: noCertificate, badFinished,
// unsendable and alertBehind.
func (g *leg) fail(ctx context.Context, err error, seen observed) *Error {
	e := &Error{Side: SidePeer, Wanted: AlertNone, Received: g.ledger.AlertReceived(), Err: err, Peer: g.peer}
	if g.refused != nil {
		g.refused.Received = e.Received
		return g.refused
	}
	sent := g.ledger.AlertSent()
	if sent == AlertNone && seen.sealedAlert {
		// Under TLS 1.2 keys: crypto/tls alone knows which.
		if sent = alertBehind(err); sent != AlertNone {
			g.ledger.NoteAlert(g.step(seen), SideUs, sent)
		}
	}
	raw := g.conn.rawErr()
	remote, isRemote := remoteAlert(err)
	if isRemote && e.Received == AlertNone {
		// Encrypted under TLS 1.2 keys, or the tap has stopped.
		e.Received = remote
		g.ledger.NoteAlert(StepServerFinished, SidePeer, remote)
	}
	switch {
	// OpenSSL's client refuses our certificate with an alert in plaintext, in
	// TLS 1.3 too. crypto/tls takes it for a record that does not decrypt and
	// answers bad_record_mac; the tap knows better.
	case isRemote, seen.peerEnded != AlertNone, e.Received == AlertCloseNotify:
		g.alerted(e, seen)
	case sent != AlertNone:
		e.Wanted = sent
		if g.server != nil {
			g.serverRefused(e, seen)
		} else {
			g.clientRefused(e, seen)
		}
	case errors.Is(ctx.Err(), context.Canceled):
		e.Side, e.Reason, e.Step = SideUs, g.pick(reason.Draining, reason.UpstreamFailed), g.step(seen)
	case IsTimeout(err), IsTimeout(raw), ctx.Err() != nil:
		e.Reason, e.Step = g.pick(reason.HandshakeTimeout, reason.UpstreamTimeout), g.step(seen)
	case IsReset(err), IsReset(raw):
		e.Reason, e.Step = g.pick(reason.HandshakeReset, reason.UpstreamFailed), g.step(seen)
		e.Detail = "reset by the peer"
	case IsEOF(err), IsEOF(raw):
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
func (g *leg) step(seen observed) Step {
	if g.server == nil {
		switch {
		case seen.version == 0:
			return StepServerHello
		case seen.weFinishedFlight, seen.lastFromPeer == MsgFinished:
			return StepServerFinished
		}
		return StepServerHello
	}
	switch seen.lastFromPeer {
	case "":
		return StepClientHello
	case MsgClientHello:
		if seen.retry && !seen.weFinishedFlight {
			return StepClientHello
		}
		return StepServerVerified
	case MsgCertificate:
		if seen.version < tls.VersionTLS13 {
			return StepKeyExchange
		}
		if seen.peerCertificates == 0 {
			return StepClientFinished
		}
		return StepClientCertificate
	case "ClientKeyExchange":
		if seen.peerCertificates > 0 {
			return StepClientCertificate
		}
	}
	return StepClientFinished
}

// alerted: the peer sent an alert.
func (g *leg) alerted(e *Error, seen observed) {
	e.Detail = "alert " + e.Received.String()
	if g.server != nil {
		e.Step, e.Reason = StepServerVerified, reason.ClientRefused
		switch seen.lastFromPeer {
		case MsgFinished:
			e.Step, e.Reason = StepServerFinished, reason.HandshakeFailed
		case MsgCertificate, MsgCertificateVerify, "ClientKeyExchange":
			e.Step, e.Reason = StepClientCertificate, reason.HandshakeFailed
		}
		return
	}
	e.Step, e.Reason = StepClientVerified, reason.UpstreamRefusedUs
	if seen.version == 0 {
		e.Step = StepClientHello
	}
	switch e.Received {
	case AlertProtocolVersion, AlertInsufficientSecurity:
		e.Reason = reason.UpstreamCrypto
	case AlertNoApplicationProtocol:
		e.Reason = reason.UpstreamALPN
	}
}

// serverRefused: crypto/tls refused something of the client's and sent the
// alert that e.Wanted has.
func (g *leg) serverRefused(e *Error, seen observed) {
	e.Step, e.Reason = g.step(seen), reason.HandshakeFailed
	switch {
	case e.Wanted == AlertInternalError:
		e.Side, e.Reason = SideUs, reason.Internal
	case seen.lastFromPeer == "" || seen.lastFromPeer == MsgClientHello && !seen.weFinishedFlight:
		e.Step = StepClientHello
		switch {
		case e.Wanted == AlertProtocolVersion:
			e.Reason = reason.ProtocolVersion
		case e.Wanted == AlertNoApplicationProtocol:
			e.Reason = reason.NoALPN
		case e.Wanted == AlertDecodeError:
			e.Reason = reason.HelloMalformed
		case e.Wanted == AlertHandshakeFailure && g.hello != nil && len(g.hello.SignatureSchemes) == 0:
			e.Reason = reason.NoCommonSigAlg
		}
	case seen.badCertificate != "":
		e.Step, e.Reason, e.Detail = StepClientVerified, seen.unreadable(), seen.badCertificate
	case g.server.ClientAuth == ClientAuthRequired && noCertificate(e.Err):
		e.Step, e.Reason = StepClientCertificate, reason.NoCertificate
	case e.Wanted == AlertDecryptError && !badFinished(e.Err):
		e.Step, e.Reason = StepClientVerified, reason.NoPossession
	case seen.lastFromPeer == MsgCertificate && g.peer == nil:
		// VerifyConnection was not reached: it did not parse, or its key is of
		// a kind or size that crypto/tls cannot use.
		e.Step, e.Reason = StepClientVerified, reason.BadCertificate
	case seen.lastFromPeer == MsgCertificateVerify:
		e.Step = StepClientVerified
	case seen.lastFromPeer == MsgFinished:
		e.Step = StepClientFinished
	}
}

// clientRefused: crypto/tls refused something of the destination's.
func (g *leg) clientRefused(e *Error, seen observed) {
	e.Step, e.Reason = StepServerVerified, reason.UpstreamFailed
	what, ok := g.p.Profile.Allows(seen.version, seen.suite, seen.group)
	switch {
	case seen.version == 0:
		e.Step = StepServerHello
	case seen.badCertificate != "":
		e.Reason, e.Detail = reason.UpstreamBadCert, string(seen.unreadable())+": "+seen.badCertificate
	case e.Wanted == AlertProtocolVersion, !ok:
		e.Reason, e.Detail = reason.UpstreamCrypto, what+" was chosen, which the profile does not allow"
	case e.Wanted == AlertDecryptError && !badFinished(e.Err),
		seen.lastFromPeer == "ServerKeyExchange" && e.Wanted == AlertIllegalParameter:
		e.Reason, e.Detail = reason.UpstreamBadCert, string(reason.NoPossession)
	case seen.lastFromPeer == MsgCertificate && seen.peerCertificates == 0:
		e.Reason, e.Detail = reason.UpstreamBadCert, "no certificate was shown"
	case seen.lastFromPeer == MsgCertificate && g.peer == nil:
		e.Reason, e.Detail = reason.UpstreamBadCert, string(reason.BadCertificate)
	case seen.lastFromPeer == MsgFinished:
		e.Step = StepServerFinished
	}
}

// unreadable is the reason where badCertificate is set.
func (s *observed) unreadable() reason.Code {
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
