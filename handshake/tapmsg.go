package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Handshake message types (RFC 8446, section 4; RFC 5246, section 7.4; RFC
// 6066, section 8).
const (
	typeClientHello         = 1
	typeServerHello         = 2
	typeNewSessionTicket    = 4
	typeEncryptedExtensions = 8
	typeCertificate         = 11
	typeServerKeyExchange   = 12
	typeCertificateRequest  = 13
	typeServerHelloDone     = 14
	typeCertificateVerify   = 15
	typeClientKeyExchange   = 16
	typeFinished            = 20
	typeCertificateStatus   = 22
	typeKeyUpdate           = 24
)

// The names of messages that the code asks for.
const (
	msgAlert              = "Alert"
	msgClientHello        = "ClientHello"
	msgHelloRetryRequest  = "HelloRetryRequest"
	msgCertificate        = "Certificate"
	msgCertificateRequest = "CertificateRequest"
	msgCertificateVerify  = "CertificateVerify"
	msgFinished           = "Finished"
	msgChangeCipherSpec   = "ChangeCipherSpec"
)

// messageName is the RFC's name of a handshake message type.
func messageName(typ uint8) string {
	switch typ {
	case typeClientHello:
		return msgClientHello
	case typeServerHello:
		return "ServerHello"
	case typeNewSessionTicket:
		return "NewSessionTicket"
	case typeEncryptedExtensions:
		return "EncryptedExtensions"
	case typeCertificate:
		return msgCertificate
	case typeServerKeyExchange:
		return "ServerKeyExchange"
	case typeCertificateRequest:
		return msgCertificateRequest
	case typeServerHelloDone:
		return "ServerHelloDone"
	case typeCertificateVerify:
		return msgCertificateVerify
	case typeClientKeyExchange:
		return "ClientKeyExchange"
	case typeFinished:
		return msgFinished
	case typeCertificateStatus:
		return "CertificateStatus"
	case typeKeyUpdate:
		return "KeyUpdate"
	}
	return fmt.Sprintf("handshake message %d", typ)
}

// Bounds of what the ledger quotes: names a peer lists, and bytes of one name.
const (
	maxCANames    = 16
	maxNameLength = 256
)

// noteMessage reads one whole handshake message and notes it. msg is only
// lent.
func (t *tap) noteMessage(dir int, msg []byte, at time.Duration) {
	e := Entry{From: t.from(dir), Message: messageName(msg[0]), At: at, Size: len(msg)}
	body := cryptobyte.String(msg[4:])
	if t.server && dir == toServer && t.seen.weFinishedFlight {
		t.seen.weFinishedFlight = false
		t.ledger.Note(Entry{Step: StepServerVerified, From: SidePeer, At: at, Facts: "accepted: the client went on"})
		t.ledger.complete(StepServerVerified)
	}
	fromServer := dir == toClient
	var done []Step
	switch msg[0] {
	case typeClientHello:
		e.Step, done = StepClientHello, []Step{StepClientHello}
		if !t.seen.retry && t.ledger.hasHello() {
			t.received(e)
			return
		}
		e.Facts = t.helloFacts(msg)
	case typeServerHello:
		e.Step = StepServerHello
		t.serverHello(body, &e)
	case typeEncryptedExtensions:
		e.Step, e.Facts = StepServerHello, alpnFacts(body)
	case typeCertificateStatus:
		e.Step = StepServerHello
	case typeServerKeyExchange:
		e.Step, e.Facts = StepServerHello, t.serverKeyExchange(body)
	case typeServerHelloDone:
		e.Step, done = StepServerHello, []Step{StepServerHello}
		t.seen.weFinishedFlight = true
	case typeCertificateRequest:
		e.Step = StepServerHello
		e.Facts, e.CANames = t.certificateRequest(body)
	case typeCertificate:
		e.Step = StepClientCertificate
		if fromServer {
			e.Step = StepServerHello
		}
		var n int
		e.Facts, n = t.certificate(body)
		if e.From == SidePeer {
			t.seen.peerCertificates = n
		}
		if n == 0 && !fromServer {
			done = []Step{StepClientCertificate}
		}
	case typeCertificateVerify:
		e.Step, done = StepClientCertificate, []Step{StepClientCertificate}
		if fromServer {
			e.Step, done = StepServerHello, []Step{StepServerHello}
		}
		var scheme uint16
		if body.ReadUint16(&scheme) {
			e.Facts = SchemeName(scheme)
			if e.From == SidePeer {
				t.seen.peerScheme = scheme
			}
		}
	case typeClientKeyExchange:
		e.Step, done = StepKeyExchange, []Step{StepKeyExchange}
	case typeFinished:
		e.Step, done = t.finished(dir)
	case typeNewSessionTicket:
		e.Step = StepApplicationData
		if t.seen.version < version13 {
			e.Step = StepServerFinished
		}
	default:
		e.Step = StepApplicationData
	}
	t.received(e)
	t.ledger.Note(e)
	t.ledger.complete(done...)
	if msg[0] == typeServerHello && e.Message != msgHelloRetryRequest && t.seen.version >= version13 {
		// RFC 8446, section 4.2.8: both halves of step 4 stood in the hellos.
		t.ledger.Note(Entry{
			Step: StepKeyExchange, From: t.from(toServer), At: at,
			Facts: "key shares in the hellos: " + GroupName(t.seen.group),
		})
		t.ledger.complete(StepKeyExchange)
	}
}

// received remembers the last message of the peer.
func (t *tap) received(e Entry) {
	if e.From == SidePeer {
		t.seen.lastFromPeer = e.Message
	}
}

// finished says which step a Finished is and what is complete with it.
func (t *tap) finished(dir int) (Step, []Step) {
	t.nextEpoch(dir)
	if dir == toClient {
		if t.seen.version >= version13 {
			t.seen.weFinishedFlight = true
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

// retryRandom marks a ServerHello as HelloRetryRequest: the SHA-256 of that
// word (RFC 8446, section 4.1.3).
func retryRandom() [32]byte { return sha256.Sum256([]byte("HelloRetryRequest")) }

func (t *tap) serverHello(s cryptobyte.String, e *Entry) {
	var legacy, suite uint16
	var compression uint8
	var random []byte
	var sid cryptobyte.String
	if !s.ReadUint16(&legacy) || !s.ReadBytes(&random, 32) || !s.ReadUint8LengthPrefixed(&sid) ||
		!s.ReadUint16(&suite) || !s.ReadUint8(&compression) {
		t.stop("a ServerHello does not decode")
		return
	}
	retry := [32]byte(random) == retryRandom()
	t.seen.version, t.seen.suite = legacy, suite
	var alpn string
	extensions(s, func(typ uint16, data cryptobyte.String) {
		switch typ {
		case 43: // supported_versions
			data.ReadUint16(&t.seen.version)
		case 51: // key_share
			data.ReadUint16(&t.seen.group)
		case 16: // application_layer_protocol_negotiation
			alpn = alpnOf(data)
		}
	})
	facts := []string{VersionName(t.seen.version), SuiteName(suite)}
	if t.seen.group != 0 {
		facts = append(facts, GroupName(t.seen.group))
	}
	facts = append(facts, fmt.Sprintf("session ID %d bytes", len(sid)))
	if alpn != "" {
		facts = append(facts, "ALPN "+alpn)
	}
	e.Facts = strings.Join(facts, ", ")
	if retry {
		e.Message, t.seen.retry = msgHelloRetryRequest, true
	}
}

// serverKeyExchange reads the group and signature of ECDHE (RFC 8422, section
// 5.4), the only kind crypto/tls has.
func (t *tap) serverKeyExchange(s cryptobyte.String) string {
	var curveType uint8
	var group, scheme uint16
	var point cryptobyte.String
	if !s.ReadUint8(&curveType) || curveType != 3 || !s.ReadUint16(&group) ||
		!s.ReadUint8LengthPrefixed(&point) || !s.ReadUint16(&scheme) {
		return ""
	}
	t.seen.group = group
	if !t.server {
		t.seen.peerScheme = scheme
	}
	return GroupName(group) + ", " + SchemeName(scheme)
}

// certificateRequest reads both forms (RFC 5246, section 7.4.4; RFC 8446,
// section 4.3.2).
func (t *tap) certificateRequest(s cryptobyte.String) (string, []string) {
	var types, schemes, names cryptobyte.String
	if t.seen.version >= version13 {
		var context cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&context) {
			return "", nil
		}
		extensions(s, func(typ uint16, data cryptobyte.String) {
			switch typ {
			case 13: // signature_algorithms
				data.ReadUint16LengthPrefixed(&schemes)
			case 47: // certificate_authorities
				data.ReadUint16LengthPrefixed(&names)
			}
		})
	} else if !s.ReadUint8LengthPrefixed(&types) || !s.ReadUint16LengthPrefixed(&schemes) || !s.ReadUint16LengthPrefixed(&names) {
		return "", nil
	}
	var list []string
	count := 0
	for !names.Empty() {
		var dn cryptobyte.String
		if !names.ReadUint16LengthPrefixed(&dn) {
			break
		}
		if count++; count <= maxCANames {
			list = append(list, dnString(dn))
		}
	}
	var facts []string
	if len(types) > 0 {
		facts = append(facts, plural(len(types), "certificate type"))
	}
	facts = append(facts, plural(len(schemes)/2, "signature algorithm"), plural(count, "acceptable CA name"))
	return strings.Join(facts, ", "), list
}

// dnString is a distinguished name as RFC 4514 writes it, bounded.
func dnString(der []byte) string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) > 0 {
		return "(undecodable name)"
	}
	return cut(rdn.String(), maxNameLength)
}

// certificate reads both forms (RFC 5246, section 7.4.2; RFC 8446, section
// 4.4.2) and counts.
func (t *tap) certificate(s cryptobyte.String) (facts string, n int) {
	var context, list cryptobyte.String
	v13 := t.seen.version >= version13
	if v13 && !s.ReadUint8LengthPrefixed(&context) || !s.ReadUint24LengthPrefixed(&list) {
		return "does not decode", -1
	}
	var leaf []byte
	for !list.Empty() {
		var cert, ext cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&cert) || v13 && !list.ReadUint16LengthPrefixed(&ext) {
			return "does not decode", -1
		}
		if n++; n == 1 {
			leaf = cert
		}
	}
	if n == 0 {
		// The alert no_certificate(41) of SSL 3.0 became an empty Certificate
		// message with TLS 1.0.
		return `"no certificate" warning`, 0
	}
	facts = plural(n, "certificate")
	if c, err := x509.ParseCertificate(slices.Clone(leaf)); err == nil {
		facts += ": " + dnString(c.RawSubject)
	}
	return facts, n
}

