package handshake

import "fmt"

// This file has the numbers and names of the wire that every engine needs.

// Record content types (RFC 8446, section 5.1).
const (
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordAppData   = 23
)

// Sizes on the wire, in bytes.
const (
	// recordHeader is type, version and length.
	recordHeader = 5
	// maxPlaintext is what one record carries at most (RFC 8446, section 5.1).
	maxPlaintext = 1 << 14
	// maxRecord is the largest fragment any version allows: 2^14 + 2048 bytes
	// (TLSCiphertext, RFC 5246, section 6.2.3).
	maxRecord = maxPlaintext + 2048
	// messageHeader is type and length of a handshake message (RFC 8446,
	// section 4).
	messageHeader = 4
	// maxNameLength bounds what is quoted of one name.
	maxNameLength = 256
)

// recordLen is the length that a record's header says, without the header.
func recordLen(b []byte) int { return int(b[3])<<8 | int(b[4]) }

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

// plural is a number and what it counts.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
