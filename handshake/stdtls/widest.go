package stdtls

import (
	"crypto/tls"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// capabilities asks crypto/tls itself where it can tell, so that what it drops or
// gains needs no change here.
func capabilities() *handshake.Capabilities {
	c := &handshake.Capabilities{
		Engine:   "Go's crypto/tls",
		Versions: []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13},
	}
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			c.Suites = append(c.Suites, s.ID)
		}
	}
	// crypto/tls has no function that lists these.
	for _, g := range []tls.CurveID{
		tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.MLKEM1024,
		tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
	} {
		c.Groups = append(c.Groups, uint16(g))
	}
	for _, s := range []tls.SignatureScheme{
		tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.Ed25519,
		tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512,
		tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.PKCS1WithSHA1, tls.ECDSAWithSHA1,
		tls.MLDSA44, tls.MLDSA65, tls.MLDSA87,
	} {
		c.Schemes = append(c.Schemes, uint16(s))
	}
	return c
}

// Capabilities is what crypto/tls implements.
func (*Engine) Capabilities() *handshake.Capabilities { return capabilities() }

// implemented says whether crypto/tls has a CipherSuite.
func implemented(suite uint16) bool {
	is := func(s *tls.CipherSuite) bool { return s.ID == suite }
	return slices.ContainsFunc(tls.CipherSuites(), is) || slices.ContainsFunc(tls.InsecureCipherSuites(), is)
}