// changeCipherSpec notes the CCS of TLS 1.2, part of steps 7 and 8.
func (t *tap) changeCipherSpec(dir int, r record) {
	t.ledger.Note(Entry{Step: finishedStep(dir), From: t.from(dir), Message: msgChangeCipherSpec, At: r.at, Size: len(r.body)})
}

// finished12 notes the encrypted Finished of TLS 1.2. Its size is fixed: 12
// bytes of verify_data and the header (RFC 5246, section 7.4.9).
func (t *tap) finished12(dir int, r record) {
	e := Entry{Step: finishedStep(dir), From: t.from(dir), Message: msgFinished, At: r.at, Size: 4 + 12}
	t.received(e)
	t.ledger.Note(e)
	_, done := t.finished(dir)
	t.ledger.complete(done...)
}

func finishedStep(dir int) Step {
	if dir == toServer {
		return StepClientFinished
	}
	return StepServerFinished
}

// alert notes an alert in the clear or opened: level and description.
func (t *tap) alert(dir int, b []byte, at time.Duration) {
	e := Entry{From: t.from(dir), Message: msgAlert, At: at, Size: len(b), Alert: Alert(b[1])}
	e.Facts = e.Alert.String()
	if b[0] == 1 && e.Alert != AlertCloseNotify {
		e.Facts = "warning " + e.Facts
	}
	e.Step = t.alertStep(e.From)
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
	case msgCertificate:
		if t.seen.peerCertificates == 0 {
			return StepClientCertificate
		}
		return StepClientVerified
	case msgCertificateVerify, "ClientKeyExchange":
		return StepClientVerified
	case msgFinished:
		return StepClientFinished
	}
	return StepClientHello
}

// extensions calls f for each extension of a list with a 16-bit length.
func extensions(s cryptobyte.String, f func(typ uint16, data cryptobyte.String)) {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return
	}
	for !list.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !list.ReadUint16(&typ) || !list.ReadUint16LengthPrefixed(&data) {
			return
		}
		f(typ, data)
	}
}

// alpnFacts is the protocol chosen in EncryptedExtensions.
func alpnFacts(s cryptobyte.String) string {
	var facts string
	extensions(s, func(typ uint16, data cryptobyte.String) {
		if typ == 16 {
			facts = "ALPN " + alpnOf(data)
		}
	})
	return facts
}

func alpnOf(s cryptobyte.String) string {
	var list, name cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !list.ReadUint8LengthPrefixed(&name) {
		return ""
	}
	return string(name)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
