package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// noteMessage reads one whole handshake message and notes it. msg is only
// lent.
func (t *tap) noteMessage(dir int, msg []byte, at time.Duration) {
	e := handshake.Entry{From: t.from(dir), Message: handshake.MessageName(msg[0]), At: at, Size: len(msg)}
	body := cryptobyte.String(msg[handshake.MessageHeader:])
	if t.server && dir == toServer && t.seen.weFinishedFlight {
		t.seen.weFinishedFlight = false
		if !t.brief {
			t.ledger.Note(handshake.Entry{Step: handshake.StepServerVerified, From: handshake.SidePeer, At: at, Facts: "accepted: the client went on"})
		}
		t.ledger.Complete(handshake.StepServerVerified)
	}
	fromServer := dir == toClient
	var done []handshake.Step
	switch msg[0] {
	case handshake.TypeClientHello:
		e.Step, done = handshake.StepClientHello, []handshake.Step{handshake.StepClientHello}
		if t.server && t.seen.retry {
			// The second one is read by crypto/tls alone; the caps hold for it too.
			if _, err := handshake.ParseClientHello(msg); err != nil && handshake.AsError(err).Reason == reason.HelloTooMany {
				t.refused = handshake.AsError(err)
				return
			}
		}
		if !t.seen.retry && t.ledger.HasHello() {
			t.received(e)
			return
		}
		if !t.brief {
			e.Facts = t.helloFacts(msg)
		}
	case handshake.TypeServerHello:
		e.Step = handshake.StepServerHello
		t.serverHello(body, &e)
		if e.Message != handshake.MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 && t.seen.group != 0 {
			t.seen.exchanged = true
		}
	case handshake.TypeEncryptedExtensions:
		e.Step, e.Facts = handshake.StepServerHello, alpnFacts(body)
	case handshake.TypeCertificateStatus:
		e.Step = handshake.StepServerHello
	case handshake.TypeServerKeyExchange:
		e.Step, e.Facts = handshake.StepServerHello, t.serverKeyExchange(body)
		t.seen.weSigned = t.server
	case handshake.TypeServerHelloDone:
		e.Step, done = handshake.StepServerHello, []handshake.Step{handshake.StepServerHello}
		t.seen.weFinishedFlight = true
	case handshake.TypeCertificateRequest:
		if e.Step = handshake.StepServerHello; !t.brief {
			e.Facts, e.CANames = t.certificateRequest(body)
		}
	case handshake.TypeCertificate:
		e.Step = handshake.StepClientCertificate
		if fromServer {
			e.Step = handshake.StepServerHello
		}
		var n int
		var shown [][]byte
		e.Facts, n, shown = t.certificate(body)
		if e.From == handshake.SidePeer {
			t.seen.peerCertificates, t.shown = n, shown
		}
		if n == 0 && !fromServer {
			done = []handshake.Step{handshake.StepClientCertificate}
		}
	case handshake.TypeCertificateVerify:
		e.Step, done = handshake.StepClientCertificate, []handshake.Step{handshake.StepClientCertificate}
		if fromServer {
			e.Step, done = handshake.StepServerHello, []handshake.Step{handshake.StepServerHello}
		}
		if e.From == handshake.SideUs {
			t.seen.weSigned = true
		}
		var scheme uint16
		if body.ReadUint16(&scheme) {
			e.Facts = handshake.SchemeName(scheme)
			if e.From == handshake.SidePeer {
				t.peerSigned(scheme)
			}
		}
	case handshake.TypeClientKeyExchange:
		e.Step, done = handshake.StepKeyExchange, []handshake.Step{handshake.StepKeyExchange}
		t.seen.exchanged = true
	case handshake.TypeFinished:
		e.Step, done = t.finished(dir)
	case handshake.TypeNewSessionTicket:
		e.Step = handshake.StepApplicationData
		if t.seen.version < tls.VersionTLS13 {
			e.Step = handshake.StepServerFinished
		}
	default:
		e.Step = handshake.StepApplicationData
	}
	t.received(e)
	t.ledger.Complete(done...)
	if t.brief {
		if msg[0] == handshake.TypeServerHello && e.Message != handshake.MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 {
			t.ledger.Complete(handshake.StepKeyExchange)
		}
		return
	}
	t.ledger.Note(e)
	if msg[0] == handshake.TypeServerHello && e.Message != handshake.MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 {
		// RFC 8446, section 4.2.8: both halves of step 4 stood in the hellos.
		t.ledger.Note(handshake.Entry{
			Step: handshake.StepKeyExchange, From: t.from(toServer), At: at,
			Facts: "key shares in the hellos: " + handshake.GroupName(t.seen.group),
		})
		t.ledger.Complete(handshake.StepKeyExchange)
	}
}

// peerSigned takes the scheme of the peer's proof of possession.
func (t *tap) peerSigned(scheme uint16) {
	t.seen.peerScheme = scheme
	if !brokenScheme(scheme) && (t.schemes == nil || slices.Contains(t.schemes, scheme)) {
		return
	}
	t.refused = t.badScheme(scheme)
}

// brokenScheme says whether a signature scheme rests on SHA-1 (RFC 9155), which
// GODEBUG=tlssha1=1 would bring back into crypto/tls.
func brokenScheme(id uint16) bool {
	return id == uint16(tls.PKCS1WithSHA1) || id == uint16(tls.ECDSAWithSHA1)
}

