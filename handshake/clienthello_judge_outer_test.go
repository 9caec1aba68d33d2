package handshake_test

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestAcceptable(t *testing.T) {
	modern, intermediate := handshake.NamedProfiles()[0], handshake.NamedProfiles()[1]
	aes256 := modern
	aes256.Suites13 = []uint16{0x1302}
	hybrid := modern
	hybrid.Groups = []uint16{0x11ec}
	rsaToo := intermediate
	rsaToo.Suites12 = append([]uint16{0x009c}, rsaToo.Suites12...)
	with12 := func(suites []uint16, groups ...uint16) *handshaketest.Hello {
		h := handshaketest.Hello12()
		h.Suites = suites
		if groups == nil {
			return h.Without(handshake.ExtSupportedGroups)
		}
		return h.With(handshake.ExtSupportedGroups, handshaketest.List16(groups...))
	}
	with13 := func(suites ...uint16) *handshaketest.Hello {
		h := handshaketest.GoodHello()
		h.Suites = suites
		return h
	}
	old := with12([]uint16{0xc02b}, 0x1d)
	old.Legacy = 0x0302
	for _, c := range []struct {
		name   string
		hello  *handshaketest.Hello
		p      handshake.Profile
		code   reason.Code
		alert  handshake.Alert
		detail string
	}{
		{"1.3", handshaketest.GoodHello(), modern, "", 0, ""},
		{"1.3 to intermediate", handshaketest.GoodHello(), intermediate, "", 0, ""},
		{"1.2 to intermediate", handshaketest.Hello12(), intermediate, "", 0, ""},
		{"1.2 to modern", handshaketest.Hello12(), modern, reason.ProtocolVersion, 70, "the client offers TLS 1.2, TLS 1.1, TLS 1.0"},
		{"1.1 to intermediate", old, intermediate, reason.ProtocolVersion, 70, "the client offers TLS 1.1, TLS 1.0"},
		{"a version to come", handshaketest.GoodHello().With(handshake.ExtSupportedVersions, []byte{4, 0x0a, 0x0a, 3, 5}), intermediate, reason.ProtocolVersion, 70, "the client offers 0x0305"},
		{"GREASE alone", handshaketest.GoodHello().With(handshake.ExtSupportedVersions, []byte{2, 0x0a, 0x0a}), intermediate, reason.ProtocolVersion, 70, "the client offers nothing known"},
		{"to nothing", handshaketest.GoodHello(), handshake.Profile{}, reason.ProtocolVersion, 70, "the client offers TLS 1.3, TLS 1.2"},
		{"no suite of 1.3", with13(0xc02b, 0x1304), intermediate, reason.NoCommonSuite, 71, "for TLS 1.3 the client offers TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_CCM_SHA256"},
		{"not the suite demanded", handshaketest.GoodHello(), aes256, reason.NoCommonSuite, 71, "for TLS 1.3 the client offers TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
		{"no suite of 1.2", with12([]uint16{0x0a0a, 0x002f, 0x009e, 0x1301}, 0x1d), intermediate, reason.NoCommonSuite, 71, "for TLS 1.2 the client offers TLS_RSA_WITH_AES_128_CBC_SHA, TLS_DHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256"},
		{"no group of 1.3", handshaketest.GoodHello(), hybrid, reason.NoCommonGroup, 71, "the client offers X25519, secp256r1"},
		{"no group of 1.2", with12([]uint16{0xc02b}, 0x1e, 0x100), intermediate, reason.NoCommonGroup, 71, "the client offers X448, ffdhe2048"},
		{"a hybrid is no group of 1.2", with12([]uint16{0xc02b}, 0x11ec), intermediate, reason.NoCommonGroup, 71, "the client offers X25519MLKEM768"},
		{"no groups in 1.2", with12([]uint16{0xc02b}), intermediate, reason.NoCommonGroup, 71, "the client offers no supported_groups"},
		{"RSA key transport needs no group", with12([]uint16{0x009c}), rsaToo, "", 0, ""},
		{"RSA key transport instead of ECDHE", with12([]uint16{0xc02b, 0x009c}, 0x1e), rsaToo, "", 0, ""},
		{"a trailing dot", handshaketest.GoodHello().With(handshake.ExtServerName, handshaketest.SNIData("shop.example.")), modern, reason.SNIInvalid, 47, `"shop.example." ends with a dot`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := handshake.ParseClientHello(c.hello.Bytes())
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

func TestSummary(t *testing.T) {
	long := strings.Repeat("x", 200)
	for want, h := range map[string]*handshaketest.Hello{
		"TLS 1.3, 1.2; 2 CipherSuites; X25519 share; sni shop.example":                     handshaketest.GoodHello(),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example":                              handshaketest.Hello12(),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; no sni":                                        handshaketest.Hello12().Without(handshake.ExtServerName),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; unusable sni "a\nb"`:                           handshaketest.Hello12().With(handshake.ExtServerName, handshaketest.SNIData("a\nb")),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; unusable sni "` + long[:64] + `"...`:           handshaketest.Hello12().With(handshake.ExtServerName, handshaketest.SNIData(long)),
		"TLS 1.3, 1.2; 2 CipherSuites; X25519 share; sni shop.example; ech":                handshaketest.GoodHello().With(handshake.ExtECH, []byte{1}),
		"TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn h2 http/1.1":            handshaketest.Hello12().With(handshake.ExtALPN, handshaketest.Prefixed([]byte("\x02h2\x08http/1.1")...)),
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn "a b" "\x00" 1 2 ...`:   handshaketest.Hello12().With(handshake.ExtALPN, handshaketest.Prefixed([]byte("\x03a b\x01\x00\x011\x012\x013")...)),
		"TLS 1.3, 1.2; 1 CipherSuite; X25519 share; sni shop.example":                      {Legacy: 0x0303, Suites: []uint16{0xdada, 0x1301, 0xff, 0x5600}, Compression: []byte{0}, Exts: handshaketest.GoodHello().Exts},
		`TLS 1.2, 1.1, 1.0; 2 CipherSuites; sni shop.example; alpn "` + long[:32] + `"...`: handshaketest.Hello12().With(handshake.ExtALPN, handshaketest.Prefixed(append([]byte{200}, long...)...)),
	} {
		got, err := handshake.ParseClientHello(h.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if s := got.Summary(); s != want {
			t.Errorf("got\n%s, want\n%s", s, want)
		}
	}
}
