package handshake

import (
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/internal/reason"
)

// decodeServerName reads the ServerNameList (RFC 6066, section 3). A list that
// cannot be decoded, or with two names of a type, is refused here; a name that
// is no host name is marked and left to policy.
func (h *ClientHello) decodeServerName(s cryptobyte.String) *Error {
	const hostNameType = 0
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || list.Empty() {
		return badExtension(ExtServerName)
	}
	var types [256]bool
	for !list.Empty() {
		var typ uint8
		var name cryptobyte.String
		if !list.ReadUint8(&typ) || !list.ReadUint16LengthPrefixed(&name) || name.Empty() {
			return badExtension(ExtServerName)
		}
		if types[typ] {
			return refusef(reason.SNIInvalid, "two names of type %d", typ)
		}
		types[typ] = true
		if typ == hostNameType {
			h.SNISent = string(name)
		}
	}
	// A list without a host_name has no reading, so it is unusable rather than
	// absent: a rule for clients without SNI is not for it.
	h.SNIPresent = true
	name, ok := hostName(h.SNISent)
	h.ServerName, h.SNIInvalid = name, !ok
	h.SNITrailingDot = strings.HasSuffix(h.SNISent, ".")
	return nil
}

// hostName is the one reading of an SNI name: ASCII letters in lower case, one
// trailing dot taken off. False, and no name, unless it is a DNS host name:
// labels of 1 to 63 letters, digits, "-" or "_" (which RFC 1123 excludes and
// the world uses), at most 253 bytes in all, and no address literal. A name
// whose last label is a number is one, for the resolvers that read "10.1" or
// "0x7f.1" as IPv4 addresses; no top-level domain is numeric (RFC 3696,
// section 2). Internationalized names come as A-labels ("xn--...").
func hostName(sent string) (name string, ok bool) {
	name = strings.TrimSuffix(sent, ".")
	if name == "" || len(name) > 253 {
		return "", false
	}
	b := []byte(name)
	label := 0 // bytes in the current label
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && label > 0:
			label = 0
			continue
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	name = string(b)
	if _, err := netip.ParseAddr(name); err == nil || numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return "", false
	}
	return name, true
}

// numeric says whether a label is a decimal or a 0x number.
func numeric(label string) bool {
	digits := "0123456789"
	if rest, hex := strings.CutPrefix(label, "0x"); hex {
		label, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}
