package spiffe

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sslgate/sslgate/internal/lab/spire"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

func attend(t *testing.T, socket string) *Agent {
	t.Helper()
	all := NewAgents()
	t.Cleanup(all.Close)
	return all.At(socket)
}

// until waits for a state of an agent.
func until(t *testing.T, what string, a *Agent, cond func(last *Answer, failed error) bool) {
	t.Helper()
	testenv.Eventually(t, what, func() bool {
		last, _, failed := a.Now()
		return cond(last, failed)
	}, func() any { _, n, failed := a.Now(); return fmt.Sprint(n, failed) })
}

// An answer has all SVIDs with their keys and the bundles of all domains; the next one takes its
// place as a whole.
func TestAnswers(t *testing.T) {
	agent, home, far := spire.StartAgent(t), spire.NewDomain("example.org"), spire.NewDomain("far.example")
	one, two := home.Issue("/gateway", testpki.Leaf{}), home.Issue("/other", testpki.Leaf{Key: testpki.RSA2048})
	agent.Say(spire.Answer([]*spire.Domain{far}, home.SVID(one), home.SVID(two)))
	a := attend(t, agent.Socket)
	a.Wait(testenv.Context(t))
	last, _, failed := a.Now()
	if failed != nil || len(last.SVIDs) != 2 || len(last.Bundles) != 2 {
		t.Fatal(last, failed)
	}
	got, err := last.SVID("spiffe://example.org/gateway")
	if err != nil || !got.Leaf.Equal(one.Cert.Cert) || !bytes.Equal(testpki.Must(x509.MarshalPKCS8PrivateKey(got.PrivateKey)), testpki.Must(x509.MarshalPKCS8PrivateKey(one.Key))) {
		t.Error(got, err)
	}
	if roots, err := last.Bundle("far.example"); err != nil || len(roots) != 1 || !roots[0].Equal(far.CA.Cert) {
		t.Error(roots, err)
	}
	if _, err := last.SVID("spiffe://example.org/none"); err == nil || !strings.Contains(err.Error(), "only spiffe://example.org/gateway, spiffe://example.org/other") {
		t.Error(err)
	}
	if _, err := last.Bundle("none.example"); err == nil || !strings.Contains(err.Error(), "only of example.org, far.example") {
		t.Error(err)
	}
	agent.Say(spire.Answer(nil, home.SVID(two)))
	until(t, "the second answer", a, func(last *Answer, failed error) bool {
		return failed == nil && len(last.SVIDs) == 1 && len(last.Bundles) == 1
	})
}

// While the agent is away, refuses, or sends what cannot be read, the last good answer stays, and
// it is said why. It is asked again by itself.
func TestOutages(t *testing.T) {
	testenv.Slow(t)
	agent, home := spire.StartAgent(t), spire.NewDomain("example.org")
	svid := func() *workload.X509SVID { return home.SVID(home.Issue("/gateway", testpki.Leaf{})) }
	agent.Say(spire.Answer(nil, svid()))
	a := attend(t, agent.Socket)
	good := func(last *Answer, failed error) bool { return failed == nil && last != nil && len(last.SVIDs) > 0 }
	until(t, "the first answer", a, good)

	key := testpki.Must(x509.MarshalPKCS8PrivateKey(home.Issue("/x", testpki.Leaf{}).Key))
	bad := map[string]func(*workload.X509SVIDResponse){
		"no SVID":                  func(r *workload.X509SVIDResponse) { r.Svids = nil },
		"half a certificate":       func(r *workload.X509SVIDResponse) { r.Svids[0].X509Svid = r.Svids[0].X509Svid[:50] },
		"the key of another":       func(r *workload.X509SVIDResponse) { r.Svids[0].X509SvidKey = key },
		"no key":                   func(r *workload.X509SVIDResponse) { r.Svids[0].X509SvidKey = nil },
		"a bundle that is none":    func(r *workload.X509SVIDResponse) { r.Svids[0].Bundle = []byte("x") },
		"a domain that is none":    func(r *workload.X509SVIDResponse) { r.FederatedBundles["spiffe://A/b c"] = nil },
		"no SPIFFE ID":             func(r *workload.X509SVIDResponse) { r.Svids[0] = home.SVID(plain(home)) },
		"a CA for a workload":      func(r *workload.X509SVIDResponse) { r.Svids[0].X509Svid = home.CA.Cert.Raw },
		"more SVIDs than are ours": func(r *workload.X509SVIDResponse) { r.Svids = many(home, MaxSVIDs+1) },
		"more CAs than there are":  func(r *workload.X509SVIDResponse) { r.Svids[0].Bundle = rootsOf(home, MaxRoots+1) },
		"more bytes than are read": func(r *workload.X509SVIDResponse) { r.Crl = [][]byte{make([]byte, MaxAnswer)} },
		"a longer chain":           func(r *workload.X509SVIDResponse) { chain(r.Svids[0], home, MaxChain) },
	}
	for what, spoil := range bad {
		before, _, _ := a.Now()
		r := spire.Answer(nil, svid())
		spoil(r)
		agent.Say(r)
		until(t, what+" is said", a, func(last *Answer, failed error) bool { return failed != nil && last == before })
		agent.Say(spire.Answer(nil, svid()))
		until(t, "a good answer after "+what, a, func(last *Answer, failed error) bool { return good(last, failed) && last != before })
	}

	for code, want := range map[codes.Code]string{
		codes.PermissionDenied: "text (it has no entry for the user", codes.InvalidArgument: "text", codes.Canceled: "text", codes.Unimplemented: "text",
	} {
		before, _, _ := a.Now()
		asked := agent.Asked()
		agent.Fail(status.Error(code, code.String()+" text"))
		until(t, "an end with "+code.String(), a, func(last *Answer, failed error) bool {
			return last == before && failed != nil && strings.Contains(failed.Error(), code.String()+" "+want)
		})
		testenv.Eventually(t, "it is asked again after "+code.String(), func() bool { return agent.Asked() > asked })
		agent.Say(spire.Answer(nil, svid()))
		until(t, "an answer after "+code.String(), a, func(last *Answer, failed error) bool { return good(last, failed) && last != before })
	}
	before, _, _ := a.Now()
	agent.Stop()
	until(t, "the outage is said", a, func(last *Answer, failed error) bool {
		return last == before && failed != nil && strings.Contains(failed.Error(), agent.Socket)
	})
	agent.Start()
	agent.Say(spire.Answer(nil, svid()))
	until(t, "the agent is back", a, good)
}

