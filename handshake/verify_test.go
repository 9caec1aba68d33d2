package handshake_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestVerifyGood(t *testing.T) {
	f := handshaketest.Fixtures()
	p := handshaketest.ServerParams()
	inter := testpki.Must(f.CA.Intermediate(testpki.Options{Key: testpki.P384}))
	for name, c := range map[string]*testpki.Cert{
		"direct":           f.Client,
		"intermediate":     testpki.Must(inter.Issue(testpki.Leaf{})),
		"no EKU":           testpki.Must(f.CA.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }})),
		"any EKU":          testpki.Must(f.CA.Issue(testpki.Leaf{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})),
		"Ed25519":          testpki.Must(f.CA.Issue(testpki.Leaf{Key: testpki.Ed25519})),
		"name constrained": testpki.Must(testpki.Must(f.CA.Intermediate(testpki.Options{Mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"in.test"} }})).Issue(testpki.Leaf{DNS: []string{"a.in.test"}})),
	} {
		peer, e := handshake.Verify(c.Chain, []*handshake.Authority{handshaketest.Authority("other", f.Other), handshaketest.Authority("staff", f.CA)}, x509.ExtKeyUsageClientAuth, &p.Params)
		if e != nil || peer.Authority != "staff" || peer.Proven || !peer.Chain[len(peer.Chain)-1].Equal(f.CA.Root) {
			t.Errorf("%s: %v", name, e)
		}
	}
	// The order of what is shown, and what does not belong, does not matter.
	c := testpki.Must(inter.Issue(testpki.Leaf{}))
	shown := []*x509.Certificate{c.Chain[0], f.Other.Cert, f.CA.Root, c.Chain[1]}
	if _, e := handshake.Verify(shown, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e != nil {
		t.Errorf("with strangers in the chain: %v", e)
	}
}

