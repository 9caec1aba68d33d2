package pattern

import (
	"errors"
	"fmt"
	"strings"
)

// SPIFFEScheme begins every SPIFFE id (SPIFFE-ID, section 2).
const SPIFFEScheme = "spiffe://"

// Tail is what a URI pattern leaves free behind its fixed part.
type Tail uint8

// The tails.
const (
	TailNone Tail = iota // nothing: the URI exactly
	TailOne              // "/*": one further path segment
	TailMany             // "/**": one or more further path segments
)

// URI is a URI, compared byte by byte, with an optional free tail.
type URI struct {
	Base   string // with a tail: up to and with the "/" before it
	Tail   Tail
	SPIFFE bool // fits only the single URI of an X.509 SVID
}

// ParseURI reads a pattern of the configuration.
func ParseURI(s string) (URI, error) {
	p := URI{Base: s}
	if rest, ok := strings.CutSuffix(s, "/**"); ok {
		p = URI{Base: rest, Tail: TailMany}
	} else if rest, ok := strings.CutSuffix(s, "/*"); ok {
		p = URI{Base: rest, Tail: TailOne}
	}
	if strings.Contains(p.Base, "*") {
		return URI{}, errors.New(`"*" is only possible at the end: "/*" is one further path segment, "/**" one or more`)
	}
	if IsSPIFFE(p.Base) {
		if err := CheckSPIFFE(p.Base); err != nil {
			return URI{}, err
		}
		p.SPIFFE = true
	} else if err := CheckURI(p.Base, p.Tail != TailNone); err != nil {
		return URI{}, err
	}
	if p.Tail != TailNone {
		p.Base += "/"
	}
	return p, nil
}

// String is the pattern as it is written.
func (p URI) String() string { return p.Base + [...]string{"", "*", "**"}[p.Tail] }

// Matches says whether a URI of a certificate fits. For a SPIFFE pattern the
// caller has made sure that it is the certificate's only URI.
func (p URI) Matches(uri string) bool {
	if p.SPIFFE && CheckSPIFFE(uri) != nil {
		return false
	}
	if p.Tail == TailNone {
		return p.Base != "" && uri == p.Base
	}
	rest, ok := strings.CutPrefix(uri, p.Base)
	return ok && PlainSegments(rest) && (p.Tail == TailMany || !strings.Contains(rest, "/"))
}

// IsSPIFFE goes by the scheme alone and without case, so that an odd spelling
// is judged, and refused, as a SPIFFE id and not let through as another URI.
func IsSPIFFE(uri string) bool {
	return len(uri) >= len("spiffe:") && LowerASCII(uri[:len("spiffe:")]) == "spiffe:"
}

// CheckSPIFFE says what is wrong with a SPIFFE id (SPIFFE-ID, sections 2.1 to
// 2.4). Escapes, ports, user names, queries and fragments are not possible in
// one, so equal ids are equal bytes.
func CheckSPIFFE(id string) error {
	rest, ok := strings.CutPrefix(id, SPIFFEScheme)
	if !ok {
		return errors.New(`a SPIFFE id begins with "spiffe://" in lower case`)
	}
	if len(id) > 2048 {
		return errors.New("a SPIFFE id has at most 2048 bytes")
	}
	domain, path, hasPath := strings.Cut(rest, "/")
	if err := CheckTrustDomain(domain); err != nil {
		return err
	}
	if hasPath && !spiffeSegments(path) {
		return errors.New(`the path of a SPIFFE id is made of non-empty segments of letters, digits, ".", "-" and "_", and has no trailing "/"`)
	}
	return nil
}

// spiffeSegments says whether path is made of the segments a SPIFFE id may have.
func spiffeSegments(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for i := range len(segment) {
			if c := segment[i]; !IsLetterOrDigit(c) && c != '.' && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// CheckTrustDomain says what is wrong with a SPIFFE trust domain.
func CheckTrustDomain(domain string) error {
	if domain == "" {
		return errors.New("the trust domain is empty")
	}
	if len(domain) > 255 {
		return errors.New("the trust domain is longer than 255 bytes")
	}
	if lower := LowerASCII(domain); lower != domain {
		return fmt.Errorf("write the trust domain in lower case: %q", lower)
	}
	for i := range len(domain) {
		if c := domain[i]; !isAlnum(c) && c != '.' && c != '-' && c != '_' {
			return fmt.Errorf("a trust domain has no %q", rune(c))
		}
	}
	return nil
}

// CheckURI says what is wrong with a URI that is no SPIFFE id (RFC 3986): it
// has a scheme, and before a free tail also a host, for else the tail would
// leave the host free.
func CheckURI(uri string, tailed bool) error {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme == "" || !('a' <= scheme[0] && scheme[0] <= 'z') {
		return errors.New(`a URI begins with a scheme in lower case, "https://" or "spiffe://"`)
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isAlnum(c) && c != '+' && c != '-' && c != '.' {
			return errors.New(`a URI begins with a scheme in lower case, "https://" or "spiffe://"`)
		}
	}
	for i := range len(rest) {
		if rest[i] <= 0x20 || rest[i] >= 0x7f {
			return errors.New("a URI has neither spaces nor characters outside ASCII; escape them with %")
		}
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	switch {
	case rest == "":
		return errors.New("there is nothing behind the URI's scheme")
	case tailed && (!strings.HasPrefix(rest, "//") || host == ""):
		return errors.New(`a free tail needs a host before it: "https://example.org/*"`)
	case tailed && strings.ContainsAny(rest, "?#"):
		return errors.New("a free tail is a matter of the path; there is none behind a query or fragment")
	}
	return nil
}

// PlainSegments says whether rest is one or more path segments that mean just
// what they say: none empty, no dot segments, no escapes (an escaped slash or
// dot would move the end of a segment), no query, no fragment.
func PlainSegments(rest string) bool {
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for i := range len(segment) {
			if c := segment[i]; !IsLetterOrDigit(c) && !strings.ContainsRune("-._~!$&'()+,;=:@", rune(c)) {
				return false
			}
		}
	}
	return true
}

// IsLetterOrDigit says whether c is a letter of ASCII or a digit.
func IsLetterOrDigit(c byte) bool { return isAlnum(c) || 'A' <= c && c <= 'Z' }
