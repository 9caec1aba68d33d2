package handshake_test

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// A hierarchy of which every CA was renewed, or has another certificate for another
// usage, has as many paths as the product of them. The one that can be used is found
// first, wherever the others stand; where there is none the cause is said.
func TestVersionsOfIntermediates(t *testing.T) {
	m := handshaketest.NewMaker(t, 7)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	kinds := map[string]func(*x509.Certificate){
		"ended":         func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"for later":     func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"of servers":    func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"of code":       func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} },
		"of any usage":  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"without usage": func(c *x509.Certificate) { c.ExtKeyUsage = nil },
	}
	for name, change := range kinds {
		usable := name == "of any usage" || name == "without usage"
		for _, ids := range []bool{false, true} {
			var cas, bad []*x509.Certificate
			for level := 1; level <= 5; level++ {
				c := handshaketest.Made{Subject: fmt.Sprint("ca", level), Issuer: fmt.Sprint("ca", level-1), Key: level, Signer: level - 1}
				if level == 1 {
					c.Issuer = "root"
				}
				if ids {
					c.SKI, c.AKI = []byte{byte(level)}, []byte{byte(level - 1)}
				}
				good := c
				c.Mutate = change
				one, other := m.Cert(c), m.Cert(c)
				cas = append(cas, one, m.Cert(good), other)
				bad = append(bad, one, other)
			}
			last := handshaketest.Made{Subject: "leaf", Issuer: "ca5", Key: 6, Signer: 5, Leaf: true}
			if ids {
				last.AKI = []byte{5}
			}
			leaf := m.Cert(last)
			for _, where := range []string{"configured", "shown", "half of each"} {
				shown, configured := []*x509.Certificate{leaf}, cas
				switch where {
				case "shown":
					shown, configured = append(shown, cas...), nil
				case "half of each":
					shown, configured = append(shown, cas[8:]...), cas[:9]
				}
				judge := func(shown, configured []*x509.Certificate) (*handshake.Peer, *handshake.Error) {
					p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
						p.Authorities, p.MaxChain = []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: configured}}, 20
					})
					return handshake.Verify(shown, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params)
				}
				if peer, e := judge(shown, configured); e != nil || len(peer.Chain) != 7 {
					t.Errorf("%s, %s, identifiers %v: %v", name, where, ids, e)
				}
				slices.Reverse(configured)
				if peer, e := judge(shown, configured); e != nil || len(peer.Chain) != 7 {
					t.Errorf("%s, %s, reversed, identifiers %v: %v", name, where, ids, e)
				}
				slices.Reverse(configured)
			}
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
				p.Authorities = []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: bad}}
			})
			want := map[string]reason.Code{"ended": reason.Expired, "for later": reason.NotYetValid, "of servers": reason.WrongUsage, "of code": reason.WrongUsage}[name]
			if _, e := handshake.Verify([]*x509.Certificate{leaf}, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); (e == nil) != usable || e != nil && e.Reason != want {
				t.Errorf("%s alone: %v, want %s", name, e, want)
			}
		}
	}
}

// Many CAs of one name cost a stranger's chain what their signatures cost, however
// many certificates of that name it has: what is between is looked up, not gone
// through again for each signature.
func TestManyOfOneNameCostTheirSignatures(t *testing.T) {
	const n = 500
	m := handshaketest.NewMaker(t, n+3)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	var cas []*x509.Certificate
	for i := range n {
		cas = append(cas, m.Cert(handshaketest.Made{Subject: "X", Issuer: "root", Key: i + 1, Signer: 0}))
	}
	a := &handshake.Authority{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}
	a.Prepare()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The time of this thread's processor, of the quickest of three: what else runs does not count.
	least := func(shown []*x509.Certificate) time.Duration {
		best := time.Duration(1 << 62)
		for range 3 {
			before := threadTime(t)
			if chain, checks := handshake.CountChecks(shown, []*handshake.Authority{a}); chain != nil || checks > 2*len(shown)+8+n {
				t.Fatalf("%d signatures checked", checks)
			}
			best = min(best, threadTime(t)-before)
		}
		return best
	}
	var shown []*x509.Certificate
	for i := range 100 {
		shown = append(shown, m.Cert(handshaketest.Made{Subject: "X", Issuer: "X", Key: n + 1, Signer: n + 2, Leaf: i == 0}))
	}
	one, all := least(shown[:1]), least(shown)
	if all > 8*one { // measured: 1.1, and 31 where each signature measured all anew
		t.Errorf("one certificate costs %s, a hundred %s", one, all)
	}
}

func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
