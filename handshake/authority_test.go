package handshake_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// What is configured completes what a peer does not show; the root anchors it all
// the same, and all that is demanded of a path is demanded of this one.
func TestIntermediatesCompletePaths(t *testing.T) {
	m := handshaketest.NewMaker(t, 8)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	stranger := m.Cert(handshaketest.Made{Subject: "stranger", Issuer: "stranger", Key: 7, Signer: 7})
	ended := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	ca1 := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0})
	ca1ended := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0, Mutate: ended})
	ca2 := m.Cert(handshaketest.Made{Subject: "ca2", Issuer: "ca1", Key: 2, Signer: 1})
	short := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0, Mutate: func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }})
	noSigner := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0, Mutate: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }})
	held := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0, Mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"held.example"} }})
	other := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 3, Signer: 0}) // its key rolled over
	unled := m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "stranger", Key: 1, Signer: 7})
	by1 := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca1", Key: 4, Signer: 1, Leaf: true})
	by2 := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca2", Key: 4, Signer: 2, Leaf: true})
	forged := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca1", Key: 4, Signer: 6, Leaf: true})
	with := func(cas ...*x509.Certificate) []*handshake.Authority {
		return []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}}
	}
	all := func(cas ...*x509.Certificate) []*x509.Certificate { return cas }
	for name, c := range map[string]struct {
		shown, configured []*x509.Certificate
		path              []*x509.Certificate // nil: refused
		code              reason.Code
	}{
		"the leaf alone":                        {all(by1), all(ca1), all(by1, ca1, root), ""},
		"two are missing":                       {all(by2), all(ca2, ca1), all(by2, ca2, ca1, root), ""},
		"one shown, the one above missing":      {all(by2, ca2), all(ca1), all(by2, ca2, ca1, root), ""},
		"one above shown, the one below not":    {all(by2, ca1), all(ca1, ca2), all(by2, ca2, ca1, root), ""},
		"shown and configured":                  {all(by1, ca1), all(ca1), all(by1, ca1, root), ""},
		"the right one of two of its name":      {all(by1), all(other, ca1), all(by1, ca1, root), ""},
		"one that has ended beside a good one":  {all(by1), all(ca1ended, ca1), all(by1, ca1, root), ""},
		"a good one shown, an ended configured": {all(by1, ca1), all(ca1ended), all(by1, ca1, root), ""},
		"the root among them":                   {all(by1), all(root, ca1, ca1), all(by1, ca1, root), ""},
		"none configured":                       {all(by1), nil, nil, reason.UnknownCA},
		"not the one that is missing":           {all(by2), all(ca1), nil, reason.UnknownCA},
		"one that leads to no root":             {all(by1), all(unled), nil, reason.UnknownCA},
		"one that only what is shown leads to":  {all(by2, ca1), all(m.Cert(handshaketest.Made{Subject: "ca2", Issuer: "x", Key: 2, Signer: 7})), nil, reason.UnknownCA},
		"it has ended":                          {all(by1), all(ca1ended), nil, reason.Expired},
		"it may not sign certificates":          {all(by1), all(noSigner), nil, reason.NotACA},
		"its path length":                       {all(by2, ca2), all(short), nil, reason.NotACA},
		"its name constraints":                  {all(by1), all(held), nil, reason.NameConstraint},
		"a leaf that it has not signed":         {all(forged), all(ca1), nil, reason.UnknownCA},
		"of another authority's root":           {all(by1), all(stranger), nil, reason.UnknownCA},
	} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Authorities = with(c.configured...) })
			shown := c.shown
			if usage != x509.ExtKeyUsageClientAuth { // the same for a destination, whose certificates may be used for it
				if name != "the leaf alone" && name != "it has ended" {
					continue
				}
				shown = all(m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca1", Key: 4, Signer: 1, Leaf: true, Mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }}))
				if c.configured = all(m.Cert(handshaketest.Made{Subject: "ca1", Issuer: "root", Key: 1, Signer: 0, Mutate: func(x *x509.Certificate) {
					x.ExtKeyUsage = nil
					if c.path == nil {
						ended(x)
					}
				}})); c.path != nil {
					c.path = all(shown[0], c.configured[0], root)
				} else {
					c.code = reason.UpstreamExpired
				}
				open := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0, Mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }})
				p.Authorities = []*handshake.Authority{{Name: "a", Roots: all(open), Intermediates: c.configured}}
				if c.path != nil {
					c.path[2] = open
				}
			}
			peer, e := handshake.Verify(shown, p.Authorities, usage, &p.Params)
			switch {
			case c.path == nil && (e == nil || e.Reason != c.code):
				t.Errorf("%s: %v, want %s", name, e, c.code)
			case c.path != nil && e != nil:
				t.Errorf("%s: %v", name, e)
			case c.path != nil && !slices.EqualFunc(peer.Chain, c.path, (*x509.Certificate).Equal):
				t.Errorf("%s: a path of %d certificates", name, len(peer.Chain))
			}
			if e == nil && len(peer.Shown) != len(shown) {
				t.Errorf("%s: %d shown", name, len(peer.Shown))
			}
		}
	}
}

