package handshake

import (
	"fmt"
	"net"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// Alert is a TLS alert description (RFC 8446, section 6; RFC 5246, section
// 7.2; RFC 6066, section 9; RFC 7301, section 3.2).
type Alert uint8

// AlertNone stands for "no alert". 255 is not assigned by IANA.
const AlertNone Alert = 255

// The alerts sslgate sends or explains.
const (
	AlertCloseNotify            Alert = 0
	AlertUnexpectedMessage      Alert = 10
	AlertBadRecordMAC           Alert = 20
	AlertRecordOverflow         Alert = 22
	AlertHandshakeFailure       Alert = 40
	AlertNoCertificateSSL3      Alert = 41
	AlertBadCertificate         Alert = 42
	AlertUnsupportedCertificate Alert = 43
	AlertCertificateRevoked     Alert = 44
	AlertCertificateExpired     Alert = 45
	AlertCertificateUnknown     Alert = 46
	AlertIllegalParameter       Alert = 47
	AlertUnknownCA              Alert = 48
	AlertAccessDenied           Alert = 49
	AlertDecodeError            Alert = 50
	AlertDecryptError           Alert = 51
	AlertProtocolVersion        Alert = 70
	AlertInsufficientSecurity   Alert = 71
	AlertInternalError          Alert = 80
	AlertInappropriateFallback  Alert = 86
	AlertUserCanceled           Alert = 90
	AlertNoRenegotiation        Alert = 100
	AlertMissingExtension       Alert = 109
	AlertUnsupportedExtension   Alert = 110
	AlertUnrecognizedName       Alert = 112
	AlertBadCertificateStatus   Alert = 113
	AlertUnknownPSKIdentity     Alert = 115
	AlertCertificateRequired    Alert = 116
	AlertNoApplicationProtocol  Alert = 120
	AlertECHRequired            Alert = 121
)

var alertNames = map[Alert]string{
	AlertCloseNotify: "close_notify", AlertUnexpectedMessage: "unexpected_message",
	AlertBadRecordMAC: "bad_record_mac", AlertRecordOverflow: "record_overflow",
	AlertHandshakeFailure: "handshake_failure", AlertNoCertificateSSL3: "no_certificate",
	AlertBadCertificate: "bad_certificate", AlertUnsupportedCertificate: "unsupported_certificate",
	AlertCertificateRevoked: "certificate_revoked", AlertCertificateExpired: "certificate_expired",
	AlertCertificateUnknown: "certificate_unknown", AlertIllegalParameter: "illegal_parameter",
	AlertUnknownCA: "unknown_ca", AlertAccessDenied: "access_denied", AlertDecodeError: "decode_error",
	AlertDecryptError: "decrypt_error", AlertProtocolVersion: "protocol_version",
	AlertInsufficientSecurity: "insufficient_security", AlertInternalError: "internal_error",
	AlertInappropriateFallback: "inappropriate_fallback", AlertUserCanceled: "user_canceled",
	AlertNoRenegotiation: "no_renegotiation", AlertMissingExtension: "missing_extension",
	AlertUnsupportedExtension: "unsupported_extension", AlertUnrecognizedName: "unrecognized_name",
	AlertBadCertificateStatus: "bad_certificate_status_response", AlertUnknownPSKIdentity: "unknown_psk_identity",
	AlertCertificateRequired: "certificate_required", AlertNoApplicationProtocol: "no_application_protocol",
	AlertECHRequired: "ech_required",
	// Those that nobody here sends, and a peer may (IANA "TLS Alerts"); 117 is RFC 9846's.
	21: "decryption_failed", 30: "decompression_failure", 60: "export_restriction", 111: "certificate_unobtainable",
	114: "bad_certificate_hash_value", 117: "general_error",
}

// String is the RFC's name and the number: "unknown_ca(48)"; "" for AlertNone.
func (a Alert) String() string {
	if a == AlertNone {
		return ""
	}
	if n, ok := alertNames[a]; ok {
		return fmt.Sprintf("%s(%d)", n, uint8(a))
	}
	return fmt.Sprintf("alert(%d)", uint8(a))
}

// Level is its byte on the wire: closure alerts are warnings (1), all others fatal
// (2) (RFC 8446, section 6).
func (a Alert) Level() byte {
	if a == AlertCloseNotify || a == AlertUserCanceled {
		return 1
	}
	return 2
}

// AlertOf returns the alert that internal/reason lists for a code.
func AlertOf(c reason.Code) Alert {
	if n := reason.Alert(c); n != reason.NoAlert {
		return Alert(n)
	}
	return AlertNone
}

// AlertTimeout bounds the writing of an alert. Seven bytes fit every send
// buffer that still moves, and a peer that stopped reading shall not hold us.
const AlertTimeout = time.Second

// SendAlert writes one plaintext alert record (RFC 8446, section 6): the
// answer to a ClientHello that is refused before ServerHello. Later it is a
// protocol violation, for then records are encrypted. AlertNone sends nothing.
//
// recordVersion is the RecordVersion of the hello; for 0, where there is
// none, and for what is no version of SSL 3.0 to TLS 1.2, the record says TLS
// 1.0, as the first records of every client do (RFC 8446, section 5.1). The
// write deadline of conn is set for the write and taken off after it. Closing
// conn, in a way that lets the alert arrive, is the caller's part.
func SendAlert(conn net.Conn, a Alert, recordVersion uint16) error {
	if a == AlertNone {
		return nil
	}
	if recordVersion < versionSSL30 || recordVersion > versionTLS12 {
		recordVersion = versionTLS10
	}
	if err := conn.SetWriteDeadline(time.Now().Add(AlertTimeout)); err != nil {
		return fmt.Errorf("send alert: %w", err)
	}
	_, err := conn.Write([]byte{RecordAlert, byte(recordVersion >> 8), byte(recordVersion), 0, 2, a.Level(), byte(a)})
	if errDeadline := conn.SetWriteDeadline(time.Time{}); err == nil {
		err = errDeadline
	}
	if err != nil {
		return fmt.Errorf("send alert: %w", err)
	}
	return nil
}
