package handshake

import (
	"github.com/sslgate/sslgate/internal/reason"
)

// The most entries that a list of a ClientHello may have. The wire format has
// room for tens of thousands, and whoever reads a hello (policy, the ledger,
// crypto/tls) compares one list with another. Each cap is more than IANA has
// assigned numbers for in that list, or several times what any client sends,
// with GREASE (RFC 8701), and was chosen from: Chrome, Firefox and Safari with
// ML-KEM and ECH; OpenSSL 3.5 with everything switched on; scanners that offer
// every number there is. Both sides of every comparison are bounded by these,
// so that a hello costs what its bytes cost to read.
//
//	list                    browsers  OpenSSL, all  assigned by IANA
//	cipher_suites                 18           190               370
//	extensions                    19            25                65
//	supported_groups               6            40                60
//	key_share                      3             4                 -
//	signature_algorithms          12            40                60
//	ALPN                           2             -                40
//	pre_shared_key                 1             2                 -
//
// The lists with a length of one byte (versions, compression methods, point
// formats) and the server names, of which there is one for each of 256 types,
// need no cap of their own.
const (
	maxCipherSuites = 512
	maxExtensions   = 128
	maxGroups       = 128
	maxKeyShares    = 32
	maxSchemes      = 128 // signature_algorithms, and signature_algorithms_cert
	maxPSKs         = 32  // identities, and binders
)

// MaxALPN is the cap of the list of application protocols. Each has at most 255
// bytes, so that the list is less than the 65,535 that it may have (RFC 7301,
// section 3.1).
const MaxALPN = 64

// tooMany is the refusal of a list that is longer than its cap. The RFCs let
// it be that long, so its alert is the one for a hello that is not acceptable
// as it is, not the one for what cannot be decoded.
func tooMany(what string, limit int) *Error {
	return refusef(reason.HelloTooMany, "more than %d %s", limit, what)
}

// tooMany16 judges the length of a list of 16-bit values, before it is read:
// b is the list with its own 16-bit length in front. What does not decode is
// somebody else's to refuse.
func tooMany16(b []byte, what string, limit int) *Error {
	if (len(b)-2)/2 > limit {
		return tooMany(what, limit)
	}
	return nil
}
