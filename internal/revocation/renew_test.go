package revocation

import (
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// swapped is an authority whose certificates change.
type swapped struct {
	atomic.Pointer[handshake.Authority]
}

func (s *swapped) Current() *handshake.Authority { return s.Load() }

// An authority that gets a CA while the checker runs, without a reload: the lists of that CA
// are taken, from a file and from a URL, and those of the others stay.
func TestCAsThatChange(t *testing.T) {
	w := newWorld(t)
	root := file(t, t.TempDir(), "root.crl", w.crl(t, w.root, crl{number: 1, revoked: []*x509.Certificate{w.direct.Cert}}))
	list := w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}})
	for name, place := range map[string]string{
		"a file": file(t, t.TempDir(), "inter.crl", list), "a URL": publish(t, list).URL,
	} {
		t.Run(name, func(t *testing.T) {
			cas := &swapped{}
			cas.Store(&handshake.Authority{Name: "staff", Roots: w.cas()[:1]})
			a := w.authority(Hard, root, place)
			a.Intermediates, a.CAs = nil, cas
			k := checker(t, Options{Poll: 2 * time.Millisecond, pace: time.Millisecond}, a)
			k.Prime(t.Context())
			running(t, k)
			if s := k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status; s != Unknown {
				t.Fatalf("%s before its CA is known", s)
			}
			before := k.DigestOf([]string{"staff"})
			cas.Store(&handshake.Authority{Name: "staff", Roots: w.cas()[:1], Intermediates: w.cas()[1:]})
			testenv.Eventually(t, "the list of the new CA is taken", func() bool {
				return k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status == Revoked
			})
			if s := k.Check(t.Context(), peerOf(w.direct, w.root), w.now).Status; s != Revoked {
				t.Errorf("the list of the root is lost: %s", s)
			}
			if k.DigestOf([]string{"staff"}) == before {
				t.Error("the digest stays")
			}
			cas.Store(&handshake.Authority{Name: "staff", Roots: w.cas()[:1]})
			testenv.Eventually(t, "the list of a CA that is gone counts no more", func() bool {
				return k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status == Unknown
			})
		})
	}
}
