package handshake

import (
	"crypto/x509"

	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/reason"
)

// usable holds the key usage of a peer's own certificate against what it is
// shown for. A client proves its key by signing (CertificateVerify: RFC 8446,
// section 4.4.2.2; RFC 5246, section 7.4.6). A server signs too, or decrypts
// where RSA key transport was agreed on: which of them is not known here, see
// transports.
func (v *verifier) usable(leaf *x509.Certificate) *fault {
	need, what := x509.KeyUsageDigitalSignature, "digitalSignature"
	if v.usage == x509.ExtKeyUsageServerAuth {
		need, what = need|x509.KeyUsageKeyEncipherment, what+" and keyEncipherment"
	}
	if keyusage.Allows(leaf, need) {
		return nil
	}
	return &fault{code: reason.WrongUsage, detail: v.about(leaf) + ": key usage lacks " + what}
}

// transports holds the key usage of a server's certificate against the
// CipherSuite: keyEncipherment for RSA key transport, digitalSignature for all
// others (RFC 5246, section 7.4.2; RFC 8446, section 4.4.2.2).
func transports(leaf *x509.Certificate, version, suite uint16) *Error {
	need, what := x509.KeyUsageDigitalSignature, "digitalSignature"
	if version < versionTLS13 && !IsECDHE(suite) {
		need, what = x509.KeyUsageKeyEncipherment, "keyEncipherment"
	}
	if keyusage.Allows(leaf, need) {
		return nil
	}
	f := &fault{code: reason.WrongUsage, detail: (&verifier{}).about(leaf) + ": key usage lacks " + what + ", which " + SuiteName(suite) + " needs"}
	return f.refusal(x509.ExtKeyUsageServerAuth)
}
