package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// What is configured completes what a peer does not show; the root anchors it all
// the same, and all that is demanded of a path is demanded of this one.
func TestIntermediatesCompletePaths(t *testing.T) {
	m := newMaker(t, 8)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	stranger := m.cert(made{subject: "stranger", issuer: "stranger", key: 7, signer: 7})
	ended := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	ca1 := m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0})
	ca1ended := m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0, mutate: ended})
	ca2 := m.cert(made{subject: "ca2", issuer: "ca1", key: 2, signer: 1})
	short := m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0, mutate: func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }})
	noSigner := m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0, mutate: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }})
	held := m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0, mutate: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"held.example"} }})
	other := m.cert(made{subject: "ca1", issuer: "root", key: 3, signer: 0}) // its key rolled over
	unled := m.cert(made{subject: "ca1", issuer: "stranger", key: 1, signer: 7})
	by1 := m.cert(made{subject: "leaf", issuer: "ca1", key: 4, signer: 1, leaf: true})
	by2 := m.cert(made{subject: "leaf", issuer: "ca2", key: 4, signer: 2, leaf: true})
	forged := m.cert(made{subject: "leaf", issuer: "ca1", key: 4, signer: 6, leaf: true})
	with := func(cas ...*x509.Certificate) []*Authority {
		return []*Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}}
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
		"one that only what is shown leads to":  {all(by2, ca1), all(m.cert(made{subject: "ca2", issuer: "x", key: 2, signer: 7})), nil, reason.UnknownCA},
		"it has ended":                          {all(by1), all(ca1ended), nil, reason.Expired},
		"it may not sign certificates":          {all(by1), all(noSigner), nil, reason.NotACA},
		"its path length":                       {all(by2, ca2), all(short), nil, reason.NotACA},
		"its name constraints":                  {all(by1), all(held), nil, reason.NameConstraint},
		"a leaf that it has not signed":         {all(forged), all(ca1), nil, reason.UnknownCA},
		"of another authority's root":           {all(by1), all(stranger), nil, reason.UnknownCA},
	} {
		for _, usage := range []x509.ExtKeyUsage{clientAuth, x509.ExtKeyUsageServerAuth} {
			p := serverParams(func(p *ServerParams) { p.Authorities = with(c.configured...) })
			shown := c.shown
			if usage != clientAuth { // the same for a destination, whose certificates may be used for it
				if name != "the leaf alone" && name != "it has ended" {
					continue
				}
				shown = all(m.cert(made{subject: "leaf", issuer: "ca1", key: 4, signer: 1, leaf: true, mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }}))
				if c.configured = all(m.cert(made{subject: "ca1", issuer: "root", key: 1, signer: 0, mutate: func(x *x509.Certificate) {
					x.ExtKeyUsage = nil
					if c.path == nil {
						ended(x)
					}
				}})); c.path != nil {
					c.path = all(shown[0], c.configured[0], root)
				} else {
					c.code = reason.UpstreamExpired
				}
				open := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0, mutate: func(c *x509.Certificate) { c.ExtKeyUsage = nil }})
				p.Authorities = []*Authority{{Name: "a", Roots: all(open), Intermediates: c.configured}}
				if c.path != nil {
					c.path[2] = open
				}
			}
			peer, e := Verify(shown, p.Authorities, usage, &p.Params)
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

// Another list of intermediates is another demand: nothing that was remembered or
// sealed under the first counts under the second; and a path that ended with one
// is judged anew.
func TestIntermediatesAreDemands(t *testing.T) {
	f := fixtures()
	inter := testpki.Must(f.ca.Intermediate(testpki.Options{CN: "Issuing"}))
	leaf := testpki.Must(inter.Issue(testpki.Leaf{CN: "bob"}))
	alone := leaf.TLS()
	alone.Certificate = alone.Certificate[:1]
	with := func(cas ...*x509.Certificate) *ServerParams {
		return serverParams(func(p *ServerParams) {
			p.Authorities = []*Authority{{Name: "staff", Roots: []*x509.Certificate{f.ca.Root}, Intermediates: cas}}
		})
	}
	engine := NewStdEngine()
	good, without := with(inter.Cert), with()
	if good.Demands(clientAuth) == without.Demands(clientAuth) || bindingOf(good) == bindingOf(without) {
		t.Error("the demands are the same")
	}
	for _, version := range bothVersions {
		for range 2 { // the second from the cache
			if o, err := withEngine(t, engine, good, clientConfig(version, alone)); err != nil || o.err != nil || len(o.s.Peer.Chain) != 3 {
				t.Fatalf("%s: client %v, server %v", VersionName(version), err, o.err)
			}
		}
		if o, _ := withEngine(t, engine, without, clientConfig(version, alone)); o.err == nil || o.err.Reason != reason.UnknownCA {
			t.Errorf("%s: without the intermediate: %v", VersionName(version), o.err)
		}
		o, err := withEngine(t, engine, good, clientConfig(version, alone))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(facts(o.l), ", completed with "+inter.Cert.Subject.String()) {
			t.Errorf("%s: the ledger does not tell of the path: %s", VersionName(version), facts(o.l))
		}
		if again := without.Again(o.s.Peer, &o.s.State); again.Refusal == nil || again.Chain != nil {
			t.Errorf("%s: a flow keeps its path when the intermediate is gone", VersionName(version))
		}
		if again := good.Again(o.s.Peer, &o.s.State); again.Refusal != nil || len(again.Chain) != 3 {
			t.Errorf("%s: judged anew by the same: %v", VersionName(version), again.Refusal)
		}
	}
	// Of one that is a trust anchor itself there is no more to tell.
	if text := (&Peer{Shown: []*x509.Certificate{leaf.Cert}, Chain: []*x509.Certificate{leaf.Cert}}).Describe(); strings.Contains(text, "completed") {
		t.Error(text)
	}
	// A client that chooses by the issuer's name finds it.
	var asked *tls.CertificateRequestInfo
	config := clientConfig(tls.VersionTLS13)
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = r
		return &alone, r.SupportsCertificate(&alone)
	}
	if o, _, err := withGo(t, good, config); err != nil || o.err != nil || len(asked.AcceptableCAs) != 2 {
		t.Errorf("client %v, server %v", err, o.err)
	}
	// Where the names do not fit, those of the roots stay.
	many := with(append(manyRoots(t, 700, 106), inter.Cert)...)
	if said := many.CANames(); !said.Fit() || said.Names != 1 || said.Left != 701 {
		t.Errorf("%+v", said)
	}
}

