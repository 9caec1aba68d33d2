package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/internal/reason"
)

// noteMessage reads one whole handshake message and notes it. msg is only
// lent.
func (t *tap) noteMessage(dir int, msg []byte, at time.Duration) {
	e := Entry{From: t.from(dir), Message: MessageName(msg[0]), At: at, Size: len(msg)}
	body := cryptobyte.String(msg[MessageHeader:])
	if t.server && dir == toServer && t.seen.weFinishedFlight {
		t.seen.weFinishedFlight = false
		if !t.brief {
			t.ledger.Note(Entry{Step: StepServerVerified, From: SidePeer, At: at, Facts: "accepted: the client went on"})
		}
		t.ledger.Complete(StepServerVerified)
	}
	fromServer := dir == toClient
	var done []Step
	switch msg[0] {
	case TypeClientHello:
		e.Step, done = StepClientHello, []Step{StepClientHello}
		if t.server && t.seen.retry {
			// The second one is read by crypto/tls alone; the caps hold for it too.
			if _, err := ParseClientHello(msg); err != nil && AsError(err).Reason == reason.HelloTooMany {
				t.refused = AsError(err)
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
	case TypeServerHello:
		e.Step = StepServerHello
		t.serverHello(body, &e)
		if e.Message != MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 && t.seen.group != 0 {
			t.seen.exchanged = true
		}
	case TypeEncryptedExtensions:
		e.Step, e.Facts = StepServerHello, alpnFacts(body)
	case TypeCertificateStatus:
		e.Step = StepServerHello
	case TypeServerKeyExchange:
		e.Step, e.Facts = StepServerHello, t.serverKeyExchange(body)
		t.seen.weSigned = t.server
	case TypeServerHelloDone:
		e.Step, done = StepServerHello, []Step{StepServerHello}
		t.seen.weFinishedFlight = true
	case TypeCertificateRequest:
		if e.Step = StepServerHello; !t.brief {
			e.Facts, e.CANames = t.certificateRequest(body)
		}
	case TypeCertificate:
		e.Step = StepClientCertificate
		if fromServer {
			e.Step = StepServerHello
		}
		var n int
		var shown [][]byte
		e.Facts, n, shown = t.certificate(body)
		if e.From == SidePeer {
			t.seen.peerCertificates, t.shown = n, shown
		}
		if n == 0 && !fromServer {
			done = []Step{StepClientCertificate}
		}
	case TypeCertificateVerify:
		e.Step, done = StepClientCertificate, []Step{StepClientCertificate}
		if fromServer {
			e.Step, done = StepServerHello, []Step{StepServerHello}
		}
		if e.From == SideUs {
			t.seen.weSigned = true
		}
		var scheme uint16
		if body.ReadUint16(&scheme) {
			e.Facts = SchemeName(scheme)
			if e.From == SidePeer {
				t.peerSigned(scheme)
			}
		}
	case TypeClientKeyExchange:
		e.Step, done = StepKeyExchange, []Step{StepKeyExchange}
		t.seen.exchanged = true
	case TypeFinished:
		e.Step, done = t.finished(dir)
	case TypeNewSessionTicket:
		e.Step = StepApplicationData
		if t.seen.version < tls.VersionTLS13 {
			e.Step = StepServerFinished
		}
	default:
		e.Step = StepApplicationData
	}
	t.received(e)
	t.ledger.Complete(done...)
	if t.brief {
		if msg[0] == TypeServerHello && e.Message != MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 {
			t.ledger.Complete(StepKeyExchange)
		}
		return
	}
	t.ledger.Note(e)
	if msg[0] == TypeServerHello && e.Message != MsgHelloRetryRequest && t.seen.version >= tls.VersionTLS13 {
		// RFC 8446, section 4.2.8: both halves of step 4 stood in the hellos.
		t.ledger.Note(Entry{
			Step: StepKeyExchange, From: t.from(toServer), At: at,
			Facts: "key shares in the hellos: " + GroupName(t.seen.group),
		})
		t.ledger.Complete(StepKeyExchange)
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
func (t *tap) badScheme(scheme uint16) *Error {
	name := "an unknown scheme"
	if scheme != 0 {
		name = SchemeName(scheme)
	}
	if t.server {
		return Refuse(StepClientCertificate, reason.WeakSignature, "proof of possession with "+name+", which the profile does not allow")
	}
	return RefuseChoice("a signature with " + name)
}

// tooManyCertificates refuses a Certificate message of n bytes.
func (t *tap) tooManyCertificates(n int) *Error {
	if t.server {
		return TooManyCertificates(n, t.certBytes, x509.ExtKeyUsageClientAuth)
	}
	return TooManyCertificates(n, t.certBytes, x509.ExtKeyUsageServerAuth)
}

// received remembers the last message of the peer.
func (t *tap) received(e Entry) {
	if e.From == SidePeer {
		t.seen.lastFromPeer = e.Message
		t.seen.read += e.Size
	}
}

// finished says which step a Finished is and what is complete with it.
func (t *tap) finished(dir int) (Step, []Step) {
	t.nextEpoch(dir)
	if dir == toClient {
		if t.seen.version >= tls.VersionTLS13 {
			t.seen.weFinishedFlight = !t.seen.resumed
			return StepServerFinished, []Step{StepServerHello, StepServerFinished}
		}
		return StepServerFinished, []Step{StepServerFinished}
	}
	return StepClientFinished, []Step{StepClientCertificate, StepClientFinished}
}

// helloFacts describes a ClientHello.
func (t *tap) helloFacts(msg []byte) string {
	if t.seen.retry {
		return "second, after HelloRetryRequest"
	}
	h, err := ParseClientHello(slices.Clone(msg))
	if err != nil {
		return ""
	}
	return h.Summary()
}

// changeCipherSpec notes the CCS of TLS 1.2, part of steps 7 and 8.
func (t *tap) changeCipherSpec(dir int, r record) {
	if !t.brief {
		t.ledger.Note(Entry{Step: finishedStep(dir), From: t.from(dir), Message: MsgChangeCipherSpec, At: r.at, Size: len(r.body)})
	}
}

// finished12 notes the encrypted Finished of TLS 1.2. Its size is fixed: 12
// bytes of verify_data and the header (RFC 5246, section 7.4.9).
func (t *tap) finished12(dir int, r record) {
	e := Entry{Step: finishedStep(dir), From: t.from(dir), Message: MsgFinished, At: r.at, Size: 4 + 12}
	t.received(e)
	if !t.brief {
		t.ledger.Note(e)
	}
	_, done := t.finished(dir)
	t.ledger.Complete(done...)
}

func finishedStep(dir int) Step {
	if dir == toServer {
		return StepClientFinished
	}
	return StepServerFinished
}

// alert notes an alert in the clear or opened: level and description.
func (t *tap) alert(dir int, b []byte, at time.Duration) {
	e := Entry{From: t.from(dir), Message: MsgAlert, At: at, Size: len(b), Alert: Alert(b[1])}
	e.Facts = e.Alert.String()
	if b[0] == 1 && e.Alert != AlertCloseNotify {
		e.Facts = "warning " + e.Facts
	}
	e.Step = t.alertStep(e.From)
	// TLS 1.3 has no levels any more: all but two are fatal (RFC 8446, section 6).
	fatal := b[0] == 2 || t.seen.version >= tls.VersionTLS13 && e.Alert != AlertCloseNotify && e.Alert != AlertUserCanceled
	switch {
	case fatal && e.From == SideUs:
		t.seen.weEnded = true
	case fatal && !t.seen.weEnded && t.seen.peerEnded == AlertNone:
		t.seen.peerEnded = e.Alert
	}
	t.ledger.Note(e)
}

// alertStep is the step that an alert of one side speaks about.
func (t *tap) alertStep(from Side) Step {
	client := (from == SidePeer) == t.server
	if client {
		if t.seen.weFinishedFlight || t.seen.version != 0 && !t.server {
			return StepServerVerified
		}
		return StepServerHello
	}
	if !t.server {
		if t.seen.version == 0 {
			return StepClientHello
		}
		return StepClientVerified
	}
	switch t.seen.lastFromPeer {
	case MsgCertificate:
		if t.seen.peerCertificates == 0 {
			return StepClientCertificate
		}
		return StepClientVerified
	case MsgCertificateVerify, "ClientKeyExchange":
		return StepClientVerified
	case MsgFinished:
		return StepClientFinished
	}
	return StepClientHello
}
