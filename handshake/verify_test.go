package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

const clientAuth = x509.ExtKeyUsageClientAuth

func TestVerifyGood(t *testing.T) {
	f := fixtures()
	p := serverParams()
	inter := testpki.Must(f.ca.Intermediate(testpki.Options{Key: testpki.P384}))
	for name, c := range map[string]*testpki.Cert{
		"direct":           f.client,
		"intermediate":     testpki.Must(inter.Issue(testpki.Leaf{})),
		"no EKU":           testpki.Must(f.ca.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }})),
		"any EKU":          testpki.Must(f.ca.Issue(testpki.Leaf{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})),
		"Ed25519":          testpki.Must(f.ca.Issue(testpki.Leaf{Key: testpki.Ed25519})),
		"name constrained": testpki.Must(testpki.Must(f.ca.Intermediate(testpki.Options{Mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"in.test"} }})).Issue(testpki.Leaf{DNS: []string{"a.in.test"}})),
	} {
		peer, e := Verify(c.Chain, []*Authority{authority("other", f.other), authority("staff", f.ca)}, clientAuth, &p.Params)
		if e != nil || peer.Authority != "staff" || peer.Proven || !peer.Chain[len(peer.Chain)-1].Equal(f.ca.Root) {
			t.Errorf("%s: %v", name, e)
		}
	}
	// The order of what is shown, and what does not belong, does not matter.
	c := testpki.Must(inter.Issue(testpki.Leaf{}))
	shown := []*x509.Certificate{c.Chain[0], f.other.Cert, f.ca.Root, c.Chain[1]}
	if _, e := Verify(shown, p.Authorities, clientAuth, &p.Params); e != nil {
		t.Errorf("with strangers in the chain: %v", e)
	}
}