// An authority with many CAs below roots of one name, whose keys were rolled over: key
// identifiers say which root has signed which, so the bound of what is checked once
// leaves none of them out.
func TestIntermediatesOfRolledRoots(t *testing.T) {
	const roots, each = 8, 125
	m := newMaker(t, roots+2)
	var anchors, cas []*x509.Certificate
	for r := range roots {
		anchors = append(anchors, m.cert(made{subject: "root", issuer: "root", key: r, signer: r, ski: []byte{byte(r + 1)}}))
	}
	for r := range roots {
		for i := range each {
			cas = append(cas, m.cert(made{subject: fmt.Sprint("ca", r, ".", i), issuer: "root", key: roots, signer: r, aki: []byte{byte(r + 1)}}))
		}
	}
	a := &Authority{Name: "a", Roots: anchors, Intermediates: cas}
	if none := a.Unled(); len(none) != 0 {
		t.Errorf("%d of %d are taken for CAs that lead to no root", len(none), len(cas))
	}
	leaf := m.cert(made{subject: "leaf", issuer: fmt.Sprint("ca", roots-1, ".", each-1), key: roots + 1, signer: roots, leaf: true})
	if chain, checks := CountChecks([]*x509.Certificate{leaf}, []*Authority{a}); len(chain) != 3 || checks != 1 {
		t.Errorf("a path of %d, %d signatures checked", len(chain), checks)
	}
}

// bindingOf is what a ticket under p would be sealed under.
func bindingOf(p *ServerParams) string {
	q := *p
	q.Ticket = &TicketRule{Binding: []byte("x")}
	return string(q.TicketBinding("a.test"))
}

// However many are configured, and whatever a stranger shows, he causes no more
// checks than the documented bound, which knows what is shown and the most of one
// name; links between what is configured cost nothing.
func TestIntermediatesCostStrangersNothing(t *testing.T) {
	m := newMaker(t, 12)
	root := m.cert(made{subject: "root", issuer: "root", key: 0, signer: 0})
	var cas []*x509.Certificate
	for i := range 8 { // all sign each other, and the root the first
		issuer, signer := "X", (i+7)%8+1
		if i == 0 {
			issuer, signer = "root", 0
		}
		cas = append(cas, m.cert(made{subject: "X", issuer: issuer, key: i + 1, signer: signer}))
	}
	for i := range 60 {
		cas = append(cas, m.cert(made{subject: fmt.Sprint("ca", i), issuer: "root", key: 9, signer: 0}))
	}
	a := []*Authority{{Name: "a", Roots: []*x509.Certificate{root}, Intermediates: cas}}
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
			shown = append(shown, m.cert(made{subject: subject, issuer: issuer, key: 10, signer: 11, leaf: i == 0}))
		}
		chain, checks := CountChecks(shown, a)
		if most := 2*len(shown) + 8 + 8 - 1; chain != nil || checks > most {
			t.Errorf("%s: %d signatures checked, at most %d", name, checks, most)
		}
	}
	for i, ca := range cas[:8] { // honest ones pay for the leaf, and for what else has its issuer's name
		leaf := m.cert(made{subject: "leaf", issuer: "X", key: 10, signer: i + 1, leaf: true})
		chain, checks := CountChecks([]*x509.Certificate{leaf}, a)
		if chain == nil || !chain[1].Equal(ca) || checks > 8 {
			t.Errorf("%d: a path of %d, %d signatures checked", i, len(chain), checks)
		}
	}
	leaf := m.cert(made{subject: "leaf", issuer: "ca7", key: 10, signer: 9, leaf: true})
	if chain, checks := CountChecks([]*x509.Certificate{leaf}, a); len(chain) != 3 || checks != 1 {
		t.Errorf("a path of %d, %d signatures checked, want one", len(chain), checks)
	}
}
