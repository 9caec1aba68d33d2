package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// maker makes certificates of any graph.
type maker struct {
	t      testing.TB
	keys   []crypto.Signer
	serial int64
}

func newMaker(t testing.TB, keys int) *maker {
	m := &maker{t: t}
	for range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		m.keys = append(m.keys, k)
	}
	return m
}

// made is one certificate to make.
type made struct {
	subject, issuer string
	key, signer     int  // of maker.keys
	leaf            bool // else a CA
	ski, aki        []byte
	mutate          func(*x509.Certificate)
}

func (m *maker) cert(c made) *x509.Certificate {
	m.serial++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: c.subject},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: !c.leaf, BasicConstraintsValid: true, SubjectKeyId: c.ski,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		// Other names: crypto/x509 takes those of one name and key for others.
		DNSNames: []string{fmt.Sprintf("a%d.test", m.serial)},
	}
	if c.leaf {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	} else if c.ski == nil {
		tmpl.SubjectKeyId = []byte{} // else CreateCertificate makes one
	}
	if c.mutate != nil {
		c.mutate(tmpl)
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: c.issuer}, SubjectKeyId: c.aki}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, m.keys[c.key].Public(), m.keys[c.signer])
	if err != nil {
		m.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return parsed
}

// atMost is the bound that the documentation states: twice the certificates
// shown, eight, and one for each root that shares its name with others.
func atMost(shown []*x509.Certificate, authorities []*Authority) int {
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
	m := newMaker(t, 14)
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
				c := made{subject: "X", issuer: "X", key: key, signer: by, leaf: i == 0}
				if ids {
					c.ski, c.aki = []byte{1}, []byte{1}
				}
				shown = append(shown, m.cert(c))
			}
			strangers := func(n int, subject string) (all []*Authority) {
				for i := range n {
					root := m.cert(made{subject: subject, issuer: subject, key: 10 + i, signer: 10 + i, ski: []byte{1}})
					all = append(all, &Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{root}})
				}
				return all
			}
			for _, n := range []int{1, 3} {
				if chain, checks := CountChecks(shown, strangers(n, "other")); chain != nil || checks != 0 {
					t.Errorf("%s, %d authorities of other names: %d signatures checked", name, n, checks)
				}
				a := strangers(n, "X")
				if chain, checks := CountChecks(shown, a); chain != nil || checks > atMost(shown, a) {
					t.Errorf("%s, %d authorities of its name: %d signatures checked, at most %d", name, n, checks, atMost(shown, a))
				}
			}
		}
	}
}

// Who holds a CA certificate of the authority chooses keys, and still not how
// many of them are used.
func TestCliqueBelowTheAuthority(t *testing.T) {
	m := newMaker(t, 11)
	root := m.cert(made{subject: "root", issuer: "root", key: 10, signer: 10})
	a := []*Authority{{Name: "a", Roots: []*x509.Certificate{root}}, {Name: "b", Roots: []*x509.Certificate{m.cert(made{subject: "root", issuer: "root", key: 9, signer: 9})}}}
	for name, expired := range map[string]bool{"good": false, "the one below the root has expired": true} {
		shown := []*x509.Certificate{m.cert(made{subject: "leaf", issuer: "X", key: 0, signer: 1, leaf: true})}
		for i := range 8 { // each signed by the next
			shown = append(shown, m.cert(made{subject: "X", issuer: "X", key: 1 + i, signer: 2 + i}))
		}
		shown = append(shown, m.cert(made{subject: "X", issuer: "root", key: 9, signer: 10, mutate: func(c *x509.Certificate) {
			if expired {
				c.NotAfter = time.Now().Add(-time.Minute)
			}
		}}))
		_, checks := CountChecks(shown, a)
		if checks > atMost(shown, a) {
			t.Errorf("%s: %d signatures checked, at most %d", name, checks, atMost(shown, a))
		}
		slices.Reverse(shown[1:])
		if _, checks := CountChecks(shown, a); checks > atMost(shown, a) {
			t.Errorf("%s, reversed: %d signatures checked, at most %d", name, checks, atMost(shown, a))
		}
	}
}

// An ordinary chain costs one check for each link and no more, whatever else
// is trusted.
func TestOrdinaryChainCostsItsLinks(t *testing.T) {
	m := newMaker(t, 8)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	authorities := []*Authority{
		{Name: "other", Roots: []*x509.Certificate{m.cert(made{subject: "other", issuer: "other", key: 7, signer: 7})}},
		{Name: "staff", Roots: []*x509.Certificate{root}},
	}
	for n := range 6 {
		var shown []*x509.Certificate
		for i := range n {
			shown = append(shown, m.cert(made{subject: fmt.Sprint("ca", i), issuer: fmt.Sprint("ca", i+1), key: i + 1, signer: i + 2}))
		}
		issuer, signer := "root", 0
		if n > 0 {
			issuer, signer = "ca0", 1
			last := m.cert(made{subject: fmt.Sprint("ca", n-1), issuer: "root", key: n, signer: 0})
			shown[n-1] = last
		}
		shown = append([]*x509.Certificate{m.cert(made{subject: "leaf", issuer: issuer, key: 7, signer: signer, leaf: true})}, shown...)
		if chain, checks := CountChecks(shown, authorities); len(chain) != n+2 || checks != n+1 {
			t.Errorf("%d intermediates: a path of %d, %d signatures checked", n, len(chain), checks)
		}
	}
}

