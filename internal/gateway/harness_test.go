package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/mint"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
	"github.com/sslgate/sslgate/tun/tuntest"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// house is a whole gateway in memory: a client's netstack on one end of a
// device pair, stack and gateway on the other, an origin on the loopback
// behind a dialler that counts.
type house struct {
	staff   handshake.AuthoritySource // nil: the house's CA
	t       testing.TB
	ca      *testpki.CA
	gw      *Gateway
	stack   *stack.Stack
	client  *stacktest.Client
	records *recordBuffer
	dials   atomic.Int64
	origin  string // address on the loopback
	stop    func()
	server  tls.Certificate
	mint    *testpki.CA
}

var (
	client4 = netip.MustParseAddr("192.0.2.1")
	client6 = netip.MustParseAddr("2001:db8::1")
	server4 = netip.MustParseAddrPort("203.0.113.5:443")
	server6 = netip.MustParseAddrPort("[2001:db8:5::5]:443")
)

type option func(*Config)

// newHouse compiles rules and starts everything. serve handles connections at
// the origin; nil means echo.
func newHouse(t testing.TB, spec policy.Spec, serve func(net.Conn), opts ...option) *house {
	t.Helper()
	return newHouseOn(t, 1500, true, spec, serve, opts...)
}

// newHouseOn is newHouse on a device of that MTU in bytes, with offload or not.
func newHouseOn(t testing.TB, mtu int, offload bool, spec policy.Spec, serve func(net.Conn), opts ...option) *house {
	t.Helper()
	h := &house{t: t, ca: testpki.Must(testpki.NewCA(testpki.Options{})), records: &recordBuffer{}}
	h.server = testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example", "*.shop.example"}})).TLS()
	h.mint = testpki.Must(testpki.NewCA(testpki.Options{CN: "Minting CA"}))
	set := h.compile(spec)
	h.listen(serve)
	cfg := Config{
		Settings: Settings{
			Policy: set, Limits: Limits{Handshake: testenv.Scaled(3 * time.Second), Refusals: 1_000_000, RefusalsPerClient: 1_000_000},
		},
		Engine: stdtls.New(), Audit: audit.New(h.records), Log: zaptest.NewLogger(t),
		Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			h.dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", h.origin)
		},
		Own: func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24")}, nil },
	}
	for _, o := range opts {
		o(&cfg)
	}
	var err error
	if h.gw, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	near, far := tuntest.Pair(mtu, offload)
	if h.client, err = stacktest.NewClient(near, client4, client6); err != nil {
		t.Fatal(err)
	}
	h.stack, err = stack.New(stack.Config{Device: far, Handler: h.gw, Ports: []uint16{443}, MaxFlows: 20000, MaxFlowsPerClient: 20000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.stack.Run(ctx); err != nil {
			t.Errorf("stack: %v", err)
		}
	})
	wg.Go(func() {
		if err := h.gw.Run(ctx); err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		h.client.Close()
		_ = near.Close()
	})
	t.Cleanup(func() {
		h.stop()
		if n := h.gw.Flows(); n != 0 {
			t.Errorf("%d flows are still registered", n)
		}
	})
	return h
}

// compile makes a policy that trusts the house's CA.
func (h *house) compile(spec policy.Spec) *policy.Set {
	h.t.Helper()
	profiles, err := handshake.ResolveProfiles(nil, stdtls.New().Capabilities())
	if err != nil {
		h.t.Fatal(err)
	}
	minter := testpki.Must(mint.New(mint.Config{Chain: []*x509.Certificate{h.mint.Cert}, Key: h.mint.Key, Names: []string{"pay.example", "also.example"}}))
	var staff handshake.AuthoritySource = &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{h.ca.Cert}}
	if h.staff != nil {
		staff = h.staff
	}
	set, found := policy.Compile(spec, policy.Environment{
		Authorities: map[string]handshake.AuthoritySource{"staff": staff},
		Identities:  map[string]policy.Identity{"pay": {Name: "pay", Source: identity.NewFile([]tls.Certificate{h.server}, nil)}, "mint": {Name: "mint", Source: identity.NewMinted(minter, minter.Blank(), []string{"pay.example", "also.example"})}},
		Profiles:    profiles,
		Engine:      stdtls.New(),
	})
	if set == nil {
		h.t.Fatalf("policy: %v", found)
	}
	return set
}

