package handshake

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestAcceptable(t *testing.T) {
	modern, intermediate := NamedProfiles()[0], NamedProfiles()[1]
	aes256 := modern
	aes256.Suites13 = []uint16{0x1302}
	hybrid := modern
	hybrid.Groups = []uint16{0x11ec}
	rsaToo := intermediate
	rsaToo.Suites12 = append([]uint16{0x009c}, rsaToo.Suites12...)
	with12 := func(suites []uint16, groups ...uint16) *hello {
		h := hello12()
		h.suites = suites
		if groups == nil {
			return h.without(ExtSupportedGroups)
		}
		return h.with(ExtSupportedGroups, list16(groups...))
	}
	with13 := func(suites ...uint16) *hello {
		h := goodHello()
		h.suites = suites
		return h
	}
	old := with12([]uint16{0xc02b}, 0x1d)
	old.legacy = 0x0302
	for _, c := range []struct {
		name   string
		hello  *hello
		p      Profile
		code   reason.Code
		alert  Alert
		detail string
	}{
		{"1.3", goodHello(), modern, "", 0, ""},
		{"1.3 to intermediate", goodHello(), intermediate, "", 0, ""},
		{"1.2 to intermediate", hello12(), intermediate, "", 0, ""},
		{"1.2 to modern", hello12(), modern, reason.ProtocolVersion, 70, "the client offers TLS 1.2, TLS 1.1, TLS 1.0"},
		{"1.1 to intermediate", old, intermediate, reason.ProtocolVersion, 70, "the client offers TLS 1.1, TLS 1.0"},
		{"a version to come", goodHello().with(ExtSupportedVersions, []byte{4, 0x0a, 0x0a, 3, 5}), intermediate, reason.ProtocolVersion, 70, "the client offers 0x0305"},
		{"GREASE alone", goodHello().with(ExtSupportedVersions, []byte{2, 0x0a, 0x0a}), intermediate, reason.ProtocolVersion, 70, "the client offers nothing known"},
		{"to nothing", goodHello(), Profile{}, reason.ProtocolVersion, 70, "the client offers TLS 1.3, TLS 1.2"},
		{"no suite of 1.3", with13(0xc02b, 0x1304), intermediate, reason.NoCommonSuite, 71, "for TLS 1.3 the client offers TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_CCM_SHA256"},
		{"not the suite demanded", goodHello(), aes256, reason.NoCommonSuite, 71, "for TLS 1.3 the client offers TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
		{"no suite of 1.2", with12([]uint16{0x0a0a, 0x002f, 0x009e, 0x1301}, 0x1d), intermediate, reason.NoCommonSuite, 71, "for TLS 1.2 the client offers TLS_RSA_WITH_AES_128_CBC_SHA, TLS_DHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256"},
		{"no group of 1.3", goodHello(), hybrid, reason.NoCommonGroup, 71, "the client offers X25519, secp256r1"},
		{"no group of 1.2", with12([]uint16{0xc02b}, 0x1e, 0x100), intermediate, reason.NoCommonGroup, 71, "the client offers X448, ffdhe2048"},
		{"a hybrid is no group of 1.2", with12([]uint16{0xc02b}, 0x11ec), intermediate, reason.NoCommonGroup, 71, "the client offers X25519MLKEM768"},
		{"no groups in 1.2", with12([]uint16{0xc02b}), intermediate, reason.NoCommonGroup, 71, "the client offers no supported_groups"},
		{"RSA key transport needs no group", with12([]uint16{0x009c}), rsaToo, "", 0, ""},
		{"RSA key transport instead of ECDHE", with12([]uint16{0xc02b, 0x009c}, 0x1e), rsaToo, "", 0, ""},
		{"a trailing dot", goodHello().with(ExtServerName, sniData("shop.example.")), modern, reason.SNIInvalid, 47, `"shop.example." ends with a dot`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseClientHello(c.hello.bytes())
			if err != nil {
				t.Fatal(err)
			}
			e := h.Acceptable(c.p)
			if c.code == "" {
				if e != nil {
					t.Error(e)
				}
				return
			}
			if e == nil {
				t.Fatal("accepted")
			}
			wantRefusal(t, e, c.code, c.alert)
			if e.Detail != c.detail {
				t.Errorf("detail is\n%s, want\n%s", e.Detail, c.detail)
			}
		})
	}
}

