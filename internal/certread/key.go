package certread

import (
	"crypto/x509"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keykind"
)

// keyTypes are the kinds of public keys, by OID, that crypto/x509 reads or skips and with
// which crypto/tls verifies nothing.
var keyTypes = map[string]string{
	"1.2.840.10040.4.1": "DSA", "1.2.840.113549.1.1.10": "RSASSA-PSS", "1.2.840.113549.1.1.7": "RSAES-OAEP",
	"1.3.101.110": "X25519", "1.3.101.111": "X448", "1.3.101.113": "Ed448", "1.2.840.10046.2.1": "Diffie-Hellman",
	"1.2.643.7.1.1.1.1": "GOST R 34.10-2012", "1.2.643.7.1.1.1.2": "GOST R 34.10-2012",
}

// Key says why nothing can be verified with the key of a certificate that was read; nil
// if it is one of package keykind (crypto/tls accepts no other).
func Key(c *x509.Certificate) *Refused {
	if keykind.Of(c.PublicKey).Type != "" {
		return nil
	}
	oid := outlineOf(c.Raw).keyType
	name := keyTypes[oid]
	if name == "" {
		name = "of an unknown kind (" + orUnknown(oid) + ")"
	}
	r := &Refused{
		Subject: certname.Shown(c.RawSubject, 0), Key: true, Why: "its key is " + name + ", with which nothing can be verified here",
		Mend: "have it issued anew for a key on P-256, P-384 or P-521, or for an RSA (rsaEncryption) or Ed25519 key",
	}
	if o := outlineOf(c.Raw); o.serial != nil {
		r.Serial = serialText(o.serial)
	}
	return r
}
