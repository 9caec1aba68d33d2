package wire

import (
	"fmt"

	"github.com/sslgate/sslgate/handshake"
)

// Error says that a message of the peer breaks the protocol, and which alert
// RFC 8446 wants for it.
type Error struct {
	Message string          // the RFC's name of the message
	Alert   handshake.Alert // decode_error, illegal_parameter, ...
	Detail  string          // for the record; has numbers of the peer, none of its bytes
}

// Error has the message and what is wrong with it.
func (e *Error) Error() string { return e.Message + ": " + e.Detail }

// bad makes an Error. It returns it as an error, so that nil stays nil.
func bad(message string, alert handshake.Alert, format string, args ...any) error {
	return &Error{Message: message, Alert: alert, Detail: fmt.Sprintf(format, args...)}
}

// undecodable is bad for a field of the wrong length (RFC 8446, section 6.2).
func undecodable(message, field string) error {
	return bad(message, handshake.AlertDecodeError, "cannot decode %s", field)
}
