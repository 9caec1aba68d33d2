package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// Somebody may write a file at the moment that it is read, over the one before and not beside it.
// Half of a certificate or a key is none, and a key that does not belong to the certificate is
// found; but half of a chain, and half of a bundle, look like whole ones.

var (
	errChanging = errors.New("its files are being written: they are looked at again")
	errHalf     = errors.New("its chain leads to another issuer than the one before, and may be half written: it is taken if it is the same at the next look")
)

// unchanged is an error where files have changed since they had that stamp: they were read
// meanwhile.
func unchanged(o interface{ Stamp() string }, stamp string) error {
	if o.Stamp() != stamp {
		return errChanging
	}
	return nil
}

// whole is an error where the chains that stand in the files may be half written. One that leads to
// the issuer of the chain before is whole. Another one is taken once it was the same at two looks.
// What we write ourselves is never half.
func (o *Own) whole(certs []tls.Certificate, stamp string) error {
	before := o.source.Certificates()
	same := o.order != nil || len(certs) != len(before) // then it is another kind of identity
	for i := 0; !same && i < len(certs); i++ {
		if !sameIssuer(certs[i], before[i]) {
			if o.half == stamp {
				return nil
			}
			o.half = stamp
			return errHalf
		}
	}
	return nil
}

// sameIssuer says whether the last certificates of two chains have the same issuer.
func sameIssuer(a, b tls.Certificate) bool {
	is, was := lastOf(a), lastOf(b)
	return is != nil && was != nil && bytes.Equal(is.RawIssuer, was.RawIssuer)
}

func lastOf(c tls.Certificate) *x509.Certificate {
	if len(c.Certificate) == 0 {
		return nil
	}
	last, err := x509.ParseCertificate(c.Certificate[len(c.Certificate)-1])
	if err != nil {
		return nil
	}
	return last
}
