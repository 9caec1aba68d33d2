package handshake_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// atMost is the bound that the documentation states: twice the certificates
// shown, eight, and one for each root that shares its name with others.
func atMost(shown []*x509.Certificate, authorities []*handshake.Authority) int {
	names := map[string]int{}
	most := 1
	for _, a := range authorities {
		for _, r := range a.Roots {
			names[string(r.RawSubject)]++
			most = max(most, names[string(r.RawSubject)])
		}
	}
	return 2*len(shown) + 8 + most - 1
}

// A chain of certificates that all sign each other, under authorities that it
// does not lead to, and under some whose name it bears.
func TestCliqueCostsItsLength(t *testing.T) {
	m := handshaketest.NewMaker(t, 14)
	for name, signer := range map[string]func(i int) (key, by int){
		"one key":             func(int) (int, int) { return 0, 0 },
		"a ring of keys":      func(i int) (int, int) { return i, (i + 1) % 10 },
		"signed by nobody":    func(i int) (int, int) { return i, 13 },
		"two keys in turn":    func(i int) (int, int) { return i % 2, (i + 1) % 2 },
		"all by the last one": func(i int) (int, int) { return i, 9 },
	} {
		for _, ids := range []bool{false, true} {
			var shown []*x509.Certificate
			for i := range 10 {
				key, by := signer(i)
				c := handshaketest.Made{Subject: "X", Issuer: "X", Key: key, Signer: by, Leaf: i == 0}
				if ids {
					c.SKI, c.AKI = []byte{1}, []byte{1}
				}
				shown = append(shown, m.Cert(c))
			}
			strangers := func(n int, subject string) (all []*handshake.Authority) {
				for i := range n {
					root := m.Cert(handshaketest.Made{Subject: subject, Issuer: subject, Key: 10 + i, Signer: 10 + i, SKI: []byte{1}})
					all = append(all, &handshake.Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{root}})
				}
				return all
			}
			for _, n := range []int{1, 3} {
				if chain, checks := handshake.CountChecks(shown, strangers(n, "other")); chain != nil || checks != 0 {
					t.Errorf("%s, %d authorities of other names: %d signatures checked", name, n, checks)
				}
				a := strangers(n, "X")
				if chain, checks := handshake.CountChecks(shown, a); chain != nil || checks > atMost(shown, a) {
					t.Errorf("%s, %d authorities of its name: %d signatures checked, at most %d", name, n, checks, atMost(shown, a))
				}
			}
		}
	}
}

// Who holds a CA certificate of the authority chooses keys, and still not how
// many of them are used.
func TestCliqueBelowTheAuthority(t *testing.T) {
	m := handshaketest.NewMaker(t, 11)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 10, Signer: 10})
	a := []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}}, {Name: "b", Roots: []*x509.Certificate{m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 9, Signer: 9})}}}
	for name, expired := range map[string]bool{"good": false, "the one below the root has expired": true} {
		shown := []*x509.Certificate{m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "X", Key: 0, Signer: 1, Leaf: true})}
		for i := range 8 { // each signed by the next
			shown = append(shown, m.Cert(handshaketest.Made{Subject: "X", Issuer: "X", Key: 1 + i, Signer: 2 + i}))
		}
		shown = append(shown, m.Cert(handshaketest.Made{Subject: "X", Issuer: "root", Key: 9, Signer: 10, Mutate: func(c *x509.Certificate) {
			if expired {
				c.NotAfter = time.Now().Add(-time.Minute)
			}
		}}))
		_, checks := handshake.CountChecks(shown, a)
		if checks > atMost(shown, a) {
			t.Errorf("%s: %d signatures checked, at most %d", name, checks, atMost(shown, a))
		}
		slices.Reverse(shown[1:])
		if _, checks := handshake.CountChecks(shown, a); checks > atMost(shown, a) {
			t.Errorf("%s, reversed: %d signatures checked, at most %d", name, checks, atMost(shown, a))
		}
	}
}

// An ordinary chain costs one check for each link and no more, whatever else
// is trusted.
func TestOrdinaryChainCostsItsLinks(t *testing.T) {
	m := handshaketest.NewMaker(t, 8)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	authorities := []*handshake.Authority{
		{Name: "other", Roots: []*x509.Certificate{m.Cert(handshaketest.Made{Subject: "other", Issuer: "other", Key: 7, Signer: 7})}},
		{Name: "staff", Roots: []*x509.Certificate{root}},
	}
	for n := range 6 {
		var shown []*x509.Certificate
		for i := range n {
			shown = append(shown, m.Cert(handshaketest.Made{Subject: fmt.Sprint("ca", i), Issuer: fmt.Sprint("ca", i+1), Key: i + 1, Signer: i + 2}))
		}
		issuer, signer := "root", 0
		if n > 0 {
			issuer, signer = "ca0", 1
			last := m.Cert(handshaketest.Made{Subject: fmt.Sprint("ca", n-1), Issuer: "root", Key: n, Signer: 0})
			shown[n-1] = last
		}
		shown = append([]*x509.Certificate{m.Cert(handshaketest.Made{Subject: "leaf", Issuer: issuer, Key: 7, Signer: signer, Leaf: true})}, shown...)
		if chain, checks := handshake.CountChecks(shown, authorities); len(chain) != n+2 || checks != n+1 {
			t.Errorf("%d intermediates: a path of %d, %d signatures checked", n, len(chain), checks)
		}
	}
}

