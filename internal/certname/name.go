// Package certname reads and prints the names of certificates: distinguished names (RFC
// 5280, section 4.1.2.4) and alternative names (section 4.2.1.6). No other package reads
// or prints them, so the name that is shown is the name that is compared and passed on.
//
// It reads names from the bytes of the certificate, because crypto/x509 changes them.
// crypto/x509 sorts the attributes of a subject, keeps only the last of several, and
// loses those it has no field for. It drops alternative names of unknown kinds, and
// rewrites URIs.
package certname

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Attribute types (ITU-T X.520), dotted.
const (
	CommonName         = "2.5.4.3"
	SerialNumber       = "2.5.4.5"
	Country            = "2.5.4.6"
	Organization       = "2.5.4.10"
	OrganizationalUnit = "2.5.4.11"
)

// shortName is a registered short name of an attribute type.
type shortName struct{ oid, name string }

// shortNames are those of RFC 4514, section 3, and two more that are registered
// too (section 2.3; RFC 4519, sections 2.23 and 2.31) and that crypto/x509 writes.
var shortNames = [...]shortName{
	{CommonName, "CN"},
	{"2.5.4.7", "L"},
	{"2.5.4.8", "ST"},
	{Organization, "O"},
	{OrganizationalUnit, "OU"},
	{Country, "C"},
	{"2.5.4.9", "STREET"},
	{"0.9.2342.19200300.100.1.25", "DC"},
	{"0.9.2342.19200300.100.1.1", "UID"},
	{SerialNumber, "SERIALNUMBER"},
	{"2.5.4.17", "POSTALCODE"},
}

// shortOf is the short name of a type, "" if it has none.
func shortOf(oid string) string {
	for _, s := range shortNames {
		if s.oid == oid {
			return s.name
		}
	}
	return ""
}

// Attribute is one attribute of a distinguished name.
type Attribute struct {
	Type  string // the OID, dotted
	Value string // UTF-8; "" if the value is not text
	Text  bool   // whether the value is text
	DER   []byte // the whole value: tag, length and content
}

// Name is a distinguished name: its relative distinguished names in the order of the
// certificate, each with at least one attribute.
type Name [][]Attribute

// ErrName means that the bytes are not a distinguished name.
var ErrName = errors.New("the distinguished name cannot be decoded")

// Parse reads the DER of a Name (RFC 5280, section 4.1.2.4).
func Parse(der []byte) (Name, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() {
		return nil, ErrName
	}
	var name Name
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, asn1.SET) || set.Empty() {
			return nil, ErrName
		}
		var rdn []Attribute
		for !set.Empty() {
			a, ok := readAttribute(&set)
			if !ok {
				return nil, ErrName
			}
			rdn = append(rdn, a)
		}
		name = append(name, rdn)
	}
	return name, nil
}

func readAttribute(set *cryptobyte.String) (Attribute, bool) {
	var seq, oid, value cryptobyte.String
	var tag asn1.Tag
	if !set.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		!seq.ReadAnyASN1Element(&value, &tag) || !seq.Empty() {
		return Attribute{}, false
	}
	dotted, ok := oidText(oid)
	if !ok {
		return Attribute{}, false
	}
	a := Attribute{Type: dotted, DER: value}
	a.Value, a.Text = textOf(value)
	return a, true
}

// oidText returns the content of an OBJECT IDENTIFIER in dotted form.
func oidText(content []byte) (string, bool) {
	if len(content) == 3 && content[0] == 0x55 && content[1] == 4 && content[2] < 0x80 { // 2.5.4.x: nearly all
		for _, s := range shortNames {
			if s.oid == "2.5.4."+strconv.Itoa(int(content[2])) {
				return s.oid, true
			}
		}
	}
	var oid x509.OID
	if oid.UnmarshalBinary(content) != nil {
		return "", false
	}
	return oid.String(), true
}

// textOf is a value as UTF-8; false if it is not text.
func textOf(der []byte) (string, bool) {
	in := cryptobyte.String(der)
	var content cryptobyte.String
	var tag asn1.Tag
	if !in.ReadAnyASN1(&content, &tag) {
		return "", false
	}
	return decode(tag, content)
}

// The tags of string types that cryptobyte has no name for (ITU-T X.680).
const (
	tagNumeric   asn1.Tag = 18
	tagVisible   asn1.Tag = 26
	tagUniversal asn1.Tag = 28
	tagBMP       asn1.Tag = 30
)

