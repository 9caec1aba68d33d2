package stdtls

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// crypto/tls by itself takes AES-128 and X25519 here, whatever the lists say.
func TestOrder12(t *testing.T) {
	f := handshaketest.Fixtures()
	const a128, a256 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	for _, tt := range []struct {
		order  handshake.Order
		ours   []uint16
		groups []tls.CurveID
		suite  uint16
		group  tls.CurveID
	}{
		{handshake.OrderFast, []uint16{a256, a128}, []tls.CurveID{tls.CurveP384, tls.X25519}, a128, 0},
		{handshake.OrderServer, []uint16{a256, a128}, []tls.CurveID{tls.CurveP384, tls.X25519}, a256, tls.CurveP384},
		{handshake.OrderServer, []uint16{a128, a256}, []tls.CurveID{tls.CurveP256, tls.X25519}, a128, tls.CurveP256},
		// An RSA suite of ours comes first, but our certificate does not fit it.
		{handshake.OrderServer, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, a256, a128}, []tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, a256, tls.CurveP384},
	} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Profile.Order, p.Profile.Suites12, p.Profile.Groups = tt.order, tt.ours, nil
			for _, g := range tt.groups {
				p.Profile.Groups = append(p.Profile.Groups, uint16(g))
			}
		})
		o, _, err := withGo(t, p, clientConfig(tls.VersionTLS12, f.Client.TLS()))
		if err != nil || o.err != nil {
			t.Fatalf("%v: client %v, server %v", tt, err, o.err)
		}
		if o.s.Suite != tt.suite || tt.group != 0 && o.s.Group != uint16(tt.group) {
			t.Errorf("%s order: %s, %s", tt.order, handshake.SuiteName(o.s.Suite), handshake.GroupName(o.s.Group))
		}
	}
}

// The order of the client, which OpenSSL lets us choose.
func TestOrderClient(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ciphers, groups string
		suite           uint16
		group           tls.CurveID
	}{
		{"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "P-384:P-256", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.CurveP384},
		{"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384", "P-256:P-384", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.CurveP256},
	} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Profile.Order = handshake.OrderClient })
		o, out := withOpenSSL(t, p, "-tls1_2", "-cipher", tt.ciphers, "-groups", tt.groups, "-cert", cert, "-key", key)
		if o.err != nil || o.s.Suite != tt.suite || o.s.Group != uint16(tt.group) {
			t.Errorf("%s %s: %v %+v\n%s", tt.ciphers, tt.groups, o.err, o.s, out)
		}
		p.Profile.Order = handshake.OrderServer
		o, _ = withOpenSSL(t, p, "-tls1_2", "-cipher", tt.ciphers, "-groups", tt.groups, "-cert", cert, "-key", key)
		if o.err != nil || o.s.Suite != p.Profile.Suites12[0] {
			t.Errorf("the server's: %v %+v", o.err, o.s)
		}
	}
}

// A wanted group costs a HelloRetryRequest where the client sent another share.
func TestOrder13Retry(t *testing.T) {
	config := clientConfig(tls.VersionTLS13, handshaketest.Fixtures().Client.TLS())
	config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	for order, want := range map[handshake.Order]tls.CurveID{handshake.OrderFast: tls.X25519, handshake.OrderServer: tls.CurveP384, handshake.OrderClient: tls.X25519} {
		o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Profile.Order, p.Profile.Groups = order, []uint16{uint16(tls.CurveP384), uint16(tls.X25519)}
		}), config)
		if err != nil || o.err != nil || o.s.Group != uint16(want) || o.s.HelloRetry != (want == tls.CurveP384) {
			t.Errorf("%s: client %v, server %v, %+v", order, err, o.err, o.s)
		}
	}
}

