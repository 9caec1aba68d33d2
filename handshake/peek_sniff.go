package handshake

import (
	"bytes"

	"github.com/sslgate/sslgate/internal/reason"
)

// opening is how another protocol than TLS begins.
type opening struct {
	bytes string
	name  string // "" for HTTP
}

// openings are the protocols that are worth a name, because they are the ones
// that people point at a TLS port by mistake.
var openings = [...]opening{
	{"GET ", ""}, {"POST ", ""}, {"HEAD ", ""}, {"PUT ", ""}, {"CONNECT ", ""},
	{"OPTIONS ", ""}, {"DELETE ", ""}, {"PATCH ", ""}, {"TRACE ", ""}, {"PRI * HTTP/2", ""},
	{"SSH-", "SSH"},
	{"EHLO ", "SMTP"}, {"HELO ", "SMTP"},
	{"PROXY ", "the PROXY protocol, version 1"},
	{"\r\n\r\n\x00\r\nQUIT\n", "the PROXY protocol, version 2"},
	{"\x00\x00\x00\x08\x04\xd2\x16\x2f", "PostgreSQL's SSLRequest"},
	{"\x03\x00\x00", "RDP (TPKT)"},
	{"\x05\x01\x00", "SOCKS 5"}, {"\x05\x02\x00", "SOCKS 5"},
	{"\x13BitTorrent", "BitTorrent"},
}

// sniff tells TLS from other protocols by the first bytes, of which there is at
// least one. nil is TLS. more says that further bytes can change the verdict;
// it stands if there are none.
func sniff(b []byte) (verdict *Error, more bool) {
	if b[0] >= RecordCCS && b[0] <= RecordAppData && (len(b) == 1 || b[1] <= 3) {
		switch {
		case len(b) < 3:
			return nil, true
		case b[1] == 3:
			return nil, false // {3, anything}: RFC 5246, appendix E.1
		case b[0] == RecordHandshake:
			return refusef(reason.ProtocolVersion, "a record of version %#02x%02x", b[1], b[2]), false
		}
	}
	if b[0]&0x80 != 0 && (len(b) < 3 || b[2] == 1) {
		if len(b) < 5 {
			return notTLS(b, ""), true
		}
		if isSSLv2(b) {
			return notTLS(b, "an SSLv2 ClientHello"), false
		}
	}
	for _, o := range openings {
		n := min(len(b), len(o.bytes))
		if string(b[:n]) != o.bytes[:n] {
			continue
		}
		switch {
		case n < len(o.bytes):
			more = true
		case o.name == "":
			return refusef(reason.PlainHTTP, "%s", escaped(firstLine(b), 64)), false
		default:
			return notTLS(b, o.name), false
		}
	}
	return notTLS(b, ""), more
}

// isSSLv2 recognizes the CLIENT-HELLO of SSL 2.0, which clients of old also
// sent to say TLS 1.0 (RFC 5246, appendix E.2; forbidden by RFC 6176): a
// 2-byte header, message type 1, and a version.
func isSSLv2(b []byte) bool {
	return b[0]&0x80 != 0 && b[2] == 1 && (b[3] == 3 || bytes.Equal(b[3:5], []byte{0, 2}))
}

// notTLS is the refusal of another protocol; what is its name, if it has one.
func notTLS(b []byte, what string) *Error {
	if what != "" {
		what += ": "
	}
	return refusef(reason.NotTLS, "%s%s", what, escaped(b, 16))
}