// What real hierarchies do: one name for several keys, several certificates for
// one key. All of these find their path.
func TestReasonablePathsAreFound(t *testing.T) {
	m := handshaketest.NewMaker(t, 10)
	old := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	renewed := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 1, Signer: 1})
	newByOld := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 1, Signer: 0})
	partner := m.Cert(handshaketest.Made{Subject: "partner", Issuer: "partner", Key: 2, Signer: 2})
	ca := func(issuer string, signer int) *x509.Certificate {
		return m.Cert(handshaketest.Made{Subject: "ca", Issuer: issuer, Key: 3, Signer: signer})
	}
	ended := m.Cert(handshaketest.Made{Subject: "ca", Issuer: "root", Key: 3, Signer: 0, Mutate: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }})
	held := m.Cert(handshaketest.Made{Subject: "ca", Issuer: "root", Key: 3, Signer: 0, Mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"held.example"} }})
	leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca", Key: 4, Signer: 3, Leaf: true})
	direct := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "root", Key: 4, Signer: 1, Leaf: true})
	one := func(roots ...*x509.Certificate) []*handshake.Authority {
		return []*handshake.Authority{{Name: "a", Roots: roots}}
	}
	two := []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{old}}, {Name: "b", Roots: []*x509.Certificate{renewed}}}
	var many []*handshake.Authority // of one name, the right one last
	for i := range 20 {
		k := 5 + i%5
		if i == 19 {
			k = 1
		}
		many = append(many, &handshake.Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: k, Signer: k})}})
	}
	for name, c := range map[string]struct {
		shown       []*x509.Certificate
		authorities []*handshake.Authority
		links       int
	}{
		"rolled over, both keys trusted":           {[]*x509.Certificate{direct}, one(old, renewed), 1},
		"rolled over, the old key trusted":         {[]*x509.Certificate{direct, newByOld}, one(old), 2},
		"rolled over, the new root shown too":      {[]*x509.Certificate{direct, renewed, newByOld}, one(old), 2},
		"two authorities of one name":              {[]*x509.Certificate{direct}, two, 1},
		"twenty authorities of one name":           {[]*x509.Certificate{direct}, many, 1},
		"a root of the same name and key, renewed": {[]*x509.Certificate{direct}, one(m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 1, Signer: 1})), 1},
		"cross-signed, the other first":            {[]*x509.Certificate{leaf, ca("partner", 2), ca("root", 0)}, one(old), 2},
		"cross-signed, both trusted":               {[]*x509.Certificate{leaf, ca("partner", 2), ca("root", 0)}, one(old, partner), 2},
		"cross-signed, by each other":              {[]*x509.Certificate{leaf, m.Cert(handshaketest.Made{Subject: "partner", Issuer: "ca", Key: 2, Signer: 3}), ca("partner", 2), ca("root", 0)}, one(old), 2},
		"one that has ended before a good one":     {[]*x509.Certificate{leaf, ended, ca("root", 0)}, one(old), 2},
		"one held to other names before a good":    {[]*x509.Certificate{leaf, held, ended, ca("root", 0)}, one(old), 2},
		"the authority's root among those shown":   {[]*x509.Certificate{leaf, old, ca("root", 0)}, one(old), 2},
		"everything twice":                         {[]*x509.Certificate{leaf, ended, ended, ca("root", 0), leaf, old, old}, one(old), 2},
		"the leaf itself is trusted":               {[]*x509.Certificate{leaf}, one(leaf), 0},
	} {
		chain, checks := handshake.CountChecks(c.shown, c.authorities)
		if chain == nil || len(chain)-1 != c.links {
			t.Errorf("%s: a path of %d links, want %d", name, len(chain)-1, c.links)
		}
		if most := atMost(c.shown, c.authorities); checks > most {
			t.Errorf("%s: %d signatures checked, at most %d", name, checks, most)
		}
	}
}

