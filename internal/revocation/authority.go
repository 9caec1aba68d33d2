package revocation

import (
	"crypto/x509"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// Mode is what happens to a client of whose certificate nothing fresh is
// known. The zero value refuses it.
type Mode uint8

// The modes.
const (
	Hard Mode = iota // refused
	Soft             // let through, and the record says so
	Off              // nothing is checked
)

// String is the word of the configuration.
func (m Mode) String() string {
	switch m {
	case Soft:
		return "soft"
	case Off:
		return "off"
	}
	return "hard"
}

// Modes are the words of the configuration.
func Modes() []string { return []string{Hard.String(), Soft.String(), Off.String()} }

// ParseMode is the mode of a word; where it is empty, the default: Hard if
// there is anything to check with, else Off. An unknown word is Hard.
func ParseMode(word string, configured bool) Mode {
	switch word {
	case "soft":
		return Soft
	case "off":
		return Off
	case "":
		if !configured {
			return Off
		}
	}
	return Hard
}

// Defaults and bounds of what is configured.
const (
	DefaultRefresh     = time.Hour
	DefaultOCSPTimeout = 2 * time.Second
	DefaultOCSPMaxAge  = 5 * time.Minute
)

// Authority is one authority's certificates of CAs, and where it says what it
// has revoked. Immutable.
type Authority struct {
	Name string
	Mode Mode
	// Roots are the trust anchors, Intermediates the CAs below them whose
	// lists are configured. A list must be signed by one of either.
	Roots, Intermediates []*x509.Certificate
	Sources              []Source
	// Refresh is how often a URL is asked at least; 0 is DefaultRefresh.
	Refresh time.Duration
	OCSP    *OCSP // nil: nobody is asked
}

func (a *Authority) cas() []*x509.Certificate {
	return append(a.Roots[:len(a.Roots):len(a.Roots)], a.Intermediates...)
}

// Source is one place with revocation lists.
type Source struct {
	// Location is the path of a file, or an http or https URL.
	Location string
	// Lists are what ReadFile read already, so that what is used is what was
	// checked. nil: New reads the file.
	Lists []*List

	file fileID
}

// IsURL says whether a location is fetched.
func IsURL(location string) bool {
	return strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://")
}

// Nonce is the rule for the nonce of RFC 8954. The zero value demands it.
type Nonce uint8

// The rules.
const (
	NonceRequired Nonce = iota // sent, and an answer without it is refused
	NonceOptional              // sent; an answer without it is taken, another nonce is not
	NonceOff                   // not sent: for responders that hand out answers made beforehand
)

// NonceWords are the words of the configuration, in the order of the values.
func NonceWords() []string { return []string{"required", "optional", "off"} }

// ParseNonce is the rule of a word; an unknown or empty one is NonceRequired.
func ParseNonce(word string) Nonce {
	switch word {
	case "optional":
		return NonceOptional
	case "off":
		return NonceOff
	}
	return NonceRequired
}

// OCSP is a configured responder.
type OCSP struct {
	URL     string
	Timeout time.Duration // of one question; 0 is DefaultOCSPTimeout
	// MaxAge is how long an answer is used before it is asked for anew, even
	// if it is good for longer; 0 is DefaultOCSPMaxAge.
	MaxAge time.Duration
	Nonce  Nonce
}

// Status is what is known of a certificate.
type Status uint8

// The statuses. The zero value is ignorance.
const (
	Unknown Status = iota
	Good
	Revoked
)

// String is the word of the record.
func (s Status) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	}
	return "unknown"
}

// Where a result comes from, the words of the record.
const (
	FromCRL    = "crl"
	FromStaple = "staple"
	FromOCSP   = "ocsp"
)

// Result is what Check says of a chain. The zero value refuses nothing: it is
// what an authority with revocation off gets.
type Result struct {
	Status Status
	Mode   Mode
	// Source of the answer about the certificate that decided: FromCRL,
	// FromStaple, FromOCSP, or "" where there was none.
	Source string
	// Until is when the first of the answers about the chain goes stale; zero
	// unless Status is Good.
	Until time.Time
	// Detail is for a human; names in it are escaped.
	Detail string
	// Digest names the lists that were asked, see Checker.Digest; "" where there
	// was no certificate.
	Digest string
	// Code is why the client is refused; "" lets it through. See
	// reason.Revoked and reason.RevocationUnknown.
	Code reason.Code
}
