package stdtls

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
	"strings"

	"github.com/sslgate/sslgate/handshake"
)

// remoteAlert returns the alert inside an error of crypto/tls that reports
// one received from the peer: a *net.OpError with Op "remote error" around
// crypto/tls's unexported uint8 type alert. Reflection is the only way to the
// number without matching on text; TestRemoteAlert pins it.
func remoteAlert(err error) (handshake.Alert, bool) { return alertIn(err, "remote error") }

// localAlert returns the alert that crypto/tls has sent, where its error is
// nothing else; it says "local error" then.
func localAlert(err error) (handshake.Alert, bool) { return alertIn(err, "local error") }

func alertIn(err error, op string) (handshake.Alert, bool) {
	var e *net.OpError
	if !errors.As(err, &e) || e.Op != op || e.Err == nil {
		return handshake.AlertNone, false
	}
	v := reflect.ValueOf(e.Err)
	if v.Kind() != reflect.Uint8 {
		return handshake.AlertNone, false
	}
	return handshake.Alert(v.Uint()), true
}

// alertBehind is the alert that crypto/tls has sent where it returned err, for
// alerts that nobody else can read: sealed under TLS 1.2 keys, or after the
// handshake. AlertNone where the error does not tell. TestAlertSentIsTold and
// TestAlertSentAfterHandshake pin it.
func alertBehind(err error) handshake.Alert {
	if a, ok := localAlert(err); ok {
		return a
	}
	var header tls.RecordHeaderError
	switch {
	case err == nil:
	case errors.As(err, &header) && strings.Contains(header.Msg, "oversized"):
		return handshake.AlertRecordOverflow
	case errors.As(err, &header):
		return handshake.AlertProtocolVersion
	case badFinished(err):
		return handshake.AlertHandshakeFailure
	case strings.Contains(err.Error(), "unexpected"), strings.Contains(err.Error(), "ignored records"), strings.Contains(err.Error(), "non-advancing"):
		return handshake.AlertUnexpectedMessage
	}
	return handshake.AlertNone
}

// isRenegotiation says whether crypto/tls ended a session because its peer asked for a
// renegotiation: a ClientHello of a client's, a HelloRequest of a server's.
// TestRenegotiationIsTold pins it.
func isRenegotiation(err error) bool {
	if a, ok := localAlert(err); ok {
		return a == handshake.AlertNoRenegotiation
	}
	return strings.Contains(err.Error(), "unexpected handshake message of type *tls.clientHelloMsg when waiting for *tls.helloRequestMsg")
}
