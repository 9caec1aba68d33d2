package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
)

// ErrTruncated is returned by the Read of a Session's Conn when the peer's
// FIN came inside a record: the data is cut short (RFC 8446, section 6.1; RFC
// 5246, section 7.2.1). The connection gives no more data.
var ErrTruncated = errors.New("connection closed inside a record")

// ErrNoCloseNotify is returned by the Read of a Session's Conn when the peer's
// FIN came between two records and without a close_notify. Many programs end
// their connections so. Nobody can tell whether more should have come (RFC 8446,
// section 6.1). The connection gives no more data.
var ErrNoCloseNotify = errors.New("connection closed without close_notify")

// AlertError is returned by the Read of a Session's Conn when the peer ended
// the session with an alert. A TLS 1.3 destination that refuses our identity
// certificate does so here, after our own handshake has ended well (RFC 8446,
// section 4.4.2.4).
type AlertError struct{ Alert Alert }

// Error names the alert.
func (e *AlertError) Error() string { return "peer sent alert " + e.Alert.String() }

// remoteAlert returns the alert inside an error of crypto/tls that reports
// one received from the peer: a *net.OpError with Op "remote error" around
// crypto/tls's unexported uint8 type alert. Reflection is the only way to the
// number without matching on text; TestRemoteAlert pins it.
func remoteAlert(err error) (Alert, bool) { return alertIn(err, "remote error") }

// localAlert returns the alert that crypto/tls has sent, where its error is
// nothing else; it says "local error" then.
func localAlert(err error) (Alert, bool) { return alertIn(err, "local error") }

func alertIn(err error, op string) (Alert, bool) {
	var e *net.OpError
	if !errors.As(err, &e) || e.Op != op || e.Err == nil {
		return AlertNone, false
	}
	v := reflect.ValueOf(e.Err)
	if v.Kind() != reflect.Uint8 {
		return AlertNone, false
	}
	return Alert(v.Uint()), true
}

// alertBehind is the alert that crypto/tls has sent where it returned err, for
// alerts that nobody else can read: sealed under TLS 1.2 keys, or after the
// handshake. AlertNone where the error does not tell. TestAlertSentIsTold and
// TestAlertSentAfterHandshake pin it.
func alertBehind(err error) Alert {
	if a, ok := localAlert(err); ok {
		return a
	}
	var header tls.RecordHeaderError
	switch {
	case err == nil:
	case errors.As(err, &header) && strings.Contains(header.Msg, "oversized"):
		return AlertRecordOverflow
	case errors.As(err, &header):
		return AlertProtocolVersion
	case badFinished(err):
		return AlertHandshakeFailure
	case strings.Contains(err.Error(), "unexpected"), strings.Contains(err.Error(), "ignored records"), strings.Contains(err.Error(), "non-advancing"):
		return AlertUnexpectedMessage
	}
	return AlertNone
}

// isTimeout says whether err is a passed deadline of the context or the
// connection.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}

// isReset says whether err is a TCP RST from the peer. EPIPE is one that a
// write met after it.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isEOF says whether err is an end of the stream, in or between records.
func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