// What the engine cannot keep is refused, or held at TLS 1.2 where asked for,
// and a client that happens to lead to what is allowed stays at TLS 1.3.
func TestCap12(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	only256 := func(p *handshake.ServerParams) {
		p.Profile.Suites13, p.Profile.Cap12 = []uint16{tls.TLS_AES_256_GCM_SHA384}, true
		p.Profile.Suites12 = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	}
	p := handshaketest.ServerParams(only256)
	if l := New().Cannot(&p.Params); l != nil {
		t.Errorf("cannot %v", l)
	}
	o, out := withOpenSSL(t, p, "-cert", cert, "-key", key)
	if o.err != nil || o.s.Version != tls.VersionTLS12 || o.s.Suite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
		t.Errorf("held at 1.2: %v %+v\n%s", o.err, o.s, out)
	}
	if s := facts(o.l); !strings.Contains(s, "held at TLS 1.2: TLS_AES_128_GCM_SHA256 would be chosen") && !strings.Contains(s, "held at TLS 1.2: TLS_CHACHA20_POLY1305_SHA256 would be chosen") {
		t.Errorf("the ledger does not say so: %s", s)
	}
	o, out = withOpenSSL(t, p, "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-cert", cert, "-key", key)
	if o.err != nil || o.s.Version != tls.VersionTLS13 || o.s.Suite != tls.TLS_AES_256_GCM_SHA384 {
		t.Errorf("stays at 1.3: %v %+v\n%s", o.err, o.s, out)
	}
	o, _ = withOpenSSL(t, p, "-tls1_3", "-cert", cert, "-key", key)
	if o.err == nil || o.err.Reason != reason.ProtocolVersion || o.l.AlertSent() != handshake.AlertProtocolVersion {
		t.Errorf("1.3 alone: %v, sent %s", o.err, o.l.AlertSent())
	}
	p = handshaketest.ServerParams(only256, func(p *handshake.ServerParams) { p.Profile.Cap12 = false })
	if o, _ = withOpenSSL(t, p, "-cert", cert, "-key", key); o.err == nil || o.err.Reason != reason.NoCommonSuite || o.l.AlertSent() != handshake.AlertInsufficientSecurity {
		t.Errorf("refused: %v, sent %s", o.err, o.l.AlertSent())
	}
	p = handshaketest.ServerParams(only256, func(p *handshake.ServerParams) { p.Profile.MinVersion = tls.VersionTLS13 })
	if l := New().Cannot(&p.Params); len(l) != 1 {
		t.Errorf("without TLS 1.2: %v", l)
	}
	if o, _ = withOpenSSL(t, p, "-cert", cert, "-key", key); o.err == nil || o.err.Reason != reason.NoCommonSuite {
		t.Errorf("without TLS 1.2: %v", o.err)
	}
}

// pick13 foretells what crypto/tls does.
func TestPick13(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	suites := map[string]uint16{
		"TLS_AES_128_GCM_SHA256": 0x1301, "TLS_AES_256_GCM_SHA384": 0x1302, "TLS_CHACHA20_POLY1305_SHA256": 0x1303, "TLS_AES_128_CCM_SHA256": 0x1304,
	}
	for _, list := range []string{
		"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
		"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
		"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
		"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",
		"TLS_AES_128_CCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
	} {
		var ids []uint16
		for _, name := range strings.Split(list, ":") {
			ids = append(ids, suites[name])
		}
		o, out := withOpenSSL(t, handshaketest.ServerParams(), "-tls1_3", "-ciphersuites", list, "-cert", cert, "-key", key)
		if o.err != nil || o.s.Suite != pick13(ids) {
			t.Errorf("%s: %v, foretold %s, got %+v\n%s", list, o.err, handshake.SuiteName(pick13(ids)), o.s, out)
		}
	}
}

func TestRequireEMS(t *testing.T) {
	f := handshaketest.Fixtures()
	require := func(p *handshake.Params) { p.Profile.RequireEMS = true }
	for _, version := range bothVersions {
		if o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { require(&p.Params) }), clientConfig(version, f.Client.TLS())); err != nil || o.err != nil {
			t.Errorf("%s with: client %v, server %v", handshake.VersionName(version), err, o.err)
		}
		if _, e, _, err := dialed(t, clientParams(func(p *handshake.ClientParams) { require(&p.Params) }), serverConfig(version, f.Gateway)); e != nil || err != nil {
			t.Errorf("%s to a server with: %v, %v", handshake.VersionName(version), e, err)
		}
	}
	h := handshaketest.Hello12().Without(handshake.ExtExtendedMasterSecret)
	o := handshakeWith(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { require(&p.Params) }), nil, func(c *net.TCPConn) { sendHello(t, c, h.Bytes()) })
	if o.err == nil || o.err.Reason != reason.NoExtendedMasterSecret || o.l.AlertSent() != handshake.AlertHandshakeFailure {
		t.Errorf("without: %v", o.err)
	}
	// The control: not required, the same hello leads on.
	o = handshakeWith(t, handshaketest.ServerParams(), nil, func(c *net.TCPConn) { sendHello(t, c, h.Bytes()) })
	if o.err == nil || o.err.Reason == reason.NoExtendedMasterSecret || o.err.Step < handshake.StepServerVerified {
		t.Errorf("not required: %v", o.err)
	}
}

