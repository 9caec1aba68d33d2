package handshake_test

import (
	"crypto/x509"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// A CA that is held to the addresses or URIs of one host does not speak for
// the hosts below it (RFC 5280, section 4.2.1.10).
func TestConstraintNamesOneHost(t *testing.T) {
	f := handshaketest.Fixtures()
	ca := testpki.Must(f.CA.Intermediate(testpki.Options{CN: "held", Mutate: func(t *x509.Certificate) {
		t.PermittedDNSDomainsCritical = true
		t.PermittedEmailAddresses, t.PermittedURIDomains = []string{"corp.example", ".dept.example", "joe@mail.example"}, []string{"corp.example", ".dept.example"}
	}}))
	for _, c := range []struct {
		leaf testpki.Leaf
		ok   bool
	}{
		{testpki.Leaf{URIs: []string{"spiffe://corp.example/a"}}, true},
		{testpki.Leaf{URIs: []string{"spiffe://CORP.example/a"}}, true},
		{testpki.Leaf{URIs: []string{"spiffe://a.dept.example/a"}}, true},
		{testpki.Leaf{URIs: []string{"spiffe://evil.corp.example/a"}}, false},
		{testpki.Leaf{URIs: []string{"spiffe://corp.example/a", "spiffe://evil.corp.example/a"}}, false},
		{testpki.Leaf{Emails: []string{"a@corp.example"}}, true},
		{testpki.Leaf{Emails: []string{"a@x.dept.example"}}, true},
		{testpki.Leaf{Emails: []string{"joe@mail.example"}}, true},
		{testpki.Leaf{Emails: []string{"a@evil.corp.example"}}, false},
		{testpki.Leaf{Emails: []string{"jim@mail.example"}}, false},
		{testpki.Leaf{DNS: []string{"anything.example"}}, true},
	} {
		cert := testpki.Must(ca.Issue(c.leaf))
		_, e := handshake.Verify(cert.Chain, []*handshake.Authority{handshaketest.Authority("staff", f.CA)}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params)
		if (e == nil) != c.ok || e != nil && e.Reason != reason.NameConstraint {
			t.Errorf("%v %v: %v", c.leaf.URIs, c.leaf.Emails, e)
		}
	}
}
