package handshake

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/reason"
)

// A hierarchy of which every CA was renewed, or has another certificate for another
// usage, has as many paths as the product of them. The one that can be used is found
// first, wherever the others stand; where there is none the cause is said.
func TestVersionsOfIntermediates(t *testing.T) {
	m := newMaker(t, 7)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
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
				c := made{subject: fmt.Sprint("ca", level), issuer: fmt.Sprint("ca", level-1), key: level, signer: level - 1}
				if level == 1 {
					c.issuer = "root"
				}
				if ids {
					c.ski, c.aki = []byte{byte(level)}, []byte{byte(level - 1)}
				}
				good := c
				c.mutate = change
				one, other := m.cert(c), m.cert(c)
				cas = append(cas, one, m.cert(good), other)
				bad = append(bad, one, other)
			}
			last := made{subject: "leaf", issuer: "ca5", key: 6, signer: 5, leaf: true}
			if ids {
				last.aki = []byte{5}
			}
			leaf := m.cert(last)
			for _, where := range []string{"configured", "shown", "half of each"} {
				shown, configured := []*x509.Certificate{leaf}, cas
				switch where {
				case "shown":
					shown, configured = append(shown, cas...), nil
				case "half of each":
					shown, configured = append(shown, cas[8:]...), cas[:9]
				}
				judge := func(shown, configured []*x509.Certificate) (*Peer, *Error) {
					p := serverParams(func(p *ServerParams) {
						p.Authorities, p.MaxChain = []*Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: configured}}, 20
					})
					return Verify(shown, p.Authorities, clientAuth, &p.Params)
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
			p := serverParams(func(p *ServerParams) {
				p.Authorities = []*Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: bad}}
			})
			want := map[string]reason.Code{"ended": reason.Expired, "for later": reason.NotYetValid, "of servers": reason.WrongUsage, "of code": reason.WrongUsage}[name]
			if _, e := Verify([]*x509.Certificate{leaf}, p.Authorities, clientAuth, &p.Params); (e == nil) != usable || e != nil && e.Reason != want {
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
	m := newMaker(t, n+3)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	var cas []*x509.Certificate
	for i := range n {
		cas = append(cas, m.cert(made{subject: "X", issuer: "root", key: i + 1, signer: 0}))
	}
	a := &Authority{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}
	a.Prepare()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The time of this thread's processor, of the quickest of three: what else runs does not count.
	least := func(shown []*x509.Certificate) time.Duration {
		best := time.Duration(1 << 62)
		for range 3 {
			before := threadTime(t)
			if chain, checks := CountChecks(shown, []*Authority{a}); chain != nil || checks > 2*len(shown)+8+n {
				t.Fatalf("%d signatures checked", checks)
			}
			best = min(best, threadTime(t)-before)
		}
		return best
	}
	var shown []*x509.Certificate
	for i := range 100 {
		shown = append(shown, m.cert(made{subject: "X", issuer: "X", key: n + 1, signer: n + 2, leaf: i == 0}))
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
