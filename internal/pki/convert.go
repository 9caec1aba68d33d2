package pki

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
)

// The commands that make of a file in another form what sslgate reads. FILE is the
// file, NEWFILE and NEWKEY what is made of it: Named puts the names in. TestCommandsWork
// runs each. What holds a key is written so that its owner alone can read it.
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
	legacyHint   = "; an old file, for which it says that RC2-40-CBC is unsupported, wants -legacy, too"
)

// jks begins a key store of Java's (JKS), jceks one of its JCE.
const (
	jks   = "\xfe\xed\xfe\xed"
	jceks = "\xce\xce\xce\xce"
)

// errJKS is for a key store of Java's.
var errJKS = errors.New("is a Java key store, PEM is needed: make it PKCS#12 with " + fromJKS + ", and name that here: its commands are told then")

// otherForm words the blocks of PEM files that hold what is meant in another form;
// "" where the block is none of them.
func otherForm(label string) string {
	switch label {
	case "PKCS7", "PKCS #7 SIGNED DATA":
		return "is PKCS#7 (.p7b): convert it with " + fromP7PEM
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

// Named puts a file's name, quoted for a shell, into the commands of an error
// of this package.
func Named(err error, file string) error {
	if err == nil {
		return nil
	}
	parts := strings.Split(err.Error(), "`")
	for i := 1; i < len(parts)-1; i += 2 { // between quotes
		parts[i] = strings.NewReplacer("NEWKEY", shellWord(file+".key"), "NEWFILE", shellWord(file+".new"), "FILE.pem", shellWord(file+".pem"), "FILE", shellWord(file)).Replace(parts[i])
	}
	return &namedError{strings.Join(parts, "`"), err}
}

type namedError struct {
	text string
	err  error
}

// Error has the commands with their names.
func (e *namedError) Error() string { return e.text }

// Unwrap is the error as it was.
func (e *namedError) Unwrap() error { return e.err }

// shellWord quotes a word for a POSIX shell, where it must be.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,") == "" && !strings.HasPrefix(s, "-") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
