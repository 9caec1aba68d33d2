package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Another list of intermediates is another demand: nothing that was remembered or
// sealed under the first counts under the second; and a path that ended with one
// is judged anew.
func TestIntermediatesAreDemands(t *testing.T) {
	f := handshaketest.Fixtures()
	inter := testpki.Must(f.CA.Intermediate(testpki.Options{CN: "Issuing"}))
	leaf := testpki.Must(inter.Issue(testpki.Leaf{CN: "bob"}))
	alone := leaf.TLS()
	alone.Certificate = alone.Certificate[:1]
	with := func(cas ...*x509.Certificate) *handshake.ServerParams {
		return handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{{Name: "staff", Roots: []*x509.Certificate{f.CA.Root}, Intermediates: cas}}
		})
	}
	engine := New()
	good, without := with(inter.Cert), with()
	if good.Demands(x509.ExtKeyUsageClientAuth) == without.Demands(x509.ExtKeyUsageClientAuth) || bindingOf(good) == bindingOf(without) {
		t.Error("the demands are the same")
	}
	for _, version := range bothVersions {
		for range 2 { // the second from the cache
			if o, err := withEngine(t, engine, good, clientConfig(version, alone)); err != nil || o.err != nil || len(o.s.Peer.Chain) != 3 {
				t.Fatalf("%s: client %v, server %v", handshake.VersionName(version), err, o.err)
			}
		}
		if o, _ := withEngine(t, engine, without, clientConfig(version, alone)); o.err == nil || o.err.Reason != reason.UnknownCA {
			t.Errorf("%s: without the intermediate: %v", handshake.VersionName(version), o.err)
		}
		o, err := withEngine(t, engine, good, clientConfig(version, alone))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(facts(o.l), ", completed with "+inter.Cert.Subject.String()) {
			t.Errorf("%s: the ledger does not tell of the path: %s", handshake.VersionName(version), facts(o.l))
		}
		if again := without.Again(o.s.Peer, &o.s.State); again.Refusal == nil || again.Chain != nil {
			t.Errorf("%s: a flow keeps its path when the intermediate is gone", handshake.VersionName(version))
		}
		if again := good.Again(o.s.Peer, &o.s.State); again.Refusal != nil || len(again.Chain) != 3 {
			t.Errorf("%s: judged anew by the same: %v", handshake.VersionName(version), again.Refusal)
		}
	}
	// Of one that is a trust anchor itself there is no more to tell.
	if text := (&handshake.Peer{Shown: []*x509.Certificate{leaf.Cert}, Chain: []*x509.Certificate{leaf.Cert}}).Describe(); strings.Contains(text, "completed") {
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

// bindingOf is what a ticket under p would be sealed under.
func bindingOf(p *handshake.ServerParams) string {
	q := *p
	q.Ticket = &handshake.TicketRule{Binding: []byte("x")}
	return string(q.TicketBinding("a.test"))
}
