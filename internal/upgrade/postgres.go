package upgrade

import (
	"encoding/binary"
	"fmt"

	"github.com/sslgate/sslgate/internal/reason"
)

// The first message of a PostgreSQL client has a length of four bytes, which counts itself,
// and a code of four bytes: the version of the protocol, or one of these ("Message Formats"
// in the documentation of PostgreSQL).
const (
	codeCancel = 80877102 // 1234.5678
	codeSSL    = 80877103 // 1234.5679
	codeGSS    = 80877104 // 1234.5680

	requestLen = 8
	// maxStartup bounds a StartupMessage, as the server does (MAX_STARTUP_PACKET_LENGTH).
	maxStartup = 10000
	// recordHandshake is the first byte of TLS (RFC 8446, section 5.1).
	recordHandshake = 22
)

// postgresServer is our side towards a client. The zero value waits for its first message.
type postgresServer struct {
	gss bool // it has asked for GSSAPI, and got its no
}

func (*postgresServer) begin() Step            { return Step{} }
func (*postgresServer) malformed() reason.Code { return reason.UpgradeMalformed }
func (*postgresServer) injected() reason.Code  { return reason.UpgradeInjected }

func (p *postgresServer) next(said []byte) Step {
	if said[0] == recordHandshake && !p.gss { // a length of 0x16000000 and more cannot be
		return Step{Then: Direct}
	}
	// The length is checked as soon as it is there: another protocol need not be waited for.
	if len(said) < 4 {
		return Step{}
	}
	if n := binary.BigEndian.Uint32(said); n < requestLen || n > maxStartup {
		return p.not(said)
	}
	if len(said) < requestLen {
		return Step{}
	}
	switch n, code := binary.BigEndian.Uint32(said), binary.BigEndian.Uint32(said[4:]); {
	case code == codeSSL && n == requestLen:
		return Step{Took: requestLen, Say: []byte("S"), Then: TLS, Heard: "SSLRequest", Asks: true, Said: "S"}
	case code == codeGSS && n == requestLen && !p.gss:
		p.gss = true
		return Step{Took: requestLen, Say: []byte("N"), Heard: "GSSENCRequest", Said: "N"}
	case code == codeCancel:
		// Whoever knows the secret of a session may cancel its query, and who that is was not
		// verified. Nothing is answered to a CancelRequest, by a server neither.
		return Step{Took: min(int(n), len(said)), Then: End, Heard: "CancelRequest", Reason: reason.UpgradeCancel, Detail: "a CancelRequest in the clear"}
	case code>>16 == 3:
		return Step{
			Took: min(int(n), len(said)), Then: End, Heard: "StartupMessage", Reason: reason.NotUpgraded, Detail: "a StartupMessage without TLS",
			Said: "ErrorResponse", Say: errorResponse("28000", "this connection must be encrypted with TLS",
				"Set sslmode=verify-full, and sslcert and sslkey if a client certificate is asked for."),
		}
	}
	return p.not(said)
}

func (*postgresServer) not(said []byte) Step {
	return Step{Then: End, Reason: reason.UpgradeMalformed, Detail: "no message that a PostgreSQL client begins with: " + quoted(said)}
}

// errorResponse is a FATAL ErrorResponse ("Error and Notice Message Fields"). code is a
// SQLSTATE. The texts have no byte 0.
func errorResponse(code, message, hint string) []byte {
	b := []byte{'E', 0, 0, 0, 0}
	for _, f := range []struct {
		is   byte
		text string
	}{{'S', "FATAL"}, {'V', "FATAL"}, {'C', code}, {'M', message}, {'H', hint}} {
		b = append(append(append(b, f.is), f.text...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
}

// postgresClient is our side towards a destination.
type postgresClient struct{}

func (postgresClient) begin() Step {
	b := binary.BigEndian.AppendUint32(nil, requestLen)
	return Step{Say: binary.BigEndian.AppendUint32(b, codeSSL), Said: "SSLRequest"}
}

func (postgresClient) malformed() reason.Code { return reason.UpstreamNotUpgraded }
func (postgresClient) injected() reason.Code  { return reason.UpstreamInjected }

// next: the answer is one byte. The text of an error is not shown: nobody has vouched for it
// (CVE-2024-10977).
func (postgresClient) next(said []byte) Step {
	switch said[0] {
	case 'S':
		return Step{Took: 1, Then: TLS, Heard: "S"}
	case 'N':
		return Step{Took: 1, Then: End, Heard: "N", Reason: reason.UpstreamNotUpgraded, Detail: "answers N to SSLRequest: it has no TLS"}
	case 'E':
		return Step{Took: len(said), Then: End, Heard: "ErrorResponse", Reason: reason.UpstreamNotUpgraded, Detail: "answers SSLRequest with an error"}
	}
	return Step{Then: End, Reason: reason.UpstreamNotUpgraded, Detail: fmt.Sprintf("answers SSLRequest with the byte %#02x, which no PostgreSQL server does", said[0])}
}
