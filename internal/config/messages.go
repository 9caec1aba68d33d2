package config

import (
	"crypto/x509"
	"fmt"
)

// What peers take of the certificates that are shown to them, in bytes of the
// Certificate message. The format has room for 16 MiB (RFC 8446, section 4.4.2).
const (
	// mostCertificates is what crypto/tls takes, and no well-known peer takes more.
	mostCertificates = 256 << 10
	// opensslCertificates is OpenSSL's SSL_MAX_CERT_LIST_DEFAULT.
	opensslCertificates = 100 << 10
	// javaMessage is JSSE's jdk.tls.maxHandshakeMessageSize, javaChain its
	// jdk.tls.maxCertificateChainLength.
	javaMessage, javaChain = 32 << 10, 10
	// maxStaple is how large an OCSP response can be in TLS 1.3: it stands in an
	// extension, whose length has 16 bits (RFC 8446, sections 4.2 and 4.4.2.1), behind
	// four bytes of its own, in a list of extensions with four more.
	maxStaple = 1<<16 - 1 - 8
)

// chainFits looks at whether peers can take a chain of our own.
func (b *builder) chainFits(path, file string, chain []*x509.Certificate) {
	size := 8 // what stands before the first certificate, in TLS 1.3
	for _, c := range chain {
		size += 5 + len(c.Raw)
	}
	what := fmt.Sprintf("%s: %d certificates make a message of %d bytes", file, len(chain), size)
	const leave = "; leave only the leaf and its intermediates in the file"
	switch {
	case size > mostCertificates:
		b.add(path, fmt.Sprintf("%s: peers take at most %d%s", what, mostCertificates, leave))
	case size > opensslCertificates:
		b.warn(path, fmt.Sprintf("%s: OpenSSL, and what is built on it, takes at most %d and ends the connection%s", what, opensslCertificates, leave))
	case size > javaMessage:
		b.warn(path, fmt.Sprintf("%s: Java takes at most %d (jdk.tls.maxHandshakeMessageSize) and ends the connection%s", what, javaMessage, leave))
	case len(chain) > javaChain:
		b.warn(path, fmt.Sprintf("%s: %d certificates: Java takes at most %d of them (jdk.tls.maxCertificateChainLength) and ends the connection%s", file, len(chain), javaChain, leave))
	}
}

// stapleFits says why an OCSP response cannot be stapled; nil if it can.
func stapleFits(file string, der []byte) error {
	if len(der) <= maxStaple {
		return nil
	}
	return fmt.Errorf("%s: a response of %d bytes, at most %d can be stapled in TLS 1.3 (RFC 8446, section 4.4.2.1): have the responder leave out certificates", file, len(der), maxStaple)
}