// plain is no SVID, whatever the message says.
func plain(d *spire.Domain) *spire.Issued {
	return &spire.Issued{Cert: testpki.Must(d.CA.Issue(testpki.Leaf{URIs: []string{"https://example.org/x"}})), ID: "spiffe://example.org/x"}
}

func many(d *spire.Domain, n int) []*workload.X509SVID {
	var all []*workload.X509SVID
	for range n {
		all = append(all, d.SVID(d.Issue("/gateway", testpki.Leaf{})))
	}
	return all
}

func rootsOf(d *spire.Domain, n int) []byte {
	var all []byte
	for range n {
		all = append(all, d.CA.Cert.Raw...)
	}
	return all
}

func chain(s *workload.X509SVID, d *spire.Domain, more int) {
	for range more {
		s.X509Svid = append(s.X509Svid, d.CA.Cert.Raw...)
	}
}

// Who waits for an agent waits no longer than until it has failed, or until its own end.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	gone := attend(t, dir+"/none.sock")
	gone.Wait(testenv.Context(t))
	if last, n, failed := gone.Now(); last != nil || failed == nil || n == 0 {
		t.Error(last, n, failed)
	}
	l := testpki.Must(net.Listen("unix", dir+"/mute.sock")) // takes connections, says nothing
	defer func() { _ = l.Close() }()
	mute := attend(t, dir+"/mute.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	mute.Wait(ctx)
	if last, _, failed := mute.Now(); last != nil || failed == nil {
		t.Error(last, failed)
	}
}

// An agent that no configuration names any more is asked no longer; what one has said outlives
// that another one goes.
func TestKeep(t *testing.T) {
	one, two, home := spire.StartAgent(t), spire.StartAgent(t), spire.NewDomain("example.org")
	for _, a := range []*spire.Agent{one, two} {
		a.Say(spire.Answer(nil, home.SVID(home.Issue("/gateway", testpki.Leaf{}))))
	}
	all := NewAgents()
	defer all.Close()
	first, second := all.At(one.Socket), all.At(two.Socket)
	first.Wait(testenv.Context(t))
	second.Wait(testenv.Context(t))
	all.Keep([]string{one.Socket})
	if all.At(one.Socket) != first {
		t.Error("an agent that is kept is another one")
	}
	if again := all.At(two.Socket); again == second {
		t.Error("an agent that was let go is still there")
	}
}

// The waits grow, and an answer begins anew.
func TestRetries(t *testing.T) {
	r := &retries{}
	for range 20 {
		r.Next()
	}
	if r.last != retryMost {
		t.Errorf("after 20 failures: %s", r.last)
	}
	if r.Reset(); r.Next() > 2*retryFirst {
		t.Error("an answer does not begin anew")
	}
}
