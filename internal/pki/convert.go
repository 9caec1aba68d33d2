package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
)

// The commands that convert a file of another form to what sslgate reads. pemfile.Named
// inserts the names: FILE is the file, NEWFILE and NEWKEY are the results.
// TestCommandsWork runs each command. Results with a key are readable only by their
// owner.
const (
	fromP12Certs = "`openssl pkcs12 -in FILE -nokeys -out NEWFILE`"
	fromP12Key   = "`(umask 077; openssl pkcs12 -in FILE -nodes -nocerts -out NEWKEY)`"
	fromP7DER    = "`openssl pkcs7 -inform DER -in FILE -print_certs -out NEWFILE`"
	fromP7PEM    = "`openssl pkcs7 -in FILE -print_certs -out NEWFILE`"
	fromX509     = "`sed 's/ X509 CERTIFICATE/ CERTIFICATE/' FILE > NEWFILE`"
	fromSSH      = "`install -m 600 FILE NEWFILE && ssh-keygen -p -m PKCS8 -N '' -f NEWFILE`"
	fromKey      = "`(umask 077; openssl pkey -in FILE -out NEWFILE)`"
	fromKeyDER   = "`(umask 077; openssl pkey -inform DER -in FILE -out NEWFILE)`"
	fromJKS      = "`keytool -importkeystore -srckeystore FILE -destkeystore NEWFILE -deststoretype PKCS12`"
	fromTrusted  = "`openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out NEWFILE`" // all of them; x509 takes only the first
)

// jks is the magic number of a Java key store (JKS), jceks that of one of the JCE.
const (
	jks   = "\xfe\xed\xfe\xed"
	jceks = "\xce\xce\xce\xce"
)

// errJKS is returned for a Java key store.
var errJKS = errors.New("is a Java key store, PEM is needed: make it PKCS#12 with " + fromJKS + ", and name that here: its commands are told then")

// aloneIn says what becomes of the other blocks when a command converts only one.
func aloneIn(label string, data []byte) string {
	if !strings.HasPrefix(label, "PKCS") || bytes.Count(data, []byte("-----BEGIN ")) < 2 {
		return ""
	}
	return ". It converts the first block of this kind and nothing else: put what else the file holds beside the result"
}

// otherForm describes a PEM block that has the wanted thing in another form; "" for other
// blocks.
func otherForm(label string) string {
	switch label {
	case "PKCS7", "PKCS #7 SIGNED DATA":
		return "is PKCS#7 (.p7b): convert it with " + fromP7PEM
	case "TRUSTED CERTIFICATE":
		return "is a TRUSTED CERTIFICATE, a form of OpenSSL's own: convert the file with " + fromTrusted
	case "X509 CERTIFICATE":
		return "is a certificate under an old label: write the label anew with " + fromX509
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return "is a public key, not a private key and no certificate: neither can be made of it"
	}
	return ""
}

// ParseChain is ParseCertificates for a file that may also have the private key, as
// HAProxy wants it. mode must then be that of a key file, closed to others.
func ParseChain(data []byte, mode fs.FileMode) ([]*x509.Certificate, error) {
	return parseCertificates(data, &mode)
}
