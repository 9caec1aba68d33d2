package service

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/spire"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/spiffe"
)

// With SPIRE's own server and agent: a workload with an SVID gets in, others do not; SVIDs rotate
// without another policy and without the end of a ticket; and with the agent gone all goes on, and
// that is said.
func TestSPIRE(t *testing.T) {
	testenv.Slow(t)
	workloads := spire.StartSPIRE(t, "example.org")
	workloads.Entry("spiffe://example.org/gateway", 40)
	workloads.Entry("spiffe://example.org/client", 3600)
	m := &mesh{t: t, agent: &spire.Agent{Socket: workloads.Socket}, far: spire.NewDomain("far.example")}
	m.house = newHouse(t, func(h *house) { h.put("sslgate.yaml", 0o644, []byte(m.config())) })
	policy, own := m.s.policyID(), m.s.runtime().Own[0]

	agents := spiffe.NewAgents()
	defer agents.Close()
	workload := agents.At(workloads.Socket)
	var client *testpki.Cert
	testenv.Eventually(t, "the workload has its SVID", func() bool {
		answer, _, _ := workload.Now()
		if answer == nil {
			return false
		}
		svid, err := answer.SVID("spiffe://example.org/client")
		if err == nil {
			client = &testpki.Cert{Cert: svid.Leaf, Chain: []*x509.Certificate{svid.Leaf}, Key: svid.PrivateKey.(crypto.Signer)}
		}
		return err == nil
	})
	cache := tls.NewLRUClientSessionCache(1)
	var first *x509.Certificate
	testenv.Eventually(t, "the workload is let in", func() bool { first, _ = m.as(client, cache, tls.VersionTLS13); return first != nil },
		func() any { return own.Failed() })
	m.refused("a domain that is not trusted", m.caller(m.far, testpki.Leaf{}), reason.UnknownCA)
	testenv.EventuallyWithin(t, 3*testenv.Patience(), "the SVID rotates", func() bool { // it lives 40 s, and an agent on a busy machine may be late
		ends := own.Ends()
		leaf, _ := m.as(client, nil, tls.VersionTLS13)
		if leaf == nil && time.Now().Before(ends) {
			t.Fatal("a handshake fails while SVIDs rotate")
		}
		return leaf != nil && !bytes.Equal(leaf.Raw, first.Raw)
	}, func() any { return fmt.Sprint(own.Failed(), own.Ends()) })
	if _, resumed := m.as(client, cache, tls.VersionTLS13); !resumed || m.s.policyID() != policy {
		t.Error("a rotation ends tickets, or makes another policy")
	}

	workloads.StopAgent()
	testenv.Eventually(t, "the outage is said", func() bool {
		r := m.s.Readiness()
		return strings.Contains(strings.Join(r.Reasons, "\n"), "the SPIFFE agent at") && strings.Contains(m.metrics(), `sslgate_identity_source_failed{name="pay"} 1`)
	}, func() any { return m.s.Readiness() })
	ends := own.Ends()
	if leaf, _ := m.as(client, nil, tls.VersionTLS13); leaf == nil && time.Now().Before(ends) {
		t.Error("an outage takes the SVID away")
	}
}
