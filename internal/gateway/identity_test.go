package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// A certificate that is renewed is no other policy: after the reload that brings it a
// client resumes with its ticket of before, and whoever has none sees the new one. A
// certificate for other names or with another kind of key is another identity, and so
// is another policy: the ticket leads to a full handshake. An authority that is taken
// away takes the tickets of its clients with it.
func TestRenewedCertificateKeepsTickets(t *testing.T) {
	for _, version := range versions {
		late := &lateChecker{}
		h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
		list := testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour)))
		late.checks(t, h.ca, revocation.Hard, list)
		setTickets(h.gw, &Tickets{})
		alice, cache := h.alice(), tls.NewLRUClientSessionCache(4)
		with := func(cache tls.ClientSessionCache) func(*tls.Config) {
			return func(c *tls.Config) { c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version, version }
		}
		try := func(cache tls.ClientSessionCache) (tls.ConnectionState, error) {
			conn, err := h.tlsClient(server4, alice, with(cache))
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer conn.Close()
			echo(t, conn)
			return conn.ConnectionState(), nil
		}
		// reload is what the service does, in its order.
		reload := func(spec policy.Spec) string {
			late.get().Reload([]revocation.Authority{{
				Name: "staff", Mode: revocation.Hard, Roots: []*x509.Certificate{h.ca.Root}, Intermediates: []*x509.Certificate{h.ca.Cert},
				Sources: []revocation.Source{{Location: "/in/memory", Lists: testpki.Must(revocation.ParseLists(list.Raw, []*x509.Certificate{h.ca.Root, h.ca.Cert}))}},
			}})
			s := settingsOf(h.gw)
			s.Policy = h.compile(spec)
			h.gw.Put(s)
			return s.Policy.ID()
		}
		id := h.gw.current.Load().set.ID()
		for i, c := range []struct {
			what                 string
			leaf                 testpki.Leaf
			samePolicy, resuming bool
		}{
			{"first", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example"}}, true, false},
			{"renewed", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example"}}, true, true},
			{"renewed, names in another order", testpki.Leaf{DNS: []string{"*.shop.example", "pay.example"}, CN: "new"}, true, true},
			{"renewed, for an hour", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example"}, NotAfter: time.Now().Add(time.Hour)}, true, true},
			{"another name", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example", "more.example"}}, false, false},
			{"another kind of key", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example", "more.example"}, Key: testpki.P384}, false, false},
			{"renewed again", testpki.Leaf{DNS: []string{"pay.example", "*.shop.example", "more.example"}, Key: testpki.P384}, true, true},
		} {
			h.server = testpki.Must(h.ca.Issue(c.leaf)).TLS()
			before := id
			if id = reload(mtls()); (id == before) != c.samePolicy {
				t.Errorf("%s: policy %s, before %s", c.what, id, before)
			}
			cs, err := try(cache)
			if err != nil || cs.DidResume != c.resuming {
				t.Fatalf("%s, flow %d: resumed %v, want %v: %v", c.what, i, cs.DidResume, c.resuming, err)
			}
			cs, err = try(nil)
			if err != nil || cs.DidResume || !bytes.Equal(cs.PeerCertificates[0].Raw, h.server.Certificate[0]) {
				t.Errorf("%s: a client without a ticket sees another certificate: %v", c.what, err)
			}
		}
		// An edit of other rules ends no ticket, and one of the client's own rule does.
		more := policy.RuleSpec{Name: "more", To: []string{"10.99.0.1:443"}, Action: "deny"}
		for _, c := range []struct {
			what     string
			spec     func(*policy.Spec)
			resuming bool
		}{
			{"a rule behind", func(s *policy.Spec) { s.Rules = append(s.Rules, more) }, true},
			{"a rule before", func(s *policy.Spec) { s.Rules = append([]policy.RuleSpec{more}, s.Rules...) }, true},
			{"the rules as they were", func(*policy.Spec) {}, true},
			{"the client's rule", func(s *policy.Spec) { s.Rules[0].Client.OnRevoked = "keep" }, false},
			{"its name", func(s *policy.Spec) { s.Rules[0].Name = "renamed" }, false},
		} {
			spec := mtls()
			c.spec(&spec)
			reload(spec)
			if cs, err := try(cache); err != nil || cs.DidResume != c.resuming {
				t.Fatalf("%s: resumed %v, want %v: %v", c.what, cs.DidResume, c.resuming, err)
			}
		}
		reload(mtls())
		if _, err := try(cache); err != nil {
			t.Fatal(err)
		}
		id = h.gw.current.Load().set.ID()
		// The house's CA is no authority of clients any more.
		trusted := h.ca
		h.ca = testpki.Must(testpki.NewCA(testpki.Options{CN: "another"}))
		withdrawn := h.compile(mtls())
		h.ca = trusted
		s := settingsOf(h.gw)
		s.Policy = withdrawn
		h.gw.Put(s)
		if withdrawn.ID() != id {
			t.Errorf("other certificates of an authority are another policy: %s, before %s", withdrawn.ID(), id)
		}
		if err := h.tryWith(alice, with(cache)); err == nil {
			t.Error("the authority is another one, and the client got in")
		}
	}
}
