package handshake

import (
	"bytes"
	"testing"

	"github.com/sslgate/sslgate/internal/reason"
)

func TestParseRefuses(t *testing.T) {
	good := goodHello().bytes()
	cut := func(n int) []byte { // the message ends early and says so
		b := append([]byte(nil), good[:len(good)-n]...)
		b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
		return b
	}
	set := func(change func(*hello)) []byte {
		h := goodHello()
		change(h)
		return h.bytes()
	}
	ext := func(typ uint16, data ...byte) []byte { return goodHello().with(typ, data).bytes() }
	const mal = reason.HelloMalformed
	for _, c := range []struct {
		name  string
		msg   []byte
		code  reason.Code
		alert Alert
	}{
		{"nothing", nil, mal, AlertDecodeError},
		{"a header only", good[:4], mal, AlertDecodeError},
		{"length too long", good[:len(good)-1], mal, AlertDecodeError},
		{"length too short", append(append([]byte(nil), good...), 0), mal, AlertDecodeError},
		{"another message", append([]byte{2}, good[1:]...), mal, AlertUnexpectedMessage},
		{"an SSLv2 hello", []byte{0x80, 0x2e, 1, 0, 2, 0, 3, 0, 0, 0, 16}, mal, AlertUnexpectedMessage},
		{"no body", []byte{1, 0, 0, 0}, mal, AlertDecodeError},
		{"ends in the extensions", cut(3), mal, AlertDecodeError},
		{"larger than can be", make([]byte, MaxHello+1), reason.HelloTooLarge, AlertIllegalParameter},
		{"SSL 3.0", set(func(h *hello) { h.legacy = 0x0300 }), reason.ProtocolVersion, AlertProtocolVersion},
		{"SSL 2.0", set(func(h *hello) { h.legacy = 0x0002 }), reason.ProtocolVersion, AlertProtocolVersion},
		{"session ID of 33 bytes", set(func(h *hello) { h.sid = make([]byte, 33) }), mal, AlertDecodeError},
		{"no CipherSuites", set(func(h *hello) { h.suites = nil }), mal, AlertDecodeError},
		{"no compression", set(func(h *hello) { h.compression = nil }), mal, AlertDecodeError},
		{"compression without null", set(func(h *hello) { h.compression = []byte{1} }), reason.BadCompression, AlertIllegalParameter},
		{"compression with TLS 1.3", set(func(h *hello) { h.compression = []byte{1, 0} }), reason.BadCompression, AlertIllegalParameter},
		{"null twice with TLS 1.3", set(func(h *hello) { h.compression = []byte{0, 0} }), reason.BadCompression, AlertIllegalParameter},
		{"TLS 1.2 compression without null", func() []byte { h := hello12(); h.compression = []byte{1, 64}; return h.bytes() }(), reason.BadCompression, AlertIllegalParameter},
		{"an extension twice", set(func(h *hello) { h.exts = append(h.exts, h.exts[0]) }), mal, AlertIllegalParameter},
		{"an unknown extension twice", set(func(h *hello) { h.exts = append(h.exts, Extension{999, nil}, Extension{999, nil}) }), mal, AlertIllegalParameter},
		{"two names", goodHello().with(ExtServerName, sniData("a.example", "b.example")).bytes(), reason.SNIInvalid, AlertIllegalParameter},
		{"two names of an unknown type", ext(ExtServerName, prefixed(7, 0, 1, 'x', 7, 0, 1, 'y')...), reason.SNIInvalid, AlertIllegalParameter},
		{"an empty name", goodHello().with(ExtServerName, sniData("")).bytes(), mal, AlertDecodeError},
		{"no names", ext(ExtServerName, 0, 0), mal, AlertDecodeError},
		{"an empty server_name", ext(ExtServerName), mal, AlertDecodeError},
		{"bytes behind the names", goodHello().with(ExtServerName, append(sniData("a.example"), 0)).bytes(), mal, AlertDecodeError},
		{"no groups", ext(ExtSupportedGroups, 0, 0), mal, AlertDecodeError},
		{"half a group", ext(ExtSupportedGroups, 0, 3, 0, 29, 0), mal, AlertDecodeError},
		{"bytes behind the groups", ext(ExtSupportedGroups, 0, 2, 0, 29, 0), mal, AlertDecodeError},
		{"no signature algorithms", ext(ExtSignatureAlgorithms, 0, 0), mal, AlertDecodeError},
		{"half a signature algorithm", ext(ExtSignatureAlgsCert, 0, 1, 4), mal, AlertDecodeError},
		{"no point formats", ext(ExtPointFormats, 0), mal, AlertDecodeError},
		{"no uncompressed points", hello12().with(ExtPointFormats, []byte{1, 1}).bytes(), mal, AlertIllegalParameter},
		{"no versions", ext(ExtSupportedVersions, 0), mal, AlertDecodeError},
		{"half a version", ext(ExtSupportedVersions, 3, 3, 4, 3), mal, AlertDecodeError},
		{"no ALPN", ext(ExtALPN, 0, 0), mal, AlertDecodeError},
		{"an empty ALPN name", ext(ExtALPN, prefixed(2, 'h', '2', 0)...), mal, AlertDecodeError},
		{"status_request cut", ext(ExtStatusRequest, 1, 0, 0, 0), mal, AlertDecodeError},
		{"SCT with content", ext(ExtSCT, 0), mal, AlertDecodeError},
		{"extended_master_secret with content", ext(ExtExtendedMasterSecret, 0), mal, AlertDecodeError},
		{"an empty cookie", ext(ExtCookie, 0, 0), mal, AlertDecodeError},
		{"no PSK modes", ext(ExtPSKModes, 0), mal, AlertDecodeError},
		{"ECH of an unknown type", ext(ExtECH, 2), mal, AlertIllegalParameter},
		{"inner ECH with content", ext(ExtECH, 1, 0), mal, AlertDecodeError},
		{"outer ECH cut", ext(ExtECH, 0, 0, 1, 0, 1, 7, 0, 1), mal, AlertDecodeError},
		{"empty ECH", ext(ExtECH), mal, AlertDecodeError},
		{"a renegotiation", ext(ExtRenegotiationInfo, 2, 1, 1), mal, AlertHandshakeFailure},
		{"renegotiation_info cut", ext(ExtRenegotiationInfo), mal, AlertDecodeError},
		{"key_share cut", ext(ExtKeyShare, 0, 4, 0, 29, 0, 1), mal, AlertDecodeError},
		{"an extension longer than the block", append([]byte{1, 0, 0, 47, 3, 3}, append(make([]byte, 33), 0, 2, 0xc0, 0x2b, 1, 0, 0, 4, 0, 23, 0, 1)...), mal, AlertDecodeError},
		{"40 compression methods without null", set(func(h *hello) { h.compression = bytes.Repeat([]byte{7}, 40) }), reason.BadCompression, AlertIllegalParameter},
		{"bytes behind the shares", goodHello().with(ExtKeyShare, append(keyShares(29), 0)).bytes(), mal, AlertDecodeError},
		{"a PSK identity cut", goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, append(prefixed(0, 9, 't'), pskData(0, 1)[2:]...)).bytes(), mal, AlertDecodeError},
		{"an empty share", ext(ExtKeyShare, 0, 4, 0, 29, 0, 0), mal, AlertDecodeError},
		{"two shares of a group", goodHello().with(ExtKeyShare, keyShares(29, 29)).bytes(), mal, AlertIllegalParameter},
		{"a share of a group not offered", goodHello().with(ExtKeyShare, keyShares(29, 24)).bytes(), mal, AlertIllegalParameter},
		{"TLS 1.3 without key_share", goodHello().without(ExtKeyShare).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without supported_groups", goodHello().without(ExtSupportedGroups).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without both", goodHello().without(ExtSupportedGroups).without(ExtKeyShare).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without signature_algorithms", goodHello().without(ExtSignatureAlgorithms).bytes(), mal, AlertMissingExtension},
		{"early data without PSK", ext(ExtEarlyData), mal, AlertIllegalParameter},
		{"early_data with content", ext(ExtEarlyData, 0), mal, AlertDecodeError},
		{"PSK without modes", goodHello().with(ExtPreSharedKey, pskData(1, 1)).bytes(), mal, AlertMissingExtension},
		{"PSK not last", goodHello().with(ExtPreSharedKey, pskData(1, 1)).with(ExtPSKModes, []byte{1, 1}).bytes(), mal, AlertIllegalParameter},
		{"PSK without binders", goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, pskData(1, 0)).bytes(), mal, AlertDecodeError},
		{"PSK with a binder too many", goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, pskData(1, 2)).bytes(), mal, AlertIllegalParameter},
		{"PSK with a short binder", goodHello().with(ExtPSKModes, []byte{1, 1}).with(ExtPreSharedKey, append(prefixed(0, 1, 't', 0, 0, 0, 0), prefixed(1, 1)...)).bytes(), mal, AlertDecodeError},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ParseClientHello(c.msg)
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
		"as built":                      goodHello().bytes(),
		"TLS 1.2":                       hello12().bytes(),
		"TLS 1.2 with old compression":  func() []byte { h := hello12(); h.compression = []byte{1, 0}; return h.bytes() }(),
		"no shares: HelloRetryRequest":  goodHello().with(ExtKeyShare, []byte{0, 0}).bytes(),
		"PSK last":                      goodHello().with(ExtPSKModes, psk).with(ExtPreSharedKey, pskData(2, 2)).bytes(),
		"PSK alone":                     goodHello().without(ExtSupportedGroups).without(ExtKeyShare).without(ExtSignatureAlgorithms).with(ExtPSKModes, psk).with(ExtPreSharedKey, pskData(1, 1)).bytes(),
		"GREASE extension":              goodHello().with(0x3a3a, nil).bytes(),
		"unknown extension":             goodHello().with(0x7777, []byte{1, 2, 3}).bytes(),
		"cookie":                        goodHello().with(ExtCookie, prefixed(1)).bytes(),
		"inner ECH":                     goodHello().with(ExtECH, []byte{1}).bytes(),
		"TLS 1.3 with compressed point": goodHello().with(ExtPointFormats, []byte{1, 1}).bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := ParseClientHello(msg)
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
		h     *hello
		alert Alert // of the handshake; AlertNone: there is one
	}{
		"PSK without modes":            {hello12().with(ExtPreSharedKey, pskData(1, 1)), AlertNone},
		"PSK with a binder too many":   {hello12().with(ExtPSKModes, modes).with(ExtPreSharedKey, pskData(1, 2)), AlertIllegalParameter},
		"PSK not last":                 {hello12().with(ExtPreSharedKey, pskData(1, 1)).with(ExtPSKModes, modes), AlertIllegalParameter},
		"early data without PSK":       {hello12().with(ExtEarlyData, nil), AlertNone},
		"early data with content":      {hello12().with(ExtEarlyData, []byte{0}), AlertDecodeError},
		"two shares of a group":        {hello12().with(ExtKeyShare, keyShares(29, 29)), AlertNone},
		"a share of a group not there": {hello12().with(ExtKeyShare, keyShares(29, 24)), AlertNone},
		"key_share without its groups": {hello12().without(ExtSupportedGroups).with(ExtKeyShare, keyShares(29)), AlertNone},
		"key_share cut":                {hello12().with(ExtKeyShare, []byte{0, 4, 0, 29, 0, 1}), AlertDecodeError},
		"ECH of an unknown type":       {hello12().with(ExtECH, []byte{2}), AlertIllegalParameter},
		"outer ECH cut":                {hello12().with(ExtECH, []byte{0, 0, 1, 0, 1, 7, 0, 1}), AlertDecodeError},
		"an empty cookie":              {hello12().with(ExtCookie, []byte{0, 0}), AlertDecodeError},
		"no PSK modes":                 {hello12().with(ExtPSKModes, []byte{0}), AlertDecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			msg := c.h.bytes()
			h, err := ParseClientHello(msg)
			if err != nil {
				t.Fatal(err)
			}
			if string(h.Marshal()) != string(msg) {
				t.Error("does not marshal back")
			}
			if c.alert != AlertNone {
				wantRefusal(t, h.Acceptable(testProfile()), reason.HelloMalformed, c.alert)
				return
			}
			if _, err := readByCryptoTLS(msg); err != nil {
				t.Errorf("crypto/tls cannot read it: %v", err)
			}
			if e := h.Acceptable(testProfile()); e != nil && e.Reason == reason.HelloMalformed {
				t.Error(e)
			}
		})
	}
}
