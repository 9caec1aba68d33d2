package service

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab/spire"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// mesh is a house whose identity and authorities come from an agent of the trust domain example.org,
// which federates with far.example.
type mesh struct {
	*house
	t         *testing.T
	agent     *spire.Agent
	home, far *spire.Domain
	shown     *spire.Issued // the gateway's SVID of the moment
}

// newMesh starts it; ready says whether the agent answers from the beginning, and then it waits until
// all of its answer is taken: a start waits some time alone.
func newMesh(t *testing.T, ready bool) *mesh {
	t.Helper()
	m := &mesh{t: t, agent: spire.StartAgent(t), home: spire.NewDomain("example.org"), far: spire.NewDomain("far.example")}
	m.shown = m.home.Issue("/gateway", testpki.Leaf{})
	if ready {
		m.say()
	}
	m.house = newHouse(t, func(h *house) {
		h.put("sslgate.yaml", 0o644, []byte(m.config()))
	})
	if ready {
		testenv.Eventually(t, "what the agent says is taken", func() bool { return m.failed() == nil }, func() any { return m.failed() })
	}
	return m
}

// failed is why the identity or an authority is not what the agent says.
func (m *mesh) failed() error {
	rt := m.s.runtime()
	all := []error{rt.Own[0].Failed()}
	for _, authority := range rt.Trusted {
		if all = append(all, authority.Failed()); len(authority.Current().Roots) == 0 { // answered, and not taken yet
			all = append(all, fmt.Errorf("nothing of %s is taken", authority.Name))
		}
	}
	return errors.Join(all...)
}

// config is that of the house.
func (m *mesh) config() string {
	return strings.NewReplacer(
		"staff: {roots: ca.pem, crl: [staff.crl]}", fmt.Sprintf("home: {spiffe: {socket: \"unix://%s\", trust_domain: example.org}}\n  far: {spiffe: {socket: \"unix://%[1]s\", trust_domain: far.example}}", m.agent.Socket),
		"certificate: srv.pem, key: srv.key", fmt.Sprintf("spiffe: {socket: \"unix://%s\", id: spiffe://example.org/gateway}", m.agent.Socket),
		"authorities: [staff]", `authorities: [home, far], allow: [{san_uri: ["spiffe://example.org/client", "spiffe://far.example/client"]}]`,
	).Replace(houseConfig)
}

// answer is what the agent has to say: the gateway's SVID, one of no use to it, and both bundles.
func (m *mesh) answer() *workload.X509SVIDResponse {
	return spire.Answer([]*spire.Domain{m.far}, m.home.SVID(m.home.Issue("/gateway/other", testpki.Leaf{})), m.home.SVID(m.shown))
}

func (m *mesh) say() { m.agent.Say(m.answer()) }

// as does a handshake as a client with a certificate, and is what was shown, nil if the client was
// refused.
func (m *mesh) as(c *testpki.Cert, cache tls.ClientSessionCache, version uint16) (leaf *x509.Certificate, resumed bool) {
	m.t.Helper()
	raw, err := m.client.Dial(testenv.Context(m.t), houseServer)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(testenv.Deadline())
	cert := c.TLS()
	conn := tls.Client(raw, &tls.Config{
		InsecureSkipVerify: true, ServerName: "pay.example", ClientSessionCache: cache, MinVersion: version, MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	if _, err = conn.Write([]byte("x")); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		return nil, false
	}
	s := conn.ConnectionState()
	return s.PeerCertificates[0], s.DidResume
}

// letIn says whether a new client with a certificate gets in, and is shown the SVID of the moment.
func (m *mesh) letIn(c *testpki.Cert) bool {
	m.t.Helper()
	leaf, _ := m.as(c, nil, tls.VersionTLS13)
	return leaf != nil && bytes.Equal(leaf.Raw, m.shown.Cert.Cert.Raw)
}

// refused is one client more that is refused, for a reason.
func (m *mesh) refused(what string, c *testpki.Cert, why reason.Code) {
	m.t.Helper()
	want := fmt.Sprintf("reason=%q", string(why))
	before := count(m.metrics(), want)
	if leaf, _ := m.as(c, nil, tls.VersionTLS13); leaf != nil {
		m.t.Errorf("%s is let in", what)
		return
	}
	testenv.Eventually(m.t, what+" is refused as "+string(why), func() bool { return count(m.metrics(), want) > before }, func() any {
		return m.metrics()
	})
}

// count adds up the flows of a reason.
func count(metrics, reason string) (n int) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "sslgate_flows_total{") && strings.Contains(line, reason) {
			var v float64
			_, _ = fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &v)
			n += int(v)
		}
	}
	return n
}

// settled waits until the service has taken what the agent has said.
func (m *mesh) settled(what string, cond func(failed error) bool) {
	m.t.Helper()
	own := m.s.runtime().Own[0]
	testenv.Eventually(m.t, what, func() bool { return cond(own.Failed()) }, func() any { return own.Failed() })
}

