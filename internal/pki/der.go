package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// notPEM explains data without any PEM block: what it is, and the command that converts
// it to PEM.
func notPEM(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("is empty")
	}
	if len(data) < 2 || data[0] != 0x30 {
		return pemfile.ErrNone
	}
	// Checked before the forms that must be DER: these may be BER with indefinite
	// lengths.
	switch head := data[:min(len(data), 64)]; {
	case bytes.Contains(head, []byte(oidPKCS7Signed)):
		return errors.New("looks like PKCS#7 (.p7b), PEM is needed: convert it with " + fromP7DER)
	case bytes.Contains(head, []byte(oidPKCS7Data)):
		return errors.New("looks like PKCS#12 (.p12, .pfx), PEM is needed: convert it with " + p12Commands(data))
	}
	var seq asn1.RawValue
	rest, err := asn1.Unmarshal(data, &seq)
	if err != nil {
		if data[1] >= 0x80 {
			return errors.New("is DER that is damaged or cut short, PEM is needed: take it from where it came from again")
		}
		return pemfile.ErrNone
	}
	if len(rest) > 0 {
		return fmt.Errorf("is DER with %d bytes behind the end of what it holds, PEM is needed: DER holds one certificate or key a file. Take each from where it came from in a file of its own", len(rest))
	}
	return derKind(data)
}

// derKind says what a single DER element is.
func derKind(data []byte) error {
	_, err := certread.Certificate(data)
	refused, bad := errors.AsType[*certread.Refused](err)
	_, listErr := certread.RevocationList(data)
	badList, _ := errors.AsType[*certread.Refused](listErr)
	switch {
	case err == nil:
		return errors.New("is a certificate in DER form, PEM is needed: convert it with `openssl x509 -inform DER -in FILE -out NEWFILE`")
	case isOK(parseKeyDER(blockPKCS8, data)):
		return errors.New("is a private key in DER form, PEM is needed: convert it with " + fromKeyDER)
	case encryptedKey(data):
		return errors.New("is an encrypted private key in DER form; PEM is needed: decrypt it with " + fromKeyDER)
	case isOK(x509.ParsePKIXPublicKey(data)), isOK(x509.ParsePKCS1PublicKey(data)):
		return errors.New("is a public key in DER form, not a private key and no certificate: neither can be made of it")
	case isOK(x509.ParseCertificateRequest(data)):
		return errors.New("is a certificate request in DER form, not a certificate: have a CA sign it first")
	case listErr == nil:
		return errors.New("is a revocation list in DER form, not a certificate: its place is crl of the authority, which takes DER. PEM is made of it with `openssl crl -inform DER -in FILE -out NEWFILE`")
	case bad && refused.Subject != "":
		return fmt.Errorf("is a certificate in DER form, and one that cannot be used: %w", refused)
	case badList != nil && badList.Subject != "":
		return fmt.Errorf("is a revocation list in DER form, and one that cannot be used: %w", badList)
	}
	return errors.New("is DER of an unknown kind, PEM is needed")
}

// encryptedKey says whether the data is an EncryptedPrivateKeyInfo (RFC 5958,
// section 3): an algorithm and an OCTET STRING.
func encryptedKey(der []byte) bool {
	in := cryptobyte.String(der)
	var seq, algorithm cryptobyte.String
	var oid asn1.ObjectIdentifier
	return in.ReadASN1(&seq, cbasn1.SEQUENCE) && seq.ReadASN1(&algorithm, cbasn1.SEQUENCE) && algorithm.ReadASN1ObjectIdentifier(&oid) &&
		seq.SkipASN1(cbasn1.OCTET_STRING) && seq.Empty()
}

// p12Commands are the commands for a PKCS#12 file. OpenSSL has the ciphers of old files
// in its legacy provider. Since version 3 it uses that only with -legacy; older versions
// have no such option and need none.
func p12Commands(data []byte) string {
	certs, key, hint := fromP12Certs, fromP12Key, ""
	for _, oid := range oldCiphers {
		if bytes.Contains(data, []byte(oid)) {
			certs, key = strings.Replace(certs, "pkcs12 ", "pkcs12 -legacy ", 1), strings.Replace(key, "pkcs12 ", "pkcs12 -legacy ", 1)
			hint = "; it is encrypted with an old cipher, which OpenSSL has since version 3 with -legacy only: leave that out with an older OpenSSL"
			break
		}
	}
	return certs + " for the certificates, and " + key + " for the key" + hint
}

// oldCiphers of PKCS#12 (RFC 7292, appendix C) and PKCS#5 (RFC 8018, appendix A.3)
// that OpenSSL 3 calls legacy, as OIDs in DER.
var oldCiphers = []string{
	"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x01", // pbeWithSHAAnd128BitRC4
	"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x02", // pbeWithSHAAnd40BitRC4
	"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x05", // pbeWithSHAAnd128BitRC2-CBC
	"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x06", // pbeWithSHAAnd40BitRC2-CBC
	"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x03",     // pbeWithMD5AndDES-CBC
	"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0a",     // pbeWithSHA1AndDES-CBC
	"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x03\x02",         // rc2-cbc, in PBES2
}

// Object identifiers in DER, with tag and length (RFC 5652, sections 4 and 5.1).
const (
	oidPKCS7Data   = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01" // 1.2.840.113549.1.7.1
	oidPKCS7Signed = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" // 1.2.840.113549.1.7.2
)