// graph draws a hostile graph: few names and keys, signatures by anybody, key
// identifiers that lie, certificates that have ended or are no CA; and an honest
// path somewhere among it.
func graph(t *rapid.T, m *handshaketest.Maker) (shown []*x509.Certificate, authorities []*handshake.Authority, honest bool) {
	names := []string{"A", "B", "C", "root"}
	name := rapid.SampledFrom(names)
	key := rapid.IntRange(0, len(m.Keys)-2) // the last one is the root's
	ids := rapid.SampledFrom([][]byte{nil, {1}, {2}})
	rootKey := len(m.Keys) - 1
	roots := []*x509.Certificate{m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: rootKey, Signer: rootKey, SKI: ids.Draw(t, "root's id")})}
	authorities = []*handshake.Authority{{Name: "right", Roots: roots}}
	for i := range rapid.IntRange(0, 2).Draw(t, "other authorities") {
		k := key.Draw(t, "their key")
		n := name.Draw(t, "their name")
		authorities = append(authorities, &handshake.Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{m.Cert(handshaketest.Made{Subject: n, Issuer: n, Key: k, Signer: k, SKI: ids.Draw(t, "their id")})}})
	}
	authorities = rapid.Permutation(authorities).Draw(t, "authorities")
	honest = rapid.Bool().Draw(t, "honest")
	var bag []*x509.Certificate
	issuer, signer := "root", rootKey
	if honest {
		for range rapid.IntRange(0, 3).Draw(t, "intermediates") {
			n, k := name.Draw(t, "name"), key.Draw(t, "key")
			bag = append(bag, m.Cert(handshaketest.Made{Subject: n, Issuer: issuer, Key: k, Signer: signer, SKI: ids.Draw(t, "ski"), AKI: ids.Draw(t, "aki")}))
			issuer, signer = n, k
		}
	} else {
		issuer, signer = name.Draw(t, "issuer"), key.Draw(t, "signer")
	}
	leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: issuer, Key: key.Draw(t, "leaf's key"), Signer: signer, Leaf: true, AKI: ids.Draw(t, "leaf's aki")})
	for range rapid.IntRange(0, 9-len(bag)).Draw(t, "junk") {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		bag = append(bag, m.Cert(handshaketest.Made{
			Subject: name.Draw(t, "subject"), Issuer: name.Draw(t, "issuer"), Key: key.Draw(t, "key"), Signer: key.Draw(t, "signer"),
			SKI: ids.Draw(t, "ski"), AKI: ids.Draw(t, "aki"), Leaf: kind == 0,
			Mutate: func(c *x509.Certificate) {
				switch kind {
				case 1:
					c.NotAfter = time.Now().Add(-time.Minute)
				case 2:
					c.MaxPathLen, c.MaxPathLenZero = 0, true
				}
			},
		}))
	}
	return append([]*x509.Certificate{leaf}, rapid.Permutation(bag).Draw(t, "order")...), authorities, honest
}

// Whatever is shown: the number of signature checks is bounded; a path that is
// returned holds link by link and for crypto/x509; an honest one is found.
func TestSearchProperties(t *testing.T) {
	m := handshaketest.NewMaker(t, 6)
	rapid.Check(t, func(t *rapid.T) {
		shown, authorities, honest := graph(t, m)
		chain, checks := handshake.CountChecks(shown, authorities)
		if most := atMost(shown, authorities); checks > most {
			t.Fatalf("%d signatures checked for %d certificates, at most %d", checks, len(shown), most)
		}
		if chain == nil {
			if honest {
				t.Fatal("an honest path is not found")
			}
			return
		}
		if !chain[0].Equal(shown[0]) || !slices.ContainsFunc(authorities, func(a *handshake.Authority) bool { return a.Trusts(chain[len(chain)-1]) }) {
			t.Fatal("not from the leaf to an authority")
		}
		roots, others := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(chain[len(chain)-1])
		for i, c := range chain[:len(chain)-1] {
			if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
				t.Fatalf("link %d does not hold: %v", i, err)
			}
			if i > 0 {
				others.AddCert(c)
			}
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Fatalf("crypto/x509 refuses the path: %v", err)
		}
	})
}

// What is larger than any real certificate's is refused before it is looked
// at, and what is shown of it is short.
func TestOversizedCertificates(t *testing.T) {
	m := handshaketest.NewMaker(t, 2)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	long := pkix.Name{CommonName: "x"}
	for i := range 500 {
		long.OrganizationalUnit = append(long.OrganizationalUnit, fmt.Sprint("unit", i))
	}
	for name, mutate := range map[string]func(*x509.Certificate){
		"a subject of many attributes": func(c *x509.Certificate) { c.Subject = long },
		"a subject of one long value":  func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: string(make([]byte, 5000))} },
		"a serial number of 2 KiB":     func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 16000) },
	} {
		leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "root", Key: 1, Signer: 0, Leaf: true, Mutate: mutate})
		_, e := handshake.Verify([]*x509.Certificate{leaf}, []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}}}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params)
		if e == nil || e.Reason != reason.BadCertificate || len(e.Detail) > 200 {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// Keys that take long to check with are not used, whoever signed them.
func TestHugeKeys(t *testing.T) {
	m := handshaketest.NewMaker(t, 2)
	root := m.Cert(handshaketest.Made{Subject: "root", Issuer: "root", Key: 0, Signer: 0})
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16383, 1), E: 65537}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, huge, m.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "ca", Key: 1, Signer: 1, Leaf: true})
	shown, a := []*x509.Certificate{leaf, ca}, []*handshake.Authority{{Name: "a", Roots: []*x509.Certificate{root}}}
	_, e := handshake.Verify(shown, a, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params)
	if e == nil || e.Reason != reason.WeakKey {
		t.Errorf("a CA's key of 16384 bits: %v", e)
	}
	if _, checks := handshake.CountChecks(shown, a); checks != 0 {
		t.Errorf("%d signatures checked", checks)
	}
}