func sendHello(t *testing.T, c *net.TCPConn, msg []byte) {
	t.Helper()
	if _, err := c.Write(handshaketest.InRecords(msg, 1<<14)); err != nil {
		t.Error(err)
	}
	_ = c.CloseWrite()
	_, _ = c.Read(make([]byte, 1<<14))
}

// The demands on keys and signatures hold for the whole chain and for the
// proof of possession, with the alert of an unsupported certificate.
func TestStrength(t *testing.T) {
	f := handshaketest.Fixtures()
	leaf := testpki.Leaf{CN: "bob"}
	inter := testpki.Must(f.CA.Intermediate(testpki.Options{Key: testpki.RSA2048}))
	keyed := func(k testpki.KeyKind) *testpki.Cert {
		return testpki.Must(f.CA.Issue(testpki.Leaf{CN: "bob", Key: k}))
	}
	ed := keyed(testpki.Ed25519)
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		params func(*handshake.Profile)
		want   reason.Code
	}{
		"RSA size of an intermediate": {testpki.Must(inter.Issue(leaf)), func(p *handshake.Profile) { p.MinRSABits = 3072 }, reason.WeakKey},
		"curve":                       {f.Client, func(p *handshake.Profile) { p.Curves = []uint16{uint16(tls.CurveP384)} }, reason.WeakKey},
		"EC size":                     {f.Client, func(p *handshake.Profile) { p.MinECBits = 384 }, reason.WeakKey},
		"signature of the chain":      {testpki.Must(inter.Issue(leaf)), func(p *handshake.Profile) { p.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} }, reason.WeakSignature},
		// The chain is signed with ecdsa_secp256r1_sha256, the proof is not.
		"Ed25519 proof": {ed, func(p *handshake.Profile) { p.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} }, reason.WeakSignature},
		"RSA proof":     {keyed(testpki.RSA2048), func(p *handshake.Profile) { p.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} }, reason.WeakSignature},
		"good": {f.Client, func(p *handshake.Profile) {
			p.Signatures, p.Curves = []uint16{uint16(tls.ECDSAWithP256AndSHA256)}, []uint16{uint16(tls.CurveP256)}
		}, ""},
		"Ed25519 allowed": {ed, func(p *handshake.Profile) {
			p.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.Ed25519)}
		}, ""},
	} {
		for _, version := range bothVersions {
			for _, mode := range []handshake.LedgerMode{handshake.LedgerFull, handshake.LedgerSteps} {
				p := handshaketest.ServerParams(func(p *handshake.ServerParams) { tt.params(&p.Profile); p.Ledger = mode })
				o, _, err := withGo(t, p, clientConfig(version, tt.cert.TLS()))
				if tt.want == "" {
					if o.err != nil || err != nil {
						t.Errorf("%s %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
					}
					continue
				}
				if o.err == nil || o.err.Reason != tt.want {
					t.Errorf("%s %s: %v", handshake.VersionName(version), name, o.err)
					continue
				}
				if got := alertSeen(t, err); got != handshake.AlertUnsupportedCertificate || o.l.AlertSent() != got {
					t.Errorf("%s %s: client saw %s, ledger %s", handshake.VersionName(version), name, got, o.l.AlertSent())
				}
			}
		}
	}
}