// badScheme refuses a proof of possession for its signature scheme; 0 is one
// that was not seen.
func (t *tap) badScheme(scheme uint16) *handshake.Error {
	name := "an unknown scheme"
	if scheme != 0 {
		name = handshake.SchemeName(scheme)
	}
	if t.server {
		return handshake.Refuse(handshake.StepClientCertificate, reason.WeakSignature, "proof of possession with "+name+", which the profile does not allow")
	}
	return handshake.RefuseChoice("a signature with " + name)
}

// tooManyCertificates refuses a Certificate message of n bytes.
func (t *tap) tooManyCertificates(n int) *handshake.Error {
	if t.server {
		return handshake.TooManyCertificates(n, t.certBytes, x509.ExtKeyUsageClientAuth)
	}
	return handshake.TooManyCertificates(n, t.certBytes, x509.ExtKeyUsageServerAuth)
}

// received remembers the last message of the peer.
func (t *tap) received(e handshake.Entry) {
	if e.From == handshake.SidePeer {
		t.seen.lastFromPeer = e.Message
		t.seen.read += e.Size
	}
}

// finished says which step a Finished is and what is complete with it.
func (t *tap) finished(dir int) (handshake.Step, []handshake.Step) {
	t.nextEpoch(dir)
	if dir == toClient {
		if t.seen.version >= tls.VersionTLS13 {
			t.seen.weFinishedFlight = !t.seen.resumed
			return handshake.StepServerFinished, []handshake.Step{handshake.StepServerHello, handshake.StepServerFinished}
		}
		return handshake.StepServerFinished, []handshake.Step{handshake.StepServerFinished}
	}
	return handshake.StepClientFinished, []handshake.Step{handshake.StepClientCertificate, handshake.StepClientFinished}
}

// helloFacts describes a ClientHello.
func (t *tap) helloFacts(msg []byte) string {
	if t.seen.retry {
		return "second, after HelloRetryRequest"
	}
	h, err := handshake.ParseClientHello(slices.Clone(msg))
	if err != nil {
		return ""
	}
	return h.Summary()
}

// changeCipherSpec notes the CCS of TLS 1.2, part of steps 7 and 8.
func (t *tap) changeCipherSpec(dir int, r record) {
	if !t.brief {
		t.ledger.Note(handshake.Entry{Step: finishedStep(dir), From: t.from(dir), Message: handshake.MsgChangeCipherSpec, At: r.at, Size: len(r.body)})
	}
}

// finished12 notes the encrypted Finished of TLS 1.2. Its size is fixed: 12
// bytes of verify_data and the header (RFC 5246, section 7.4.9).
func (t *tap) finished12(dir int, r record) {
	e := handshake.Entry{Step: finishedStep(dir), From: t.from(dir), Message: handshake.MsgFinished, At: r.at, Size: 4 + 12}
	t.received(e)
	if !t.brief {
		t.ledger.Note(e)
	}
	_, done := t.finished(dir)
	t.ledger.Complete(done...)
}

func finishedStep(dir int) handshake.Step {
	if dir == toServer {
		return handshake.StepClientFinished
	}
	return handshake.StepServerFinished
}

// alert notes an alert in the clear or opened: level and description.
func (t *tap) alert(dir int, b []byte, at time.Duration) {
	e := handshake.Entry{From: t.from(dir), Message: handshake.MsgAlert, At: at, Size: len(b), Alert: handshake.Alert(b[1])}
	e.Facts = e.Alert.String()
	if b[0] == 1 && e.Alert != handshake.AlertCloseNotify {
		e.Facts = "warning " + e.Facts
	}
	e.Step = t.alertStep(e.From)
	// TLS 1.3 has no levels any more: all but two are fatal (RFC 8446, section 6).
	fatal := b[0] == 2 || t.seen.version >= tls.VersionTLS13 && e.Alert != handshake.AlertCloseNotify && e.Alert != handshake.AlertUserCanceled
	switch {
	case fatal && e.From == handshake.SideUs:
		t.seen.weEnded = true
	case fatal && !t.seen.weEnded && t.seen.peerEnded == handshake.AlertNone:
		t.seen.peerEnded = e.Alert
	}
	t.ledger.Note(e)
}

// alertStep is the step that an alert of one side speaks about.
func (t *tap) alertStep(from handshake.Side) handshake.Step {
	client := (from == handshake.SidePeer) == t.server
	if client {
		if t.seen.weFinishedFlight || t.seen.version != 0 && !t.server {
			return handshake.StepServerVerified
		}
		return handshake.StepServerHello
	}
	if !t.server {
		if t.seen.version == 0 {
			return handshake.StepClientHello
		}
		return handshake.StepClientVerified
	}
	switch t.seen.lastFromPeer {
	case handshake.MsgCertificate:
		if t.seen.peerCertificates == 0 {
			return handshake.StepClientCertificate
		}
		return handshake.StepClientVerified
	case handshake.MsgCertificateVerify, "ClientKeyExchange":
		return handshake.StepClientVerified
	case handshake.MsgFinished:
		return handshake.StepClientFinished
	}
	return handshake.StepClientHello
}
