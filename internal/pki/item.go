package pki

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/times"
)

// Item describes one thing found in a file. Its strings are unchanged from the file:
// escape them when showing them.
type Item struct {
	// Type is "certificate", "request" (PKCS#10), "crl" or "key".
	Type    string   `json:"type"`
	Subject string   `json:"subject,omitempty"` // RFC 4514 form
	Names   []string `json:"names,omitempty"`   // "DNS:a.example"
	Issuer  string   `json:"issuer,omitempty"`
	Serial  string   `json:"serial,omitempty"` // lower-case hex

	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	// DaysLeft are the whole days until NotAfter or NextUpdate, negative if that is past.
	DaysLeft *int `json:"days_left,omitempty"`

	CA         bool     `json:"ca,omitempty"`
	MaxPathLen *int     `json:"max_path_len,omitempty"`
	SelfSigned bool     `json:"self_signed,omitempty"`
	KeyUsage   []string `json:"key_usage,omitempty"`     // RFC 5280, section 4.2.1.3
	ExtKeyUse  []string `json:"ext_key_usage,omitempty"` // section 4.2.1.12, or a dotted OID

	Key         string `json:"key,omitempty"`                 // "ECDSA P-256"
	SPKI        string `json:"spki_sha256,omitempty"`         // lower-case hex
	Signature   string `json:"signature_algorithm,omitempty"` // "ECDSA-SHA256"
	Fingerprint string `json:"sha256,omitempty"`              // of the whole thing, lower-case hex

	Number     string        `json:"number,omitempty"` // CRL number, decimal
	ThisUpdate *time.Time    `json:"this_update,omitempty"`
	NextUpdate *time.Time    `json:"next_update,omitempty"`
	Revoked    []RevokedItem `json:"revoked,omitempty"`

	// Warnings are sentences about what makes it unfit for use.
	Warnings []string `json:"warnings,omitempty"`
}

// RevokedItem is one entry of a revocation list.
type RevokedItem struct {
	Serial string    `json:"serial"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

func certItem(c *x509.Certificate, now time.Time) Item {
	it := Item{
		Type: "certificate", Subject: certname.Of(c.RawSubject), Names: sans(c.Extensions), Issuer: certname.Of(c.RawIssuer),
		Serial: serialHex(c.SerialNumber), NotBefore: &c.NotBefore, NotAfter: &c.NotAfter, DaysLeft: daysLeft(c.NotAfter, now),
		CA: c.BasicConstraintsValid && c.IsCA, SelfSigned: !huge(c.PublicKey) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil,
		KeyUsage: keyUsage(c.KeyUsage), ExtKeyUse: extKeyUsage(c),
		Key: keykind.NameOf(c.PublicKey), SPKI: spkiHex(c.RawSubjectPublicKeyInfo), Signature: c.SignatureAlgorithm.String(),
		Fingerprint: sha256Hex(c.Raw),
	}
	if it.CA && (c.MaxPathLen > 0 || c.MaxPathLenZero) {
		it.MaxPathLen = &c.MaxPathLen
	}
	switch {
	case now.After(c.NotAfter):
		it.warn("it ran out on %s", date(c.NotAfter))
	case now.Before(c.NotBefore):
		it.warn("it is not valid before %s", date(c.NotBefore))
	}
	it.warnKey(c.PublicKey)
	it.warnSignature(c.SignatureAlgorithm)
	if !it.CA && len(it.Names) == 0 {
		it.warn("it has no subject alternative name, and verifiers do not take host names from the subject")
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		it.warn("its critical extension %s is not understood; verifiers must refuse it", oid)
	}
	return it
}

func requestItem(r *x509.CertificateRequest) Item {
	it := Item{
		Type: "request", Subject: certname.Of(r.RawSubject), Names: sans(r.Extensions),
		Key: keykind.NameOf(r.PublicKey), SPKI: spkiHex(r.RawSubjectPublicKeyInfo), Signature: r.SignatureAlgorithm.String(),
		Fingerprint: sha256Hex(r.Raw),
	}
	it.warnKey(r.PublicKey)
	switch {
	case huge(r.PublicKey):
		it.warn("its signature was not checked, for its key has more than %d bits", maxRSABits)
	case r.CheckSignature() != nil:
		it.warn("its signature is wrong: whoever made it does not hold the key")
	}
	return it
}

func crlItem(l *x509.RevocationList, now time.Time) Item {
	it := Item{
		Type: "crl", Issuer: certname.Of(l.RawIssuer), ThisUpdate: &l.ThisUpdate,
		Signature: l.SignatureAlgorithm.String(), Fingerprint: sha256Hex(l.Raw),
	}
	if l.Number != nil {
		it.Number = l.Number.String()
	}
	if l.NextUpdate.IsZero() {
		it.warn("it does not say when the next one comes")
	} else {
		it.NextUpdate, it.DaysLeft = &l.NextUpdate, daysLeft(l.NextUpdate, now)
		if now.After(l.NextUpdate) {
			it.warn("it is stale: the next one was due on %s", date(l.NextUpdate))
		}
	}
	it.warnSignature(l.SignatureAlgorithm)
	for _, e := range l.RevokedCertificateEntries {
		it.Revoked = append(it.Revoked, RevokedItem{serialHex(e.SerialNumber), e.RevocationTime, reasonWord(e.ReasonCode)})
	}
	return it
}

func (it *Item) warn(format string, args ...any) {
	it.Warnings = append(it.Warnings, fmt.Sprintf(format, args...))
}

// maxRSABits is the largest RSA key, in bits, with which a signature is checked: the work
// grows with the cube of the length, and a file may have a key of megabits.
const maxRSABits = 16384

func huge(pub any) bool {
	k, ok := pub.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSABits
}

func (it *Item) warnKey(pub any) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			it.warn("its RSA key has %d bits; less than 2048 is refused", k.N.BitLen())
		}
	case nil:
		it.warn("its key is of a kind that is not understood")
	}
	if keykind.NameOf(pub) == "ECDSA P-224" {
		it.warn("its key is on P-224, which TLS 1.3 does not have")
	}
}

func (it *Item) warnSignature(a x509.SignatureAlgorithm) {
	switch a {
	case x509.UnknownSignatureAlgorithm:
		it.warn("its signature algorithm is not understood")
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		it.warn("it is signed with %s, which is refused", a)
	default:
	}
}

// daysLeft is rounded down, so that "0" means today.
func daysLeft(t, now time.Time) *int {
	d := times.WholeDays(now, t)
	return &d
}

func keyUsage(u x509.KeyUsage) []string {
	var out []string
	for i, name := range []string{
		"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement",
		"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
	} {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func extKeyUsage(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageAny:
			out = append(out, "anyExtendedKeyUsage")
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "serverAuth")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "clientAuth")
		case x509.ExtKeyUsageCodeSigning:
			out = append(out, "codeSigning")
		case x509.ExtKeyUsageEmailProtection:
			out = append(out, "emailProtection")
		case x509.ExtKeyUsageTimeStamping:
			out = append(out, "timeStamping")
		case x509.ExtKeyUsageOCSPSigning:
			out = append(out, "OCSPSigning")
		default:
			out = append(out, fmt.Sprintf("usage %d", u))
		}
	}
	return append(out, oids(c.UnknownExtKeyUsage)...)
}

func oids(in []asn1.ObjectIdentifier) []string { return stringsOf(in) }

func sha256Hex(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// date is a day and minute in UTC, for sentences.
func date(t time.Time) string { return times.UTC(t).Format("2006-01-02 15:04 UTC") }
