package identity

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// An SVID is what its SPIFFE ID and its key say: DNS names come and go. One that is not there yet,
// or was taken back, is shown to nobody, to destinations neither, which are shown Certificates.
func TestBySPIFFE(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	svid := func(l testpki.Leaf) []tls.Certificate {
		l.CN = "-"
		return []tls.Certificate{testpki.Must(ca.Issue(l)).TLS()}
	}
	id := []string{"spiffe://example.org/gateway"}
	specimen := svid(testpki.Leaf{URIs: id})
	specimen[0].PrivateKey = NoKey{specimen[0].Leaf.PublicKey}
	f := NewAwaited(specimen).BySPIFFE()
	nothing := func(when string) {
		t.Helper()
		_, toClient := f.For(t.Context(), nil, time.Now())
		_, toDestination := Good(f.Certificates(), time.Now())
		for _, err := range []error{toClient, toDestination} {
			var e *handshake.Error
			if !errors.As(err, &e) || e.Reason != reason.IdentityEnded {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	nothing("before the first")
	for _, l := range []testpki.Leaf{{URIs: id}, {URIs: id, DNS: []string{"gateway.example"}}} {
		if err := f.Replace(svid(l), nil); err != nil || f.Awaited() {
			t.Errorf("%v: %v", l.DNS, err)
		}
		if _, err := Good(f.Certificates(), time.Now()); err != nil {
			t.Error(err)
		}
	}
	for what, l := range map[string]testpki.Leaf{
		"another ID": {URIs: []string{"spiffe://example.org/other"}}, "another key": {URIs: id, Key: testpki.P384}, "no ID": {DNS: []string{"gateway.example"}},
	} {
		if err := f.Replace(svid(l), nil); !errors.Is(err, ErrOtherKind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.Await(specimen)
	nothing("taken back")
}
