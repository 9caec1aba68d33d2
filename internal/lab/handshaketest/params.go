// Package handshaketest is shared by the tests of handshake and of its engines: a PKI, plans,
// client hellos that are valid except in one place, and connections.
package handshaketest

import (
	"crypto/tls"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Fixture is the PKI most tests share: making keys is slow under -race.
type Fixture struct {
	CA, Other *testpki.CA
	Gateway   *testpki.Cert // for gateway.test, 127.0.0.1
	Client    *testpki.Cert
}

// Fixtures is made once, at the first call.
var Fixtures = sync.OnceValue(func() *Fixture {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	return &Fixture{
		CA:      ca,
		Other:   testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"})),
		Gateway: testpki.Must(ca.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}, IPs: []string{"127.0.0.1"}})),
		Client:  testpki.Must(ca.Issue(testpki.Leaf{CN: "alice"})),
	}
})

// Profile allows TLS 1.2 and 1.3 with the usual parameters.
func Profile() handshake.Profile {
	return handshake.Profile{
		Name: "test", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13,
		Suites12: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		},
		Groups: []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384)},
	}
}

// Authority trusts the roots of some CAs.
func Authority(name string, cas ...*testpki.CA) *handshake.Authority {
	a := &handshake.Authority{Name: name}
	for _, ca := range cas {
		a.Roots = append(a.Roots, ca.Root)
	}
	return a
}

// ServerParams demands a certificate of Staff CA.
func ServerParams(change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	f := Fixtures()
	p := &handshake.ServerParams{Params: handshake.Params{
		Profile:      Profile(),
		Certificates: []tls.Certificate{f.Gateway.TLS()},
		Authorities:  []*handshake.Authority{Authority("staff", f.CA)},
	}}
	for _, c := range change {
		c(p)
	}
	return p
}

// Named is one of handshake.NamedProfiles; the test fails where there is none.
func Named(t testing.TB, name string) handshake.Profile {
	t.Helper()
	p, ok := handshake.NamedProfile(name)
	if !ok {
		t.Fatalf("no profile %s", name)
	}
	return p
}
