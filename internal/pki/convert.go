package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
)

// The commands that make of a file in another form what sslgate reads. FILE is the
// file, NEWFILE and NEWKEY what is made of it: pemfile.Named puts the names in.
// TestCommandsWork runs each. What holds a key is written so that its owner alone can read it.
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
	fromTrusted  = "`openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out NEWFILE`" // all of them; x509 takes the first
)

// jks begins a key store of Java's (JKS), jceks one of its JCE.
const (
	jks   = "\xfe\xed\xfe\xed"
	jceks = "\xce\xce\xce\xce"
)

// errJKS is for a key store of Java's.
var errJKS = errors.New("is a Java key store, PEM is needed: make it PKCS#12 with " + fromJKS + ", and name that here: its commands are told then")

// aloneIn says of a command that converts one block what becomes of others.
func aloneIn(label string, data []byte) string {
	if !strings.HasPrefix(label, "PKCS") || bytes.Count(data, []byte("-----BEGIN ")) < 2 {
		return ""
	}
	return ". It converts the first block of this kind and nothing else: put what else the file holds beside the result"
}

// otherForm words the blocks of PEM files that hold what is meant in another form;
// "" where the block is none of them.
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

// ParseChain is ParseCertificates for a file that may hold the private key, too,
// as HAProxy wants them: mode must be a key's then, closed to others.
func ParseChain(data []byte, mode fs.FileMode) ([]*x509.Certificate, error) {
	return parseCertificates(data, &mode)
}
