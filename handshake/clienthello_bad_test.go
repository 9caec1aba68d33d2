package handshake_test

import (
	"bytes"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestParseRefuses(t *testing.T) {
	good := handshaketest.GoodHello().Bytes()
	cut := func(n int) []byte { // the message ends early and says so
		b := append([]byte(nil), good[:len(good)-n]...)
		b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
		return b
	}
	set := func(change func(*handshaketest.Hello)) []byte {
		h := handshaketest.GoodHello()
		change(h)
		return h.Bytes()
	}
	ext := func(typ uint16, data ...byte) []byte { return handshaketest.GoodHello().With(typ, data).Bytes() }
	const mal = reason.HelloMalformed
	for _, c := range []struct {
		name  string
		msg   []byte
		code  reason.Code
		alert handshake.Alert
	}{
		{"nothing", nil, mal, handshake.AlertDecodeError},
		{"a header only", good[:4], mal, handshake.AlertDecodeError},
		{"length too long", good[:len(good)-1], mal, handshake.AlertDecodeError},
		{"length too short", append(append([]byte(nil), good...), 0), mal, handshake.AlertDecodeError},
		{"another message", append([]byte{2}, good[1:]...), mal, handshake.AlertUnexpectedMessage},
		{"an SSLv2 hello", []byte{0x80, 0x2e, 1, 0, 2, 0, 3, 0, 0, 0, 16}, mal, handshake.AlertUnexpectedMessage},
		{"no body", []byte{1, 0, 0, 0}, mal, handshake.AlertDecodeError},
		{"ends in the extensions", cut(3), mal, handshake.AlertDecodeError},
		{"larger than can be", make([]byte, handshake.MaxHello+1), reason.HelloTooLarge, handshake.AlertIllegalParameter},
		{"SSL 3.0", set(func(h *handshaketest.Hello) { h.Legacy = 0x0300 }), reason.ProtocolVersion, handshake.AlertProtocolVersion},
		{"SSL 2.0", set(func(h *handshaketest.Hello) { h.Legacy = 0x0002 }), reason.ProtocolVersion, handshake.AlertProtocolVersion},
		{"session ID of 33 bytes", set(func(h *handshaketest.Hello) { h.SID = make([]byte, 33) }), mal, handshake.AlertDecodeError},
		{"no CipherSuites", set(func(h *handshaketest.Hello) { h.Suites = nil }), mal, handshake.AlertDecodeError},
		{"no compression", set(func(h *handshaketest.Hello) { h.Compression = nil }), mal, handshake.AlertDecodeError},
		{"compression without null", set(func(h *handshaketest.Hello) { h.Compression = []byte{1} }), reason.BadCompression, handshake.AlertIllegalParameter},
		{"compression with TLS 1.3", set(func(h *handshaketest.Hello) { h.Compression = []byte{1, 0} }), reason.BadCompression, handshake.AlertIllegalParameter},
		{"null twice with TLS 1.3", set(func(h *handshaketest.Hello) { h.Compression = []byte{0, 0} }), reason.BadCompression, handshake.AlertIllegalParameter},
		{"TLS 1.2 compression without null", func() []byte { h := handshaketest.Hello12(); h.Compression = []byte{1, 64}; return h.Bytes() }(), reason.BadCompression, handshake.AlertIllegalParameter},
		{"an extension twice", set(func(h *handshaketest.Hello) { h.Exts = append(h.Exts, h.Exts[0]) }), mal, handshake.AlertIllegalParameter},
		{"an unknown extension twice", set(func(h *handshaketest.Hello) {
			h.Exts = append(h.Exts, handshake.Extension{999, nil}, handshake.Extension{999, nil})
		}), mal, handshake.AlertIllegalParameter},
		{"two names", handshaketest.GoodHello().With(handshake.ExtServerName, handshaketest.SNIData("a.example", "b.example")).Bytes(), reason.SNIInvalid, handshake.AlertIllegalParameter},
		{"two names of an unknown type", ext(handshake.ExtServerName, handshaketest.Prefixed(7, 0, 1, 'x', 7, 0, 1, 'y')...), reason.SNIInvalid, handshake.AlertIllegalParameter},
		{"an empty name", handshaketest.GoodHello().With(handshake.ExtServerName, handshaketest.SNIData("")).Bytes(), mal, handshake.AlertDecodeError},
		{"no names", ext(handshake.ExtServerName, 0, 0), mal, handshake.AlertDecodeError},
		{"an empty server_name", ext(handshake.ExtServerName), mal, handshake.AlertDecodeError},
		{"bytes behind the names", handshaketest.GoodHello().With(handshake.ExtServerName, append(handshaketest.SNIData("a.example"), 0)).Bytes(), mal, handshake.AlertDecodeError},
		{"no groups", ext(handshake.ExtSupportedGroups, 0, 0), mal, handshake.AlertDecodeError},
		{"half a group", ext(handshake.ExtSupportedGroups, 0, 3, 0, 29, 0), mal, handshake.AlertDecodeError},
		{"bytes behind the groups", ext(handshake.ExtSupportedGroups, 0, 2, 0, 29, 0), mal, handshake.AlertDecodeError},
		{"no signature algorithms", ext(handshake.ExtSignatureAlgorithms, 0, 0), mal, handshake.AlertDecodeError},
		{"half a signature algorithm", ext(handshake.ExtSignatureAlgsCert, 0, 1, 4), mal, handshake.AlertDecodeError},
		{"no point formats", ext(handshake.ExtPointFormats, 0), mal, handshake.AlertDecodeError},
		{"no uncompressed points", handshaketest.Hello12().With(handshake.ExtPointFormats, []byte{1, 1}).Bytes(), mal, handshake.AlertIllegalParameter},
		{"no versions", ext(handshake.ExtSupportedVersions, 0), mal, handshake.AlertDecodeError},
		{"half a version", ext(handshake.ExtSupportedVersions, 3, 3, 4, 3), mal, handshake.AlertDecodeError},
		{"no ALPN", ext(handshake.ExtALPN, 0, 0), mal, handshake.AlertDecodeError},
		{"an empty ALPN name", ext(handshake.ExtALPN, handshaketest.Prefixed(2, 'h', '2', 0)...), mal, handshake.AlertDecodeError},
		{"status_request cut", ext(handshake.ExtStatusRequest, 1, 0, 0, 0), mal, handshake.AlertDecodeError},
		{"SCT with content", ext(handshake.ExtSCT, 0), mal, handshake.AlertDecodeError},
		{"extended_master_secret with content", ext(handshake.ExtExtendedMasterSecret, 0), mal, handshake.AlertDecodeError},
		{"an empty cookie", ext(handshake.ExtCookie, 0, 0), mal, handshake.AlertDecodeError},
		{"no PSK modes", ext(handshake.ExtPSKModes, 0), mal, handshake.AlertDecodeError},
		{"ECH of an unknown type", ext(handshake.ExtECH, 2), mal, handshake.AlertIllegalParameter},
		{"inner ECH with content", ext(handshake.ExtECH, 1, 0), mal, handshake.AlertDecodeError},
		{"outer ECH cut", ext(handshake.ExtECH, 0, 0, 1, 0, 1, 7, 0, 1), mal, handshake.AlertDecodeError},
		{"empty ECH", ext(handshake.ExtECH), mal, handshake.AlertDecodeError},
		{"a renegotiation", ext(handshake.ExtRenegotiationInfo, 2, 1, 1), mal, handshake.AlertHandshakeFailure},
		{"renegotiation_info cut", ext(handshake.ExtRenegotiationInfo), mal, handshake.AlertDecodeError},
		{"key_share cut", ext(handshake.ExtKeyShare, 0, 4, 0, 29, 0, 1), mal, handshake.AlertDecodeError},
		{"an extension longer than the block", append([]byte{1, 0, 0, 47, 3, 3}, append(make([]byte, 33), 0, 2, 0xc0, 0x2b, 1, 0, 0, 4, 0, 23, 0, 1)...), mal, handshake.AlertDecodeError},
		{"40 compression methods without null", set(func(h *handshaketest.Hello) { h.Compression = bytes.Repeat([]byte{7}, 40) }), reason.BadCompression, handshake.AlertIllegalParameter},
		{"bytes behind the shares", handshaketest.GoodHello().With(handshake.ExtKeyShare, append(handshaketest.KeyShares(29), 0)).Bytes(), mal, handshake.AlertDecodeError},
		{"a PSK identity cut", handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, append(handshaketest.Prefixed(0, 9, 't'), handshaketest.PSKData(0, 1)[2:]...)).Bytes(), mal, handshake.AlertDecodeError},
		{"an empty share", ext(handshake.ExtKeyShare, 0, 4, 0, 29, 0, 0), mal, handshake.AlertDecodeError},
		{"two shares of a group", handshaketest.GoodHello().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 29)).Bytes(), mal, handshake.AlertIllegalParameter},
		{"a share of a group not offered", handshaketest.GoodHello().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 24)).Bytes(), mal, handshake.AlertIllegalParameter},
		{"TLS 1.3 without key_share", handshaketest.GoodHello().Without(handshake.ExtKeyShare).Bytes(), mal, handshake.AlertMissingExtension},
		{"TLS 1.3 without supported_groups", handshaketest.GoodHello().Without(handshake.ExtSupportedGroups).Bytes(), mal, handshake.AlertMissingExtension},
		{"TLS 1.3 without both", handshaketest.GoodHello().Without(handshake.ExtSupportedGroups).Without(handshake.ExtKeyShare).Bytes(), mal, handshake.AlertMissingExtension},
		{"TLS 1.3 without signature_algorithms", handshaketest.GoodHello().Without(handshake.ExtSignatureAlgorithms).Bytes(), mal, handshake.AlertMissingExtension},
		{"early_data with content", ext(handshake.ExtEarlyData, 0), mal, handshake.AlertDecodeError},
		{"PSK without modes", handshaketest.GoodHello().With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)).Bytes(), mal, handshake.AlertMissingExtension},
		{"PSK not last", handshaketest.GoodHello().With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)).With(handshake.ExtPSKModes, []byte{1, 1}).Bytes(), mal, handshake.AlertIllegalParameter},
		{"PSK without binders", handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 0)).Bytes(), mal, handshake.AlertDecodeError},
		{"PSK with a binder too many", handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 2)).Bytes(), mal, handshake.AlertIllegalParameter},
		{"PSK with a short binder", handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, append(handshaketest.Prefixed(0, 1, 't', 0, 0, 0, 0), handshaketest.Prefixed(1, 1)...)).Bytes(), mal, handshake.AlertDecodeError},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := handshake.ParseClientHello(c.msg)
			if h != nil {
				t.Error("a hello beside the error")
			}
			wantRefusal(t, err, c.code, c.alert)
		})
	}
}