func (h *house) listen(serve func(net.Conn)) {
	h.t.Helper()
	if serve == nil {
		serve = func(c net.Conn) {
			_, _ = io.Copy(c, c)
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.origin = ln.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				serve(c)
			})
		}
	})
	h.t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}

func (h *house) dial(dst netip.AddrPort) *stacktest.Conn {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	c, err := h.client.Dial(ctx, dst)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = c.SetDeadline(testenv.Deadline())
	return c
}

// tlsClient connects with the certificate, nil for none.
func (h *house) tlsClient(dst netip.AddrPort, cert *tls.Certificate, change func(*tls.Config)) (*tls.Conn, error) {
	h.t.Helper()
	cfg := &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example"}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if change != nil {
		change(cfg)
	}
	raw := h.dial(dst)
	conn := tls.Client(raw, cfg)
	if err := conn.Handshake(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (h *house) alice() *tls.Certificate {
	h.t.Helper()
	c := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})).TLS()
	return &c
}

// try makes a flow with the certificate, nil for none, and returns how the
// client saw it end.
func (h *house) try(cert *tls.Certificate) error {
	h.t.Helper()
	return h.tryWith(cert, nil)
}

// tryWith is try with the client's configuration changed.
func (h *house) tryWith(cert *tls.Certificate, change func(*tls.Config)) error {
	h.t.Helper()
	conn, err := h.tlsClient(server4, cert, change)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// mtls is the rule most tests use.
func mtls() policy.Spec {
	return policy.Spec{Rules: []policy.RuleSpec{{
		Name: "pay", To: []string{"203.0.113.0/24:443", "[2001:db8:5::]/48:443"}, Identity: "pay",
		Client:      policy.ClientSpec{Certificate: "required", Authorities: []string{"staff"}},
		Destination: policy.DestinationSpec{TLS: "plain"},
	}}}
}

// recordBuffer collects the audit records.
type recordBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer // what all has not read
	read []rec
}

func (b *recordBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

type rec map[string]any

func (r rec) str(k string) string { s, _ := r[k].(string); return s }

func (b *recordBuffer) all(t testing.TB) []rec {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		end := bytes.IndexByte(b.buf.Bytes(), '\n')
		if end < 0 {
			return slices.Clone(b.read)
		}
		var r rec
		if err := json.Unmarshal(b.buf.Next(end+1), &r); err != nil {
			t.Fatal(err)
		}
		b.read = append(b.read, r)
	}
}

// record returns the n-th record (from 1) once it is there.
func (h *house) record(n int) rec {
	h.t.Helper()
	var all []rec
	testenv.Eventually(h.t, fmt.Sprintf("record %d", n), func() bool {
		all = h.records.all(h.t)
		return len(all) >= n
	}, func() any { return all })
	return all[n-1]
}

// settingsOf are those in force.
func settingsOf(g *Gateway) Settings {
	now := g.current.Load()
	s := Settings{Policy: now.set, Shadow: now.shadow, Limits: now.limits}
	if now.tickets != nil {
		s.Tickets = &Tickets{Lifetime: now.tickets.Lifetime, Keys: now.tickets.Keys}
	}
	return s
}

// setPolicy puts another policy, shadow and limits in place, as a reload does.
func setPolicy(g *Gateway, set *policy.Set, shadow *policy.Shadow, limits Limits) {
	s := settingsOf(g)
	s.Policy, s.Shadow, s.Limits = set, shadow, limits
	g.Put(s)
}

// setTickets puts other tickets in place, as a reload does.
func setTickets(g *Gateway, t *Tickets) {
	s := settingsOf(g)
	s.Tickets = t
	g.Put(s)
}