// What real hierarchies do: one name for several keys, several certificates for
// one key. All of these find their path.
func TestReasonablePathsAreFound(t *testing.T) {
	m := newMaker(t, 10)
	old := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	renewed := m.cert(made{subject: "root", issuer: "root", key: 1, signer: 1})
	newByOld := m.cert(made{subject: "root", issuer: "root", key: 1, signer: 0})
	partner := m.cert(made{subject: "partner", issuer: "partner", key: 2, signer: 2})
	ca := func(issuer string, signer int) *x509.Certificate {
		return m.cert(made{subject: "ca", issuer: issuer, key: 3, signer: signer})
	}
	ended := m.cert(made{subject: "ca", issuer: "root", key: 3, signer: 0, mutate: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }})
	held := m.cert(made{subject: "ca", issuer: "root", key: 3, signer: 0, mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"held.example"} }})
	leaf := m.cert(made{subject: "leaf", issuer: "ca", key: 4, signer: 3, leaf: true})
	direct := m.cert(made{subject: "leaf", issuer: "root", key: 4, signer: 1, leaf: true})
	one := func(roots ...*x509.Certificate) []*Authority { return []*Authority{{Name: "a", Roots: roots}} }
	two := []*Authority{{Name: "a", Roots: []*x509.Certificate{old}}, {Name: "b", Roots: []*x509.Certificate{renewed}}}
	var many []*Authority // of one name, the right one last
	for i := range 20 {
		k := 5 + i%5
		if i == 19 {
			k = 1
		}
		many = append(many, &Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{m.cert(made{subject: "root", issuer: "root", key: k, signer: k})}})
	}
	for name, c := range map[string]struct {
		shown       []*x509.Certificate
		authorities []*Authority
		links       int
	}{
		"rolled over, both keys trusted":           {[]*x509.Certificate{direct}, one(old, renewed), 1},
		"rolled over, the old key trusted":         {[]*x509.Certificate{direct, newByOld}, one(old), 2},
		"rolled over, the new root shown too":      {[]*x509.Certificate{direct, renewed, newByOld}, one(old), 2},
		"two authorities of one name":              {[]*x509.Certificate{direct}, two, 1},
		"twenty authorities of one name":           {[]*x509.Certificate{direct}, many, 1},
		"a root of the same name and key, renewed": {[]*x509.Certificate{direct}, one(m.cert(made{subject: "root", issuer: "root", key: 1, signer: 1})), 1},
		"cross-signed, the other first":            {[]*x509.Certificate{leaf, ca("partner", 2), ca("root", 0)}, one(old), 2},
		"cross-signed, both trusted":               {[]*x509.Certificate{leaf, ca("partner", 2), ca("root", 0)}, one(old, partner), 2},
		"cross-signed, by each other":              {[]*x509.Certificate{leaf, m.cert(made{subject: "partner", issuer: "ca", key: 2, signer: 3}), ca("partner", 2), ca("root", 0)}, one(old), 2},
		"one that has ended before a good one":     {[]*x509.Certificate{leaf, ended, ca("root", 0)}, one(old), 2},
		"one held to other names before a good":    {[]*x509.Certificate{leaf, held, ended, ca("root", 0)}, one(old), 2},
		"the authority's root among those shown":   {[]*x509.Certificate{leaf, old, ca("root", 0)}, one(old), 2},
		"everything twice":                         {[]*x509.Certificate{leaf, ended, ended, ca("root", 0), leaf, old, old}, one(old), 2},
		"the leaf itself is trusted":               {[]*x509.Certificate{leaf}, one(leaf), 0},
	} {
		chain, checks := CountChecks(c.shown, c.authorities)
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
func graph(t *rapid.T, m *maker) (shown []*x509.Certificate, authorities []*Authority, honest bool) {
	names := []string{"A", "B", "C", "root"}
	name := rapid.SampledFrom(names)
	key := rapid.IntRange(0, len(m.keys)-2) // the last one is the root's
	ids := rapid.SampledFrom([][]byte{nil, {1}, {2}})
	rootKey := len(m.keys) - 1
	roots := []*x509.Certificate{m.cert(made{subject: "root", issuer: "root", key: rootKey, signer: rootKey, ski: ids.Draw(t, "root's id")})}
	authorities = []*Authority{{Name: "right", Roots: roots}}
	for i := range rapid.IntRange(0, 2).Draw(t, "other authorities") {
		k := key.Draw(t, "their key")
		n := name.Draw(t, "their name")
		authorities = append(authorities, &Authority{Name: fmt.Sprint(i), Roots: []*x509.Certificate{m.cert(made{subject: n, issuer: n, key: k, signer: k, ski: ids.Draw(t, "their id")})}})
	}
	authorities = rapid.Permutation(authorities).Draw(t, "authorities")
	honest = rapid.Bool().Draw(t, "honest")
	var bag []*x509.Certificate
	issuer, signer := "root", rootKey
	if honest {
		for range rapid.IntRange(0, 3).Draw(t, "intermediates") {
			n, k := name.Draw(t, "name"), key.Draw(t, "key")
			bag = append(bag, m.cert(made{subject: n, issuer: issuer, key: k, signer: signer, ski: ids.Draw(t, "ski"), aki: ids.Draw(t, "aki")}))
			issuer, signer = n, k
		}
	} else {
		issuer, signer = name.Draw(t, "issuer"), key.Draw(t, "signer")
	}
	leaf := m.cert(made{subject: "leaf", issuer: issuer, key: key.Draw(t, "leaf's key"), signer: signer, leaf: true, aki: ids.Draw(t, "leaf's aki")})
	for range rapid.IntRange(0, 9-len(bag)).Draw(t, "junk") {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		bag = append(bag, m.cert(made{
			subject: name.Draw(t, "subject"), issuer: name.Draw(t, "issuer"), key: key.Draw(t, "key"), signer: key.Draw(t, "signer"),
			ski: ids.Draw(t, "ski"), aki: ids.Draw(t, "aki"), leaf: kind == 0,
			mutate: func(c *x509.Certificate) {
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
	m := newMaker(t, 6)
	rapid.Check(t, func(t *rapid.T) {
		shown, authorities, honest := graph(t, m)
		chain, checks := CountChecks(shown, authorities)
		if most := atMost(shown, authorities); checks > most {
			t.Fatalf("%d signatures checked for %d certificates, at most %d", checks, len(shown), most)
		}
		if chain == nil {
			if honest {
				t.Fatal("an honest path is not found")
			}
			return
		}
		if !chain[0].Equal(shown[0]) || !slices.ContainsFunc(authorities, func(a *Authority) bool { return a.Trusts(chain[len(chain)-1]) }) {
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
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{clientAuth}}); err != nil {
			t.Fatalf("crypto/x509 refuses the path: %v", err)
		}
	})
}

// The seal holds, and for its own text only.
func TestSeal(t *testing.T) {
	key, signature := seal()
	c := &x509.Certificate{PublicKeyAlgorithm: x509.RSA, PublicKey: key}
	if err := c.CheckSignature(x509.SHA256WithRSA, []byte(sealed), signature); err != nil || key.N.BitLen() != 2048 {
		t.Errorf("%d bits: %v", key.N.BitLen(), err)
	}
	if c.CheckSignature(x509.SHA256WithRSA, []byte(sealed+"."), signature) == nil {
		t.Error("it signs anything")
	}
}

// What is larger than any real certificate's is refused before it is looked
// at, and what is shown of it is short.
func TestOversizedCertificates(t *testing.T) {
	m := newMaker(t, 2)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	long := pkix.Name{CommonName: "x"}
	for i := range 500 {
		long.OrganizationalUnit = append(long.OrganizationalUnit, fmt.Sprint("unit", i))
	}
	for name, mutate := range map[string]func(*x509.Certificate){
		"a subject of many attributes": func(c *x509.Certificate) { c.Subject = long },
		"a subject of one long value":  func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: string(make([]byte, 5000))} },
		"a serial number of 2 KiB":     func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 16000) },
	} {
		leaf := m.cert(made{subject: "leaf", issuer: "root", key: 1, signer: 0, leaf: true, mutate: mutate})
		_, e := Verify([]*x509.Certificate{leaf}, []*Authority{{Name: "a", Roots: []*x509.Certificate{root}}}, clientAuth, &serverParams().Params)
		if e == nil || e.Reason != reason.BadCertificate || len(e.Detail) > 200 {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// Keys that take long to check with are not used, whoever signed them.
func TestHugeKeys(t *testing.T) {
	m := newMaker(t, 2)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16383, 1), E: 65537}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, huge, m.keys[0])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf := m.cert(made{subject: "leaf", issuer: "ca", key: 1, signer: 1, leaf: true})
	shown, a := []*x509.Certificate{leaf, ca}, []*Authority{{Name: "a", Roots: []*x509.Certificate{root}}}
	_, e := Verify(shown, a, clientAuth, &serverParams().Params)
	if e == nil || e.Reason != reason.WeakKey {
		t.Errorf("a CA's key of 16384 bits: %v", e)
	}
	if _, checks := CountChecks(shown, a); checks != 0 {
		t.Errorf("%d signatures checked", checks)
	}
}

// A Certificate message that is larger than the chain may be is not decoded.
func TestCertificateMessageIsBounded(t *testing.T) {
	m := newMaker(t, 2)
	for _, names := range []int{6000, 12000} {
		leaf := m.cert(made{subject: "leaf", issuer: "root", key: 1, signer: 0, leaf: true, mutate: func(c *x509.Certificate) {
			c.DNSNames = nil
			for i := range names {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("name%d.example", i))
			}
		}})
		client := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: m.keys[1]}
		for _, version := range bothVersions {
			o, _, _ := withGo(t, serverParams(), clientConfig(version, client))
			if o.err == nil || o.err.Reason != reason.ChainTooLong || o.err.Step != StepClientVerified || o.l.AlertSent() != AlertBadCertificate {
				t.Errorf("%d bytes, %s: %v, alert %s", len(leaf.Raw), VersionName(version), o.err, o.l.AlertSent())
			}
			if o.l.Spent() <= 0 || o.l.Spent() > 2*work.Ordinary {
				t.Errorf("%d bytes, %s: %d units charged, an ordinary handshake has %d", len(leaf.Raw), VersionName(version), o.l.Spent(), work.Ordinary)
			}
		}
	}
}