// The verdict before the handshake is the one that crypto/tls comes to in it:
// every kind of client against every kind of profile.
func TestAcceptableIsWhatCryptoTLSFinds(t *testing.T) {
	f := fixtures()
	rsa := testpki.Must(f.ca.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	versions := [][2]uint16{{0x0303, 0x0303}, {0x0304, 0x0304}, {0x0303, 0x0304}, {0x0301, 0x0302}}
	groupSets := [][]uint16{{0x1d}, {0x17, 0x18}, {0x11ec}, {0x11ed, 0x19}, NewStdEngine().Capabilities().Groups}
	suiteSets := [][]uint16{{0xc02b}, {0xc030, 0xcca9}, {0x009c}, {0x009c, 0xc02f, 0xc02c}}
	var profiles []Profile
	for _, v := range versions[:3] {
		for _, g := range groupSets {
			for i, s := range suiteSets {
				if v[0] > tls.VersionTLS12 && i > 0 {
					break // TLS 1.3 alone has no use for them
				}
				profiles = append(profiles, Profile{MinVersion: v[0], MaxVersion: v[1], Groups: g, Suites12: s})
			}
		}
	}
	yes, no := 0, 0
	for _, v := range versions {
		for _, g := range groupSets {
			for i, s := range suiteSets {
				if i > 0 && (v[1] < tls.VersionTLS12 || v[0] > tls.VersionTLS12) {
					break
				}
				if v[1] < tls.VersionTLS12 {
					s = []uint16{0xc009} // crypto/tls offers no AEAD suite without TLS 1.2
				}
				//nolint:gosec // clients of every kind
				client := &tls.Config{RootCAs: f.ca.Pool(), ServerName: "gateway.test", MinVersion: v[0], MaxVersion: v[1], CipherSuites: s, CurvePreferences: curves(g)}
				in := recordedHello(t, client)
				h, err := ParseClientHello(in[RecordHeader:])
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range profiles {
					//nolint:gosec // the profile's versions
					server := &tls.Config{
						Certificates: []tls.Certificate{f.gateway.TLS(), rsa.TLS()},
						MinVersion:   p.MinVersion, MaxVersion: p.MaxVersion, CipherSuites: p.Suites12, CurvePreferences: curves(p.Groups),
					}
					conn := &scriptedConn{in: in}
					_ = tls.Server(conn, server).Handshake() // ends with io.EOF at the latest
					answer := conn.out.Bytes()
					e := h.Acceptable(p)
					switch {
					case len(answer) == 0:
						t.Fatal("crypto/tls does not answer")
					case answer[0] == RecordHandshake && e != nil:
						t.Errorf("%s is refused, crypto/tls takes it: %v", describe(h, p), e)
					case answer[0] == RecordAlert && e == nil:
						t.Errorf("%s passes, crypto/tls answers %v", describe(h, p), Alert(answer[6]))
					case e == nil:
						yes++
					default:
						no++
						if (Alert(answer[6]) == AlertProtocolVersion) != (e.Reason == reason.ProtocolVersion) {
							t.Errorf("%s: %v, crypto/tls answers %v", describe(h, p), e, Alert(answer[6]))
						}
					}
				}
			}
		}
	}
	if yes < 100 || no < 100 {
		t.Errorf("%d accepted, %d refused: the cases are too few to mean something", yes, no)
	}
}

func curves(groups []uint16) []tls.CurveID {
	var out []tls.CurveID
	for _, g := range groups {
		out = append(out, tls.CurveID(g))
	}
	return out
}

func describe(h *ClientHello, p Profile) string {
	return fmt.Sprintf("%s (groups %x) against %s to %s, %x, %x", h.Summary(), h.Groups,
		VersionName(p.MinVersion), VersionName(p.MaxVersion), p.Suites12, p.Groups)
}

func TestListedIsBounded(t *testing.T) {
	var ids []uint16
	for id := range uint16(200) {
		ids = append(ids, id)
	}
	got := listed(ids, SuiteName)
	if !strings.HasSuffix(got, " and 184 more") || strings.Count(got, ",") != maxListed-1 || len(got) > 1000 {
		t.Errorf("got %d bytes: %s", len(got), got)
	}
}

func TestSummary(t *testing.T) {
	long := strings.Repeat("x", 200)
	for want, h := range map[string]*hello{
		"TLS 1.3, 1.2; 2 CipherSuites; X25519 share; sni shop.example":                     goodHello(),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example":                              hello12(),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; no sni":                                        hello12().without(ExtServerName),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; unusable sni "a\nb"`:                           hello12().with(ExtServerName, sniData("a\nb")),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; unusable sni "` + long[:64] + `"...`:           hello12().with(ExtServerName, sniData(long)),
		"TLS 1.3, 1.2; 2 CipherSuites; X25519 share; sni shop.example; ech":                goodHello().with(ExtECH, []byte{1}),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn h2 http/1.1":            hello12().with(ExtALPN, prefixed([]byte("\x02h2\x08http/1.1")...)),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn "a b" "\x00" 1 2 ...`:   hello12().with(ExtALPN, prefixed([]byte("\x03a b\x01\x00\x011\x012\x013")...)),
		"TLS 1.3, 1.2; 1 CipherSuite; X25519 share; sni shop.example":                      {legacy: 0x0303, suites: []uint16{0xdada, 0x1301, 0xff, 0x5600}, compression: []byte{0}, exts: goodHello().exts},
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn "` + long[:32] + `"...`: hello12().with(ExtALPN, prefixed(append([]byte{200}, long...)...)),
	} {
		got, err := ParseClientHello(h.bytes())
		if err != nil {
			t.Fatal(err)
		}
		if s := got.Summary(); s != want {
			t.Errorf("got\n%s, want\n%s", s, want)
		}
	}
}
