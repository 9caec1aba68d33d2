package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// bundle is the source of an authority whose certificates are replaced.
type bundle struct {
	now atomic.Pointer[handshake.Authority]
}

func (b *bundle) Current() *handshake.Authority { return b.now.Load() }

func (b *bundle) set(name string, cas ...*testpki.CA) {
	a := &handshake.Authority{Name: name}
	for _, ca := range cas {
		a.Roots = append(a.Roots, ca.Cert)
	}
	b.now.Store(a)
}

// withBundle makes a house whose authority is a bundle of its own CA and of another one.
func withBundle(t *testing.T, opts ...option) (*house, *bundle, *testpki.CA) {
	t.Helper()
	h, b, other := newHouse(t, mtls(), nil, opts...), &bundle{}, testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"}))
	b.set("staff", h.ca, other)
	h.staff = b
	setPolicy(h.gw, h.compile(mtls()), nil, h.gw.current.Load().limits)
	setTickets(h.gw, &Tickets{})
	return h, b, other
}

// A CA that is taken out of a bundle counts no more from the next handshake on: its clients
// are refused with their tickets too, those of the other CA make a full handshake and resume
// afterwards, and clients are told the names of now. The policy stays the same. Where the
// source gives nothing, or the certificates of another authority, nobody gets in.
func TestAuthorityIsReplacedWithoutReload(t *testing.T) {
	for _, version := range versions {
		h, b, other := withBundle(t)
		set := h.gw.current.Load().set
		id, bob := set.ID(), testpki.Must(other.Issue(testpki.Leaf{CN: "bob"})).TLS()
		alice, caches := h.alice(), [2]tls.ClientSessionCache{tls.NewLRUClientSessionCache(4), tls.NewLRUClientSessionCache(4)}
		var names [][]byte
		try := func(who int) (tls.ConnectionState, error) {
			conn, err := h.tlsClient(server4, alice, func(c *tls.Config) {
				c.ClientSessionCache, c.MinVersion, c.MaxVersion = caches[who], version, version
				c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					names = r.AcceptableCAs
					return []*tls.Certificate{alice, &bob}[who], nil
				}
			})
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer conn.Close()
			if _, err = conn.Write([]byte("x")); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			return conn.ConnectionState(), err
		}
		step := func(what string, who, cas int, in, resumed bool) {
			t.Helper()
			names = nil
			cs, err := try(who)
			if (err == nil) != in || err == nil && cs.DidResume != resumed || names != nil && len(names) != cas {
				t.Errorf("%s: client %d resumed %v, was told %d CAs: %v", what, who, cs.DidResume, len(names), err)
			}
		}
		step("both", 0, 2, true, false)
		step("both", 1, 2, true, false)
		step("both", 0, 0, true, true)
		step("both", 1, 0, true, true)
		trust := set.Trust()
		if set.Trust() != trust {
			t.Error("another Trust of the same certificates")
		}
		b.set("staff", other)
		step("one", 0, 1, false, false)
		step("one", 1, 1, true, false)
		step("one", 1, 0, true, true)
		if set.Trust() == trust || set.ID() != id || h.gw.current.Load().set != set {
			t.Error("no other Trust, or another policy")
		}
		b.set("partner", other)
		step("another authority's", 1, 0, false, false)
		b.now.Store(nil)
		step("none", 1, 0, false, false)
		b.set("staff", other, h.ca)
		step("both again", 0, 2, true, false)
	}
}

// A flow that was verified by a CA that is gone before it is let through is refused.
func TestAuthorityIsReplacedOnTheWay(t *testing.T) {
	for _, when := range []string{"asked", "dialled"} {
		for gone, want := range map[bool]string{true: string(reason.UnknownCA), false: "verified"} {
			reached, goOn := make(chan struct{}), make(chan struct{})
			pause := sync.OnceFunc(func() { close(reached); <-goOn })
			h, b, other := withBundle(t, func(c *Config) {
				dial := c.Dial
				c.Dial = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
					if when == "dialled" {
						pause()
					}
					return dial(ctx, dst)
				}
			})
			alice, result := h.alice(), make(chan error, 1)
			go func() {
				result <- h.tryWith(alice, func(c *tls.Config) {
					c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if when == "asked" {
							pause()
						}
						return alice, nil
					}
				})
			}()
			<-reached
			if gone {
				b.set("staff", other)
			} else {
				b.set("staff", h.ca)
			}
			close(goOn)
			err := <-result
			if r := h.record(1); r.str("reason") != want || (err == nil) == gone {
				t.Errorf("%s, gone %v: %v, record %v", when, gone, err, r)
			}
		}
	}
}
