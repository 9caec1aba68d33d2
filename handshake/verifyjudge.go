package handshake

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// judge holds one path, from the leaf to the trust anchor, against everything
// that RFC 5280, section 6.1, demands of it but the signatures, which hold, and
// then against the profile. What crypto/x509 can judge it judges.
func (v *verifier) judge(path []*x509.Certificate) *fault {
	if err := v.byX509(path); err != nil {
		return v.explain(path, err)
	}
	if f := v.usable(path[0]); f != nil {
		return f
	}
	if f := v.strength(path); f != nil {
		return f
	}
	return v.constrained(path)
}

var errOtherPath = errors.New("only a part of the path verifies")

// byX509 has crypto/x509 judge this path and no other. It cannot be asked for
// that: Verify searches by names and checks signatures as it goes. So it gets
// copies whose names lead one way only, and whose keys and signatures are one
// that always holds (seal): the real ones were checked.
//
// That a certificate is self-issued, its subject its issuer, counts for
// policies (RFC 5280, section 6.1), so such a copy has its issuer's name too.
// Then other ways are open, which leave it out; only a result that is the whole
// path counts. Where there is none, the copies whose names all differ say why.
func (v *verifier) byX509(path []*x509.Certificate) error {
	err := v.copied(path, true)
	if errors.Is(err, errOtherPath) {
		if e := v.copied(path, false); e != nil {
			return e
		}
	}
	return err
}

func (v *verifier) copied(path []*x509.Certificate, selfIssued bool) error {
	last := len(path) - 1
	copies := make([]*x509.Certificate, len(path))
	key, signature := seal()
	for i := last; i >= 0; i-- {
		c := *path[i]
		c.PublicKeyAlgorithm, c.PublicKey = x509.RSA, key
		c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature = x509.SHA256WithRSA, []byte(sealed), signature
		// One byte is enough: a path is never longer than 255 (limits.chain).
		c.RawSubject = []byte{'n', byte(i)}
		c.RawIssuer = []byte{'n', byte(i + 1)}
		if i < last {
			c.RawIssuer = copies[i+1].RawSubject
		}
		if selfIssued && bytes.Equal(path[i].RawSubject, path[i].RawIssuer) {
			c.RawSubject = c.RawIssuer
		}
		// They only order the search: the whole path is what it finds first.
		c.SubjectKeyId, c.AuthorityKeyId = []byte{byte(i)}, []byte{byte(i + 1)}
		copies[i] = &c
	}
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: v.now, KeyUsages: []x509.ExtKeyUsage{v.usage},
	}
	opts.Roots.AddCert(copies[last])
	for _, c := range copies[min(1, last):last] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := copies[0].Verify(opts)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return slices.Equal(chain, copies) }) {
		return errOtherPath
	}
	return nil
}

// sealed is what the seal's key has signed.
const sealed = "the signatures of this path were verified by sslgate"

// seal is an RSA key of 2048 bits and its signature (PKCS #1 v1.5, SHA-256) of
// sealed. The private key was thrown away. They prove nothing to anybody: no
// certificate outside byX509 ever has them.
func seal() (*rsa.PublicKey, []byte) {
	const modulus = "+By7e1XONrXZIZqzYnjZmhL/nVfkm8mXTJGUd7cBkC1c0PhJTclnaqsnDmO5CvAgpWgPxUApCYxB6Hkh59WhfPysRum7+DRds4Yr" +
		"aNnDTevTOwSHJO7itmNF4qfslc21bNn64i75gw+ap5/cnHKP81hgKcnQG/wUjHxUPXj8ZYMeUXuvET5yjrfLqaGF9S3kZuW3x5fW" +
		"wOGIrzbzA6vJbMs4zrVl3lN9YHhVns4MkUOj9XSgSS+UekJWKZ8Jje+RDHnlJjUeGB4Qz2Yj1+XCyGpDrM5lk1o6YDuRFfWGM1a2" +
		"pjv1HUP6NjYUV6IyyDgQo/8Taw5pD4EkIFnLMzUnnw=="
	const signature = "tfdtkZSUqd3Xr/LFjPrCqU3p8Bf93Lq9wvSaDergBTsDRvS7cR8FnGIncQxlpPVivJpbZBA2U7ALSUyLxcwM9hsdox124evYUfuw" +
		"fKzYkt6j1h3KpZ1uNmc2WsSO/knNvsYlnkez9M3tXjCKNNmou941CqdoTTvBeOP6egZyerHKYWnBPUk5PFcccgClmORrTTPjEM+g" +
		"/tgwYIObLYk8bCBKkQT5+AeIUw7vMS2+CLBkLYs5kGcpcnpxhofIEEnRvwCNTEnMtXm4F58HIgNvJkYxAjp1iLon/xJ+rfB0zL1Q" +
		"V/hodgnah1ldMOvYhjDdP0FmJShdKoUym1gPYsr2PQ=="
	n, err := base64.StdEncoding.DecodeString(modulus)
	if err != nil {
		panic(err) // a constant: TestSeal
	}
	s, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		panic(err)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, s
}

// oversized says what of a certificate is larger than any real one, "" if
// nothing is. Names are written out for people in time that grows with the
// square of their length, and a serial number stands in every record.
func oversized(c *x509.Certificate) string {
	switch {
	case len(c.RawSubject) > MaxDN:
		return fmt.Sprintf("a subject of %d bytes, at most %d are allowed", len(c.RawSubject), MaxDN)
	case len(c.RawIssuer) > MaxDN:
		return fmt.Sprintf("an issuer of %d bytes, at most %d are allowed", len(c.RawIssuer), MaxDN)
	case c.SerialNumber.BitLen() > 8*maxSerial:
		return fmt.Sprintf("a serial number of %d bits, at most %d are allowed", c.SerialNumber.BitLen(), 8*maxSerial)
	}
	return ""
}

const (
	// MaxDN bounds a distinguished name in a peer's certificate, in bytes of
	// DER. RFC 5280, appendix A.1, has 64 to 128 characters for an attribute;
	// names in use stay below 500 bytes.
	MaxDN = 4 << 10
	// maxSerial bounds a serial number, in bytes: three times what RFC 5280,
	// section 4.1.2.2, allows, for there are CAs that exceed it a little.
	maxSerial = 60
)
