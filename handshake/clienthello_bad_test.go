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
		{"two names", goodHello().with(extServerName, sniData("a.example", "b.example")).bytes(), reason.SNIInvalid, AlertIllegalParameter},
		{"two names of an unknown type", ext(extServerName, prefixed(7, 0, 1, 'x', 7, 0, 1, 'y')...), reason.SNIInvalid, AlertIllegalParameter},
		{"an empty name", goodHello().with(extServerName, sniData("")).bytes(), mal, AlertDecodeError},
		{"no names", ext(extServerName, 0, 0), mal, AlertDecodeError},
		{"an empty server_name", ext(extServerName), mal, AlertDecodeError},
		{"bytes behind the names", goodHello().with(extServerName, append(sniData("a.example"), 0)).bytes(), mal, AlertDecodeError},
		{"no groups", ext(extSupportedGroups, 0, 0), mal, AlertDecodeError},
		{"half a group", ext(extSupportedGroups, 0, 3, 0, 29, 0), mal, AlertDecodeError},
		{"bytes behind the groups", ext(extSupportedGroups, 0, 2, 0, 29, 0), mal, AlertDecodeError},
		{"no signature algorithms", ext(extSignatureAlgorithms, 0, 0), mal, AlertDecodeError},
		{"half a signature algorithm", ext(extSignatureAlgsCert, 0, 1, 4), mal, AlertDecodeError},
		{"no point formats", ext(extPointFormats, 0), mal, AlertDecodeError},
		{"no uncompressed points", hello12().with(extPointFormats, []byte{1, 1}).bytes(), mal, AlertIllegalParameter},
		{"no versions", ext(extSupportedVersions, 0), mal, AlertDecodeError},
		{"half a version", ext(extSupportedVersions, 3, 3, 4, 3), mal, AlertDecodeError},
		{"no ALPN", ext(extALPN, 0, 0), mal, AlertDecodeError},
		{"an empty ALPN name", ext(extALPN, prefixed(2, 'h', '2', 0)...), mal, AlertDecodeError},
		{"status_request cut", ext(extStatusRequest, 1, 0, 0, 0), mal, AlertDecodeError},
		{"SCT with content", ext(extSCT, 0), mal, AlertDecodeError},
		{"extended_master_secret with content", ext(extExtendedMasterSecret, 0), mal, AlertDecodeError},
		{"an empty cookie", ext(extCookie, 0, 0), mal, AlertDecodeError},
		{"no PSK modes", ext(extPSKModes, 0), mal, AlertDecodeError},
		{"ECH of an unknown type", ext(extECH, 2), mal, AlertIllegalParameter},
		{"inner ECH with content", ext(extECH, 1, 0), mal, AlertDecodeError},
		{"outer ECH cut", ext(extECH, 0, 0, 1, 0, 1, 7, 0, 1), mal, AlertDecodeError},
		{"empty ECH", ext(extECH), mal, AlertDecodeError},
		{"a renegotiation", ext(extRenegotiationInfo, 2, 1, 1), mal, AlertHandshakeFailure},
		{"renegotiation_info cut", ext(extRenegotiationInfo), mal, AlertDecodeError},
		{"key_share cut", ext(extKeyShare, 0, 4, 0, 29, 0, 1), mal, AlertDecodeError},
		{"an extension longer than the block", append([]byte{1, 0, 0, 47, 3, 3}, append(make([]byte, 33), 0, 2, 0xc0, 0x2b, 1, 0, 0, 4, 0, 23, 0, 1)...), mal, AlertDecodeError},
		{"40 compression methods without null", set(func(h *hello) { h.compression = bytes.Repeat([]byte{7}, 40) }), reason.BadCompression, AlertIllegalParameter},
		{"bytes behind the shares", goodHello().with(extKeyShare, append(keyShares(29), 0)).bytes(), mal, AlertDecodeError},
		{"a PSK identity cut", goodHello().with(extPSKModes, []byte{1, 1}).with(extPreSharedKey, append(prefixed(0, 9, 't'), pskData(0, 1)[2:]...)).bytes(), mal, AlertDecodeError},
		{"an empty share", ext(extKeyShare, 0, 4, 0, 29, 0, 0), mal, AlertDecodeError},
		{"two shares of a group", goodHello().with(extKeyShare, keyShares(29, 29)).bytes(), mal, AlertIllegalParameter},
		{"a share of a group not offered", goodHello().with(extKeyShare, keyShares(29, 24)).bytes(), mal, AlertIllegalParameter},
		{"TLS 1.3 without key_share", goodHello().without(extKeyShare).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without supported_groups", goodHello().without(extSupportedGroups).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without both", goodHello().without(extSupportedGroups).without(extKeyShare).bytes(), mal, AlertMissingExtension},
		{"TLS 1.3 without signature_algorithms", goodHello().without(extSignatureAlgorithms).bytes(), mal, AlertMissingExtension},
		{"early data without PSK", ext(extEarlyData), mal, AlertIllegalParameter},
		{"early_data with content", ext(extEarlyData, 0), mal, AlertDecodeError},
		{"PSK without modes", goodHello().with(extPreSharedKey, pskData(1, 1)).bytes(), mal, AlertMissingExtension},
		{"PSK not last", goodHello().with(extPreSharedKey, pskData(1, 1)).with(extPSKModes, []byte{1, 1}).bytes(), mal, AlertIllegalParameter},
		{"PSK without binders", goodHello().with(extPSKModes, []byte{1, 1}).with(extPreSharedKey, pskData(1, 0)).bytes(), mal, AlertDecodeError},
		{"PSK with a binder too many", goodHello().with(extPSKModes, []byte{1, 1}).with(extPreSharedKey, pskData(1, 2)).bytes(), mal, AlertIllegalParameter},
		{"PSK with a short binder", goodHello().with(extPSKModes, []byte{1, 1}).with(extPreSharedKey, append(prefixed(0, 1, 't', 0, 0, 0, 0), prefixed(1, 1)...)).bytes(), mal, AlertDecodeError},
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
		"no shares: HelloRetryRequest":  goodHello().with(extKeyShare, []byte{0, 0}).bytes(),
		"PSK last":                      goodHello().with(extPSKModes, psk).with(extPreSharedKey, pskData(2, 2)).bytes(),
		"PSK alone":                     goodHello().without(extSupportedGroups).without(extKeyShare).without(extSignatureAlgorithms).with(extPSKModes, psk).with(extPreSharedKey, pskData(1, 1)).bytes(),
		"GREASE extension":              goodHello().with(0x3a3a, nil).bytes(),
		"unknown extension":             goodHello().with(0x7777, []byte{1, 2, 3}).bytes(),
		"cookie":                        goodHello().with(extCookie, prefixed(1)).bytes(),
		"inner ECH":                     goodHello().with(extECH, []byte{1}).bytes(),
		"TLS 1.3 with compressed point": goodHello().with(extPointFormats, []byte{1, 1}).bytes(),
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
		"PSK without modes":            {hello12().with(extPreSharedKey, pskData(1, 1)), AlertNone},
		"PSK with a binder too many":   {hello12().with(extPSKModes, modes).with(extPreSharedKey, pskData(1, 2)), AlertIllegalParameter},
		"PSK not last":                 {hello12().with(extPreSharedKey, pskData(1, 1)).with(extPSKModes, modes), AlertIllegalParameter},
		"early data without PSK":       {hello12().with(extEarlyData, nil), AlertNone},
		"early data with content":      {hello12().with(extEarlyData, []byte{0}), AlertDecodeError},
		"two shares of a group":        {hello12().with(extKeyShare, keyShares(29, 29)), AlertNone},
		"a share of a group not there": {hello12().with(extKeyShare, keyShares(29, 24)), AlertNone},
		"key_share without its groups": {hello12().without(extSupportedGroups).with(extKeyShare, keyShares(29)), AlertNone},
		"key_share cut":                {hello12().with(extKeyShare, []byte{0, 4, 0, 29, 0, 1}), AlertDecodeError},
		"ECH of an unknown type":       {hello12().with(extECH, []byte{2}), AlertIllegalParameter},
		"outer ECH cut":                {hello12().with(extECH, []byte{0, 0, 1, 0, 1, 7, 0, 1}), AlertDecodeError},
		"an empty cookie":              {hello12().with(extCookie, []byte{0, 0}), AlertDecodeError},
		"no PSK modes":                 {hello12().with(extPSKModes, []byte{0}), AlertDecodeError},
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
