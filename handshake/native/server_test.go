package native

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestAgreement(t *testing.T) {
	for _, suite := range handshake.Suites13() {
		for _, group := range keys.Groups() {
			t.Run(fmt.Sprintf("%s %s", handshake.SuiteName(suite), handshake.GroupName(group)), func(t *testing.T) {
				p := params(func(p *handshake.ServerParams) {
					p.Profile.Suites13, p.Profile.Groups, p.ALPN = []uint16{suite}, []uint16{group}, []string{"h2", "http/1.1"}
				})
				config := clientConfig(alice())
				config.NextProtos = []string{"http/1.1", "h2"}
				config.CurvePreferences = []tls.CurveID{tls.CurveID(group)}
				o, cs, err := newRig(p).withGo(t, config)
				switch {
				case err != nil || o.err != nil:
					t.Fatal(err, o.err)
				case cs.CipherSuite != suite || cs.CurveID != tls.CurveID(group) || cs.NegotiatedProtocol != "h2" || cs.Version != tls.VersionTLS13:
					t.Errorf("the client has %+v", cs)
				case o.s.Suite != suite || o.s.Group != group || o.s.ALPN != "h2" || o.s.ServerName != "gateway.test" || o.s.HelloRetry || o.s.Resumed:
					t.Errorf("the server has %+v", o.s.State)
				case !o.s.Peer.Proven || o.s.Peer.Authority != "staff" || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256):
					t.Errorf("the client is %+v", o.s.Peer)
				case o.asked != 1 || !o.proven:
					t.Errorf("asked %d times, proven %v", o.asked, o.proven)
				case o.l.Reached() != handshake.StepApplicationData || o.l.AlertSent() != handshake.AlertNone:
					t.Errorf("reached %v, sent %s", o.l.Reached(), o.l.AlertSent())
				}
			})
		}
	}
}

// issued is a certificate of Staff CA for a key of a kind.
func issued(t *testing.T, kind testpki.KeyKind, name string) tls.Certificate {
	t.Helper()
	key, err := testpki.NewKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	leaf := testpki.Leaf{CN: name}
	if name == "gateway" {
		leaf.DNS = []string{"gateway.test"}
	}
	c, err := handshaketest.Fixtures().CA.IssueFor(leaf, key)
	if err != nil {
		t.Fatal(err)
	}
	return c.TLS()
}

// Every kind of key on either side, with and without a certificate of the client, whatever
// is asked for.
func TestKeysAndModes(t *testing.T) {
	kinds := map[testpki.KeyKind]uint16{
		testpki.P256: uint16(tls.ECDSAWithP256AndSHA256), testpki.P384: uint16(tls.ECDSAWithP384AndSHA384), testpki.P521: uint16(tls.ECDSAWithP521AndSHA512),
		testpki.RSA2048: uint16(tls.PSSWithSHA256), testpki.Ed25519: uint16(tls.Ed25519), testpki.MLDSA44: uint16(tls.MLDSA44), testpki.MLDSA65: uint16(tls.MLDSA65), testpki.MLDSA87: uint16(tls.MLDSA87),
	}
	for kind, scheme := range kinds {
		gateway, client := issued(t, kind, "gateway"), issued(t, kind, "bob")
		for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
			for _, shows := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s %v", kind, auth, shows), func(t *testing.T) {
					p := params(func(p *handshake.ServerParams) { p.Certificates, p.ClientAuth = []tls.Certificate{gateway}, auth })
					config := clientConfig()
					if shows {
						config = clientConfig(client)
					}
					o, cs, err := newRig(p).withGo(t, config)
					if auth == handshake.ClientAuthRequired && !shows {
						if alertSeen(err) != handshake.AlertCertificateRequired || o.err == nil || o.err.Reason != reason.NoCertificate || o.asked != 0 {
							t.Errorf("%v, %v, asked %d times", err, o.err, o.asked)
						}
						return
					}
					if err != nil || o.err != nil {
						t.Fatal(err, o.err)
					}
					if got := cs.PeerCertificates[0]; !got.Equal(gateway.Leaf) {
						t.Errorf("%s was shown", got.Subject)
					}
					if shown := shows && auth != handshake.ClientAuthNone; (o.s.Peer != nil) != shown || shown && o.s.Peer.SignatureScheme != scheme || o.proven != shown || o.asked != 1 {
						t.Errorf("peer %+v, asked %d times, proven %v", o.s.Peer, o.asked, o.proven)
					}
				})
			}
		}
	}
}

