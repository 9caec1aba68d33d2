// Package pattern has the patterns of names that rules are written with: DNS host names, mail
// addresses and URIs, SPIFFE ids among them.
package pattern

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Host is a DNS host name, or "*" and a name below which exactly one
// label is free. Names are lower case and have no trailing dot.
type Host struct {
	Name string // with Wild: from the dot after the "*" on, ".example.org"
	Wild bool
}

// ParseHost reads a pattern of the configuration or a dNSName of a
// certificate: both have the same form, so that a certificate's "*.x" is
// compared as what it is and not as a host.
func ParseHost(s string) (Host, error) {
	name := LowerASCII(s)
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		if err := CheckHost(rest); err != nil {
			return Host{}, err
		}
		return Host{Name: name[1:], Wild: true}, nil
	}
	if name == "*" {
		return Host{}, errors.New(`"*" alone would be any name of one label; leave the list out for any name, or write "*.example.org"`)
	}
	if err := CheckHost(name); err != nil {
		return Host{}, err
	}
	return Host{Name: name}, nil
}

// NoName in a list of server names is a hello without one: the zero Host.
const NoName = "-"

// ParseSNI reads a pattern for the server name of a hello.
func ParseSNI(s string) (Host, error) {
	if s == NoName {
		return Host{}, nil
	}
	return ParseHost(s)
}

// String is the pattern as it is written.
func (p Host) String() string {
	if p == (Host{}) {
		return NoName
	}
	if p.Wild {
		return "*" + p.Name
	}
	return p.Name
}

// Matches says whether a host name in lower case fits.
func (p Host) Matches(name string) bool {
	if !p.Wild {
		return p.Name != "" && name == p.Name
	}
	i := strings.IndexByte(name, '.')
	return i > 0 && name[i:] == p.Name
}

// Covers says whether everything that fits q fits p.
func (p Host) Covers(q Host) bool {
	if p == q {
		return true
	}
	if q.Wild {
		return p.Wild && p.Name == q.Name
	}
	return p.Matches(q.Name)
}

// CheckHost says what is wrong with a host name in lower case: RFC 1123,
// section 2.1, with the underscore that internal names use. 253 bytes and 63
// a label are the limits of RFC 1035, section 2.3.4, without the root label.
// A last label that is a number makes an address for some resolvers ("10.1",
// "0x7f.1"), and no ClientHello with such a name gets here.
func CheckHost(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > 253:
		return errors.New("the name is longer than 253 bytes")
	case strings.HasSuffix(name, "."):
		return errors.New("write the name without the trailing dot")
	case strings.Contains(name, ":") || IsAddr(name):
		return errors.New("this is an address or has a port, not a DNS name")
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; last != "" && isNumber(last) {
		return errors.New("the last label is a number, so this is no DNS name")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("the name has an empty label")
		case len(label) > 63:
			return errors.New("a label of the name is longer than 63 bytes")
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("the label %q begins or ends with a hyphen", label)
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c == '*':
				return errors.New(`"*" is only possible as the whole first label`)
			case c >= 0x80:
				return errors.New(`write the name in its ASCII form ("xn--...")`)
			case !isAlnum(c) && c != '-' && c != '_':
				return fmt.Errorf("a DNS name has no %q", rune(c))
			}
		}
	}
	return nil
}

// Email is a mailbox, or "*" and a domain. The domain is compared
// without case, the local part exactly (RFC 5280, section 7.5).
type Email struct {
	Local  string // "" is any local part
	Domain string
}

// String is the pattern as it is written.
func (p Email) String() string {
	if p.Local == "" {
		return "*@" + p.Domain
	}
	return p.Local + "@" + p.Domain
}

// ParseEmail reads a mailbox of the configuration, or "*@" and a domain.
func ParseEmail(s string) (Email, error) {
	local, domain, err := SplitEmail(s)
	switch {
	case err != nil:
		return Email{}, err
	case local == "*":
		return Email{Domain: domain}, nil
	case strings.Contains(local, "*"):
		return Email{}, errors.New(`"*" is only possible as the whole local part, "*@example.org"`)
	}
	return Email{Local: local, Domain: domain}, nil
}

// Matches says whether the rfc822Name of a certificate fits; a hostile one
// (quoted local part, a second "@", control characters) never does.
func (p Email) Matches(s string) bool {
	local, domain, err := SplitEmail(s)
	return err == nil && p.Domain == domain && (p.Local == "" || p.Local == local)
}

// SplitEmail takes a Mailbox apart (RFC 5321, section 4.1.2), of which the
// quoted form is refused: nothing needs it, and it can hide an "@".
func SplitEmail(s string) (local, domain string, err error) {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" {
		return "", "", errors.New(`an e-mail address is "name@example.org"`)
	}
	for i := range len(local) {
		if c := local[i]; !IsLetterOrDigit(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", rune(c)) {
			return "", "", fmt.Errorf("the local part of an e-mail address has no %q here", rune(c))
		}
	}
	domain = LowerASCII(domain)
	if err := CheckHost(domain); err != nil {
		return "", "", fmt.Errorf("the domain: %w", err)
	}
	return local, domain, nil
}

// isAlnum says whether c is a lower-case letter or a digit.
func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// LowerASCII lowers A-Z alone: strings.ToLower also folds letters like the
// Kelvin sign into ASCII, and a certificate must not profit from that.
func LowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}

// isNumber says whether a label is a decimal or a 0x number.
func isNumber(label string) bool {
	digits := "0123456789"
	if rest, hex := strings.CutPrefix(label, "0x"); hex {
		label, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// IsAddr says whether a text is an IP address.
func IsAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// PlainText says whether s is free of control characters and valid UTF-8: a
// string of the configuration that is compared with certificates must be.
func PlainText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}
