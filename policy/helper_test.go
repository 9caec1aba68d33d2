package policy

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// pki is made once: keys are the slow part of these tests.
type pki struct {
	staff, partner, servers *testpki.CA
	gateway                 *testpki.Cert
}

var testPKI = sync.OnceValue(func() pki {
	ca := func(cn string) *testpki.CA { return testpki.Must(testpki.NewCA(testpki.Options{CN: cn})) }
	p := pki{staff: ca("Staff CA"), partner: ca("Partner CA"), servers: ca("Server CA")}
	p.gateway = testpki.Must(p.servers.Issue(testpki.Leaf{DNS: []string{"pay.internal"}}))
	return p
})

// testEnv is the environment that the specs of these tests refer to: the real
// profiles, and the real engine's answer to what it cannot keep.
func testEnv(t testing.TB) Environment {
	t.Helper()
	p := testPKI()
	profiles, err := handshake.ResolveProfiles(map[string]handshake.ProfileSpec{
		"aes256": {Base: "modern", TLS13: []string{"TLS_AES_256_GCM_SHA384"}},
		"old":    {Base: "intermediate", Versions: []string{"1.2"}},
	}, stdtls.New().Capabilities())
	if err != nil {
		t.Fatal(err)
	}
	authority := func(name string, roots ...*x509.Certificate) *handshake.Authority {
		return &handshake.Authority{Name: name, Roots: roots}
	}
	return Environment{
		Authorities: map[string]handshake.AuthoritySource{
			"staff":   authority("staff", p.staff.Cert),
			"partner": authority("partner", p.partner.Cert),
			"servers": authority("servers", p.servers.Cert),
			"both":    authority("both", p.partner.Cert, p.staff.Cert),
			"empty":   authority("empty"),
			"renamed": authority("other", p.staff.Cert),
			"badly":   authority("badly", p.staff.Cert),
			"unready": nil,
		},
		Permits: map[string]*PermitsSpec{
			"partner": {SPIFFE: []string{"partner"}, DNS: []string{".partner.example"}},
			"servers": {DNS: []string{".internal"}, IP: []string{"10.0.0.0/8"}},
			"badly":   {DNS: []string{"*.example.org"}},
		},
		Identities: map[string]Identity{
			"pay":  {Name: "pay", Source: identity.NewFile([]tls.Certificate{p.gateway.TLS()}, nil)},
			"void": {Name: "void"},
		},
		Profiles: profiles,
		Engine:   stdtls.New(),
		MaxChain: 5,
	}
}

func readSpec(t testing.TB, text string) Spec {
	t.Helper()
	var spec Spec
	if err := yaml.UnmarshalWithOptions([]byte(text), &spec, yaml.Strict()); err != nil {
		t.Fatalf("the test's policy cannot be read: %v", err)
	}
	return spec
}

// compile compiles a policy that must be free of mistakes.
func compile(t testing.TB, text string) *Set {
	t.Helper()
	set, findings := Compile(readSpec(t, text), testEnv(t))
	if set == nil {
		t.Fatalf("does not compile: %v", findings)
	}
	if slices.ContainsFunc(findings, func(e *fielderr.Error) bool { return !e.Warning }) {
		t.Fatalf("a set in spite of mistakes: %v", findings)
	}
	return set
}

// realHello is what crypto/tls sends as a client.
func realHello(t testing.TB, cfg *tls.Config) *handshake.ClientHello {
	t.Helper()
	h, err := captureHello(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func captureHello(cfg *tls.Config) (*handshake.ClientHello, error) {
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer client.Close()
		_ = tls.Client(client, cfg).Handshake() // ends when the pipe does
	}()
	defer func() { server.Close(); <-done }()
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		return nil, err
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		return nil, err
	}
	return handshake.ParseClientHello(body)
}

var plainHello = sync.OnceValue(func() handshake.ClientHello {
	// An address as the name: no SNI is sent.
	return *testpki.Must(captureHello(&tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1"}))
})

// hello is a sound one of TLS 1.3 with this SNI ("" for none) and ALPN.
func hello(sni string, alpn ...string) *handshake.ClientHello {
	h := plainHello()
	h.ServerName, h.SNIPresent, h.ALPN = sni, sni != "", alpn
	return &h
}

// invalidSNI is a hello with a server name that is none.
func invalidSNI() *handshake.ClientHello {
	h := plainHello()
	h.SNIPresent, h.SNIInvalid, h.SNISent, h.ServerName = true, true, "pay.internal:443", "pay.internal"
	return &h
}

func flow(src, dst string, h *handshake.ClientHello) Facts {
	return Facts{
		Src: netip.AddrPortFrom(netip.MustParseAddr(src), 40000), Dst: netip.MustParseAddrPort(dst), Hello: h,
	}
}

// peer is a certificate as the engine hands it to policy: chain verified.
func peer(authority string, ca *testpki.CA, leaf testpki.Leaf) *handshake.Peer {
	return peerOf(authority, ca, testpki.Must(ca.Issue(leaf)).Cert)
}

func peerOf(authority string, ca *testpki.CA, cert *x509.Certificate) *handshake.Peer {
	return &handshake.Peer{
		Shown: []*x509.Certificate{cert}, Chain: []*x509.Certificate{cert, ca.Root}, Authority: authority,
	}
}

// readSpecIn is readSpec inside a property.
func readSpecIn(t interface{ Fatalf(string, ...any) }, text string) Spec {
	var spec Spec
	if err := yaml.UnmarshalWithOptions([]byte(text), &spec, yaml.Strict()); err != nil {
		t.Fatalf("the test's policy cannot be read: %v", err)
	}
	return spec
}