func (m *mesh) caller(d *spire.Domain, l testpki.Leaf) *testpki.Cert {
	return d.Issue("/client", l).Cert
}

// Each authority speaks for the SPIFFE IDs of its own trust domain, whatever its CAs have signed.
func TestSPIFFEAuthorities(t *testing.T) {
	m := newMesh(t, true)
	for _, d := range []*spire.Domain{m.home, m.far} {
		if !m.letIn(m.caller(d, testpki.Leaf{})) {
			t.Errorf("a client of %s is refused", d.Name)
		}
	}
	m.refused("a client that no rule allows", m.home.Issue("/other", testpki.Leaf{}).Cert, reason.NotAllowed)
	m.refused("a name that is no SPIFFE ID", m.home.Issue("/client", testpki.Leaf{DNS: []string{"pay.example"}}).Cert, reason.AuthorityNotNamed)
	stranger := spire.NewDomain("stranger.example")
	m.refused("a domain that is not trusted", m.caller(stranger, testpki.Leaf{}), reason.UnknownCA)
	forger := &spire.Domain{Name: m.home.Name, CA: m.far.CA}
	m.refused("example.org by the CA of far.example", m.caller(forger, testpki.Leaf{}), reason.AuthorityNotNamed)
	forger = &spire.Domain{Name: m.far.Name, CA: m.home.CA}
	m.refused("far.example by the CA of example.org", m.caller(forger, testpki.Leaf{}), reason.AuthorityNotNamed)
	m.refused("what is no SVID", testpki.Must(m.home.CA.Issue(testpki.Leaf{CN: "client"})), reason.AuthorityNotNamed)
	m.refused("a trust domain itself", m.home.Issue("", testpki.Leaf{}).Cert, reason.AuthorityNotNamed)

	// Another CA of the domain counts at once, without a reload, and so does one that is gone.
	old := m.caller(m.home, testpki.Leaf{})
	policy := m.s.policyID()
	m.home.Rotate()
	m.say()
	next := m.caller(m.home, testpki.Leaf{})
	testenv.Eventually(t, "the new CA is trusted", func() bool { return m.letIn(next) })
	if !m.letIn(old) {
		t.Error("the CA of before is not trusted beside the new one")
	}
	m.home.Roots = m.home.Roots[1:]
	m.say()
	testenv.Eventually(t, "the old CA is trusted no longer", func() bool { return !m.letIn(old) })
	if !m.letIn(next) {
		t.Error("the new CA is trusted no longer")
	}

	// A bundle that is taken back is trusted no longer, and that is said.
	m.agent.Say(spire.Answer(nil, m.home.SVID(m.shown)))
	testenv.Eventually(t, "far.example is trusted no longer", func() bool { return !m.letIn(m.caller(m.far, testpki.Leaf{})) })
	testenv.Eventually(t, "it is said", func() bool {
		r := m.s.Readiness()
		return r.Ready && strings.Contains(strings.Join(r.Reasons, "\n"), "no bundle of far.example for this process, only of example.org") &&
			strings.Contains(m.metrics(), `sslgate_authority_source_failed{name="far"} 1`)
	}, func() any { return m.s.Readiness() })
	m.say()
	testenv.Eventually(t, "far.example is trusted again", func() bool { return m.letIn(m.caller(m.far, testpki.Leaf{})) })
	if m.s.policyID() != policy {
		t.Error("another bundle is another policy")
	}
}