func TestVerifyBounds(t *testing.T) {
	f := fixtures()
	p := serverParams(func(p *ServerParams) { p.MaxChain = 1 })
	c := testpki.Must(f.ca.LongChain(testpki.Leaf{}, 1))
	if _, e := Verify(c.Chain, p.Authorities, clientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong {
		t.Errorf("2 of 1: %v", e)
	}
	p.MaxChain, p.MaxChainBytes = 0, len(f.client.Cert.Raw)
	if _, e := Verify(f.client.Chain, p.Authorities, clientAuth, &p.Params); e != nil {
		t.Errorf("exactly the bytes: %v", e)
	}
	p.MaxChainBytes--
	if _, e := Verify(f.client.Chain, p.Authorities, clientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong {
		t.Errorf("one byte too much: %v", e)
	}
	// Before any signature: the authority is not even looked at.
	fresh := []*Authority{authority("fresh", f.ca)}
	for _, bound := range []func(*ServerParams){func(p *ServerParams) { p.MaxChain = 1 }, func(p *ServerParams) { p.MaxChainBytes = 100 }} {
		p := serverParams(bound)
		if _, e := Verify(c.Chain, fresh, clientAuth, &p.Params); e == nil || e.Reason != reason.ChainTooLong || fresh[0].LookedAt() {
			t.Errorf("beyond a bound: %v, authority looked at: %v", e, fresh[0].LookedAt())
		}
	}
	if _, e := Verify(nil, p.Authorities, clientAuth, &p.Params); e == nil || e.Reason != reason.NoCertificate {
		t.Errorf("nothing shown: %v", e)
	}
	if _, e := Verify(f.client.Chain, nil, clientAuth, &serverParams().Params); e == nil || e.Reason != reason.UnknownCA {
		t.Errorf("no authority: %v", e)
	}
}

// The cause a person would name first.
func TestVerifyCauses(t *testing.T) {
	f := fixtures()
	old := testpki.Leaf{CN: "old", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	oldServer := old
	oldServer.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	twoCAs := []*Authority{authority("other", f.other), authority("staff", f.ca)}
	rsaProfile := func(p *ServerParams) { p.Profile.MinRSABits = 3072 }
	tests := []struct {
		name        string
		cert        *testpki.Cert
		authorities []*Authority
		params      func(*ServerParams)
		want        reason.Code
		detail      string
	}{
		{"expired, of another CA", testpki.Must(f.other.Issue(old)), twoCAs[1:], nil, reason.UnknownCA, `"CN=Other CA`},
		{"expired, wrong usage", testpki.Must(f.ca.Issue(oldServer)), twoCAs[1:], nil, reason.Expired, "not after"},
		{"expired, of the second authority", testpki.Must(f.ca.Issue(old)), twoCAs, nil, reason.Expired, "CN=old"},
		{"unknown critical, of another CA", testpki.Must(f.other.UnknownCritical(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"SHA-1, of another CA", testpki.Must(f.other.SHA1(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"SHA-1 intermediate of another CA", testpki.Must(f.other.SHA1Intermediate(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCA, ""},
		{"impostor of the second", testpki.Must(f.ca.OfImpostor(testpki.Leaf{})), twoCAs, nil, reason.UnknownCA, "same name"},
		{"RSA below the profile", testpki.Must(f.ca.Issue(testpki.Leaf{Key: testpki.RSA2048})), twoCAs[1:], rsaProfile, reason.WeakKey, "2048 bits, at least 3072"},
		{"EC below the profile", f.client, twoCAs[1:], func(p *ServerParams) { p.Profile.MinECBits = 384 }, reason.WeakKey, "256 bits, at least 384"},
		{"unknown critical", testpki.Must(f.ca.UnknownCritical(testpki.Leaf{})), twoCAs[1:], nil, reason.UnknownCritical, "1.3.6.1.4.1.32473.1"},
	}
	for _, tt := range tests {
		p := serverParams()
		if tt.params != nil {
			tt.params(p)
		}
		peer, e := Verify(tt.cert.Chain, tt.authorities, clientAuth, &p.Params)
		if peer != nil || e == nil || e.Reason != tt.want || !strings.Contains(e.Detail, tt.detail) {
			t.Errorf("%s: %v, want %s with %q", tt.name, e, tt.want, tt.detail)
		}
		if e != nil && (e.Peer == nil || e.Peer.Chain != nil || e.Wanted != AlertOf(tt.want)) {
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
		if _, e := Verify(c.Chain, []*Authority{authority("a", ca)}, clientAuth, &serverParams().Params); e == nil || e.Reason != want {
			t.Errorf("got %v, want %s", e, want)
		}
	}
	sha1 := testpki.Must(testpki.NewCA(testpki.Options{SignatureAlgorithm: x509.ECDSAWithSHA1}))
	c := testpki.Must(sha1.Issue(testpki.Leaf{}))
	if _, e := Verify(c.Chain, []*Authority{authority("a", sha1)}, clientAuth, &serverParams().Params); e != nil {
		t.Errorf("SHA-1 in the root's own signature: %v", e)
	}
}

// Many certificates that all seem to have signed each other cost a bounded
// number of signature checks.
func TestVerifyMaze(t *testing.T) {
	f := fixtures()
	p := serverParams(func(p *ServerParams) { p.MaxChain = 30 })
	leaf := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "Maze"})).Issue(testpki.Leaf{}))
	shown := []*x509.Certificate{leaf.Cert}
	for range 20 {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Maze"}))
		shown = append(shown, ca.Cert)
	}
	start := time.Now()
	if _, e := Verify(shown, []*Authority{authority("staff", f.ca)}, clientAuth, &p.Params); e == nil || e.Reason != reason.UnknownCA {
		t.Errorf("got %v", e)
	}
	if d := time.Since(start); d > testenv.Scaled(2*time.Second) {
		t.Errorf("took %s", d)
	}
}

// The clock of the Params decides.
func TestVerifyNow(t *testing.T) {
	f := fixtures()
	p := serverParams(func(p *ServerParams) { p.Now = func() time.Time { return time.Now().Add(-30 * 24 * time.Hour) } })
	if _, e := Verify(f.client.Chain, p.Authorities, clientAuth, &p.Params); e == nil || e.Reason != reason.NotYetValid {
		t.Errorf("a month ago: %v", e)
	}
	o, _, _ := withGo(t, p, clientConfig(tls.VersionTLS13, f.client.TLS()))
	if o.err == nil || o.err.Reason != reason.NotYetValid {
		t.Errorf("in a handshake: %v", o.err)
	}
}
