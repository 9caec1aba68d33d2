package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The kind of a certificate is its key, its names and its uses, and nothing that a
// renewal changes.
func TestKinds(t *testing.T) {
	one, two := testpki.Must(testpki.NewCA(testpki.Options{})), testpki.Must(testpki.NewCA(testpki.Options{CN: "another"}))
	kind := func(ca *testpki.CA, l testpki.Leaf) Kind {
		return NewFile([]tls.Certificate{testpki.Must(ca.Issue(l)).TLS()}, nil).Is()[0]
	}
	base := kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}})
	if base.Key != "ECDSA P-256" || len(base.Names) != 2 || base.Made {
		t.Errorf("%+v", base)
	}
	for what, k := range map[string]Kind{
		"renewed":        kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}}),
		"another CA":     kind(two, testpki.Leaf{DNS: []string{"a.example", "b.example"}, CN: "x"}),
		"order of names": kind(one, testpki.Leaf{DNS: []string{"b.example", "a.example"}}),
		"shorter":        kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}, NotAfter: time.Now().Add(time.Hour)}),
	} {
		if !reflect.DeepEqual(k, base) {
			t.Errorf("%s: %+v, not %+v", what, k, base)
		}
	}
	for what, k := range map[string]Kind{
		"a name more": kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example", "c.example"}}),
		"a name less": kind(one, testpki.Leaf{DNS: []string{"a.example"}}),
		"P-384":       kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}, Key: testpki.P384}),
		"RSA":         kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}, Key: testpki.RSA2048}),
		"Ed25519":     kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}, Key: testpki.Ed25519}),
		"one use":     kind(one, testpki.Leaf{DNS: []string{"a.example", "b.example"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}),
		"made":        NewMinted(nil, tls.Certificate{}, []string{"a.example", "b.example"}).Is()[0],
		"no leaf":     NewFile([]tls.Certificate{{Certificate: [][]byte{{1}}}}, nil).Is()[0],
	} {
		if reflect.DeepEqual(k, base) {
			t.Errorf("%s is no other kind", what)
		}
	}
}

// A client is shown the response that is good now; another as soon as it is set. The
// certificates that are shared do not change, and a destination is shown none.
func TestStaples(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	certs := []tls.Certificate{testpki.Must(ca.Issue(testpki.Leaf{})).TLS(), testpki.Must(ca.Issue(testpki.Leaf{})).TLS(), testpki.Must(ca.Issue(testpki.Leaf{})).TLS()}
	certs[1].OCSPStaple = []byte("fixed")
	first, third, now := &handshake.Staple{}, &handshake.Staple{}, time.Now()
	f := NewFile(certs, []*handshake.Staple{first, nil, third})
	shown := func(at time.Time) (got [3]string) {
		t.Helper()
		for i, c := range testpki.Must(f.For(t.Context(), nil, at)) {
			got[i] = string(c.OCSPStaple)
		}
		return got
	}
	for _, step := range []struct {
		set  func()
		want [3]string
	}{
		{func() {}, [3]string{"", "fixed", ""}},
		{func() { first.Set([]byte("one"), now.Add(time.Minute)) }, [3]string{"one", "fixed", ""}},
		{func() { third.Set([]byte("three"), now.Add(time.Hour)) }, [3]string{"one", "fixed", "three"}},
		{func() { first.Set([]byte("two"), now.Add(time.Minute)) }, [3]string{"two", "fixed", "three"}},
		{func() { first.Set([]byte("old"), now) }, [3]string{"", "fixed", "three"}},
	} {
		if step.set(); shown(now) != step.want {
			t.Errorf("%q, want %q", shown(now), step.want)
		}
	}
	if got := f.Certificates(); got[0].OCSPStaple != nil || got[2].OCSPStaple != nil {
		t.Error("the certificates that are shared were changed")
	}
	if f.OnDemand() {
		t.Error("files are made on demand")
	}
}

// asked is a Minter that says what it was asked for.
type asked struct{}

func (asked) For(_ context.Context, name string) (*tls.Certificate, error) {
	return nil, errors.New("for " + name)
}

func (asked) Like(_ context.Context, c *x509.Certificate) (*tls.Certificate, error) {
	return nil, errors.New("like " + c.DNSNames[0])
}

// The name asked for is that of the hello, and of one that is no name none.
func TestMinted(t *testing.T) {
	m := NewMinted(asked{}, tls.Certificate{}, []string{"*.example"})
	if !m.OnDemand() || len(m.Certificates()) != 1 {
		t.Error("not made on demand, or without a specimen")
	}
	for want, h := range map[string]*handshake.ClientHello{
		"for a.example": {SNIPresent: true, ServerName: "a.example"},
		"for ":          {SNIPresent: true, SNIInvalid: true, ServerName: "a.example"},
	} {
		if _, err := m.For(t.Context(), h, time.Time{}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := m.For(t.Context(), nil, time.Time{}); err == nil || err.Error() != "for " {
		t.Error(err)
	}
	l := m.Like(&x509.Certificate{DNSNames: []string{"b.example"}})
	if _, err := l.For(t.Context(), nil, time.Time{}); !l.OnDemand() || err == nil || err.Error() != "like b.example" {
		t.Error(err)
	}
}
