package certname

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Canonical reads a distinguished name that a person has written (RFC 4514, section 3)
// and returns it as String writes it, so that names with the same meaning become equal.
// It accepts short names in upper or lower case and escapes in any form. A value in hex
// of a type with a short name becomes text.
func Canonical(s string) (string, error) {
	n, err := parseText(s)
	if err != nil {
		return "", err
	}
	return n.String(), nil
}

func parseText(s string) (Name, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("the name is not UTF-8")
	}
	var name Name
	var rdn []Attribute
	for rest := s; ; {
		kind, value, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, fmt.Errorf(`%q is no attribute: a distinguished name in the form of RFC 4514 is written "CN=Staff CA,O=Example", and a comma inside a value as \,`, rest)
		}
		oid, err := typeOf(kind)
		if err != nil {
			return nil, err
		}
		raw, after, sep := value, "", byte(0)
		if i := separator(value); i >= 0 {
			raw, after, sep = value[:i], value[i+1:], value[i]
		}
		a, err := readValue(kind, oid, raw)
		if err != nil {
			return nil, err
		}
		rdn = append(rdn, a)
		if sep != '+' {
			name = append(name, rdn)
			rdn = nil
		}
		if sep == 0 {
			break
		}
		rest = after
	}
	for i, j := 0, len(name)-1; i < j; i, j = i+1, j-1 {
		name[i], name[j] = name[j], name[i]
	}
	return name, nil
}

// separator is the index at which a value ends: the first , or + that is not escaped.
func separator(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',', '+':
			return i
		}
	}
	return -1
}

// typeOf reads an attribute type.
func typeOf(s string) (string, error) {
	for _, n := range shortNames {
		if strings.EqualFold(n.name, s) || n.oid == s {
			return n.oid, nil
		}
	}
	if strings.ContainsAny(s, ",+") {
		return "", fmt.Errorf(`%q is no attribute type: a comma inside a value is written \,, a plus \+`, s)
	}
	if t := strings.TrimSpace(s); t != s {
		return "", fmt.Errorf(`a space beside the type %q: write "CN=Staff CA,O=Example", without spaces around , + and =`, t)
	}
	if oid, err := x509.ParseOID(s); err == nil && oid.String() == s {
		return s, nil
	}
	return "", fmt.Errorf("%q is no short name of RFC 4514 (CN, L, ST, O, OU, C, STREET, DC, UID; SERIALNUMBER, POSTALCODE): other types are written by their OID with the value in hex, as `sslgate pki show` prints them%s", s, openssl(s))
}

// openssl is a hint for names of types that OpenSSL has but RFC 4514 does not.
func openssl(s string) string {
	for _, n := range [...]shortName{
		{"1.2.840.113549.1.9.1", "emailAddress"}, {"1.2.840.113549.1.9.1", "E"}, {"2.5.4.4", "SN"}, {"2.5.4.42", "GN"},
		{"2.5.4.12", "title"}, {"2.5.4.46", "dnQualifier"}, {"2.5.4.65", "pseudonym"}, {"2.5.4.97", "organizationIdentifier"},
	} {
		if strings.EqualFold(n.name, s) {
			return " (" + s + " is " + n.oid + ")"
		}
	}
	return ""
}

// readValue reads a value (RFC 4514, section 3).
func readValue(kind, oid, s string) (Attribute, error) {
	if digits, ok := strings.CutPrefix(s, "#"); ok {
		der, err := hex.DecodeString(digits)
		in := cryptobyte.String(der)
		var value cryptobyte.String
		var tag asn1.Tag
		if err != nil || !in.ReadAnyASN1Element(&value, &tag) || !in.Empty() {
			return Attribute{}, fmt.Errorf(`the value of %s: behind a # stands the DER of the value in hex; a # that begins a text is written \#`, kind)
		}
		a := Attribute{Type: oid, DER: der}
		a.Value, a.Text = textOf(der)
		return a, nil
	}
	if shortOf(oid) == "" {
		return Attribute{}, fmt.Errorf("the value of %s: a type without a short name has its value in hex, as `sslgate pki show` prints it; a UTF8String would be %s=#%x", kind, kind, utf8DER(s))
	}
	text, err := unescape(s)
	if err != nil {
		return Attribute{}, fmt.Errorf("the value of %s: %w", kind, err)
	}
	return Attribute{Type: oid, Value: text, Text: true}, nil
}

func utf8DER(s string) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	out, err := b.Bytes()
	if err != nil {
		return nil
	}
	return out
}

// unescape reads the escapes of a value (RFC 4514, section 3).
func unescape(s string) (string, error) {
	var out []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("escape: %w", err)
			}
			out = append(out, b...)
			i += 2
		case c == '\\' && i+1 < len(s) && strings.IndexByte(` "#+,;<=>\`, s[i+1]) >= 0:
			out = append(out, s[i+1])
			i++
		case c == '\\':
			return "", errors.New(`a \ stands before one of ` + ` "#+,;<=>\ or two hex digits; one that is meant is written \\`)
		case c == ' ' && (i == 0 || i == len(s)-1):
			return "", errors.New(`it begins or ends with a space: write none around , + and =, or "\ " for one that is part of the value`)
		case strings.IndexByte(`";<>`, c) >= 0:
			return "", fmt.Errorf(`write \%c for %[1]c`, c)
		case c == 0:
			return "", errors.New(`write \00 for a NUL`)
		default:
			out = append(out, c)
		}
	}
	if !utf8.Valid(out) {
		return "", errors.New("it is not UTF-8")
	}
	return string(out), nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