// An authority with many CAs below roots of one name, whose keys were rolled over: key
// identifiers say which root has signed which, so the bound of what is checked once
// leaves none of them out.
func TestIntermediatesOfRolledRoots(t *testing.T) {
	const roots, each = 8, 125
	m := handshaketest.NewMaker(t, roots+2)
	var anchors, cas []*x509.Certificate
	for r := range roots {
		anchors = append(anchors, m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: r, Signer: r, SKI: []byte{byte(r + 1)}}))
	}
	for r := range roots {
		for i := range each {
			cas = append(cas, m.Cert(handshaketest.Made{Subject: fmt.Sprint("ca", r, ".", i), Issuer: "root", Key: roots, Signer: r, AKI: []byte{byte(r + 1)}}))
		}
	}
	a := &handshake.Authority{Name: "a", Roots: anchors, Intermediates: cas}
	if none := a.Unled(); len(none) != 0 {
		t.Errorf("%d of %d are taken for CAs that lead to no root", len(none), len(cas))
	}
	leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: fmt.Sprint("ca", roots-1, ".", each-1), Key: roots + 1, Signer: roots, Leaf: true})
	if chain, checks := handshake.CountChecks([]*x509.Certificate{leaf}, []*handshake.Authority{a}); len(chain) != 3 || checks != 1 {
		t.Errorf("a path of %d, %d signatures checked", len(chain), checks)
	}
}

// However many are configured, and whatever a stranger shows, he causes no more
// checks than the documented bound, which knows what is shown and the most of one
// name; links between what is configured cost nothing.
func TestIntermediatesCostStrangersNothing(t *testing.T) {
	m := handshaketest.NewMaker(t, 12)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	var cas []*x509.Certificate
	for i := range 8 { // all sign each other, and the root the first
		issuer, signer := "X", (i+7)%8+1
		if i == 0 {
			issuer, signer = "root", 0
		}
		cas = append(cas, m.Cert(handshaketest.Made{Subject: "X", Issuer: issuer, Key: i + 1, Signer: signer}))
	}
	for i := range 60 {
		cas = append(cas, m.Cert(handshaketest.Made{Subject: fmt.Sprint("ca", i), Issuer: "root", Key: 9, Signer: 0}))
	}
	a := []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}}
	for name, of := range map[string]func(i int) (subject, issuer string){
		"all of the clique's name":     func(int) (string, string) { return "X", "X" },
		"each below another of ours":   func(i int) (string, string) { return fmt.Sprint("y", i), fmt.Sprint("ca", i) },
		"a chain that ends with ours":  func(i int) (string, string) { return fmt.Sprint("z", i), fmt.Sprint("z", i+1) },
		"in turn of ours and the root": func(i int) (string, string) { return "X", []string{"root", "ca1", "X"}[i%3] },
	} {
		var shown []*x509.Certificate
		for i := range 10 {
			subject, issuer := of(i)
			if i == 9 && name == "a chain that ends with ours" {
				issuer = "X"
			}
			shown = append(shown, m.Cert(handshaketest.Made{Subject: subject, Issuer: issuer, Key: 10, Signer: 11, Leaf: i == 0}))
		}
		chain, checks := handshake.CountChecks(shown, a)
		if most := 2*len(shown) + 8 + 8 - 1; chain != nil || checks > most {
			t.Errorf("%s: %d signatures checked, at most %d", name, checks, most)
		}
	}
	for i, ca := range cas[:8] { // honest ones pay for the leaf, and for what else has its issuer's name
		leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "X", Key: 10, Signer: i + 1, Leaf: true})
		chain, checks := handshake.CountChecks([]*x509.Certificate{leaf}, a)
		if chain == nil || !chain[1].Equal(ca) || checks > 8 {
			t.Errorf("%d: a path of %d, %d signatures checked", i, len(chain), checks)
		}
	}
	leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca7", Key: 10, Signer: 9, Leaf: true})
	if chain, checks := handshake.CountChecks([]*x509.Certificate{leaf}, a); len(chain) != 3 || checks != 1 {
		t.Errorf("a path of %d, %d signatures checked, want one", len(chain), checks)
	}
}