// decode reads the string types of a DirectoryString and those used beside it (RFC 5280,
// section 4.1.2.4). It reads T61String as Latin-1, which everybody writes there. It cuts
// nothing off and replaces nothing: a value that cannot be decoded is not text.
func decode(tag asn1.Tag, b []byte) (string, bool) {
	switch tag {
	case asn1.UTF8String:
		return string(b), utf8.Valid(b)
	case asn1.PrintableString, asn1.IA5String, tagNumeric, tagVisible:
		for _, c := range b {
			if c >= utf8.RuneSelf {
				return "", false
			}
		}
		return string(b), true
	case asn1.T61String:
		out := make([]byte, 0, len(b))
		for _, c := range b {
			out = utf8.AppendRune(out, rune(c))
		}
		return string(out), true
	case tagBMP:
		return wide(b, 2)
	case tagUniversal:
		return wide(b, 4)
	}
	return "", false
}

// wide reads characters of size bytes each, most significant byte first. Surrogates are
// not characters.
func wide(b []byte, size int) (string, bool) {
	if len(b)%size != 0 {
		return "", false
	}
	out := make([]byte, 0, len(b))
	for ; len(b) > 0; b = b[size:] {
		var r uint32
		for _, c := range b[:size] {
			r = r<<8 | uint32(c)
		}
		if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		out = utf8.AppendRune(out, rune(r))
	}
	return string(out), true
}

// String writes the name as RFC 4514 does: the last relative name first, short names if
// they are registered, all other types dotted with their value in hex. Every unprintable
// byte becomes \ and two hex digits, so the result is safe to show. Parsing it gives the
// same name again.
func (n Name) String() string {
	var out []byte
	for i := range n {
		if i > 0 {
			out = append(out, ',')
		}
		for j, a := range n[len(n)-1-i] {
			if j > 0 {
				out = append(out, '+')
			}
			short := shortOf(a.Type)
			switch {
			case short != "" && a.Text:
				out = append(append(out, short...), '=')
				out = appendValue(out, a.Value)
				continue
			case short != "":
				out = append(out, short...)
			default:
				out = append(out, a.Type...)
			}
			out = append(out, "=#"...)
			out = hex.AppendEncode(out, a.DER)
		}
	}
	return string(out)
}

// appendValue escapes a value (RFC 4514, section 2.4).
func appendValue(out []byte, s string) []byte {
	for i, r := range s {
		switch {
		case strings.ContainsRune(`"+,;<>\`, r),
			r == ' ' && (i == 0 || i == len(s)-1), r == '#' && i == 0:
			out = append(out, '\\', byte(r))
		case strconv.IsPrint(r):
			out = utf8.AppendRune(out, r)
		default:
			for _, b := range utf8.AppendRune(nil, r) {
				out = append(out, '\\', upperHex[b>>4], upperHex[b&15])
			}
		}
	}
	return out
}

const upperHex = "0123456789ABCDEF"

// All are the text values of the attributes of one type, in the order of the certificate.
func (n Name) All(oid string) []string {
	var out []string
	for _, rdn := range n {
		for _, a := range rdn {
			if a.Type == oid && a.Text {
				out = append(out, a.Value)
			}
		}
	}
	return out
}

// Only is the value of the only attribute of a type; "" if there is none or more than
// one. With several, other readers of the certificate might take another value.
func (n Name) Only(oid string) string {
	value, count := "", 0
	for _, rdn := range n {
		for _, a := range rdn {
			if a.Type == oid {
				value = a.Value
				count++
			}
		}
	}
	if count != 1 {
		return ""
	}
	return value
}

// Of is the name in these bytes as String writes it, for people. For bytes that are not a
// name it says so.
func Of(der []byte) string {
	n, err := Parse(der)
	if err != nil {
		return "(undecodable name)"
	}
	return n.String()
}

// MaxShown is the length in bytes to which names are cut when shown: more than any real
// name has.
const MaxShown = 1024

// Shown is Of, cut to at most limit bytes with "..." at the cut. limit <= 0 means
// MaxShown.
func Shown(der []byte, limit int) string {
	if limit <= 0 {
		limit = MaxShown
	}
	return cut(Of(der), limit)
}

// cut cuts a name to at most limit bytes, with "..." at the cut.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "..."
}

// Subject is the subject of a certificate, for people.
func Subject(c *x509.Certificate) string { return Shown(c.RawSubject, 0) }

// Issuer is the issuer of a certificate, for people.
func Issuer(c *x509.Certificate) string { return Shown(c.RawIssuer, 0) }

// Quoted is the subject of a certificate between quotes. A quote inside is
// escaped.
func Quoted(c *x509.Certificate) string { return `"` + Subject(c) + `"` }
