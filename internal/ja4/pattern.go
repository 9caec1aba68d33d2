package ja4

import (
	"errors"
	"fmt"
	"strings"
)

// anyPart is what stands for a part that may be anything.
const anyPart = "*"

// Pattern is a fingerprint of which each of the three parts may be any: what a hello is
// held against. The zero value fits nothing.
type Pattern [3]string

// Parse reads a pattern such as "t13d1516h2_8daaf6152771_*". The error says what to write.
func Parse(s string) (Pattern, error) {
	parts := strings.Split(s, "_")
	if strings.Contains(s, ",") {
		return Pattern{}, errors.New("this is a JA4_r, with its lists written out; write the JA4, which has their hashes and stands in the record (hello.ja4)")
	}
	if len(parts) != 3 {
		return Pattern{}, errors.New(`a JA4 fingerprint has three parts, "t13d1516h2_8daaf6152771_e5627efa2ab1", each of which may be "*"`)
	}
	p := Pattern(parts)
	if p == (Pattern{anyPart, anyPart, anyPart}) {
		return Pattern{}, errors.New("this fits every client; leave ja4 out if that is meant")
	}
	if err := first(p[0]); err != nil {
		return Pattern{}, err
	}
	for _, hash := range p[1:] {
		if hash != anyPart && (len(hash) != hashed || strings.Trim(hash, "0123456789abcdef") != "") {
			return Pattern{}, fmt.Errorf("%q is no second or third part of a JA4 fingerprint: %d lower-case hexadecimal digits, or \"*\"", hash, hashed)
		}
	}
	return p, nil
}

// first checks the first part: protocol, version, name, two counts, ALPN.
func first(s string) error {
	if s == anyPart {
		return nil
	}
	if len(s) != len("t13d1516h2") {
		return fmt.Errorf("%q is no first part of a JA4 fingerprint: ten characters such as t13d1516h2, or \"*\"", s)
	}
	if s[0] != 't' {
		return fmt.Errorf("%q is a fingerprint of another protocol than TLS over TCP, which begins with t: no flow has it", s)
	}
	sound := strings.Contains(" 13 12 11 10 s3 s2 00 ", " "+s[1:3]+" ") && (s[3] == 'd' || s[3] == 'i') &&
		strings.Trim(s[4:8], "0123456789") == "" && alphanumeric(s[8]) && alphanumeric(s[9])
	if !sound {
		return fmt.Errorf("%q is no first part of a JA4 fingerprint: t, a version (13, 12, 11, 10), d or i, two counts of two digits, two characters of the ALPN", s)
	}
	return nil
}

// String is the pattern as it is written.
func (p Pattern) String() string { return strings.Join(p[:], "_") }

// Fits says whether a fingerprint, as Of makes it, has the parts of the pattern.
func (p Pattern) Fits(fingerprint string) bool { return p.Covers(split(fingerprint)) }

// Covers says whether all that fits o fits p.
func (p Pattern) Covers(o Pattern) bool {
	for i := range p {
		if p[i] != anyPart && p[i] != o[i] {
			return false
		}
	}
	return p != Pattern{} && o != Pattern{}
}

// split is the fingerprint as a pattern that it alone fits; the zero value for a text that
// is none.
func split(fingerprint string) (p Pattern) {
	a, rest, ok := strings.Cut(fingerprint, "_")
	b, c, more := strings.Cut(rest, "_")
	if ok && more {
		p = Pattern{a, b, c}
	}
	return p
}

// Set finds a fingerprint among many patterns by at most eight look-ups.
type Set map[Pattern]struct{}

// Has says whether a fingerprint fits one of the patterns.
func (s Set) Has(fingerprint string) bool {
	exact := split(fingerprint)
	if exact == (Pattern{}) {
		return false
	}
	for mask := range 1 << len(exact) {
		p := exact
		for i := range p {
			if mask>>i&1 == 1 {
				p[i] = anyPart
			}
		}
		if _, ok := s[p]; ok {
			return true
		}
	}
	return false
}
