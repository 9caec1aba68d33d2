package handshake

import (
	"fmt"
	"strconv"
)

// This file has the numbers and names of the wire that every engine needs.

// Record content types (RFC 8446, section 5.1; RFC 5246, section 6.2.1).
const (
	RecordCCS       = 20 // change_cipher_spec
	RecordAlert     = 21 // alert
	RecordHandshake = 22 // handshake
	RecordAppData   = 23 // application_data
)

// Sizes on the wire, in bytes.
const (
	// RecordHeader is type, version and length.
	RecordHeader = 5
	// MaxPlaintext is what one record carries at most (RFC 8446, section 5.1).
	MaxPlaintext = 1 << 14
	// MaxRecord is the largest fragment any version allows: 2^14 + 2048 bytes
	// (TLSCiphertext, RFC 5246, section 6.2.3).
	MaxRecord = MaxPlaintext + 2048
	// MessageHeader is type and length of a handshake message (RFC 8446,
	// section 4).
	MessageHeader = 4
	// MaxNameLength bounds what is quoted of one name in the ledger and in errors.
	MaxNameLength = 256
)

// RecordLen is the length in bytes that a record's header says, without the header;
// b has RecordHeader bytes at least.
func RecordLen(b []byte) int { return int(b[3])<<8 | int(b[4]) }

// Handshake message types (RFC 8446, section 4; RFC 5246, section 7.4; RFC
// 6066, section 8).
const (
	TypeClientHello         = 1
	TypeServerHello         = 2
	TypeNewSessionTicket    = 4
	TypeEncryptedExtensions = 8
	TypeCertificate         = 11
	TypeServerKeyExchange   = 12
	TypeCertificateRequest  = 13
	TypeServerHelloDone     = 14
	TypeCertificateVerify   = 15
	TypeClientKeyExchange   = 16
	TypeFinished            = 20
	TypeCertificateStatus   = 22
	TypeKeyUpdate           = 24
)

// Types of the extensions that are decoded, of hellos and of what a server answers
// (IANA "TLS ExtensionType Values").
const (
	ExtServerName           uint16 = 0
	ExtStatusRequest        uint16 = 5
	ExtSupportedGroups      uint16 = 10
	ExtPointFormats         uint16 = 11
	ExtSignatureAlgorithms  uint16 = 13
	ExtALPN                 uint16 = 16
	ExtSCT                  uint16 = 18
	ExtExtendedMasterSecret uint16 = 23
	ExtSessionTicket        uint16 = 35
	ExtPreSharedKey         uint16 = 41
	ExtEarlyData            uint16 = 42
	ExtSupportedVersions    uint16 = 43
	ExtCookie               uint16 = 44
	ExtPSKModes             uint16 = 45
	ExtSignatureAlgsCert    uint16 = 50
	ExtKeyShare             uint16 = 51
	ExtQUICParameters       uint16 = 57
	ExtECH                  uint16 = 0xfe0d
	ExtRenegotiationInfo    uint16 = 0xff01
)

// The names of messages that the code asks for, as Entry.Message has them. The last
// is a record of its own (RFC 8446, section 5), and so is an alert.
const (
	MsgAlert              = "Alert"
	MsgClientHello        = "ClientHello"
	MsgHelloRetryRequest  = "HelloRetryRequest"
	MsgCertificate        = "Certificate"
	MsgCertificateRequest = "CertificateRequest"
	MsgCertificateVerify  = "CertificateVerify"
	MsgFinished           = "Finished"
	MsgChangeCipherSpec   = "ChangeCipherSpec"
)

// MessageName is the RFC's name of a handshake message type, for Entry.Message; of
// one that is not known the number.
func MessageName(typ uint8) string {
	switch typ {
	case TypeClientHello:
		return MsgClientHello
	case TypeServerHello:
		return "ServerHello"
	case TypeNewSessionTicket:
		return "NewSessionTicket"
	case TypeEncryptedExtensions:
		return "EncryptedExtensions"
	case TypeCertificate:
		return MsgCertificate
	case TypeServerKeyExchange:
		return "ServerKeyExchange"
	case TypeCertificateRequest:
		return MsgCertificateRequest
	case TypeServerHelloDone:
		return "ServerHelloDone"
	case TypeCertificateVerify:
		return MsgCertificateVerify
	case TypeClientKeyExchange:
		return "ClientKeyExchange"
	case TypeFinished:
		return MsgFinished
	case TypeCertificateStatus:
		return "CertificateStatus"
	case TypeKeyUpdate:
		return "KeyUpdate"
	}
	return fmt.Sprintf("handshake message %d", typ)
}

// Plural is a number and what it counts: "1 certificate", "2 certificates".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