// What a handshake has cost is counted: the dearer the client's key and chain,
// the more, a refused one too; what is resumed or remembered costs less.
func TestWorkIsCounted(t *testing.T) {
	f := fixtures()
	spent := func(p *ServerParams, client tls.Certificate, version uint16) work.Units {
		t.Helper()
		o, _, _ := withGo(t, p, clientConfig(version, client))
		return o.l.Spent()
	}
	p521 := testpki.Must(f.ca.Issue(testpki.Leaf{Key: testpki.P521}))
	dear := testpki.Must(testpki.Must(f.ca.Intermediate(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521}))
	stranger := testpki.Must(f.other.Issue(testpki.Leaf{}))
	for _, version := range bothVersions {
		usual := spent(serverParams(), f.client.TLS(), version)
		if usual < work.Ordinary/4 || usual > 2*work.Ordinary {
			t.Errorf("%s: an ordinary handshake is counted as %d, its unit is %d", VersionName(version), usual, work.Ordinary)
		}
		if none := spent(serverParams(func(p *ServerParams) { p.ClientAuth = ClientAuthNone }), tls.Certificate{}, version); none >= usual {
			t.Errorf("%s: without a certificate %d, with one %d", VersionName(version), none, usual)
		}
		leaf := spent(serverParams(), p521.TLS(), version)
		chain := spent(serverParams(), dear.TLS(), version)
		if leaf < usual+1500 || chain < leaf+1500 {
			t.Errorf("%s: P-256 %d, P-521 %d, below a CA with P-521 %d", VersionName(version), usual, leaf, chain)
		}
		if no := spent(serverParams(), stranger.TLS(), version); no <= 0 || no > usual {
			t.Errorf("%s: a stranger's certificate %d", VersionName(version), no)
		}
	}
}

