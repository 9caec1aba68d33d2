// Package certread reads certificates. crypto/x509 refuses some that other libraries
// accept, and its error says neither whose they are nor what to do. Every certificate of
// a file or of a peer is read here, so that a refusal always has a name, a plain reason
// and a remedy.
package certread

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
)

// Refused says why a certificate cannot be used. Its text is safe to show.
type Refused struct {
	List    bool   // it is a revocation list, not a certificate
	Subject string // for a list its issuer; RFC 4514, cut at certname.MaxShown bytes; "" if it cannot be read
	Serial  string // hexadecimal, with "-" in front if negative; "" if it cannot be read
	Why     string // in plain words
	Mend    string // what to do
	Key     bool   // the certificate was read, but its key cannot be used: Err is nil
	Err     error  // of crypto/x509
}

// Error is one line: whose certificate, why, and what to do.
func (r *Refused) Error() string {
	return r.Named() + ": " + r.Why + ": " + r.Mend
}

// Named is the certificate's subject and serial number, or says that they cannot be read.
func (r *Refused) Named() string {
	switch {
	case r.List && r.Subject == "":
		return "revocation list cannot be decoded, not even its issuer"
	case r.List:
		return fmt.Sprintf("revocation list of %q", r.Subject)
	}
	if r.Subject == "" {
		return "certificate cannot be decoded, not even its subject"
	}
	return fmt.Sprintf("certificate %q, serial %s", r.Subject, orUnknown(r.Serial))
}

// Unwrap is the error of crypto/x509.
func (r *Refused) Unwrap() error { return r.Err }

// Certificate reads one certificate in DER. The error is a *Refused.
func Certificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err == nil {
		return c, nil
	}
	r := &Refused{Err: err}
	o := outlineOf(der)
	if o.subject != nil && certname.Of(o.subject) != undecodable {
		r.Subject = certname.Shown(o.subject, 0)
	}
	if o.serial != nil {
		r.Serial = serialText(o.serial)
	}
	r.Why, r.Mend = explain(o, err)
	return nil, r
}

const undecodable = "(undecodable name)"

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// maxSerial is the longest serial number that is shown, in bytes: three times what RFC
// 5280, section 4.1.2.2, allows.
const maxSerial = 60

// serialText writes the content of an INTEGER.
func serialText(content []byte) string {
	if len(content) == 0 || len(content) > maxSerial {
		return fmt.Sprintf("of %d bytes", len(content))
	}
	if content[0]&0x80 == 0 {
		if s := strings.TrimLeft(hex.EncodeToString(content), "0"); s != "" {
			return s
		}
		return "0"
	}
	// The number is in two's complement. Its value is printed, as OpenSSL does.
	b, carry := make([]byte, len(content)), true
	for i := len(content) - 1; i >= 0; i-- {
		b[i] = ^content[i]
		if carry {
			b[i]++
			carry = b[i] == 0
		}
	}
	return "-" + strings.TrimLeft(hex.EncodeToString(b), "0")
}

// outline is what can be read of a certificate without checking it (RFC 5280, section
// 4.1). A field is nil if the bytes before it are not those of a certificate.
type outline struct {
	serial  []byte // content of the INTEGER
	subject []byte // the Name, as an element
	keyType string // OID of the public key's algorithm
	curve   string // OID of its parameters, if they are an OID
}

func outlineOf(der []byte) outline {
	var o outline
	in := cryptobyte.String(der)
	var cert, tbs, serial, subject, spki, algorithm, oid cryptobyte.String
	if !in.ReadASN1(&cert, asn1.SEQUENCE) || !cert.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.ReadASN1(&serial, asn1.INTEGER) {
		return o
	}
	o.serial = serial
	for range 3 { // signature, issuer, validity
		if !tbs.SkipASN1(asn1.SEQUENCE) {
			return o
		}
	}
	if !tbs.ReadASN1Element(&subject, asn1.SEQUENCE) {
		return o
	}
	o.subject = subject
	if !tbs.ReadASN1(&spki, asn1.SEQUENCE) || !spki.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return o
	}
	o.keyType = oidText(oid)
	if algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		o.curve = oidText(oid)
	}
	return o
}

func oidText(content []byte) string {
	var oid x509.OID
	if oid.UnmarshalBinary(content) != nil {
		return ""
	}
	return oid.String()
}

// shown is the text of an error of crypto/x509, without its prefix and escaped, because
// some errors contain parts of the certificate.
func shown(err error) string {
	return escape.String(strings.TrimPrefix(err.Error(), "x509: "), 200)
}