// SVIDs are renewed without another policy and without an end of any ticket. Only the one that is
// named is shown. One that is taken back, or of another kind, is not.
func TestSPIFFEIdentity(t *testing.T) {
	m := newMesh(t, true)
	policy := m.s.policyID()
	c := m.caller(m.home, testpki.Leaf{})
	caches := map[uint16]tls.ClientSessionCache{tls.VersionTLS12: tls.NewLRUClientSessionCache(1), tls.VersionTLS13: tls.NewLRUClientSessionCache(1)}
	for version, cache := range caches {
		if leaf, _ := m.as(c, cache, version); leaf == nil {
			t.Fatalf("%x: refused", version)
		}
	}
	for i := range 4 {
		m.shown = m.home.Issue("/gateway", testpki.Leaf{DNS: [][]string{nil, {"gateway.example"}}[i%2]}) // DNS names come and go
		m.say()
		testenv.Eventually(t, "the renewed SVID is shown", func() bool { return m.letIn(c) })
		for version, cache := range caches {
			if _, resumed := m.as(c, cache, version); !resumed {
				t.Errorf("%x: renewal %d ends a ticket", version, i)
			}
		}
	}
	if m.s.policyID() != policy {
		t.Error("a renewal made another policy")
	}
	testenv.Eventually(t, "four renewals are logged", func() bool { return m.seen.FilterMessage("identity renewed").Len() >= 4 })

	good := m.shown
	rsa := m.home.Issue("/gateway", testpki.Leaf{Key: testpki.RSA2048})
	m.agent.Say(spire.Answer([]*spire.Domain{m.far}, m.home.SVID(rsa)))
	m.settled("another kind of key is said", func(failed error) bool {
		return failed != nil && strings.Contains(failed.Error(), "RSA 2048") && strings.Contains(failed.Error(), "key_type")
	})
	if !m.letIn(c) {
		t.Error("an SVID that cannot be used takes the one before away")
	}
	ended := m.home.Issue("/gateway", testpki.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	m.agent.Say(spire.Answer([]*spire.Domain{m.far}, m.home.SVID(ended)))
	m.settled("an SVID that has ended is said", func(failed error) bool {
		return failed != nil && strings.Contains(failed.Error(), "ended on")
	})
	if !m.letIn(c) {
		t.Error("an SVID that has ended takes the one before away")
	}

	m.agent.Say(spire.Answer([]*spire.Domain{m.far}, m.home.SVID(m.home.Issue("/other", testpki.Leaf{}))))
	m.settled("an SVID that is taken back is said", func(failed error) bool {
		return failed != nil && strings.Contains(failed.Error(), "no SVID spiffe://example.org/gateway for this process, only spiffe://example.org/other")
	})
	m.refused("who would be shown an SVID that was taken back", c, reason.IdentityEnded)
	if r := m.s.Readiness(); r.Ready || !slices.ContainsFunc(r.Causes, func(c admin.Cause) bool { return c.Kind == admin.ReadyIdentity }) {
		t.Errorf("ready without an SVID: %v", r)
	}
	m.shown = good
	m.say()
	testenv.Eventually(t, "the SVID is back", func() bool { return m.letIn(c) })
}

// An outage of the agent hinders nothing while the last SVID is good: handshakes, live flows and
// reloads go on, and it is said. At its end handshakes fail for that reason. When the agent is back
// all is well again.
func TestSPIFFEOutage(t *testing.T) {
	testenv.Slow(t)
	m := newMesh(t, true)
	c := m.caller(m.home, testpki.Leaf{})
	if !m.letIn(c) {
		t.Fatal("refused")
	}
	m.agent.Stop()
	m.settled("the outage is said", func(failed error) bool { return failed != nil })
	testenv.Eventually(t, "the outage is a warning with the hours left", func() bool {
		r := m.s.Readiness()
		said := m.seen.FilterMessage("the source of an identity fails").Len() > 0
		return r.Ready && said && strings.Contains(strings.Join(r.Reasons, "\n"), "hours left") &&
			strings.Contains(m.metrics(), `sslgate_identity_source_failed{name="pay"} 1`)
	}, func() any { return m.s.Readiness() })
	if !m.letIn(c) {
		t.Error("an outage has an effect on handshakes")
	}
	m.asWritten("")
	m.reload(true, "")
	if !m.letIn(c) || !m.letIn(m.caller(m.far, testpki.Leaf{})) {
		t.Error("a reload forgets what the agent has said")
	}
	m.agent.Start()
	m.shown = m.home.Issue("/gateway", testpki.Leaf{})
	m.say()
	testenv.Eventually(t, "the agent is back", func() bool { return m.letIn(c) })
	own := m.s.runtime().Own[0]
	testenv.Eventually(t, "an SVID that ends soon is in use", func() bool { // one that comes too late is not taken
		m.shown = m.home.Issue("/gateway", testpki.Leaf{NotAfter: time.Now().Add(testenv.Scaled(3 * time.Second))})
		m.say()
		ends, taken := m.shown.Cert.Cert.NotAfter, false
		testenv.Eventually(t, "it is taken, or has ended", func() bool { taken = own.Ends().Equal(ends); return taken || time.Now().After(ends) })
		return taken
	})
	m.agent.Fail(errors.New("no more"))
	testenv.Eventually(t, "it has ended", func() bool { return time.Now().After(m.shown.Cert.Cert.NotAfter) })
	m.refused("who would be shown an SVID that has ended", c, reason.IdentityEnded)
	m.shown = m.home.Issue("/gateway", testpki.Leaf{})
	m.say()
	testenv.Eventually(t, "all is well again", func() bool { return m.letIn(c) && own.Failed() == nil })
}

// Without an agent at the start nobody gets in, and the gateway is not ready; once it is there all
// is well.
func TestSPIFFEWithoutAgent(t *testing.T) {
	m := newMesh(t, false)
	c := m.caller(m.home, testpki.Leaf{})
	m.refused("a client", c, reason.IdentityEnded)
	r := m.s.Readiness()
	if r.Ready || len(r.Causes) != 3 || slices.ContainsFunc(r.Causes, func(c admin.Cause) bool { return c.Kind != admin.ReadyIdentity }) {
		t.Errorf("%+v", r)
	}
	if len(m.s.Certificates()) != 0 {
		t.Errorf("%+v", m.s.Certificates())
	}
	m.say()
	testenv.Eventually(t, "the agent is there", func() bool { return m.letIn(c) })
	// The client has met the identity and its own authority; the other one may be taken later.
	testenv.Eventually(t, "the gateway is ready", func() bool { return m.s.Readiness().Ready }, func() any { return m.s.Readiness() })
}