// The lists of the CertificateRequest are those of the profile.
func TestCertificateRequest(t *testing.T) {
	every := append(schemes(), schemesCert()...)
	for name, c := range map[string]struct{ profile, signatures, certs []uint16 }{
		"none":            {nil, schemes(), every},
		"one":             {[]uint16{0x0403}, []uint16{0x0403}, nil},
		"in its order":    {[]uint16{0x0806, 0x0403, 0x0906}, []uint16{0x0806, 0x0403, 0x0906}, nil},
		"with PKCS1":      {[]uint16{0x0501, 0x0503, 0x0403}, []uint16{0x0503, 0x0403}, []uint16{0x0501, 0x0503, 0x0403}},
		"what is unknown": {[]uint16{0x0403, 0x0807, 0x0808}, []uint16{0x0403, 0x0807}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := params(func(p *handshake.ServerParams) { p.Profile.Signatures = c.profile })
			var request *wire.CertificateRequest
			newRig(p).with(t, func(conn *net.TCPConn) {
				raw := newRaw(t, conn)
				raw.seen = func(msg []byte) {
					if msg[0] == handshake.TypeCertificateRequest {
						request, _ = wire.ParseCertificateRequest(msg)
					}
				}
				raw.sendHello(raw.hi())
				raw.readFlight()
			})
			if request == nil {
				t.Fatal("no CertificateRequest")
			}
			if !slices.Equal(request.Signatures, c.signatures) || !slices.Equal(request.SignaturesCert, c.certs) || !request.StatusRequest {
				t.Errorf("%x, %x", request.Signatures, request.SignaturesCert)
			}
			names := slices.Collect(request.Authorities.All())
			if len(names) != 1 || !bytes.Equal(names[0], handshaketest.Fixtures().CA.Root.RawSubject) {
				t.Errorf("the names %x", names)
			}
		})
	}
}

// What suite and group are chosen goes by the order that the profile asks for.
func TestOrder(t *testing.T) {
	const a128, a256, chacha = tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256
	x, p256, p384, hybrid := uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384), uint16(tls.X25519MLKEM768)
	for name, c := range map[string]struct {
		order                      handshake.Order
		suites, groups             []uint16 // of the profile
		offered, supported, shares []uint16 // of the client
		suite, group               uint16
	}{
		"ours":                    {handshake.OrderServer, []uint16{chacha, a256, a128}, []uint16{p384, x}, []uint16{a128, a256, chacha}, []uint16{x, p384}, []uint16{x}, chacha, p384},
		"theirs":                  {handshake.OrderClient, []uint16{chacha, a256, a128}, []uint16{p384, x}, []uint16{a128, a256, chacha}, []uint16{x, p384}, []uint16{p384}, a128, x},
		"not listed":              {handshake.OrderClient, []uint16{a256}, []uint16{p256}, []uint16{a128, a256, chacha}, []uint16{x, p384, p256}, nil, a256, p256},
		"fast, ChaCha20 first":    {handshake.OrderFast, nil, []uint16{x, p256}, []uint16{chacha, a128, a256}, []uint16{x, p256}, []uint16{p256}, chacha, p256},
		"fast, a hybrid first":    {handshake.OrderFast, []uint16{a256}, []uint16{x, hybrid}, []uint16{a128, a256}, []uint16{x, hybrid}, []uint16{x}, a256, hybrid},
		"fast, none has a share":  {handshake.OrderFast, []uint16{a256}, []uint16{p384, x}, []uint16{a256}, []uint16{x, p384}, nil, a256, p384},
		"fast, only what is kept": {handshake.OrderFast, []uint16{chacha}, []uint16{x}, []uint16{a128, a256, chacha}, []uint16{x}, []uint16{x}, chacha, x},
	} {
		p := params(func(p *handshake.ServerParams) {
			p.Profile.Order, p.Profile.Suites13, p.Profile.Groups = c.order, c.suites, c.groups
		})
		h := &handshake.ClientHello{SupportedVersions: []uint16{tls.VersionTLS13}, CipherSuites: c.offered, Groups: c.supported, KeyShares: c.shares, SignatureSchemes: []uint16{0x0403}}
		got, e := choose(p, h)
		if e != nil || got.suite.ID != c.suite || got.group != c.group {
			t.Errorf("%s: %+v, %v", name, got, e)
		}
	}
}

