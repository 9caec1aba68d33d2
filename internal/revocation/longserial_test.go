package revocation

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// numbered is a client's certificate of the root with this serial number.
func (w *world) numbered(t *testing.T, n *big.Int) *testpki.Cert {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: n, Subject: pkix.Name{CommonName: "numbered"}, NotBefore: w.now.Add(-time.Hour), NotAfter: w.now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, w.root.Cert, w.direct.Cert.PublicKey, w.root.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testpki.Cert{Cert: cert, Key: w.direct.Key, Chain: []*x509.Certificate{cert}}
}

// Serial numbers of every length that crypto/x509 reads are found in a list,
// also those longer than RFC 5280 permits; their neighbours are not.
func TestSerialsOfEveryLength(t *testing.T) {
	w := newWorld(t)
	for _, bits := range []uint{7, 8, 64, 159, 160, 161, 168, 200, 800, 4000} {
		n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(3))
		revoked, next := w.numbered(t, n), w.numbered(t, new(big.Int).Add(n, big.NewInt(1)))
		short := w.numbered(t, new(big.Int).Mod(n, new(big.Int).Lsh(big.NewInt(1), min(bits, 160)-1)))
		path := file(t, t.TempDir(), "x.crl", w.crl(t, w.root, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert, revoked.Cert}}))
		k := checker(t, Options{}, w.authority(Soft, path))
		status := func(c *testpki.Cert) Status { return k.Check(t.Context(), peerOf(c, w.root), w.now).Status }
		if a, b, c := status(revoked), status(next), status(short); a != Revoked || b != Good || c != Good {
			t.Errorf("%d bits: revoked is %s, the next one %s, its tail %s", bits, a, b, c)
		}
		if _, gone := k.KnownRevoked(peerOf(revoked, w.root), w.now); !gone {
			t.Errorf("%d bits: a live flow goes on", bits)
		}
	}
}

// Two shards are told apart whatever their URIs hold.
func TestScopesAreApart(t *testing.T) {
	a, b := scope{uris: []string{"http://a/ http://b/"}}, scope{uris: []string{"http://a/", "http://b/"}}
	if a.key() == b.key() {
		t.Error("one takes the place of the other")
	}
}