// What is odd but legal passes.
func TestParseAccepts(t *testing.T) {
	psk := []byte{1, 1}
	for name, msg := range map[string][]byte{
		"as built":                      handshaketest.GoodHello().Bytes(),
		"TLS 1.2":                       handshaketest.Hello12().Bytes(),
		"TLS 1.2 with old compression":  func() []byte { h := handshaketest.Hello12(); h.Compression = []byte{1, 0}; return h.Bytes() }(),
		"no shares: HelloRetryRequest":  handshaketest.GoodHello().With(handshake.ExtKeyShare, []byte{0, 0}).Bytes(),
		"PSK last":                      handshaketest.GoodHello().With(handshake.ExtPSKModes, psk).With(handshake.ExtPreSharedKey, handshaketest.PSKData(2, 2)).Bytes(),
		"PSK alone":                     handshaketest.GoodHello().Without(handshake.ExtSupportedGroups).Without(handshake.ExtKeyShare).Without(handshake.ExtSignatureAlgorithms).With(handshake.ExtPSKModes, psk).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)).Bytes(),
		"GREASE extension":              handshaketest.GoodHello().With(0x3a3a, nil).Bytes(),
		"unknown extension":             handshaketest.GoodHello().With(0x7777, []byte{1, 2, 3}).Bytes(),
		"cookie":                        handshaketest.GoodHello().With(handshake.ExtCookie, handshaketest.Prefixed(1)).Bytes(),
		"inner ECH":                     handshaketest.GoodHello().With(handshake.ExtECH, []byte{1}).Bytes(),
		"TLS 1.3 with compressed point": handshaketest.GoodHello().With(handshake.ExtPointFormats, []byte{1, 1}).Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := handshake.ParseClientHello(msg)
			if err != nil {
				t.Fatal(err)
			}
			if string(h.Marshal()) != string(msg) {
				t.Error("does not marshal back")
			}
		})
	}
}