// The destination proves itself with an allowed scheme, too.
// SHA-1 is refused in the proof of possession too, of both sides, also where
// crypto/tls was told to take it.
func TestSHA1IsRefused(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "alice", DNS: []string{"gateway.test"}, Key: testpki.RSA2048})).TLS()
	asked := func(version uint16) (schemes []tls.SignatureScheme) {
		config := clientConfig(version)
		config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			schemes = r.SignatureSchemes
			return &rsa, nil
		}
		if o, _, err := withGo(t, handshaketest.ServerParams(), config); err != nil || o.err != nil {
			t.Errorf("%s: %v, %v", handshake.VersionName(version), err, o.err)
		}
		return schemes
	}
	for _, version := range bothVersions {
		for _, s := range asked(version) {
			if brokenScheme(uint16(s)) {
				t.Errorf("%s asks for %s", handshake.VersionName(version), s)
			}
		}
	}
	t.Setenv("GODEBUG", "tlssha1=1")
	sha1 := rsa
	sha1.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA1}
	for _, mode := range []handshake.LedgerMode{handshake.LedgerFull, handshake.LedgerSteps} {
		o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Ledger = mode }), clientConfig(tls.VersionTLS12, sha1))
		if o.err == nil || o.err.Reason != reason.WeakSignature || err == nil {
			t.Errorf("client, %s: %v, server %v", mode, err, o.err)
		}
		_, e, _, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.Ledger = mode }), &tls.Config{Certificates: []tls.Certificate{sha1}, MaxVersion: tls.VersionTLS12})
		if e == nil || e.Reason != reason.UpstreamCrypto {
			t.Errorf("destination, %s: %v, server %v", mode, e, err)
		}
	}
}

func TestStrengthOfDestination(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	for _, version := range bothVersions {
		p := clientParams(func(p *handshake.ClientParams) { p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} })
		if _, e, _, err := dialed(t, p, serverConfig(version, f.Gateway)); e != nil || err != nil {
			t.Errorf("%s: %v, %v", handshake.VersionName(version), e, err)
		}
		_, e, l, err := dialed(t, p, serverConfig(version, rsa))
		if e == nil || e.Reason != reason.UpstreamCrypto || err == nil || l.AlertSent() != handshake.AlertInsufficientSecurity {
			t.Errorf("%s RSA: %v, server %v, sent %s", handshake.VersionName(version), e, err, l.AlertSent())
		}
	}
}

// The names announced are set apart from what is trusted.
func TestAcceptableCAs(t *testing.T) {
	f := handshaketest.Fixtures()
	two := []*handshake.Authority{handshaketest.Authority("staff", f.CA), handshaketest.Authority("other", f.Other)}
	for name, tt := range map[string]struct {
		params func(*handshake.ServerParams)
		want   []string
	}{
		"of the authority":   {func(*handshake.ServerParams) {}, []string{f.CA.Cert.Subject.String()}},
		"of two authorities": {func(p *handshake.ServerParams) { p.Authorities = two }, []string{f.CA.Cert.Subject.String(), f.Other.Cert.Subject.String()}},
		"others":             {func(p *handshake.ServerParams) { p.AcceptableCAs = [][]byte{f.Other.Cert.RawSubject} }, []string{f.Other.Cert.Subject.String()}},
		"none":               {func(p *handshake.ServerParams) { p.AcceptableCAs = [][]byte{} }, nil},
	} {
		for _, version := range bothVersions {
			p := handshaketest.ServerParams(tt.params)
			o, _, err := withGo(t, p, clientConfig(version, f.Client.TLS()))
			if err != nil || o.err != nil {
				t.Fatalf("%s %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
			}
			if got := strings.Join(o.l.CANames(), "; "); got != strings.Join(tt.want, "; ") {
				t.Errorf("%s %s: announced %q", handshake.VersionName(version), name, got)
			}
			foreign := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "Third"})).Issue(testpki.Leaf{}))
			if o, _, err := withGo(t, p, clientConfig(version, foreign.TLS())); o.err == nil || o.err.Reason != reason.UnknownCA || err == nil {
				t.Errorf("%s %s: a foreign certificate: %v", handshake.VersionName(version), name, o.err)
			}
		}
	}
}

func facts(l *handshake.Ledger) string {
	var list []string
	for _, e := range l.Entries() {
		list = append(list, e.Facts)
	}
	return strings.Join(list, "; ")
}