func TestVerifyBounds(t *testing.T) {
	f := handshaketest.Fixtures()
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.MaxChain = 1 })
	c := testpki.Must(f.CA.LongChain(testpki.Leaf{}, 1))
	if _, e := handshake.Verify(c.Chain, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong {
		t.Errorf("2 of 1: %v", e)
	}
	p.MaxChain, p.MaxChainBytes = 0, len(f.Client.Cert.Raw)
	if _, e := handshake.Verify(f.Client.Chain, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e != nil {
		t.Errorf("exactly the bytes: %v", e)
	}
	p.MaxChainBytes--
	if _, e := handshake.Verify(f.Client.Chain, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong {
		t.Errorf("one byte too much: %v", e)
	}
	// Before any signature: the authority is not even looked at.
	fresh := []*handshake.Authority{handshaketest.Authority("fresh", f.CA)}
	for _, bound := range []func(*handshake.ServerParams){func(p *handshake.ServerParams) { p.MaxChain = 1 }, func(p *handshake.ServerParams) { p.MaxChainBytes = 100 }} {
		p := handshaketest.ServerParams(bound)
		if _, e := handshake.Verify(c.Chain, fresh, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong || fresh[0].LookedAt() {
			t.Errorf("beyond a bound: %v, authority looked at: %v", e, fresh[0].LookedAt())
		}
	}
	if _, e := handshake.Verify(nil, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.NoCertificate {
		t.Errorf("nothing shown: %v", e)
	}
	if _, e := handshake.Verify(f.Client.Chain, nil, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params); e == nil || e.Reason != reason.UnknownCA {
		t.Errorf("no authority: %v", e)
	}
}

// The cause a person would name first.
func TestVerifyCauses(t *testing.T) {
	f := handshaketest.Fixtures()
	old := testpki.Leaf{CN: "old", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	oldServer := old
	oldServer.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	twoCAs := []*handshake.Authority{handshaketest.Authority("other", f.Other), handshaketest.Authority("staff", f.CA)}
	rsaProfile := func(p *handshake.ServerParams) { p.Profile.MinRSABits = 3072 }
	tests := []struct {
		name        string
		cert        *testpki.Cert
		authorities []*handshake.Authority
		params      func(*handshake.ServerParams)
		want        reason.Code
		detail      string
	}{
		{"expired, of another CA", testpki.Must(f.Other.Issue(old)), twoCAs[1:], nil, reason.UnknownCA, `"CN=Other CA`},
		{"expired, wrong usage", testpki.Must(f.CA.Issue(oldServer)), twoCAs[1:], nil, reason.Expired, "not after"},
		{"expired, of the second authority", testpki.Must(f.CA.Issue(old)), twoCAs, nil, reason.Expired, "CN=old"},
		{"unknown critical, of another CA", testpki.Must(f.Other.UnknownCritical(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"SHA-1, of another CA", testpki.Must(f.Other.SHA1(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"SHA-1 intermediate of another CA", testpki.Must(f.Other.SHA1Intermediate(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"impostor of the second", testpki.Must(f.CA.OfImpostor(testpki.Leaf{})), twoCAs, nil, reason.UnknownCA, "same name"},
		{"RSA below the profile", testpki.Must(f.CA.Issue(testpki.Leaf{Key: testpki.RSA2048})), twoCAs[1:], rsaProfile, reason.WeakKey, "2048 bits, at least 3072"},
		{"EC below the profile", f.Client, twoCAs[1:], func(p *handshake.ServerParams) { p.Profile.MinECBits = 384 }, reason.WeakKey, "256 bits, at least 384"},
		{"unknown critical", testpki.Must(f.CA.UnknownCritical(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCritical, "1.3.6.1.4.1.32473.1"},
	}
	for _, tt := range tests {
		p := handshaketest.ServerParams()
		if tt.params != nil {
			tt.params(p)
		}
		peer, e := handshake.Verify(tt.cert.Chain, tt.authorities, x509.ExtKeyUsageClientAuth, &p.Params)
		if peer != nil || e == nil || e.Reason != tt.want || !strings.Contains(e.Detail, tt.detail) {
			t.Errorf("%s: %v, want %s with %q", tt.name, e, tt.want, tt.detail)
		}
		if e != nil && (e.Peer == nil || e.Peer.Chain != nil || e.Wanted != handshake.AlertOf(tt.want)) {
			t.Errorf("%s: peer %+v, wanted %s", tt.name, e.Peer, e.Wanted)
		}
	}
}

// A weak root, or one whose time is over, is no trust anchor; its own
// signature does not matter.
func TestVerifyRoots(t *testing.T) {
	weak := testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.RSA1024}))
	gone := testpki.Must(testpki.NewCA(testpki.Options{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}))
	for ca, want := range map[*testpki.CA]reason.Code{weak: reason.WeakKey, gone: reason.Expired} {
		c := testpki.Must(ca.Issue(testpki.Leaf{}))
		if _, e := handshake.Verify(c.Chain, []*handshake.Authority{handshaketest.Authority("a", ca)}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params); e == nil || e.Reason != want {
			t.Errorf("got %v, want %s", e, want)
		}
	}
	sha1 := testpki.Must(testpki.NewCA(testpki.Options{SignatureAlgorithm: x509.ECDSAWithSHA1}))
	c := testpki.Must(sha1.Issue(testpki.Leaf{}))
	if _, e := handshake.Verify(c.Chain, []*handshake.Authority{handshaketest.Authority("a", sha1)}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params); e != nil {
		t.Errorf("SHA-1 in the root's own signature: %v", e)
	}
}

// Many certificates that all seem to have signed each other cost a bounded
// number of signature checks.
func TestVerifyMaze(t *testing.T) {
	f := handshaketest.Fixtures()
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.MaxChain = 30 })
	leaf := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "Maze"})).Issue(testpki.Leaf{}))
	shown := []*x509.Certificate{leaf.Cert}
	for range 20 {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Maze"}))
		shown = append(shown, ca.Cert)
	}
	start := time.Now()
	if _, e := handshake.Verify(shown, []*handshake.Authority{handshaketest.Authority("staff", f.CA)}, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.UnknownCA {
		t.Errorf("got %v", e)
	}
	if d := time.Since(start); d > testenv.Scaled(2*time.Second) {
		t.Errorf("took %s", d)
	}
}
