package handshake

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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

// ErrRenegotiation is returned, with what the engine says of it, by the Read of a
// Session's Conn when the peer of a TLS 1.2 session asked for a renegotiation, which is
// never done (RFC 5246, sections 7.4.1.1 and 7.4.1.2). The connection gives no more data.
var ErrRenegotiation = errors.New("renegotiation, which is never done")

// AlertError is returned by the Read of a Session's Conn when the peer ended
// the session with an alert. A TLS 1.3 destination that refuses our identity
// certificate does so here, after our own handshake has ended well (RFC 8446,
// section 4.4.2.4).
type AlertError struct{ Alert Alert }

// Error names the alert.
func (e *AlertError) Error() string { return "peer sent alert " + e.Alert.String() }

// IsTimeout says whether err is a passed deadline of the context or the
// connection.
func IsTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}

// IsReset says whether err is a TCP RST from the peer. EPIPE is one that a
// write met after it.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// IsEOF says whether err is an end of the stream, in or between records.
func IsEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
