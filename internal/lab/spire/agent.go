// Package spire has agents of the SPIFFE Workload API for tests: SPIRE's own server and agent, and
// one that sends whatever a test wants.
package spire

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Agent speaks the Workload API as its proto describes it, and says what it is told to.
type Agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	// Socket is the path of its socket.
	Socket string

	t      testing.TB
	mu     sync.Mutex
	server *grpc.Server
	run    sync.WaitGroup
	says   *workload.X509SVIDResponse
	fails  error
	next   chan struct{} // closed when says or fails change
	asked  int
}

// StartAgent runs an agent that refuses everybody until Say, until the test ends.
func StartAgent(t testing.TB) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a short path: that of a socket has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{t: t, Socket: filepath.Join(dir, "agent.sock"), next: make(chan struct{}), fails: errors.New("nothing to say")}
	t.Cleanup(func() { a.Stop(); _ = os.RemoveAll(dir) })
	a.Start()
	return a
}

// Start listens, after Stop again.
func (a *Agent) Start() {
	a.t.Helper()
	l, err := net.Listen("unix", a.Socket)
	if err != nil {
		a.t.Fatal(err)
	}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, a)
	a.mu.Lock()
	a.server = s
	a.mu.Unlock()
	a.run.Go(func() { _ = s.Serve(l) })
}

// Stop ends all streams and removes the socket: an outage.
func (a *Agent) Stop() {
	a.mu.Lock()
	s := a.server
	a.server = nil
	a.mu.Unlock()
	if s != nil {
		s.Stop()
	}
	a.run.Wait()
}

// Say sends an answer to whoever listens, and to whoever comes.
func (a *Agent) Say(r *workload.X509SVIDResponse) { a.change(r, nil) }

// Fail ends all streams with an error, and those that come.
func (a *Agent) Fail(err error) { a.change(nil, err) }

func (a *Agent) change(r *workload.X509SVIDResponse, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says, a.fails = r, err
	close(a.next)
	a.next = make(chan struct{})
}

// Asked is how often it was asked.
func (a *Agent) Asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// FetchX509SVID is the stream of answers.
func (a *Agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); !slices.Equal(md.Get("workload.spiffe.io"), []string{"true"}) {
		return errors.New("without the header that a workload sends")
	}
	a.mu.Lock()
	a.asked++
	a.mu.Unlock()
	for {
		a.mu.Lock()
		says, fails, next := a.says, a.fails, a.next
		a.mu.Unlock()
		if fails != nil {
			return fails
		}
		if err := stream.Send(says); err != nil {
			return err
		}
		select {
		case <-next:
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// Domain is a trust domain with its CAs.
type Domain struct {
	Name string
	CA   *testpki.CA
	// Roots are its bundle.
	Roots []*x509.Certificate
}

// NewDomain makes a trust domain with one CA.
func NewDomain(name string) *Domain {
	d := &Domain{Name: name}
	d.Rotate()
	d.Roots = d.Roots[len(d.Roots)-1:]
	return d
}

// Rotate issues by another CA from now on; the bundle has those of before too.
func (d *Domain) Rotate() {
	d.CA = testpki.Must(testpki.NewCA(testpki.Options{CN: d.Name}))
	d.Roots = append(slices.Clip(d.Roots), d.CA.Cert)
}

// Issued is an SVID with its ID.
type Issued struct {
	*testpki.Cert
	ID string
}

// Issue makes an SVID for a path, such as "/gateway", of the trust domain; l has key, times and DNS
// names.
func (d *Domain) Issue(path string, l testpki.Leaf) *Issued {
	id := "spiffe://" + d.Name + path
	return &Issued{testpki.Must(d.CA.Issue(testpki.Leaf{
		CN: "-", URIs: []string{id}, DNS: l.DNS, Key: l.Key, NotBefore: l.NotBefore, NotAfter: l.NotAfter, Mutate: l.Mutate,
	})), id}
}

// SVID is an SVID as an agent sends it, with the bundle of the domain.
func (d *Domain) SVID(c *Issued) *workload.X509SVID {
	svid := &workload.X509SVID{SpiffeId: c.ID, X509SvidKey: testpki.Must(x509.MarshalPKCS8PrivateKey(c.Key)), Bundle: d.Bundle()}
	for _, c := range c.Chain {
		svid.X509Svid = append(svid.X509Svid, c.Raw...)
	}
	return svid
}

// Bundle is the bundle as an agent sends it.
func (d *Domain) Bundle() []byte {
	var all []byte
	for _, c := range d.Roots {
		all = append(all, c.Raw...)
	}
	return all
}

// Answer is an answer with SVIDs, and the bundles of domains that the agent federates with.
func Answer(federated []*Domain, svids ...*workload.X509SVID) *workload.X509SVIDResponse {
	r := &workload.X509SVIDResponse{Svids: svids, FederatedBundles: map[string][]byte{}}
	for _, d := range federated {
		r.FederatedBundles["spiffe://"+d.Name] = d.Bundle()
	}
	return r
}