// What only TLS 1.3 forbids is no fault of a hello that does not offer it: it comes
// to a handshake of TLS 1.2. What crypto/tls cannot decode all the same is refused
// by the handshake alone, with its alert, and bypassed where the policy says so.
func TestRulesOf13WithoutIt(t *testing.T) {
	modes := []byte{1, 1}
	for name, c := range map[string]struct {
		h     *handshaketest.Hello
		alert handshake.Alert // of the handshake; AlertNone: there is one
	}{
		"PSK without modes":            {handshaketest.Hello12().With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)), handshake.AlertNone},
		"PSK with a binder too many":   {handshaketest.Hello12().With(handshake.ExtPSKModes, modes).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 2)), handshake.AlertIllegalParameter},
		"PSK not last":                 {handshaketest.Hello12().With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)).With(handshake.ExtPSKModes, modes), handshake.AlertIllegalParameter},
		"early data without PSK":       {handshaketest.Hello12().With(handshake.ExtEarlyData, nil), handshake.AlertNone},
		"early data with content":      {handshaketest.Hello12().With(handshake.ExtEarlyData, []byte{0}), handshake.AlertDecodeError},
		"two shares of a group":        {handshaketest.Hello12().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 29)), handshake.AlertNone},
		"a share of a group not there": {handshaketest.Hello12().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 24)), handshake.AlertNone},
		"key_share without its groups": {handshaketest.Hello12().Without(handshake.ExtSupportedGroups).With(handshake.ExtKeyShare, handshaketest.KeyShares(29)), handshake.AlertNone},
		"key_share cut":                {handshaketest.Hello12().With(handshake.ExtKeyShare, []byte{0, 4, 0, 29, 0, 1}), handshake.AlertDecodeError},
		"ECH of an unknown type":       {handshaketest.Hello12().With(handshake.ExtECH, []byte{2}), handshake.AlertIllegalParameter},
		"outer ECH cut":                {handshaketest.Hello12().With(handshake.ExtECH, []byte{0, 0, 1, 0, 1, 7, 0, 1}), handshake.AlertDecodeError},
		"an empty cookie":              {handshaketest.Hello12().With(handshake.ExtCookie, []byte{0, 0}), handshake.AlertDecodeError},
		"no PSK modes":                 {handshaketest.Hello12().With(handshake.ExtPSKModes, []byte{0}), handshake.AlertDecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			msg := c.h.Bytes()
			h, err := handshake.ParseClientHello(msg)
			if err != nil {
				t.Fatal(err)
			}
			if string(h.Marshal()) != string(msg) {
				t.Error("does not marshal back")
			}
			if c.alert != handshake.AlertNone {
				wantRefusal(t, h.Acceptable(handshaketest.Profile()), reason.HelloMalformed, c.alert)
				return
			}
			if _, err := readByCryptoTLS(msg); err != nil {
				t.Errorf("crypto/tls cannot read it: %v", err)
			}
			if e := h.Acceptable(handshaketest.Profile()); e != nil && e.Reason == reason.HelloMalformed {
				t.Error(e)
			}
		})
	}
}
