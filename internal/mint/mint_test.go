package mint

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func issuer(t *testing.T, ca *testpki.CA, change ...func(*Config)) *Issuer {
	t.Helper()
	c := Config{Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"*.example.org", "shop.example.net"}}
	for _, f := range change {
		f(&c)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantReason(t *testing.T, err error, code reason.Code) {
	t.Helper()
	var e *handshake.Error
	if !errors.As(err, &e) || e.Reason != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestFor(t *testing.T) {
	root := testpki.Must(testpki.NewCA(testpki.Options{}))
	inter := testpki.Must(root.Intermediate(testpki.Options{}))
	m := issuer(t, inter, func(c *Config) { c.Chain = inter.Chain })
	for _, name := range []string{"a.example.org", "shop.example.net"} {
		cert, err := m.For(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		leaf := cert.Leaf
		pool := x509.NewCertPool()
		for _, der := range cert.Certificate[1:] {
			pool.AddCert(testpki.Must(x509.ParseCertificate(der)))
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: pool, DNSName: name}); err != nil {
			t.Error(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
			t.Error("good for client authentication")
		}
		key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Params().BitSize != 256 || leaf.IsCA || len(leaf.DNSNames) != 1 || leaf.NotAfter.After(time.Now().Add(25*time.Hour)) {
			t.Errorf("%+v", leaf)
		}
		if again, err := m.For(t.Context(), name); err != nil || again != cert {
			t.Errorf("not kept: %v", err)
		}
	}
	for _, name := range []string{"example.org", "a.b.example.org", "example.net", "a.example.org.evil.test", "*.example.org", "10.0.0.1", "a.example.org\n", "A.example.org"} {
		_, err := m.For(t.Context(), name)
		wantReason(t, err, reason.SNIUnknown)
	}
	_, err := m.For(t.Context(), "")
	wantReason(t, err, reason.SNIMissing)
}

// The issuer's name constraints bound what the patterns allow.
func TestNameConstraints(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{Mutate: func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.org"}
	}}))
	m := issuer(t, ca)
	if _, err := m.For(t.Context(), "a.example.org"); err != nil {
		t.Error(err)
	}
	_, err := m.For(t.Context(), "shop.example.net")
	wantReason(t, err, reason.SNIUnknown)
}

func TestLike(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	m := issuer(t, ca)
	server := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"b.example.org", "elsewhere.test", "a.example.org", "*.example.org"}}))
	cert, err := m.Like(t.Context(), server.Cert)
	if err != nil || strings.Join(cert.Leaf.DNSNames, " ") != "a.example.org b.example.org" {
		t.Errorf("%v %v", cert, err)
	}
	foreign := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"elsewhere.test"}}))
	_, err = m.Like(t.Context(), foreign.Cert)
	wantReason(t, err, reason.SNIUnknown)
}

// A leaf is made anew before it ends, and never outlives its issuer.
func TestLifetime(t *testing.T) {
	now := time.Now()
	ca := testpki.Must(testpki.NewCA(testpki.Options{NotAfter: now.Add(30 * time.Hour)}))
	m := issuer(t, ca, func(c *Config) { c.Now = func() time.Time { return now } })
	first := testpki.Must(m.For(t.Context(), "a.example.org"))
	now = now.Add(15 * time.Hour)
	if testpki.Must(m.For(t.Context(), "a.example.org")) != first {
		t.Error("made anew too early")
	}
	now = now.Add(2 * time.Hour)
	second := testpki.Must(m.For(t.Context(), "a.example.org"))
	if second == first || second.Leaf.NotAfter.After(ca.Cert.NotAfter) {
		t.Error("not made anew, or outlives the issuer")
	}
	now = now.Add(20 * time.Hour)
	if _, err := m.For(t.Context(), "a.example.org"); err == nil {
		t.Error("made by an issuer that has expired")
	}
}

// Many who ask at once get the same leaf, and the cache is bounded.
func TestCache(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	m := issuer(t, ca)
	var wg sync.WaitGroup
	got := make([]*tls.Certificate, 32)
	for i := range got {
		wg.Go(func() { got[i], _ = m.For(t.Context(), "a.example.org") })
	}
	wg.Wait()
	for _, c := range got {
		if c == nil || c != got[0] {
			t.Fatal("not the same")
		}
	}
	for i := range maxCached + 10 {
		m.keep(fmt.Sprint(i), got[0])
	}
	if len(m.leaves) != maxCached || m.recent.Len() != maxCached || m.cached("a.example.org") != nil || m.cached("100") == nil {
		t.Errorf("%d leaves, %d in the list", len(m.leaves), m.recent.Len())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.For(ctx, "z.example.org"); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{}))
	other := testpki.Must(testpki.NewCA(testpki.Options{}))
	for name, c := range map[string]Config{
		"nothing":      {},
		"leaf":         {Chain: leaf.Chain, Key: leaf.Key, Names: []string{"a.test"}},
		"key":          {Chain: []*x509.Certificate{ca.Cert}, Key: other.Key, Names: []string{"a.test"}},
		"names":        {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key},
		"every .org":   {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"*.org"}},
		"everything":   {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"*"}},
		"an address":   {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"10.0.0.1"}},
		"inner star":   {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"a.*.test"}},
		"long life":    {Chain: []*x509.Certificate{ca.Cert}, Key: ca.Key, Names: []string{"a.test"}, Lifetime: 365 * 24 * time.Hour},
		"constrained":  {Chain: []*x509.Certificate{constrained().Cert}, Key: constrained().Key, Names: []string{"a.test"}},
		"no cert sign": {Chain: []*x509.Certificate{noSign().Cert}, Key: noSign().Key, Names: []string{"a.test"}},
	} {
		if m, err := New(c); err == nil || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var constrained = sync.OnceValue(func() *testpki.CA {
	return testpki.Must(testpki.NewCA(testpki.Options{Mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"b.test"} }}))
})

var noSign = sync.OnceValue(func() *testpki.CA {
	return testpki.Must(testpki.NewCA(testpki.Options{Mutate: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }}))
})

// Whatever matches a pattern is a host name under it.
func FuzzPattern(f *testing.F) {
	f.Add("*.example.org", "a.example.org")
	f.Add("a.test", "a.test")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := parsePattern(pattern)
		if err != nil || !p.matches(name) {
			return
		}
		if !isHost(name) || !strings.HasSuffix(name, p.name) || p.wild && strings.Count(name, ".") != strings.Count(p.name, ".")+1 {
			t.Errorf("%q matches %q", pattern, name)
		}
		if !p.matches(p.example()) {
			t.Errorf("%q does not match its own example", pattern)
		}
	})
}