// A hello that nothing can come of is answered before anything else.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		plan   func(*handshake.ServerParams)
		client func(*tls.Config)
		code   reason.Code
		alert  handshake.Alert
	}{
		"TLS 1.2 alone":           {func(*handshake.ServerParams) {}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, reason.ProtocolVersion, handshake.AlertProtocolVersion},
		"a profile that is wider": {func(p *handshake.ServerParams) { p.Profile.MinVersion = tls.VersionTLS12 }, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, reason.ProtocolVersion, handshake.AlertProtocolVersion},
		"a profile of TLS 1.2": {func(p *handshake.ServerParams) {
			p.Profile.MinVersion, p.Profile.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		}, func(*tls.Config) {}, reason.ProtocolVersion, handshake.AlertProtocolVersion},
		"no group":                  {func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.MLKEM1024)} }, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, reason.NoCommonGroup, handshake.AlertInsufficientSecurity},
		"a group that nobody has":   {func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{0x0100} }, func(*tls.Config) {}, reason.NoCommonGroup, handshake.AlertInsufficientSecurity},
		"no group in the profile":   {func(p *handshake.ServerParams) { p.Profile.Groups = nil }, func(*tls.Config) {}, reason.NoCommonGroup, handshake.AlertInsufficientSecurity},
		"a suite that is not there": {func(p *handshake.ServerParams) { p.Profile.Suites13 = []uint16{0x1304} }, func(*tls.Config) {}, reason.NoCommonSuite, handshake.AlertInsufficientSecurity},
		"no protocol":               {func(p *handshake.ServerParams) { p.ALPN = []string{"x"} }, func(c *tls.Config) { c.NextProtos = []string{"h2"} }, reason.NoALPN, handshake.AlertNoApplicationProtocol},
		"no scheme":                 {func(p *handshake.ServerParams) { p.Profile.Signatures = []uint16{uint16(tls.MLDSA87)} }, func(*tls.Config) {}, reason.NoCommonSigAlg, handshake.AlertOf(reason.NoCommonSigAlg)},
		"no certificate of ours":    {func(p *handshake.ServerParams) { p.Certificates = nil }, func(*tls.Config) {}, reason.Internal, handshake.AlertInternalError},
	} {
		config := clientConfig(alice())
		config.MinVersion = tls.VersionTLS12
		c.client(config)
		o, _, err := newRig(params(func(*handshake.ServerParams) {}, c.plan)).withGo(t, config)
		if o.err == nil || o.err.Reason != c.code || o.err.Wanted != c.alert || alertSeen(err) != c.alert || o.l.AlertSent() != c.alert || o.asked != 0 {
			t.Errorf("%s: %v, the client got %v", name, o.err, err)
		}
	}
}

// A refusal of policy is the alert that it wants, and comes once the client is proven.
func TestPolicyRefuses(t *testing.T) {
	for _, code := range []reason.Code{reason.NotAllowed, reason.Revoked, reason.ConditionFailed} {
		r := newRig(params())
		r.check = func(p *handshake.Peer, s *handshake.State) error {
			if !p.Proven || p.Authority != "staff" || s.Version != tls.VersionTLS13 {
				t.Errorf("asked about %+v, %+v", p, s)
			}
			return handshake.Refuse(handshake.StepNone, code, "")
		}
		o, _, err := r.withGo(t, clientConfig(alice()))
		want := handshake.AlertOf(code)
		if o.err == nil || o.err.Reason != code || o.err.Step != handshake.StepClientVerified || alertSeen(err) != want || o.l.AlertSent() != want || o.asked != 1 {
			t.Errorf("%s: %v, asked %d times, the client got %v", code, o.err, o.asked, err)
		}
		if o.err != nil && (o.err.Peer == nil || o.err.Peer.Proven) {
			t.Errorf("%s: the refused peer is %+v", code, o.err.Peer)
		}
	}
}

// A chain that does not verify is refused with the reason and the alert of package
// handshake, and check is not asked.
func TestBadChains(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, fault := range testpki.Faults() {
		if fault.Name == "p224" {
			continue // no client can sign with it in TLS 1.3
		}
		cert := testpki.Must(fault.Make(f.CA, testpki.Leaf{CN: "mallory"}))
		o, _, err := newRig(params()).withGo(t, clientConfig(cert.TLS()))
		if o.err == nil || o.err.Reason != fault.Reason || o.asked != 0 || alertSeen(err) != handshake.AlertOf(fault.Reason) || o.l.AlertSent() != alertSeen(err) {
			t.Errorf("%s: %v, asked %d times, the client got %v: want %s", fault.Name, o.err, o.asked, err, fault.Reason)
		}
	}
}