// A CA that permits thousands of hosts, and a certificate below it with as many
// names: each is looked up, and not compared with every other.
func TestConstraintsAreLookedUp(t *testing.T) {
	const n = 3000
	var mails []string
	for i := range n {
		mails = append(mails, fmt.Sprintf("m%d.example", i), fmt.Sprintf("a@b%d.example", i), fmt.Sprintf(".s%d.example", i))
	}
	p := permits(mails)
	for _, c := range []struct {
		local, host string
		ok          bool
	}{
		{"x@", "m7.example", true}, {"x@", "M7.Example", true}, {"x@", "y.m7.example", false}, {"a@", "b9.example", true},
		{"A@", "b9.example", false}, {"x@", "b9.example", false}, {"x@", "a.s5.example", true}, {"x@", "a.b.S5.example", true},
		{"x@", "s5.example", false}, {"x@", "", false}, {"x@", strings.Repeat("a.", 200) + "s5.example", false},
	} {
		if p.permit(c.local, c.host) != c.ok {
			t.Errorf("%s%s: %v", c.local, c.host, !c.ok)
		}
	}
	if !permits(nil).permit("x@", "y") || !permits([]string{"z", ""}).permit("x@", "y") {
		t.Error("what permits everything does not")
	}
	if allocs := testing.AllocsPerRun(10, func() { p.permit("x@", "nowhere.example") }); allocs > 3 {
		t.Errorf("%v allocations for a look-up", allocs)
	}
}
