package revocation

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/reason"
)

// Mode says what happens to a client if nothing fresh is known about its certificate. The
// zero value, Hard, refuses the client.
type Mode uint8

// The modes.
const (
	Hard Mode = iota // refused
	Soft             // let through, and the record says so
	Off              // nothing is checked
)

// String is the mode's word in the configuration.
func (m Mode) String() string {
	switch m {
	case Soft:
		return "soft"
	case Off:
		return "off"
	}
	return "hard"
}

// Modes are the modes' words in the configuration.
func Modes() []string { return []string{Hard.String(), Soft.String(), Off.String()} }

// ParseMode returns the mode of a word. For an empty word it is Hard if there is anything
// to check with (configured), else Off. An unknown word is Hard.
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

// Defaults of the configuration.
const (
	DefaultRefresh     = time.Hour
	DefaultOCSPTimeout = 2 * time.Second
	DefaultOCSPMaxAge  = 5 * time.Minute
)

// Authority is the CA certificates of one authority, and the places that publish what it
// has revoked. Immutable; CAs may give others.
type Authority struct {
	Name string
	Mode Mode
	// Roots are the trust anchors, Intermediates the CAs below them whose
	// lists are configured. A list must be signed by one of either.
	Roots, Intermediates []*x509.Certificate
	// CAs, if not nil, has the Roots and Intermediates of the moment in the place of those
	// above. Run looks at it every Options.Poll. Where it has others, lists are held
	// against these; until then a chain below a new CA has no lists.
	CAs     handshake.AuthoritySource
	Sources []Source
	// Refresh is the longest time between two fetches of a URL; 0 is DefaultRefresh.
	Refresh time.Duration
	OCSP    *OCSP // nil: nobody is asked
	// Files is where the files of Sources are looked at, and read again when they
	// change; nil is the file system.
	Files fileset.Source

	current *handshake.Authority // of CAs, when Roots and Intermediates were taken
}

// renew takes the CAs of the moment, and says whether they are others than before. Lists
// that the configuration has read are read anew then: they were held against the CAs of
// before.
func (a *Authority) renew() bool {
	if a.CAs == nil {
		return false
	}
	now := a.CAs.Current()
	if now == a.current {
		return false
	}
	first := a.current == nil && slices.EqualFunc(now.Roots, a.Roots, (*x509.Certificate).Equal) &&
		slices.EqualFunc(now.Intermediates, a.Intermediates, (*x509.Certificate).Equal)
	a.current, a.Roots, a.Intermediates = now, now.Roots, now.Intermediates
	if first {
		return false
	}
	a.Sources = slices.Clone(a.Sources)
	for i := range a.Sources {
		a.Sources[i].Lists, a.Sources[i].file = nil, ""
	}
	return true
}

func (a *Authority) files() fileset.Source {
	if a.Files == nil {
		return fileset.Disk{}
	}
	return a.Files
}

func (a *Authority) cas() []*x509.Certificate {
	return append(a.Roots[:len(a.Roots):len(a.Roots)], a.Intermediates...)
}

// Source is one place with revocation lists.
type Source struct {
	// Location is the path of a file, or an http or https URL.
	Location string
	// Lists are the lists that ReadFile has read already, so that exactly the lists that
	// were checked are used. nil: New reads the file.
	Lists []*List

	file string // its stamp, of who has read Lists
}

// IsURL says whether a location is a URL, to be fetched.
func IsURL(location string) bool {
	return strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://")
}

// Nonce is the rule for the nonce of RFC 8954. The zero value, NonceRequired, demands it.
type Nonce uint8

// The rules.
const (
	NonceRequired Nonce = iota // sent, and an answer without it is refused
	NonceOptional              // sent; an answer without a nonce is accepted, one with another nonce is not
	NonceOff                   // not sent: for responders whose answers are made in advance
)

// NonceWords are the rules' words in the configuration, in the order of the values.
func NonceWords() []string { return []string{"required", "optional", "off"} }

// ParseNonce returns the rule of a word; for an unknown or empty word it is
// NonceRequired.
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
	// MaxAge is how long an answer is used before the responder is asked again, even if
	// the answer is valid longer; 0 is DefaultOCSPMaxAge.
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

// String is the status's word in the record.
func (s Status) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	}
	return "unknown"
}

// The sources of a result, as they are written in the record.
const (
	FromCRL    = "crl"
	FromStaple = "staple"
	FromOCSP   = "ocsp"
	FromFleet  = "fleet" // see Denied
)

// Result is the answer of Check about a chain. The zero value refuses nothing; it is the
// result for an authority whose revocation is off.
type Result struct {
	Status Status
	Mode   Mode
	// Source of the answer about the certificate that decided: FromCRL, FromStaple,
	// FromOCSP, FromFleet, or "" if there was no answer.
	Source string
	// Until is when the first answer about the chain becomes stale; zero unless Status is
	// Good.
	Until time.Time
	// Detail is for a human; names in it are escaped.
	Detail string
	// Digest identifies the lists that were asked, see Checker.Digest; "" if the peer had
	// no certificate.
	Digest string
	// Code is why the client is refused; "" lets it through. See
	// reason.Revoked and reason.RevocationUnknown.
	Code reason.Code
}
